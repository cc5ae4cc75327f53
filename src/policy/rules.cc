#include "policy/rules.h"

#include <algorithm>
#include <cstdio>
#include <limits>

#include "policy/policy_set.h"

namespace sluice::policy {
namespace {

constexpr std::uint64_t count_max = 1'000'000'000;

bool has_bit(std::uint32_t set, std::size_t bit) { return set == 0 || (set >> bit & 1) != 0; }

bool is_status(const std::string& wanted, const std::string& status) {
    return wanted.ends_with('.') ? status.starts_with(wanted) : status == wanted;
}

std::uint64_t doubled(std::uint64_t value, std::uint32_t times, std::uint64_t max) {
    return times >= 63 || value > max >> times ? (value == 0 ? 0 : max) : value << times;
}

template <class Number>
Number lower(Number a, Number b) {  // 0: no limit
    return a == 0 ? b : b == 0 ? a : std::min(a, b);
}

}  // namespace

bool FailureMatch::holds(const Observation& observation) const {
    if (!has_bit(stages, static_cast<std::size_t>(observation.stage))) return false;
    if (!has_bit(failures, static_cast<std::size_t>(observation.failure))) return false;
    const bool is_error = observation.code == 0;
    if (any_error || !errors.empty()) {
        const bool named = std::find(errors.begin(), errors.end(), observation.error) != errors.end();
        if (!is_error || (!any_error && !named)) return false;
    }
    const auto in_range = [&](const Codes& range) { return observation.code >= range.from && observation.code <= range.to; };
    if (!codes.empty() && (is_error || std::none_of(codes.begin(), codes.end(), in_range))) return false;
    const auto is_its_status = [&](const std::string& wanted) { return is_status(wanted, observation.status); };
    if (!statuses.empty() && std::none_of(statuses.begin(), statuses.end(), is_its_status)) return false;
    const auto finds = [&](const auto& text) { return RE2::PartialMatch(observation.text, *text); };
    return texts.empty() || std::any_of(texts.begin(), texts.end(), finds);
}

Limits relaxed(Limits limits, std::uint32_t steps) {
    if (steps == 0) return limits;
    limits.transport.clear();  // who comes back comes from where it came
    limits.concurrency = static_cast<std::uint32_t>(doubled(limits.concurrency, steps, count_max));
    limits.messages_per_connection = static_cast<std::uint32_t>(doubled(limits.messages_per_connection, steps, count_max));
    limits.bytes_per_second = doubled(limits.bytes_per_second, steps, std::numeric_limits<std::int64_t>::max());
    limits.connect_interval /= std::int64_t{1} << std::min<std::uint32_t>(steps, 62);
    for (Rate& rate : limits.rates) {
        rate = Rate(static_cast<std::uint32_t>(doubled(rate.count(), steps, count_max)), rate.per(), rate.algorithm());
    }
    return limits;
}

Limits tightened(Limits limits, const Limits& by) {
    limits.concurrency = lower(limits.concurrency, by.concurrency);
    limits.messages_per_connection = lower(limits.messages_per_connection, by.messages_per_connection);
    limits.bytes_per_second = lower(limits.bytes_per_second, by.bytes_per_second);
    limits.connect_interval = std::max(limits.connect_interval, by.connect_interval);
    for (const Rate& rate : by.rates) {
        // Two rates over the same time are one, the lower.
        const auto same = std::find_if(limits.rates.begin(), limits.rates.end(), [&](const Rate& other) {
            return other.per() == rate.per() && other.algorithm() == rate.algorithm();
        });
        if (same == limits.rates.end()) limits.rates.push_back(rate);
        else if (rate.count() < same->count()) *same = rate;
    }
    if (!by.tag.empty()) limits.tag = by.tag;
    if (!by.transport.empty()) limits.transport = by.transport;
    return limits;
}

std::string Rule::text() const {
    std::string out;
    const auto add = [&out](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
    if (suspends) add("suspended");
    if (holds_mail) add("held until resumed");
    if (limits && !suspends) add(limits->text());
    if (lasts.count() > 0) {
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%.15g", static_cast<double>(lasts.count()) / 1e3);
        out += " for " + std::string(seconds) + " s";
    }
    return out.empty() ? "told" : out;
}

FieldTexts in_groups(const Policy& policy, const FieldTexts& texts) {
    FieldTexts grouped = texts;
    if (!policy.has_roll_ups) return grouped;
    for (std::size_t place = 0; place < policy.fields.size(); ++place) {
        const Field field = policy.fields[place];
        if (policy.roll_ups[place] == nullptr || !texts.known.has(field)) continue;
        grouped.group[number_of(field)] = policy.roll_ups[place]->group_of(texts.text[number_of(field)]);
    }
    return grouped;
}

Treatment treatment_of(const std::vector<Rule>& rules, const Observation& observation, const FieldTexts& values) {
    for (const Rule& rule : rules) {
        if (rule.treatment == Treatment::usual || rule.dry_run) continue;
        if (!rule.failure.holds(observation) || !rule.match.holds(values)) continue;
        if (rule.counted != nullptr && !rule.key_match.holds(in_groups(*rule.counted, values))) continue;
        return rule.treatment;
    }
    return Treatment::usual;
}

}  // namespace sluice::policy
