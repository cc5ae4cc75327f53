// The part of policy.yaml behind `warm_up`.

#include <algorithm>

#include "base/text.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr std::uint64_t quota_max = 1'000'000'000;
constexpr std::size_t days_max = 366, addresses_max = 1'000;
constexpr std::uint64_t objections_max = 10'000;
constexpr Duration window_max{31LL * 86'400'000};

// What a bulk sender publishes for new addresses: from 50 a day to 100,000 in 16 days.
constexpr std::uint32_t usual_days[] = {50,    100,   500,    1'000,  5'000,  10'000, 15'000, 20'000,
                                        25'000, 30'000, 40'000, 50'000, 60'000, 75'000, 90'000, 100'000};

class WarmUpReader {
public:
    WarmUpReader(Reading& reading, PolicySet& set, const ReadPolicy& read_policy) : reading_(reading), set_(set), read_policy_(read_policy) {}

    void read(const YAML::Node& node) {
        for (const YAML::Node& entry : reading_.sequence(node, "warm_up")) read_one(entry);
    }

private:
    void read_one(const YAML::Node& node) {
        const std::vector<Reading::Entry> entries = reading_.entries(node, "warm_up", {"name", "localip", "per", "days", "step_back"});
        for (const char* const key : {"name", "localip", "days"}) reading_.expect(node, entries, key, "warm_up");
        WarmUp plan;
        plan.line = node.Mark().line + 1;
        YAML::Node groups(YAML::NodeType::Map), per;
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "name") read_name(entry.value, plan);
            if (entry.key == "localip") read_addresses(entry.value, groups);
            if (entry.key == "per") per = entry.value;
            if (entry.key == "days") read_days(entry.value, plan);
            if (entry.key == "step_back") read_objections(entry.value, plan);
        }
        if (reading_.failed()) return;
        YAML::Node policy(YAML::NodeType::Map);
        YAML::Node localip(YAML::NodeType::Map);
        localip["localip"] = groups;
        policy["name"] = "warm-up " + plan.name;
        policy["fields"].push_back(localip);
        if (per.IsDefined() && !per.IsNull()) {
            for (const YAML::Node& field : reading_.one_or_more(per)) policy["fields"].push_back(field);
        } else {
            policy["fields"].push_back("grouping");
        }
        YAML::Node first_day(YAML::NodeType::Map);
        for (const auto& group : groups) first_day["if"]["localip"].push_back("#" + group.first.Scalar());
        first_day["then"]["rate"] = std::to_string(plan.days.front()) + "/86400";
        policy["conditions"].push_back(first_day);
        const PolicyPtr counted = read_policy_(policy);
        if (reading_.failed()) return;
        const auto counts_the_same = [&](const PolicyPtr& other) { return other->counts == counted->counts; };
        if (std::any_of(set_.policies.begin(), set_.policies.end(), counts_the_same)) {
            return reading_.error(node, "warm_up: these addresses are counted like that already");
        }
        plan.counted = counted;
        set_.policies.push_back(counted);
        set_.warm_ups.push_back(std::make_shared<const WarmUp>(std::move(plan)));
    }

    void read_name(const YAML::Node& node, WarmUp& plan) {
        plan.name = reading_.text(node, "name").value_or("");
        if (plan.name.empty() || plan.name.size() > 64) reading_.error(node, "name: expected 1 to 64 characters");
        for (const auto& other : set_.warm_ups) {
            if (other->name == plan.name) reading_.error(node, "warm_up: there are two with the name `" + shortened(plan.name) + "`");
        }
    }

    void read_addresses(const YAML::Node& node, YAML::Node& groups) {
        const Reading::Sequence list = reading_.one_or_more(node);
        if (list.empty() || list.size() > addresses_max) return reading_.error(node, "localip: expected 1 to " + std::to_string(addresses_max) + " addresses");
        for (const YAML::Node& entry : list) {
            const std::string text = entry.IsScalar() ? entry.Scalar() : "";
            const Result<Pattern> pattern = Pattern::parse(FieldType::address, text);
            const bool is_address = pattern && pattern->kind == Pattern::Kind::network && pattern->network.is_address();
            if (!is_address) {
                reading_.error(entry, "localip: expected single addresses, found `" + shortened(text) + "`");
                continue;
            }
            groups[pattern->text] = pattern->text;
        }
    }

    void read_days(const YAML::Node& node, WarmUp& plan) {
        if (node.IsScalar() && node.Scalar() == "default") {
            plan.days.assign(std::begin(usual_days), std::end(usual_days));
            return;
        }
        const Reading::Sequence list = reading_.one_or_more(node);
        if (list.empty() || list.size() > days_max) return reading_.error(node, "days: expected 1 to " + std::to_string(days_max) + " numbers of messages, or default");
        for (const YAML::Node& entry : list) {
            const std::optional<std::uint64_t> quota = reading_.count(entry, "days", quota_max);
            if (quota == 0) reading_.error(entry, "days: expected at least 1 message");
            plan.days.push_back(static_cast<std::uint32_t>(quota.value_or(1)));
        }
    }

    void read_objections(const YAML::Node& node, WarmUp& plan) {
        const std::string text = node.IsScalar() ? node.Scalar() : "";
        if (text == "never") {
            plan.objections_max = 0;
            return;
        }
        const std::size_t slash = text.find('/');
        const auto count = parse_number<std::uint64_t>(trim(std::string_view(text).substr(0, slash)));
        const auto seconds = slash == std::string::npos ? std::nullopt : parse_number<double>(trim(std::string_view(text).substr(slash + 1)));
        if (!count || *count == 0 || *count > objections_max || !seconds || !(*seconds >= 1) || *seconds * 1e3 > static_cast<double>(window_max.count())) {
            return reading_.error(node, "step_back: expected COUNT/SECONDS, as in \"10/3600\", or never");
        }
        plan.objections_max = static_cast<std::uint32_t>(*count);
        plan.window = Duration(static_cast<std::int64_t>(*seconds * 1e3));
    }

    Reading& reading_;
    PolicySet& set_;
    const ReadPolicy& read_policy_;
};

}  // namespace

void read_warm_ups(Reading& reading, const YAML::Node& node, PolicySet& set, const ReadPolicy& read_policy) {
    WarmUpReader(reading, set, read_policy).read(node);
}

}  // namespace sluice::policy
