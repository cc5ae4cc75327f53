#pragma once

// A courier in a world of its own, with hosts on loopback that play scripts.

#include <gtest/gtest.h>

#include <functional>
#include <list>

#include "delivery/delivery_test_support.h"

namespace sluice::delivery {

using Ended = queue::AttemptEnded::Verdict;

inline const std::string hello = "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\nS: 250 PIPELINING\n";
inline const std::string mail_ok =
    "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\n! body\nS: 250 2.0.0 queued\n";
inline const std::string bye = "C: QUIT\nS: 221 bye\n";

// A host on loopback: plays one script for each connection, in order; more connections are a failure.
class Host {
public:
    Host(
        async::Executor executor, async::TaskGroup& tasks, std::vector<std::string> scripts, bool listens = true,
        std::shared_ptr<net::TlsContext> tls = nullptr,
        const net::Endpoint& where = net::Endpoint(net::IpAddress::v4(0x7F000001), 0))
        : tasks_(tasks), scripts_(std::move(scripts)), tls_(std::move(tls)) {
        auto listener = net::Listener::open(executor, where);
        EXPECT_TRUE(listener);
        remote_ = (*listener)->local().text();
        if (!listens) return;  // the port is free again, and refuses
        listener_ = std::move(*listener);
        tasks_.spawn(run());
    }

    const std::string& remote() const { return remote_; }
    std::size_t connections() const { return connections_; }
    void stop() {
        if (listener_) listener_->stop();
    }
    // Whatever happened at this host is part of the test.
    void forgive() { forgiven_ = true; }
    std::string trouble() const {
        if (forgiven_) return {};
        for (const Played& played : played_) {
            if (!played.peer->trouble.empty()) return played.peer->trouble;
        }
        return connections_ > scripts_.size() ? "too many connections" : "";
    }

private:
    struct Played {
        net::StreamPtr stream;
        std::unique_ptr<ScriptedPeer> peer;
    };
    Task<> run() {
        const net::Listener::OnAccept accept = [this](net::StreamPtr stream) { take(std::move(stream)); };
        co_await listener_->run(accept);
    }
    void take(net::StreamPtr stream) {
        if (connections_++ >= scripts_.size()) return;
        stream->set_timeout(std::chrono::seconds(30));
        Played& played = played_.emplace_back(std::move(stream), nullptr);
        played.peer = std::make_unique<ScriptedPeer>(*played.stream, scripts_[connections_ - 1]);
        tasks_.spawn(played.peer->play(tls_));
    }

    async::TaskGroup& tasks_;
    std::vector<std::string> scripts_;
    std::shared_ptr<net::TlsContext> tls_;
    std::unique_ptr<net::Listener> listener_;
    std::string remote_;
    bool forgiven_ = false;
    std::size_t connections_ = 0;
    std::list<Played> played_;
};

inline Task<> close_courier(Courier& courier, std::chrono::milliseconds grace) {
    co_await courier.close(std::chrono::steady_clock::now() + grace);
}

class CourierTest : public testing::Test {
protected:
    ~CourierTest() override {
        finish();
        for (const auto& host : hosts_) EXPECT_EQ(host->trouble(), "");
    }

    Courier& courier() {
        if (!courier_) {
            const Surroundings surroundings{shard_, clock_, spool_, ids_, disk_pool_, net::system_network(), inbox_, events_, log_, 1, hooks_};
            courier_ = std::make_unique<Courier>(surroundings, std::make_shared<config::Settings>(settings_));
        }
        return *courier_;
    }
    Host& host(std::vector<std::string> scripts, bool listens = true) {
        return *hosts_.emplace_back(
            std::make_unique<Host>(shard_.executor(), tasks_, std::move(scripts), listens, server_tls_));
    }
    // A route over the hosts made so far, all of one preference.
    queue::RoutePtr route() {
        auto route = std::make_shared<queue::Route>();
        route->key = "example.test";
        route->transport = transport_;
        int number = 0;
        for (const auto& host : hosts_) {
            route->candidates.push_back({"mx" + std::to_string(++number) + ".test", host->remote(), 0});
        }
        return route;
    }
    queue::Deliver deliver(mail::MessagePtr message, queue::SessionId session = 1, bool open = true) {
        queue::Deliver deliver;
        deliver.session = session;
        deliver.open = open;
        deliver.route = route();
        for (std::uint32_t i = 0; open && i < hosts_.size(); ++i) deliver.candidates.push_back(i);
        deliver.last_resort = true;
        deliver.work.item = ItemId{message->id, 0};
        deliver.work.arrival = message->arrival;
        deliver.work.message = std::move(message);
        return deliver;
    }
    void run_until(const std::function<bool()>& done) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!done()) {
            shard_.loop().restart();
            ASSERT_LT(std::chrono::steady_clock::now(), end) << "nothing happened for too long";
            shard_.loop().run_one_for(std::chrono::milliseconds(200));
        }
    }
    // Until `count` attempts have ended; gives the last.
    queue::AttemptEnded ended(std::size_t count = 1) {
        run_until([&] { return inbox_.all<queue::AttemptEnded>().size() >= count; });
        const auto all = inbox_.all<queue::AttemptEnded>();
        return all.empty() ? queue::AttemptEnded() : all.back();
    }
    void closed(std::size_t count = 1) {
        run_until([&] { return inbox_.all<queue::SessionClosed>().size() >= count; });
    }
    void finish() {
        if (finished_) return;
        finished_ = true;
        async::TaskGroup closing(shard_.executor());
        if (courier_) closing.spawn(close_courier(*courier_, std::chrono::milliseconds(2'000)));
        run_until([&] { return closing.size() == 0; });
        for (const auto& host : hosts_) host->stop();
        tasks_.cancel();
        run_until([&] { return tasks_.size() == 0; });
        courier_.reset();
    }

    async::Shard shard_{"test"};
    ManualClock clock_{instant_from_ms(1'800'000'000'000)};
    FakeSpool spool_;
    spool::IdSource ids_{clock_, MessageId{}};
    async::Workers disk_pool_{1};
    FakeInbox inbox_;
    FakeRecorder events_;
    FakeLog log_;
    config::Settings settings_ = test_settings();
    queue::Transport transport_;
    Hooks* hooks_ = nullptr;
    std::shared_ptr<net::TlsContext> server_tls_;
    async::TaskGroup tasks_{shard_.executor()};
    std::list<std::unique_ptr<Host>> hosts_;
    std::unique_ptr<Courier> courier_;
    bool finished_ = false;
};

}  // namespace sluice::delivery
