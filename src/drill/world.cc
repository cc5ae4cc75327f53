#include "drill/world.h"

#include <algorithm>
#include <cerrno>

#include "async/blocking.h"
#include "drill/client.h"
#include "drill/virtual_time.h"

namespace sluice::drill {
namespace {

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t second = 1'000 * ms;
constexpr std::int64_t minute = 60 * second;
constexpr std::int64_t hour = 60 * minute;
constexpr std::int64_t began_wall_ms = 1'795'000'000'000;
constexpr std::int64_t drained_within = 48 * hour;
// What was recorded so long before a death has reached a disk that works.
constexpr std::int64_t recorded_within = 30 * second;
constexpr int tries_max = 8;

// What a dead process leaves behind: nobody touches it again, but it has to stay where it is.
std::vector<std::unique_ptr<Life>>& graveyard() {
    static auto* lives = new std::vector<std::unique_ptr<Life>>();
    return *lives;
}

}  // namespace

World::World(Plan plan, std::uint64_t seed, const Credentials& credentials)
    : plan_(std::move(plan)), credentials_(credentials), random_(seed * 7919 + 17),
      ledger_([this](const std::string& host, const std::string& domain) { return internet_.serves(host, domain); }),
      internet_(loop_.get_executor(), plan_, credentials, ledger_, random_.next()), disk_(random_.next()),
      clients_(loop_.get_executor()), concurrency_max_(plan_.concurrency_max),
      destination_concurrency_(plan_.destination_concurrency) {
    net::TlsOptions options;
    options.ca_file = credentials.authority_file;
    options.verify_peer = true;
    client_tls_ = *net::TlsContext::client(options);
}

World::~World() = default;

Report World::run() {
    VirtualTime::begin(began_wall_ms + static_cast<std::int64_t>(random_.below(1'000'000)));
    began_ns_ = VirtualTime::now_ns();
    if (plan_.reconfigured == 0) internet_.allow_talking(plan_.concurrency_max);
    plan_workload();
    plan_troubles();
    at(began_ns_ + plan_.faults_for.count() * ms, [this] { heal(); });
    at(began_ns_ + minute, [this] { look(); });
    boot();
    while (!over_ && !ledger_.violation() && step()) {
    }
    if (!ledger_.violation()) finish_run();
    Report report;
    report.violation = ledger_.violation();
    report.counts = ledger_.counts();
    report.lives = lives_;
    report.steps = steps_;
    report.hash = ledger_.hash();
    report.lasted_s = (VirtualTime::now_ns() - began_ns_) / second;
    // A run that ends early leaves its world as it is.
    if (life_) graveyard().push_back(std::move(life_));
    return report;
}

// Lets somebody do one thing, or time pass.
bool World::step() {
    ++steps_;
    if (life_ && planned_ != Death::none && steps_until_death_ > 0) {
        --steps_until_death_;
        if (steps_until_death_ == 0) die();
    }
    if (life_ && disk_.power_is_off()) die();
    const bool world_first = random_.chance(0.3);
    if (world_first && loop_.poll_one() > 0) return true;
    if (life_ && life_->step(random_)) {
        if (disk_.power_is_off()) die();
        return true;
    }
    if (!world_first && loop_.poll_one() > 0) return true;
    if (life_ && life_->ended()) {
        after_end();
        return true;
    }
    return let_time_pass();
}

bool World::let_time_pass() {
    std::int64_t next = next_timer_of(loop_);
    if (life_) next = std::min(next, life_->next_ns());
    if (!agenda_.empty()) next = std::min(next, agenda_.begin()->first);
    if (next > VirtualTime::now_ns()) VirtualTime::advance_to(next);
    while (!agenda_.empty() && agenda_.begin()->first <= VirtualTime::now_ns()) {
        const Step what = std::move(agenda_.begin()->second);
        agenda_.erase(agenda_.begin());
        what();
    }
    return true;
}

// ---- the engine's lives -------------------------------------------------------------------------------------------

config::SettingsPtr World::settings() {
    config::Settings settings;
    settings.directory = "/instance";
    settings.me = "engine.test";
    settings.smtp.shards = plan_.shards;
    settings.relay.acl = true;
    settings.relay.acl_allow = {"10.0.0.0/8"};
    settings.tls.enabled = true;
    settings.tls.certificates = {credentials_.certificate_file};
    settings.tls.keys = {credentials_.key_file};
    settings.tls.request_certificate = false;
    settings.outbound_tls.ca_file = credentials_.authority_file;
    settings.outbound_tls.verify_peer = plan_.verify_tls;
    settings.outbound_tls.broken_tls_expiry = std::chrono::hours(2);
    settings.outbound.concurrency_max = concurrency_max_;
    settings.outbound.destination_concurrency = destination_concurrency_;
    settings.outbound.messages_per_connection = plan_.messages_per_connection;
    settings.outbound.always_split = plan_.always_split;
    settings.outbound.queue_lifetime = plan_.lifetime;
    settings.outbound.temp_fail_intervals.assign(plan_.intervals.begin(), plan_.intervals.end());
    while (settings.outbound.temp_fail_intervals.size() < 400) settings.outbound.temp_fail_intervals.push_back(plan_.intervals.back());
    settings.spool.directory = "/queue";
    settings.spool.sync = plan_.sync;
    settings.spool.segment_bytes = plan_.segment_bytes;
    settings.spool.reserve_bytes = 64 << 10;
    settings.spool.free_bytes_min = 64 << 10;
    settings.spool.memory_bytes_max = 1ULL << 50;
    settings.spool.fresh_bytes_max = plan_.fresh_bytes_max;
    return std::make_shared<const config::Settings>(std::move(settings));
}

void World::boot() {
    if (over_ || life_) return;
    const Life::World around{internet_, disk_, ledger_, plan_.group_bytes_max};
    auto life = std::make_unique<Life>(around, settings());
    ++lives_;
    // Recovery may be cut short as well.
    const bool dies_early = !healed_ && plan_.kills + plan_.power_cuts > 0 && random_.chance(0.15);
    if (dies_early) {
        planned_ = plan_.power_cuts > 0 ? Death::power_cut : Death::kill;
        cut_power_within(40);
        steps_until_death_ = 1 + random_.below(3'000);
    }
    if (const Result<> booted = life->boot(); !booted) {
        // Whoever supervises it starts it again, until the disk works.
        ledger_.trace("boot failed: " + booted.error().text());
        graveyard().push_back(std::move(life));
        ledger_.boot_failed();
        const bool power_cut = planned_ == Death::power_cut && disk_.power_is_off();
        planned_ = Death::none;
        steps_until_death_ = 0;
        if (power_cut) {
            disk_.restart();
        } else {
            disk_.restart_process();
        }
        return at(VirtualTime::now_ns() + 2 * second, [this] { boot(); });
    }
    life_ = std::move(life);
}

void World::plan_death(Death death) {
    if (healed_ || !life_ || planned_ != Death::none) return;
    planned_ = death;
    if (random_.chance(0.5)) {
        cut_power_within(30);
        steps_until_death_ = 200'000;  // in case the disk rests
    } else {
        steps_until_death_ = 1 + random_.below(random_.chance(0.5) ? 50 : 2'000);
    }
}

// To the dying it looks like a disk that fails.
void World::cut_power_within(std::uint64_t operations) {
    ledger_.disk_has_failed = true;
    disk_.cut_power_at(1 + random_.below(operations));
}

void World::die() {
    const bool power_cut = planned_ == Death::power_cut;
    ledger_.trace(power_cut ? "power cut" : "killed");
    planned_ = Death::none;
    steps_until_death_ = 0;
    if (life_) graveyard().push_back(std::move(life_));
    internet_.reset_all();
    for (const LinkPtr& link : client_links_) link->reset();
    client_links_.clear();
    ledger_.died(durable_before_ns());
    if (power_cut) {
        disk_.restart();
    } else {
        disk_.restart_process();
    }
    at(VirtualTime::now_ns() + 1 + within(random_.chance(0.1) ? hour : 20 * second), [this] { boot(); });
}

// The engine has stopped in order.
void World::after_end() {
    life_->finish();
    life_.reset();
    ledger_.died(durable_before_ns());
    disk_.restart_process();
    planned_ = Death::none;
    steps_until_death_ = 0;
    if (last_stop_) {
        over_ = true;
        return;
    }
    at(VirtualTime::now_ns() + 1 + within(10 * second), [this] { boot(); });
}

std::int64_t World::durable_before_ns() const {
    std::int64_t before = VirtualTime::now_ns();
    if (disk_trouble_since_ns_ != 0) before = disk_trouble_since_ns_;
    return before - recorded_within;
}

// From here on nothing goes wrong any more, and everything that is queued must find its end.
void World::heal() {
    healed_ = true;
    healed_ns_ = VirtualTime::now_ns();
    ledger_.trace("healed");
    planned_ = Death::none;
    steps_until_death_ = 0;
    disk_.cut_power_at(0);
    disk_.fail_operation(0, EIO);  // never
    disk_.fail_syncs(false);
    disk_.set_capacity(UINT64_MAX);
    internet_.heal();
    internet_.reset_all();
    concurrency_max_ = plan_.concurrency_max;
    destination_concurrency_ = plan_.destination_concurrency;
    if (!life_) return;
    life_->slow_disk(8 * ms);
    life_->apply(settings());
}

// Now and then: does the core keep its limits and its schedule, and is everything over?
void World::look() {
    at(VirtualTime::now_ns() + (healed_ ? minute : 1 + within(20 * minute)), [this] { look(); });
    if (!life_ || life_->stopping()) return;
    if (healed_) life_->tell_core(queue::Release{});
    const std::uint32_t total_max = concurrency_max_;
    life_->ask_core([this, total_max, now = life_->now()](const queue::Core& core) {
        core.audit();
        const queue::Stats stats = core.stats();
        if (plan_.reconfigured == 0 && stats.sessions > total_max) ledger_.violate("more sessions than allowed");
        core.each_domain([&](const queue::DomainStats& domain) {
            const bool too_many = plan_.reconfigured == 0 && domain.sessions > plan_.destination_concurrency;
            if (too_many) ledger_.violate("more sessions than allowed for " + std::string(domain.domain));
            return !too_many;
        });
        core.each({}, [&](const queue::ItemView& item) {
            const bool late = item.state == queue::ItemState::scheduled && item.due + Duration(60'000) < now;
            if (late) ledger_.violate(item.id.text() + " is overdue");
            return !late;
        });
        ledger_.trace("items " + std::to_string(stats.items));
        if (!healed_ || clients_.size() > 0 || stats.items + stats.sessions > 0 || !life_) return;
        if (stats.lanes + stats.buckets + stats.fresh_bytes != 0) ledger_.violate("the core keeps something of an empty queue");
        last_stop_ = true;
        life_->begin_stop(std::chrono::seconds(30));
    });
    if (healed_ && VirtualTime::now_ns() - healed_ns_ > drained_within) ledger_.violate("the queue does not drain");
}

// The engine has ended: what its journal holds now is what it leaves undone.
void World::finish_run() {
    std::uint64_t left = 0;
    spool::RecoveryReport report;
    spool::Tuning tuning;
    tuning.own_thread = false;
    spool::Options options;
    options.directory = "/queue";
    options.segment_bytes = plan_.segment_bytes;
    options.reserve_bytes = 64 << 10;
    const auto opened = spool::JournalSpool::open(disk_, options, tuning, [&](const spool::RecoveredItem&) { ++left; }, report);
    if (!opened) ledger_.violate("the journal cannot be opened at the end: " + opened.error().text());
    if (left > 0) ledger_.violate("the journal holds undecided items at the end");
    ledger_.settle_accounts();
    if (internet_.open_links() > 0) ledger_.violate("connections are left at the end");
    const auto exactly = [this](const char* what, const std::optional<std::uint64_t>& wanted, std::uint64_t got) {
        if (wanted && *wanted != got) ledger_.violate("expected " + std::to_string(*wanted) + " " + what + ", got " + std::to_string(got));
    };
    const Ledger::Counts& counts = ledger_.counts();
    exactly("delivered", plan_.expect.delivered, counts.delivered);
    exactly("bounced", plan_.expect.bounced, counts.bounced);
    if (plan_.expect.duplicates_max && counts.duplicates > *plan_.expect.duplicates_max) ledger_.violate("more duplicates than expected");
    if (plan_.expect.lives_min && lives_ < *plan_.expect.lives_min) ledger_.violate("fewer lives than expected");
}

// ---- clients ------------------------------------------------------------------------------------------------------

void World::plan_workload() {
    for (const StreamPlan& stream : plan_.streams) {
        std::int64_t when = began_ns_;
        for (std::uint32_t i = 0; i < stream.messages; ++i) {
            when += within(static_cast<std::int64_t>(2 * static_cast<double>(hour) / stream.per_hour));
            if (when > began_ns_ + plan_.faults_for.count() * ms) break;
            at(when, [this, &stream] { clients_.spawn(client(stream)); });
        }
    }
}

// Gives one message to the engine, however often it takes.
Task<> World::client(const StreamPlan& stream) {
    for (int attempt = 0; attempt < tries_max; ++attempt) {
        if (attempt > 0) {
            const std::chrono::milliseconds pause(static_cast<std::int64_t>(30'000 + random_.below(900'000)));
            co_await async::sleep_for(pause);
        }
        if (!life_ || life_->stopping()) continue;
        if (stream.injects) {
            const std::uint64_t number = ledger_.next_number();
            Sent message = compose_sent(stream, number, random_);
            ledger_.sent(message);
            life_->inject(std::move(message), number);
            co_return;
        }
        const net::Endpoint from(net::IpAddress::v4(0x0A000001 + static_cast<std::uint32_t>(random_.below(200))), 30'000);
        const LinkPtr link = life_->connect_client(loop_.get_executor(), from, internet_.terms(), random_);
        std::erase_if(client_links_, [](const LinkPtr& one) { return one->near_is_gone(); });
        client_links_.push_back(link);
        const bool taken = co_await submit(stream, ledger_, random_, link, link->take_far(), client_tls_);
        if (taken) co_return;
    }
}

// ---- troubles -----------------------------------------------------------------------------------------------------

void World::often(double per_hour, const Step& step) {
    if (per_hour <= 0) return;
    std::int64_t when = began_ns_;
    while (true) {
        when += 1 + within(static_cast<std::int64_t>(2 * static_cast<double>(hour) / per_hour));
        if (when > began_ns_ + plan_.faults_for.count() * ms) return;
        at(when, [this, step] {
            if (!healed_) step();
        });
    }
}

void World::plan_troubles() {
    often(plan_.kills, [this] { plan_death(Death::kill); });
    often(plan_.power_cuts, [this] { plan_death(Death::power_cut); });
    often(plan_.restarts, [this] {
        if (life_) life_->begin_stop(std::chrono::seconds(random_.below(60)));
    });
    often(plan_.disk_errors, [this] {
        begin_disk_trouble();
        disk_.fail_operation(1 + random_.below(20), random_.chance(0.7) ? EIO : ENOSPC);
        at(VirtualTime::now_ns() + 10 * minute, [this] { end_disk_trouble(); });
    });
    often(plan_.sync_failures, [this] { break_syncs(); });
    often(plan_.disk_full, [this] { fill_disk(); });
    often(plan_.slow_disk, [this] { slow_down_disk(); });
    often(plan_.clock_jumps, [this] { VirtualTime::jump_wall(within(48 * hour) - 24 * hour); });
    often(plan_.operators, [this] { operate(); });
    often(plan_.reconfigured, [this] { reconfigure(); });
    often(plan_.link_resets, [this] { internet_.reset_one(); });
}

void World::begin_disk_trouble() {
    ++troubles_;
    ledger_.disk_has_failed = true;
    if (disk_trouble_since_ns_ == 0) disk_trouble_since_ns_ = VirtualTime::now_ns();
}

// The trouble counts until what waited for it has been written.
void World::end_disk_trouble() {
    at(VirtualTime::now_ns() + minute, [this] {
        if (--troubles_ == 0) disk_trouble_since_ns_ = 0;
    });
}

void World::break_syncs() {
    begin_disk_trouble();
    disk_.fail_syncs(true);
    at(VirtualTime::now_ns() + 1 + within(10 * minute), [this] {
        disk_.fail_syncs(false);
        end_disk_trouble();
    });
}

void World::fill_disk() {
    begin_disk_trouble();
    const std::uint64_t used = UINT64_MAX - disk_.free_bytes("/queue").value_or(UINT64_MAX);
    disk_.set_capacity(used + random_.below(300'000));
    at(VirtualTime::now_ns() + 1 + within(hour), [this] {
        disk_.set_capacity(UINT64_MAX);
        end_disk_trouble();
    });
}

void World::slow_down_disk() {
    if (!life_) return;
    begin_disk_trouble();
    life_->slow_disk(1 + within(20 * second));
    at(VirtualTime::now_ns() + 1 + within(hour), [this] {
        if (life_) life_->slow_disk(8 * ms);
        end_disk_trouble();
    });
}

void World::operate() {
    if (!life_ || life_->stopping()) return;
    const std::uint64_t what = random_.below(10);
    const std::uint64_t nth = random_.below(50);
    const bool whole_domain = random_.chance(0.3);
    life_->ask_core([this, what, nth, whole_domain](const queue::Core& core) {
        // Items in an order that depends on nothing but the run.
        std::vector<std::pair<ItemId, std::string>> items;
        core.each({}, [&](const queue::ItemView& item) {
            items.emplace_back(item.id, std::string(item.domain));
            return true;
        });
        if (items.empty() || !life_) return;
        std::sort(items.begin(), items.end());
        const auto& [id, domain] = items[nth % items.size()];
        queue::Selection which;
        if (whole_domain) {
            which.domain = domain;
        } else {
            which.item = id;
        }
        ledger_.trace("operator " + std::to_string(what) + " " + id.text());
        if (what < 3) return life_->tell_core(queue::Hold{which});
        if (what < 6) return life_->tell_core(queue::Release{which});
        if (what < 9) return life_->tell_core(queue::Flush{which});
        life_->tell_core(queue::Remove{which});
    });
}

void World::reconfigure() {
    if (!life_ || life_->stopping()) return;
    concurrency_max_ = static_cast<std::uint32_t>(1 + random_.below(plan_.concurrency_max));
    destination_concurrency_ = static_cast<std::uint32_t>(1 + random_.below(plan_.destination_concurrency));
    life_->apply(settings());
}

}  // namespace sluice::drill
