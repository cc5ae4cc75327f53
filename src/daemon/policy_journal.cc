#include "daemon/policy_journal.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/assert.h"

namespace sluice::daemon {
namespace {

constexpr std::string_view condition_prefix = "condition:";
constexpr std::string_view suspension_prefix = "suspension:";

std::string_view name_of(queue::Change change) {
    switch (change) {
        case queue::Change::added: return "added";
        case queue::Change::updated: return "updated";
        case queue::Change::expired: return "expired";
        case queue::Change::removed: return "removed";
    }
    UNREACHABLE();
}

bool is_gone(queue::Change change) { return change == queue::Change::expired || change == queue::Change::removed; }

void tell(const event::PolicyChanged& fact, event::Recorder& events, event::Log& log) {
    events.record(fact);
    log.info(
        "policy", std::string(fact.kind) + " " + std::string(fact.change),
        {{"id", fact.id}, {"by", fact.by}, {"reason", fact.reason}, {"definition", fact.definition}});
}

std::string complaints_of(const Problems& problems) {
    std::string text;
    for (const Problem& problem : problems.all()) {
        if (problem.severity == Severity::error) text += (text.empty() ? "" : "; ") + problem.message;
    }
    return text;
}

// The event that sets what a record says, or nothing with a complaint.
std::optional<queue::Event> event_of(const spool::PolicyRecord& record, Problems& problems) {
    if (record.key.starts_with(condition_prefix)) {
        auto condition = policy::parse_condition_record(record.value, record.key, problems);
        if (condition && record.key != std::string(condition_prefix) + condition->id) problems.error(record.key, 0, "id: the key names another");
        if (condition && !problems.any_error()) return queue::SetCondition{std::move(*condition), true};
        return std::nullopt;
    }
    auto suspension = policy::parse_suspension_record(record.value, record.key, problems);
    if (suspension && record.key != std::string(suspension_prefix) + suspension->id) problems.error(record.key, 0, "id: the key names another");
    if (suspension && !problems.any_error()) return queue::SetSuspension{std::move(*suspension), true};
    return std::nullopt;
}

}  // namespace

void take_policy_change(const queue::Action& action, spool::Batch& batch, event::Recorder& events, event::Log& log) {
    if (const auto* const changed = std::get_if<queue::ConditionChanged>(&action)) {
        const std::string record = policy::record_of(*changed->condition);
        const std::string& id = changed->condition->id;
        batch.emplace_back(spool::PolicyRecord{std::string(condition_prefix) + id, is_gone(changed->change) ? "" : record});
        return tell({"condition", name_of(changed->change), id, record, changed->by, changed->reason}, events, log);
    }
    const auto* const changed = std::get_if<queue::SuspensionChanged>(&action);
    if (changed == nullptr) return;
    const std::string record = policy::record_of(*changed->suspension);
    const std::string& id = changed->suspension->id;
    if (changed->recorded) {
        batch.emplace_back(spool::PolicyRecord{std::string(suspension_prefix) + id, is_gone(changed->change) ? "" : record});
    }
    tell({"suspension", name_of(changed->change), id, record, changed->by, changed->reason}, events, log);
}

std::vector<queue::Event> recovered_policies(const std::vector<spool::PolicyRecord>& records, event::Log& log) {
    std::vector<queue::Event> events;
    for (const spool::PolicyRecord& record : records) {
        if (!record.key.starts_with(condition_prefix) && !record.key.starts_with(suspension_prefix)) continue;
        Problems problems;
        std::optional<queue::Event> event = event_of(record, problems);
        if (event) events.push_back(std::move(*event));
        else log.error("policy", "a record of the journal cannot be read and is not in force", {{"key", record.key}, {"reason", complaints_of(problems)}});
    }
    return events;
}

}  // namespace sluice::daemon
