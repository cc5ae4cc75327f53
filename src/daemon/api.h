#pragma once

#include <absl/container/flat_hash_map.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/signal.h"
#include "async/task_group.h"
#include "control/backend.h"
#include "control/server.h"
#include "daemon/acceptance.h"
#include "daemon/bulk_desk.h"
#include "daemon/import_desk.h"
#include "daemon/policy_desk.h"
#include "daemon/queue_desk.h"
#include "daemon/survey_desk.h"
#include "plugin/inbound_chain.h"

namespace sluice::daemon {

class Engine;

// Answers the control API from the engine's parts; what it asks of the queue is the QueueDesk's work.
// Lives on the control shard.
class Api final : public control::Backend {
public:
    Api(Engine& engine, async::Executor executor);

    Task<control::EngineStatus> status() override;
    Task<std::vector<control::DomainCount>> domains() override;
    Task<Result<control::ItemPage>> list(control::ItemFilter filter) override;
    Task<Result<control::ItemDetail>> show(ItemId id) override;
    Task<Result<std::uint64_t>> command(control::Command command, queue::Selection which) override;
    Task<Result<control::SurveyReport>> survey(control::SurveyRequest request) override;
    Task<Result<control::BucketPage>> buckets(control::BucketFilter filter) override;
    Task<Result<std::vector<control::Explained>>> explain(std::string what) override;
    Task<Result<std::uint64_t>> count(control::BulkRequest request) override;
    Task<Result<control::Job>> start(control::BulkRequest request) override;
    std::vector<control::Job> jobs() override { return bulk_desk_.jobs(); }
    Result<control::Job> cancel(std::uint64_t job) override { return bulk_desk_.cancel(job); }
    Result<control::Import> import_queue(control::ImportRequest request) override { return import_desk_.start(std::move(request)); }
    std::optional<control::Import> last_import() override { return import_desk_.last(); }
    Result<control::Import> cancel_import() override { return import_desk_.cancel(); }
    Task<Result<control::InjectReply>> inject(control::InjectRequest request) override;
    Task<Result<control::PolicyReply>> set_condition(std::string json, bool dry_run) override;
    Task<Result<control::PolicyReply>> set_suspension(std::string json, bool dry_run) override;
    Task<Result<>> remove_condition(control::PolicyRemoval removal) override;
    Task<Result<>> remove_suspension(control::PolicyRemoval removal) override;
    Task<control::PolicyList<control::ConditionDetail>> conditions() override;
    Task<control::PolicyList<control::SuspensionDetail>> suspensions() override;
    Task<control::ReloadReport> reload() override;
    Task<std::string> metrics() override;
    plugin::Hosts::View plugins() override;
    Task<plugin::Reloaded> reload_plugins() override;
    control::Memory& memory() override { return memory_; }

    // On the shard: what a plugin asks for.
    void serve(plugin::ApiCall call, plugin::Respond respond);

    // On the shard: makes everything that is scheduled due, in a task of its own.
    void flush_queue();
    // On the shard: takes over what a Haraka left in our queue directory.
    void import_own_queue() { import_desk_.import_own(); }
    // After the shard has stopped.
    void end_import() { import_desk_.close(); }
    // On the shard: closes the server in a task of its own, then calls `closed`.
    void close(control::Server& server, std::function<void()> closed);

private:
    // A key seen before names the message that it queued; forgotten after a day.
    struct Seen {
        MessageId id;
        Instant at;
    };
    // A key whose message is not durable yet: whoever sends it meanwhile waits for the same answer.
    struct Pending {
        std::optional<Result<control::InjectReply>> reply;
        std::vector<async::Signal*> waiting;
    };
    using PendingPtr = std::shared_ptr<Pending>;

    Task<Result<control::InjectReply>> inject_once(control::InjectRequest request);
    Task<Result<control::InjectReply>> wait_for(PendingPtr pending);
    Task<Result<control::InjectReply>> queue(control::InjectRequest request);
    Task<> close_server(control::Server& server, std::function<void()> closed);
    Task<> flush_all();
    Task<> serve_call(plugin::ApiCall call, plugin::Respond respond);
    void count_plugins();
    Task<Result<mail::MessagePtr>> offer_to_plugins(mail::MessagePtr message);
    Result<mail::MessagePtr> message_of(control::InjectRequest request);
    void remember_key(const std::string& key, Seen seen);
    void recover_keys();
    void forget_old_keys();

    Engine& engine_;
    async::Executor executor_;
    SpoolAcceptance acceptance_;
    QueueDesk desk_;
    SurveyDesk survey_desk_;
    BulkDesk bulk_desk_;
    PolicyDesk policy_desk_;
    control::Memory memory_;
    ImportDesk import_desk_;
    std::unique_ptr<plugin::InboundChain> hooks_;  // null: no plugin is configured
    absl::flat_hash_map<std::string, Seen> seen_;
    std::deque<std::pair<Instant, std::string>> key_ages_;  // of seen_, oldest first
    absl::flat_hash_map<std::string, PendingPtr> pending_;
    async::TaskGroup tasks_;
};

}  // namespace sluice::daemon
