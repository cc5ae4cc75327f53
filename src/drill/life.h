#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "async/shard.h"
#include "async/task_group.h"
#include "base/random.h"
#include "config/settings.h"
#include "daemon/machinery.h"
#include "drill/internet.h"
#include "drill/ledger.h"
#include "spool/fake_disk.h"
#include "spool/journal_spool.h"

namespace sluice::drill {

// When this loop is to be looked at again: when its first timer is due, but not later than in five minutes.
std::int64_t next_timer_of(boost::asio::io_context& loop);

// One life of the engine: the whole machinery of the daemon, of which every thread became a party that moves when it is
// asked to. From boot() until the process ends in order (begin_stop), or dies: then it is simply never touched again.
class Life {
public:
    struct World {
        Internet& internet;
        spool::FakeDisk& disk;
        Ledger& ledger;
        std::uint64_t seed;
    };
    Life(const World& world, config::SettingsPtr settings);
    ~Life();

    // An error: the spool could not be opened.
    Result<> boot();
    // Lets one party, chosen by chance, do one thing; false when nobody has anything to do now.
    bool step(Random& random);
    std::int64_t next_ns() const;

    // A client's connection, as if it had been accepted.
    LinkPtr connect_client(async::Executor client, const net::Endpoint& from, const LinkTerms& terms, Random& random);
    // The injection API: true when the engine said that it has the message.
    void inject(Sent message, std::uint64_t number);
    void tell_core(queue::Event event) { machinery_->core().push(std::move(event)); }
    void ask_core(daemon::CoreThread::Question question) { machinery_->core().ask(std::move(question)); }
    void apply(const config::SettingsPtr& settings);
    const config::SettingsPtr& settings() const { return settings_; }
    Instant now() { return machinery_->clock().now(); }
    void slow_disk(std::int64_t sync_ns) { sync_max_ns_ = sync_ns; }

    // In order; ended() when it is done and the process may go.
    void begin_stop(std::chrono::milliseconds patience);
    bool stopping() const { return stopping_; }
    bool ended() const { return ended_; }
    void finish();

private:
    bool move_loops(std::size_t which);
    bool move_core() { return machinery_->core().turn(); }
    bool move_spool(Random& random);
    bool move_workers() { return machinery_->workers().run_one(); }
    Task<> take_injection(Sent message, std::uint64_t number);
    Result<std::unique_ptr<spool::Spool>> open_spool(
        const spool::Options& options, const daemon::Ground::OnItem& on_item, spool::RecoveryReport& report);

    const World world_;
    config::SettingsPtr settings_;
    std::unique_ptr<net::Network> network_;
    std::unique_ptr<daemon::Machinery> machinery_;
    spool::JournalSpool* spool_ = nullptr;  // the machinery's
    std::unique_ptr<async::Shard> control_;
    std::unique_ptr<daemon::SpoolAcceptance> acceptance_;
    std::unique_ptr<async::TaskGroup> injections_;
    std::int64_t spool_busy_until_ns_ = 0;
    std::int64_t spool_due_ns_ = 0;
    std::int64_t sync_max_ns_ = 8'000'000;
    bool stopping_ = false;
    bool closed_ = false;
    bool ended_ = false;
};

}  // namespace sluice::drill
