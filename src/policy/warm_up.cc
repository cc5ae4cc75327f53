#include "policy/warm_up.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace sluice::policy {
namespace {

constexpr const char* property = "warm_up";
constexpr std::uint32_t recorded_parts = 50;  // of a quota: so much of it may be forgotten in a crash

bool is_objection(Failure failure) { return failure == Failure::throttled || failure == Failure::blocked || failure == Failure::content; }

std::uint32_t step_of(std::uint32_t quota) { return std::max<std::uint32_t>(quota / recorded_parts, 1); }

// "DAY BEGAN SENT LAST", and the name of the plan.
struct Kept {
    std::uint32_t day = 0, sent = 0;
    std::int64_t began = 0, last = 0;
    std::string plan;
};

std::optional<Kept> kept_in(const DynamicCondition& condition) {
    const auto found = std::find_if(condition.limits.properties.begin(), condition.limits.properties.end(),
                                    [](const auto& entry) { return entry.first == property; });
    if (found == condition.limits.properties.end()) return std::nullopt;
    std::string_view text = found->second;
    std::array<std::optional<std::int64_t>, 4> numbers;
    for (auto& number : numbers) {
        const std::size_t space = text.find(' ');
        if (space == std::string_view::npos) return std::nullopt;
        number = parse_number<std::int64_t>(text.substr(0, space));
        if (!number || *number < 0) return std::nullopt;
        text.remove_prefix(space + 1);
    }
    constexpr std::int64_t most = 1'000'000'000;
    return Kept{static_cast<std::uint32_t>(std::min(*numbers[0], most)), static_cast<std::uint32_t>(std::min(*numbers[2], most)), *numbers[1],
                *numbers[3], std::string(text)};
}

}  // namespace

std::shared_ptr<const WarmUp> WarmUps::plan_named(const std::string& name) const {
    if (set_ == nullptr) return nullptr;
    for (const auto& plan : set_->warm_ups) {
        if (plan->name == name) return plan;
    }
    return nullptr;
}

void WarmUps::configure(PolicySetPtr set, Instant now, Reactions& reactions) {
    if (set_ == set) return;
    set_ = std::move(set);
    std::vector<std::string> ids;
    for (const auto& [id, row] : rows_) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    for (const std::string& id : ids) {
        Row& row = rows_.find(id)->second;
        const std::shared_ptr<const WarmUp> plan = plan_named(row.plan->name);
        if (plan == nullptr || plan->counted->counts != row.plan->counted->counts) {
            reactions.removed.push_back(id);
            forget(std::string(id));
            continue;
        }
        const bool was_warm = row.day >= row.plan->days.size();
        row.plan = plan;
        if (was_warm || row.day > plan->days.size()) row.day = static_cast<std::uint32_t>(plan->days.size());
        publish(id, row, reactions);
    }
    advance(now, reactions);
}

void WarmUps::tried(const FieldTexts& values, const Observation* failure, Instant now, Reactions& reactions) {
    if (!any()) return;
    for (const auto& plan : set_->warm_ups) {
        std::string id;
        Row* const row = row_for(plan, values, id, now, reactions);
        if (row == nullptr) continue;
        row->last = now;
        ++row->sent;
        if (objected(*row, failure, now)) {
            row->objections.clear();
            begin_day(id, *row, row->day > 0 ? row->day - 1 : 0, now, "stepped back: ", reactions);
            continue;
        }
        if (row->day >= plan->days.size()) continue;
        const std::uint32_t quota = plan->days[row->day];
        if (row->sent - row->recorded < step_of(quota)) continue;
        publish(id, *row, reactions);
        if (row->sent > quota + step_of(quota)) close_for_today(id, *row, now, reactions);
    }
}

WarmUps::Row* WarmUps::row_for(const std::shared_ptr<const WarmUp>& plan, const FieldTexts& values, std::string& id, Instant now,
                               Reactions& reactions) {
    const Policy& policy = *plan->counted;
    if (!values.known.includes(policy.field_set)) return nullptr;
    const FieldTexts grouped = in_groups(policy, values);
    if (grouped.group[number_of(Field::localip)] == Matcher::nothing) return nullptr;
    id = bucket_id("warm-up-", policy, grouped);
    const auto found = rows_.find(id);
    if (found != rows_.end()) return &found->second;
    std::optional<Match> match = match_of_bucket(policy, grouped);
    if (!match || rows_.size() >= rows_max) return nullptr;
    Row row;
    row.plan = plan;
    row.concerns = match->text(set_->fields);
    row.match = std::move(*match);
    Row& made = rows_.emplace(id, std::move(row)).first->second;
    made.last = now;
    begin_day(id, made, 0, now, "", reactions);
    return &made;
}

// So many objections within the window that it went too fast.
bool WarmUps::objected(Row& row, const Observation* failure, Instant now) const {
    if (failure == nullptr || !is_objection(failure->failure) || row.plan->objections_max == 0) return false;
    row.objections.push_back(now);
    while (now - row.objections.front() >= row.plan->window) row.objections.pop_front();
    return row.objections.size() >= row.plan->objections_max;
}

