#include "reception/reception.h"

#include <list>

#include "async/blocking.h"
#include "net/listener.h"
#include "reception/session.h"

namespace sluice::reception {

class Reception::Impl {
public:
    Impl(const Surroundings& surroundings, config::SettingsPtr settings)
        : around_(surroundings), census_(surroundings.census != nullptr ? *surroundings.census : own_census_),
          settings_(std::move(settings)), conversations_(around_.shard.executor()),
          cutting_(around_.shard.executor()), accepting_(around_.shard.executor()),
          nobody_left_(around_.shard.executor()) {}

    Result<> listen();
    Result<> configure(config::SettingsPtr settings);
    Task<> serve(net::StreamPtr stream, net::Endpoint listener);
    Task<> close(std::chrono::steady_clock::time_point deadline);

    std::vector<net::Endpoint> endpoints() const {
        std::vector<net::Endpoint> bound;
        for (const auto& listener : listeners_) bound.push_back(listener->local());
        return bound;
    }
    std::size_t connections() const { return sessions_.size(); }
    void accept(net::StreamPtr stream, const net::Endpoint& listener);

private:
    Result<> ensure_rules();
    Task<> cut_at(std::chrono::steady_clock::time_point deadline);

    Surroundings around_;
    Census own_census_;
    Census& census_;
    config::SettingsPtr settings_;
    RulesPtr rules_;
    std::vector<std::unique_ptr<net::Listener>> listeners_;
    std::list<Session*> sessions_;
    async::TaskGroup conversations_;
    async::TaskGroup cutting_;
    async::TaskGroup accepting_;
    async::Signal nobody_left_;
    bool closing_ = false;
};

Result<> Reception::Impl::ensure_rules() {
    if (!rules_) {
        TRY(rules_, make_rules(settings_));
    }
    return {};
}

Result<> Reception::Impl::configure(config::SettingsPtr settings) {
    TRY(RulesPtr rules, make_rules(settings, rules_));
    settings_ = std::move(settings);
    rules_ = std::move(rules);
    return {};
}

Result<> Reception::Impl::listen() {
    TRY_VOID(ensure_rules());
    std::vector<std::unique_ptr<net::Listener>> listeners;
    for (const std::string& text : settings_->smtp.listen) {
        const auto endpoint = net::Endpoint::parse(text, 25);
        if (!endpoint) return fail(Errc::config, "smtp.ini: listen: '" + text + "' is no address and port");
        if (rules_->implicit_tls(*endpoint) && !rules_->tls) {
            return fail(Errc::config, "smtp.ini: listen: " + text + " speaks TLS, but tls.ini has no certificate");
        }
        TRY(auto listener, net::Listener::open(around_.shard.executor(), *endpoint));
        listeners.push_back(std::move(listener));
    }
    listeners_ = std::move(listeners);
    for (const auto& listener : listeners_) {
        const net::Endpoint local = listener->local();
        accepting_.spawn(listener->run([this, local](net::StreamPtr stream) { accept(std::move(stream), local); }));
    }
    return {};
}

void Reception::Impl::accept(net::StreamPtr stream, const net::Endpoint& listener) {
    if (!closing_) conversations_.spawn(serve(std::move(stream), listener));
}

Task<> Reception::Impl::serve(net::StreamPtr stream, net::Endpoint listener) {
    if (const Result<> ready = ensure_rules(); !ready) {
        around_.log.error("core", "connection dropped: settings cannot be used", {{"error", ready.error().detail}});
        co_return;
    }
    Session session(around_, census_, rules_, std::move(stream), std::move(listener));
    const auto place = sessions_.insert(sessions_.end(), &session);
    co_await session.run();
    sessions_.erase(place);
    if (closing_ && sessions_.empty()) nobody_left_.set();
}

Task<> Reception::Impl::close(std::chrono::steady_clock::time_point deadline) {
    closing_ = true;
    for (const auto& listener : listeners_) listener->stop();
    co_await accepting_.close();
    for (Session* session : sessions_) session->stop();
    if (!sessions_.empty()) {
        cutting_.spawn(cut_at(deadline));
        co_await nobody_left_.wait();
    }
    co_await cutting_.close();
    co_await conversations_.close();
    listeners_.clear();
}

Task<> Reception::Impl::cut_at(std::chrono::steady_clock::time_point deadline) {
    const auto left = deadline - std::chrono::steady_clock::now();
    const auto delay = std::max(std::chrono::duration_cast<std::chrono::milliseconds>(left), std::chrono::milliseconds(0));
    if (!co_await async::sleep_for(delay)) co_return;
    for (Session* session : sessions_) session->abort();
}

Reception::Reception(const Surroundings& surroundings, config::SettingsPtr settings)
    : impl_(std::make_unique<Impl>(surroundings, std::move(settings))) {}
Reception::~Reception() = default;

Result<> Reception::listen() { return impl_->listen(); }
std::vector<net::Endpoint> Reception::endpoints() const { return impl_->endpoints(); }
Result<> Reception::configure(config::SettingsPtr settings) { return impl_->configure(std::move(settings)); }
Task<> Reception::serve(net::StreamPtr stream, net::Endpoint listener) {
    return impl_->serve(std::move(stream), std::move(listener));
}
void Reception::accept(net::StreamPtr stream, const net::Endpoint& listener) {
    impl_->accept(std::move(stream), listener);
}
Task<> Reception::close(std::chrono::steady_clock::time_point deadline) { return impl_->close(deadline); }
std::size_t Reception::connections() const { return impl_->connections(); }

}  // namespace sluice::reception
