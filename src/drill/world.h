#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "drill/internet.h"
#include "drill/ledger.h"
#include "drill/life.h"
#include "drill/plan.h"

namespace sluice::drill {

// How a run ended.
struct Report {
    std::optional<std::string> violation;  // nothing: all promises were kept
    Ledger::Counts counts;
    std::uint64_t lives = 0;
    std::uint64_t steps = 0;
    std::uint64_t hash = 0;
    std::int64_t lasted_s = 0;  // virtual
};

// Runs the whole engine in a made-up world, in one thread under virtual time, until its queue has drained and everything
// is at rest. The same plan and seed always give the same run. One for a process: its clocks are the process's.
class World {
public:
    World(Plan plan, std::uint64_t seed, const Credentials& credentials);
    ~World();
    void be_verbose() { ledger_.verbose = true; }
    Report run();

private:
    using Step = std::function<void()>;
    enum class Death : std::uint8_t { none, kill, power_cut };

    bool step();
    bool let_time_pass();
    void at(std::int64_t when_ns, Step step) { agenda_.emplace(when_ns, std::move(step)); }
    void often(double per_hour, const Step& step);
    std::int64_t within(std::int64_t most_ns) { return static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(most_ns) + 1)); }

    config::SettingsPtr settings();
    void boot();
    void plan_death(Death death);
    void cut_power_within(std::uint64_t operations);
    void die();
    void after_end();
    void heal();
    void look();
    void finish_run();

    void plan_workload();
    void plan_troubles();
    Task<> client(const StreamPlan& stream);
    void operate();
    void reconfigure();
    void break_syncs();
    void fill_disk();
    void slow_down_disk();
    void begin_disk_trouble();
    void end_disk_trouble();
    std::int64_t durable_before_ns() const;

    const Plan plan_;
    const Credentials& credentials_;
    Random random_;
    std::shared_ptr<net::TlsContext> client_tls_;
    boost::asio::io_context loop_{1};
    boost::asio::executor_work_guard<async::Executor> guard_{loop_.get_executor()};
    Ledger ledger_;
    Internet internet_;
    spool::FakeDisk disk_;
    async::TaskGroup clients_;
    std::unique_ptr<Life> life_;
    std::vector<LinkPtr> client_links_;
    std::multimap<std::int64_t, Step> agenda_;

    Death planned_ = Death::none;
    std::uint64_t steps_until_death_ = 0;  // 0: the disk decides
    bool healed_ = false;
    bool last_stop_ = false;
    bool over_ = false;
    std::uint32_t concurrency_max_ = 0, destination_concurrency_ = 0;  // in force
    std::int64_t disk_trouble_since_ns_ = 0;
    std::uint64_t troubles_ = 0;
    std::int64_t began_ns_ = 0;
    std::int64_t healed_ns_ = 0;
    std::uint64_t lives_ = 0;
    std::uint64_t steps_ = 0;
};

}  // namespace sluice::drill