void WarmUps::begin_day(const std::string& id, Row& row, std::uint32_t number, Instant began, const char* why, Reactions& reactions) {
    row.day = number;
    row.began = began;
    row.sent = 0;
    publish(id, row, reactions);
    schedule(id, row);
    const bool is_warm = number >= row.plan->days.size();
    Reaction told;
    told.by = "warm-up " + row.plan->name;
    told.concerns = row.concerns;
    told.what = why + (is_warm ? std::string("it is warm") : "day " + std::to_string(number + 1) + ": " + std::to_string(row.plan->days[number]) + " messages");
    told.id = id;
    reactions.told.push_back(std::move(told));
}

// The rate alone keeps the quota; only what was forgotten in crashes can be too much.
void WarmUps::close_for_today(const std::string& id, const Row& row, Instant now, Reactions& reactions) const {
    Suspension suspension;
    suspension.id = "closed-" + id;
    suspension.match = without_groups(*row.plan->counted, row.match);
    suspension.fields = set_->fields;
    suspension.author = author;
    suspension.reason = "warm-up " + row.plan->name + ": the messages of day " + std::to_string(row.day + 1) + " are used up";
    suspension.ttl = std::max(row.began + day - now, Duration(1));
    reactions.suspended.push_back(std::move(suspension));
}

void WarmUps::publish(const std::string& id, Row& row, Reactions& reactions) const {
    row.recorded = row.sent;
    DynamicCondition condition;
    condition.id = id;
    condition.kind = DynamicCondition::Class::warm_up;
    condition.policy = row.plan->counted;
    condition.fields = set_->fields;
    condition.match = row.match;
    if (row.day < row.plan->days.size()) condition.limits.rates.emplace_back(row.plan->days[row.day], day);
    condition.limits.tag = "warm-up";
    condition.limits.properties.emplace_back(property, std::to_string(row.day) + " " + std::to_string(to_ms(row.began)) + " " + std::to_string(row.sent) +
                                                           " " + std::to_string(to_ms(row.last)) + " " + row.plan->name);
    condition.author = author;
    condition.reason = "warm-up " + row.plan->name + ", day " + std::to_string(row.day + 1);
    reactions.set.push_back(std::move(condition));
}

void WarmUps::schedule(const std::string& id, Row& row) {
    due_.erase({row.due, id});
    row.due = row.began + day;
    due_.emplace(row.due, id);
}

void WarmUps::advance(Instant now, Reactions& reactions) {
    while (!due_.empty() && due_.begin()->first <= now) {
        const std::string id = due_.begin()->second;
        Row& row = rows_.find(id)->second;
        if (now - row.last >= forgotten_after) {
            // Receivers have forgotten the address as well.
            reactions.removed.push_back(id);
            forget(id);
            continue;
        }
        const bool is_warm = row.day >= row.plan->days.size();
        const Instant next = now - row.due < day ? row.due : now;
        if (is_warm) {
            row.began = next;
            row.sent = 0;
            schedule(id, row);
            publish(id, row, reactions);
            continue;
        }
        // A day on which little was sent has warmed nothing.
        const bool was_used = std::uint64_t{row.sent} * 2 >= row.plan->days[row.day];
        begin_day(id, row, row.day + (was_used ? 1 : 0), next, was_used ? "" : "again, less than half of it was used: ", reactions);
    }
}

bool WarmUps::adopt(const DynamicCondition& condition, Instant now, Reactions& reactions) {
    if (condition.author != author || condition.kind != DynamicCondition::Class::warm_up || rows_.contains(condition.id)) return false;
    const std::optional<Kept> kept = kept_in(condition);
    const std::shared_ptr<const WarmUp> plan = kept ? plan_named(kept->plan) : nullptr;
    if (plan == nullptr || plan->counted->counts != condition.policy->counts || rows_.size() >= rows_max) return false;
    Row row;
    row.plan = plan;
    row.match = moved_to(condition, plan->counted, set_->fields).match;
    row.concerns = row.match.text(set_->fields);
    row.day = std::min(kept->day, static_cast<std::uint32_t>(plan->days.size()));
    row.began = std::min(instant_from_ms(kept->began), now);
    row.last = std::min(instant_from_ms(kept->last), now);
    row.sent = row.recorded = kept->sent;
    const std::string& id = condition.id;
    Row& made = rows_.emplace(id, std::move(row)).first->second;
    schedule(id, made);
    if (made.day < plan->days.size() && made.sent >= plan->days[made.day] && now < made.due) close_for_today(id, made, now, reactions);
    advance(now, reactions);
    return true;
}

void WarmUps::forget(const std::string& id) {
    const auto found = rows_.find(id);
    if (found == rows_.end()) return;
    due_.erase({found->second.due, id});
    rows_.erase(found);
}

}  // namespace sluice::policy
