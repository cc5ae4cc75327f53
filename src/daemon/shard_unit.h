#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/mailbox.h"
#include "async/published.h"
#include "async/shard.h"
#include "async/task_group.h"
#include "async/workers.h"
#include "config/settings.h"
#include "daemon/acceptance.h"
#include "daemon/core_thread.h"
#include "delivery/courier.h"
#include "dns/resolver.h"
#include "dns/router.h"
#include "plugin/inbound_chain.h"
#include "plugin/plugin_hooks.h"
#include "reception/census.h"
#include "reception/reception.h"

namespace sluice::daemon {

// Collects what one shard tells the core during a turn of its loop, and pushes it at once. push() on the shard only.
class ShardInbox final : public delivery::CoreInbox {
public:
    ShardInbox(async::Executor executor, CoreThread& core) : executor_(executor), core_(core) {}
    void push(queue::Event event) override;
    void flush() { core_.push_all(events_); }

private:
    async::Executor executor_;
    CoreThread& core_;
    std::vector<queue::Event> events_;
};

// What every shard shares. Outlives the shards.
struct Common {
    const Clock& clock;
    spool::Spool& spool;
    spool::IdSource& ids;
    async::Workers& disk_pool;
    CoreThread& core;
    const Pressure& pressure;
    event::Recorder& events;
    event::Log& log;
    reception::Census& census;
    net::Network& network;
    dns::MakeContext dns;  // null: the real ones
    std::vector<net::IpAddress> ourselves;
    plugin::NativeHost* natives = nullptr;  // null: a world without processes
    plugin::Hosts* plugins = nullptr;       // likewise
    plugin::Images* images = nullptr;       // with plugins
    plugin::Images* edits = nullptr;        // with plugins
};

// One I/O thread and everything that lives on it.
class ShardUnit {
public:
    ShardUnit(std::uint32_t index, const Common& common, const config::SettingsPtr& settings);
    ~ShardUnit();

    // On the shard: serves a connection as if it had been accepted on `listener`.
    void accept(net::StreamPtr stream, const net::Endpoint& listener) { reception_->accept(std::move(stream), listener); }
    // Before start(): binds the listeners.
    Result<> listen() { return reception_->listen(); }
    void start();  // once; later calls do nothing
    // From any thread. Takes the actions for this shard out of `actions`.
    void carry_out(std::vector<queue::Action>& actions) { actions_.push_all(actions); }
    void configure(config::SettingsPtr settings);
    // From any thread, returns at once: stops accepting, then delivering; `stopped` is called on the shard when all is quiet.
    void close(std::chrono::steady_clock::time_point deadline, std::function<void()> stopped);
    // After close(): ends the thread.
    void join();

    async::Shard& shard() { return shard_; }
    std::vector<net::Endpoint> endpoints() const { return reception_->endpoints(); }

private:
    std::unique_ptr<plugin::PluginHooks> make_hooks(const Common& common);
    void catch_up();
    void apply(config::SettingsPtr settings);
    void take(std::vector<queue::Action>& actions);
    Task<> resolve(queue::Resolve wanted);
    Task<> close_all(std::chrono::steady_clock::time_point deadline, std::function<void()> stopped);

    const std::uint32_t index_;
    event::Log& log_;
    config::SettingsPtr settings_;
    async::Shard shard_;
    ShardInbox inbox_;
    SpoolAcceptance acceptance_;
    std::unique_ptr<dns::Resolver> resolver_;
    dns::Router router_;
    std::unique_ptr<plugin::PluginHooks> hooks_;
    std::unique_ptr<plugin::InboundChain> inbound_hooks_;
    std::unique_ptr<delivery::Courier> courier_;
    std::unique_ptr<reception::Reception> reception_;
    async::Mailbox<queue::Action> actions_;
    async::TaskGroup resolving_;
    async::TaskGroup closing_;
    async::Published<config::Settings> newest_;
    bool started_ = false;
};

}  // namespace sluice::daemon
