// What the spool costs: CPU and syncs per 4 KiB message with its outcome, by how many messages are on their
// way at once, and recovery of a long queue. SPOOL_BENCH_DIR names the disk to be measured; default: the
// temporary directory.

#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "spool/id_source.h"
#include "spool/spool.h"

namespace {

using namespace sluice;
using namespace sluice::spool;

constexpr std::size_t content_bytes = 4096;

double cpu_microseconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto us = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec);
    };
    return us(usage.ru_utime) + us(usage.ru_stime);
}

// Keeps `window` messages on their way, as that many sessions would; an outcome follows each, which nobody
// waits for.
class Load final : public CommitListener {
public:
    void committed(std::span<Committed> commits) override {
        for (const Committed& commit : commits) {
            if (commit.result) continue;
            std::fprintf(stderr, "append failed: %s\n", commit.result.error().text().c_str());
            std::abort();
        }
        const std::lock_guard lock(mutex_);
        done_ += commits.size();
        changed_.notify_one();
    }
    std::uint64_t wait_beyond(std::uint64_t done) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return done_ > done; });
        return done_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t done_ = 0;
};

mail::MessagePtr make_message(IdSource& ids, const Clock& clock, const std::string& content) {
    auto message = std::make_shared<mail::Message>();
    message->id = ids.next();
    message->arrival = clock.now();
    message->envelope.reverse_path = {"sender", "source.test"};
    message->envelope.recipients = {{{"recipient", "destination.test"}, mail::notify_default, ""}};
    message->items = {{"destination.test", {0}}};
    message->trace =
        "Received: from client.test by mx.test with ESMTP id 0123456789abc;\r\n\tFri, 20 Nov 2026 10:00:00 "
        "+0000\r\n";
    message->content = content;
    return message;
}

Result<std::unique_ptr<Spool>> open_spool(
    const std::string& directory, std::uint64_t& items, RecoveryReport& report
) {
    Options options;
    options.directory = directory;
    return Spool::open(options, [&items](const RecoveredItem&) { ++items; }, report);
}

// A directory on the measured disk for one run.
class Directory {
public:
    Directory() {
        const char* const base = std::getenv("SPOOL_BENCH_DIR");
        const std::filesystem::path parent = base != nullptr ? base : std::filesystem::temp_directory_path();
        path_ = (parent / "spool-bench-XXXXXX").string();
        if (::mkdtemp(path_.data()) == nullptr) std::abort();
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    ~Directory() { std::filesystem::remove_all(path_); }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

void send(
    Spool& spool, IdSource& ids, const Clock& clock, std::uint64_t window, std::uint64_t count,
    double& own_cpu
) {
    const std::string content(content_bytes, 'x');
    Load load;
    std::vector<mail::MessagePtr> fresh;
    for (std::uint64_t sent = 0, done = 0; done < count;) {
        const double before = cpu_microseconds();
        fresh.clear();
        for (; sent < count && sent - done < window; ++sent)
            fresh.push_back(make_message(ids, clock, content));
        own_cpu += cpu_microseconds() - before;
        for (const mail::MessagePtr& message : fresh) {
            spool.append({MessageRecord{message}}, &load, 0);
            OutcomeRecord outcome{ItemId{message->id, 0}, Outcome::delivered, {0}, clock.now(), ""};
            spool.append({std::move(outcome)}, nullptr, 0);
        }
        done = load.wait_beyond(done);
    }
}

// Making the messages is left out of the CPU time; appending, writing, syncing and completing are in.
void append_messages(benchmark::State& state) {
    const auto window = static_cast<std::uint64_t>(state.range(0));
    const std::uint64_t count = window < 16 ? 5'000 : 50'000;
    const Directory directory;
    std::uint64_t items = 0;
    RecoveryReport report;
    auto spool = open_spool(directory.path(), items, report);
    if (!spool) std::abort();
    const SystemClock clock;
    IdSource ids(clock, report.last_id);
    double own_cpu = 0;
    // First fill a few segments, so that recycled ones are measured, as in a long run.
    send(**spool, ids, clock, 256, 120'000, own_cpu);
    const std::uint64_t syncs_before = (*spool)->status().syncs;
    double cpu = 0;
    std::uint64_t messages = 0;
    for (auto _ : state) {
        own_cpu = 0;
        const double before = cpu_microseconds();
        send(**spool, ids, clock, window, count, own_cpu);
        cpu += cpu_microseconds() - before - own_cpu;
        messages += count;
    }
    const double syncs = static_cast<double>((*spool)->status().syncs - syncs_before);
    state.counters["cpu_us_per_message"] = cpu / static_cast<double>(messages);
    state.counters["messages_per_sync"] = static_cast<double>(messages) / syncs;
    state.counters["messages"] =
        benchmark::Counter(static_cast<double>(messages), benchmark::Counter::kIsRate);
}
BENCHMARK(append_messages)
    ->Arg(1)
    ->Arg(4)
    ->Arg(16)
    ->Arg(64)
    ->Arg(256)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

void fill(const std::string& directory, std::uint64_t count) {
    std::uint64_t items = 0;
    RecoveryReport report;
    auto spool = open_spool(directory, items, report);
    if (!spool) std::abort();
    const SystemClock clock;
    IdSource ids(clock, report.last_id);
    const std::string content(1024, 'x');
    Load load;
    for (std::uint64_t sent = 0; sent < count; ++sent) {
        (*spool)->append({MessageRecord{make_message(ids, clock, content)}}, &load, 0);
        if (sent > 20'000) load.wait_beyond(sent - 20'000);
    }
    load.wait_beyond(count - 1);
}

void recover_queue(benchmark::State& state) {
    const Directory directory;
    fill(directory.path(), static_cast<std::uint64_t>(state.range(0)));
    std::uint64_t items = 0;
    for (auto _ : state) {
        items = 0;
        RecoveryReport report;
        auto spool = open_spool(directory.path(), items, report);
        if (!spool) std::abort();
    }
    state.counters["items"] = static_cast<double>(items);
}
BENCHMARK(recover_queue)->Arg(1'000'000)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);

}  // namespace
