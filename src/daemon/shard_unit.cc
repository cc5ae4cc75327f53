#include "daemon/shard_unit.h"

#include <utility>

namespace sluice::daemon {

void ShardInbox::push(queue::Event event) {
    if (events_.empty()) boost::asio::post(executor_, [this] { flush(); });
    events_.push_back(std::move(event));
}

ShardUnit::ShardUnit(std::uint32_t index, const Common& common, const config::SettingsPtr& settings)
    : index_(index),
      log_(common.log),
      settings_(settings),
      shard_("sluice-io-" + std::to_string(index)),
      inbox_(shard_.executor(), common.core),
      acceptance_(shard_.executor(), common.spool, common.core, common.pressure),
      resolver_(dns::make_resolver(shard_, settings->dns, common.dns)),
      router_(*resolver_, common.clock, settings, common.ourselves),
      actions_(shard_.executor(), [this](std::vector<queue::Action>& actions) { take(actions); }),
      resolving_(shard_.executor()),
      closing_(shard_.executor()),
      newest_(settings) {
    if (common.natives != nullptr) hooks_ = make_hooks(common);
    if (common.plugins != nullptr) {
        inbound_hooks_ = std::make_unique<plugin::InboundChain>(shard_.executor(), common.natives, *common.plugins, common.log);
    }
    const delivery::Surroundings out{
        shard_, common.clock, common.spool, common.ids, common.disk_pool, common.network, inbox_, common.events, common.log,
        common.ids.next().value, hooks_.get()};
    courier_ = std::make_unique<delivery::Courier>(out, settings);
    const reception::Surroundings in{
        shard_, common.clock, common.ids, acceptance_, common.events, common.log, &common.census, inbound_hooks_.get()};
    reception_ = std::make_unique<reception::Reception>(in, settings);
    if (hooks_ && inbound_hooks_) hooks_->show_notifications(*inbound_hooks_);
}

std::unique_ptr<plugin::PluginHooks> ShardUnit::make_hooks(const Common& common) {
    std::unique_ptr<plugin::ShardHooks> node;
    if (common.plugins != nullptr) {
        const plugin::HookSurroundings hooks{
            *common.plugins, *common.images, *common.edits, router_, acceptance_, common.ids, common.clock, common.events, common.log};
        node = std::make_unique<plugin::ShardHooks>(shard_.executor(), hooks, settings_);
    }
    return std::make_unique<plugin::PluginHooks>(
        shard_.executor(), *common.natives, common.plugins, std::move(node), *common.images, *common.edits, router_, common.clock, common.log);
}

ShardUnit::~ShardUnit() { join(); }

void ShardUnit::start() {
    if (!std::exchange(started_, true)) shard_.start();
}

void ShardUnit::take(std::vector<queue::Action>& actions) {
    for (queue::Action& action : actions) {
        if (auto* wanted = std::get_if<queue::Resolve>(&action)) {
            if (resolving_.closing()) continue;
            catch_up();  // the core may know of settings that still wait here
            resolving_.spawn(resolve(std::move(*wanted)));
        } else {
            courier_->carry_out(std::move(action));
        }
    }
}

Task<> ShardUnit::resolve(queue::Resolve wanted) {
    auto route = co_await router_.resolve(wanted.key, wanted.via);
    if (!route && route.error().code == Errc::cancelled) co_return;
    queue::RouteResolved resolved{std::move(wanted.key), std::move(route), std::move(wanted.via)};
    inbox_.push(std::move(resolved));
}

void ShardUnit::configure(config::SettingsPtr settings) {
    newest_.set(std::move(settings));
    shard_.post([this] { catch_up(); });
}

// Settings that were overtaken while they waited here are never used.
void ShardUnit::catch_up() {
    config::SettingsPtr newest = newest_.get();
    if (newest != settings_) apply(std::move(newest));
}

void ShardUnit::apply(config::SettingsPtr settings) {
    // Every shard gets the same settings: one of them reports what did not work.
    const auto report = [this](const Result<>& result) {
        if (!result && index_ == 0) log_.warn("core", "settings kept", {{"reason", result.error().text()}});
    };
    report(reception_->configure(settings));
    report(courier_->configure(settings));
    router_.configure(settings);
    if (hooks_) hooks_->configure(settings);
    // A resolver that is made anew has lost its cache and every question under way.
    if (settings->dns != settings_->dns) resolver_->configure(settings->dns);
    settings_ = std::move(settings);
}

void ShardUnit::close(std::chrono::steady_clock::time_point deadline, std::function<void()> stopped) {
    shard_.post([this, deadline, stopped = std::move(stopped)] { closing_.spawn(close_all(deadline, stopped)); });
}

Task<> ShardUnit::close_all(std::chrono::steady_clock::time_point deadline, std::function<void()> stopped) {
    co_await reception_->close(deadline);
    co_await courier_->close(deadline);
    co_await resolving_.close();
    co_await resolver_->close();
    inbox_.flush();
    stopped();
}

void ShardUnit::join() { shard_.stop(); }

}  // namespace sluice::daemon
