#include "peer/sink.h"

#include <condition_variable>
#include <latch>
#include <mutex>

#include "async/shard.h"
#include "async/task_group.h"
#include "net/listener.h"
#include "peer/sink_session.h"

namespace sluice::peer {
namespace {

// One thread of a sink with its own listeners and script.
struct SinkThread {
    SinkThread(std::uint32_t index, const SinkOptions& options)
        : shard("sink-" + std::to_string(index)), script(options.rules, options.seed + index), tasks(shard.executor()) {}
    async::Shard shard;
    Script script;
    std::vector<std::unique_ptr<net::Listener>> listeners;
    async::TaskGroup tasks;
};

class ThreadedSink final : public Sink {
public:
    explicit ThreadedSink(const SinkOptions& options) : options_(options) {
        on_message_ = [this] { note_message(); };
    }
    ~ThreadedSink() override { stop(); }

    Result<> open() {
        TRY(store_, MessageStore::open(options_));
        if (!options_.certificate.empty()) {
            net::TlsOptions tls;
            tls.certificates.push_back(options_.certificate);
            tls.keys.push_back(options_.key);
            tls.resumption = options_.resumption;
            TRY(tls_, net::TlsContext::server(tls));
        }
        for (std::uint32_t index = 0; index < options_.threads; ++index) {
            auto thread = std::make_unique<SinkThread>(index, options_);
            for (net::Endpoint& endpoint : options_.endpoints) {
                TRY(std::unique_ptr<net::Listener> listener, net::Listener::open(thread->shard.executor(), endpoint));
                endpoint = listener->local();  // a port of 0 is the same one for every thread
                thread->listeners.push_back(std::move(listener));
            }
            threads_.push_back(std::move(thread));
        }
        return {};
    }

    void run() {
        for (const auto& thread : threads_) {
            for (const auto& listener : thread->listeners) {
                SinkThread* own = thread.get();
                own->tasks.spawn(listener->run([this, own](net::StreamPtr stream) { accept(*own, std::move(stream)); }));
            }
            thread->shard.start();
        }
    }

    std::vector<net::Endpoint> endpoints() const override { return options_.endpoints; }
    const SinkCounts& counts() const override { return counts_; }
    const WireReport& wire() const override { return wire_; }

    bool wait(int milliseconds) override {
        std::unique_lock lock(mutex_);
        return enough_.wait_for(lock, std::chrono::milliseconds(milliseconds), [this] {
            return options_.stop_after > 0 && counts_.messages >= options_.stop_after;
        });
    }

    void stop() override {
        if (threads_.empty()) return;
        std::latch closed(static_cast<std::ptrdiff_t>(threads_.size()));
        std::vector<std::unique_ptr<async::TaskGroup>> closers;
        for (const auto& thread : threads_) {
            closers.push_back(std::make_unique<async::TaskGroup>(thread->shard.executor()));
            async::TaskGroup* closer = closers.back().get();
            SinkThread* own = thread.get();
            own->shard.start();  // closing runs there, also when open() failed
            own->shard.post([own, closer, &closed] { closer->spawn(close(*own, closed)); });
        }
        closed.wait();
        for (const auto& thread : threads_) thread->shard.stop();
        threads_.clear();
    }

private:
    static Task<> close(SinkThread& thread, std::latch& closed) {
        for (const auto& listener : thread.listeners) listener->stop();
        co_await thread.tasks.close();
        closed.count_down();
    }

    void accept(SinkThread& thread, net::StreamPtr stream) {
        if (thread.tasks.closing()) return;
        const SinkSurroundings around{options_, counts_, wire_, *store_, thread.script, tls_, on_message_};
        thread.tasks.spawn(serve_sink(around, std::move(stream), ++connections_));
    }

    void note_message() {
        if (options_.stop_after == 0 || counts_.messages < options_.stop_after) return;
        const std::scoped_lock lock(mutex_);
        enough_.notify_all();
    }

    SinkOptions options_;
    SinkCounts counts_;
    WireReport wire_;
    std::function<void()> on_message_;
    std::unique_ptr<MessageStore> store_;
    std::shared_ptr<net::TlsContext> tls_;
    std::vector<std::unique_ptr<SinkThread>> threads_;
    std::atomic<std::uint64_t> connections_{0};
    std::mutex mutex_;
    std::condition_variable enough_;
};

}  // namespace

Result<std::unique_ptr<Sink>> Sink::start(const SinkOptions& options) {
    auto sink = std::make_unique<ThreadedSink>(options);
    TRY_VOID(sink->open());
    sink->run();
    return std::unique_ptr<Sink>(std::move(sink));
}

}  // namespace sluice::peer
