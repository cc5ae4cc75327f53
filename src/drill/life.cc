#include "drill/life.h"

#include <algorithm>
#include <boost/asio/detail/epoll_reactor.hpp>
#include <boost/asio/detail/scheduler.hpp>

#include "drill/virtual_time.h"
#include "reception/injection.h"

namespace sluice::drill {
namespace {

// Each group is filled up to whole sectors: rewriting of single records would take as much room as it gives back, for ever.
constexpr std::uint64_t rewrite_bytes_least = 8 << 10;

spool::Tuning by_hand(std::uint64_t group_bytes_max) {
    spool::Tuning tuning;
    tuning.own_thread = false;
    tuning.group_bytes_max = group_bytes_max;
    tuning.rewrite_bytes_max = std::clamp(group_bytes_max, rewrite_bytes_least, tuning.rewrite_bytes_max);
    return tuning;
}

}  // namespace

// Asio's reactor, asked to wait, asks epoll_wait() to wait until its next timer: which is how we learn of it.
std::int64_t next_timer_of(boost::asio::io_context& loop) {
    boost::asio::detail::op_queue<boost::asio::detail::scheduler_operation> ready;
    boost::asio::use_service<boost::asio::detail::epoll_reactor>(loop).run(-1, ready);
    const bool any = !ready.empty();
    boost::asio::use_service<boost::asio::detail::scheduler>(loop).post_deferred_completions(ready);
    if (any) return VirtualTime::now_ns();
    return VirtualTime::now_ns() + std::max(VirtualTime::last_wait_ms(), 1) * 1'000'000LL;
}

Life::Life(const World& world, config::SettingsPtr settings)
    : world_(world), settings_(std::move(settings)), network_(world.internet.network()) {}

Life::~Life() = default;

Result<std::unique_ptr<spool::Spool>> Life::open_spool(
    const spool::Options& options, const daemon::Ground::OnItem& on_item, spool::RecoveryReport& report) {
    const auto tell = [&](const spool::RecoveredItem& item) {
        world_.ledger.recovered(item);
        on_item(item);
    };
    TRY(auto spool, spool::JournalSpool::open(world_.disk, options, by_hand(world_.group_bytes_max), tell, report));
    if (report.corrupt_batches != 0) world_.ledger.violate("recovery found damage: " + report.warnings.front());
    spool_ = static_cast<spool::JournalSpool*>(spool.get());
    return spool;
}

Result<> Life::boot() {
    daemon::Ground ground{
        .network = *network_,
        .dns = world_.internet.names(),
        .open_spool = [this](const auto& options, const auto& on_item, auto& report) { return open_spool(options, on_item, report); },
        .disk_workers = 0,
        .ourselves = {*net::IpAddress::parse("11.9.0.1")},
        .remembers = false};
    machinery_ = std::make_unique<daemon::Machinery>(std::move(ground), world_.ledger, world_.ledger);
    TRY_VOID(machinery_->recover(*settings_));
    machinery_->build(settings_);
    control_ = std::make_unique<async::Shard>("control");
    acceptance_ = std::make_unique<daemon::SpoolAcceptance>(
        control_->executor(), machinery_->spool(), machinery_->core(), machinery_->pressure());
    injections_ = std::make_unique<async::TaskGroup>(control_->executor());
    world_.ledger.booted();
    return {};
}

bool Life::step(Random& random) {
    const std::size_t loops = machinery_->shards().size() + 1;
    const std::size_t parties = loops + 3;
    const std::size_t first = random.below(parties);
    for (std::size_t i = 0; i < parties; ++i) {
        const std::size_t party = (first + i) % parties;
        bool moved = false;
        if (party < loops) moved = move_loops(party);
        if (party == loops) moved = move_core();
        if (party == loops + 1) moved = move_spool(random);
        if (party == loops + 2) moved = move_workers();
        if (moved) return true;
    }
    if (closed_ && injections_->size() == 0) ended_ = true;
    return false;
}

bool Life::move_loops(std::size_t which) {
    auto& loop = which == 0 ? control_->loop() : machinery_->shards()[which - 1]->shard().loop();
    return loop.poll_one() > 0;
}

// The writer's turn ends when its sync would.
bool Life::move_spool(Random& random) {
    const std::int64_t now = VirtualTime::now_ns();
    if (now < spool_busy_until_ns_ || (!spool_->work_waits() && now < spool_due_ns_)) return false;
    const std::uint64_t operations = world_.disk.operations();
    spool_->turn();
    const std::uint64_t done = world_.disk.operations() - operations;
    if (done > 0) spool_busy_until_ns_ = now + 100'000 + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(sync_max_ns_)));
    world_.ledger.trace("disk " + std::to_string(done));
    const Duration idle = spool_->idle_time();
    spool_due_ns_ = idle == Duration::max() ? VirtualTime::never : now + std::max<std::int64_t>(1, idle.count()) * 1'000'000;
    return true;
}

std::int64_t Life::next_ns() const {
    std::int64_t next = next_timer_of(control_->loop());
    for (const auto& shard : machinery_->shards()) next = std::min(next, next_timer_of(shard->shard().loop()));
    const Instant timer = machinery_->core().next_timer();
    if (timer != Instant::max()) {
        const std::int64_t left_ms = (timer - machinery_->clock().now()).count();
        next = std::min(next, (VirtualTime::now_ns() / 1'000'000 + std::max<std::int64_t>(left_ms, 0)) * 1'000'000);
    }
    if (spool_->work_waits()) return std::min(next, spool_busy_until_ns_);
    return std::min(next, std::max(spool_due_ns_, spool_busy_until_ns_));
}

LinkPtr Life::connect_client(async::Executor client, const net::Endpoint& from, const LinkTerms& terms, Random& random) {
    const net::Endpoint listener(*net::IpAddress::parse("11.9.0.1"), 25);
    daemon::ShardUnit& shard = *machinery_->shards()[random.below(machinery_->shards().size())];
    const LinkPtr link = Link::make(shard.shard().executor(), client, listener, from, terms);
    shard.shard().post([&shard, link, listener] { shard.accept(link->take_near(), listener); });
    return link;
}

void Life::inject(Sent message, std::uint64_t number) {
    if (!stopping_) injections_->spawn(take_injection(std::move(message), number));
}

Task<> Life::take_injection(Sent message, std::uint64_t number) {
    if (acceptance_->refusal()) co_return;
    reception::Injection injection;
    injection.reverse_path = message.reverse_path;
    injection.recipients = message.recipients;
    injection.notify = message.notify;
    injection.content = message.content;
    auto composed = reception::make_message(std::move(injection), *settings_, machinery_->clock(), machinery_->ids());
    if (!composed) {
        world_.ledger.violate("an injection was refused: " + composed.error().front().reason);
        co_return;
    }
    const mail::MessagePtr ready = *composed;
    const Result<> accepted = co_await acceptance_->accept(ready);
    if (!accepted) co_return;
    const event::Accepted fact{.message = *ready, .client = "http"};
    world_.ledger.record(fact);
    world_.ledger.acknowledged(number);
}

void Life::apply(const config::SettingsPtr& settings) {
    settings_ = settings;
    machinery_->apply(settings);
}

void Life::begin_stop(std::chrono::milliseconds patience) {
    if (std::exchange(stopping_, true)) return;
    machinery_->close(VirtualTime::now() + patience, [this] { closed_ = true; });
}

void Life::finish() {
    machinery_->finish();
    injections_.reset();
    acceptance_.reset();
    control_.reset();
    machinery_.reset();
}

}  // namespace sluice::drill
