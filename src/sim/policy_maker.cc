#include "sim/policy_maker.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "base/assert.h"

namespace sluice::sim {
namespace {

constexpr std::size_t fields_max = 6;  // of a policy

constexpr const char* fault_names[] = {"none",         "session_more",   "session_less", "message_more", "message_less",
                                       "carries_more", "interval_short", "octets_more",  "stop_ignored"};

// A field, and what its values may be compared with.
struct Word {
    const char* name;
    std::vector<const char*> patterns;
};
const std::vector<Word>& words() {
    static const std::vector<Word> all = {
        {"tenantid", {"tenant0", "tenant1", "\"\"", "'/[12]$/'", "'*'"}},
        {"recipientdomain", {"domain1.test", "DOMAIN2.test", "'/[3-5][.]/'", "'*.test'", "'@some'"}},
        {"priority", {"0", "4", "'>=5'", "'<3'", "'2..4'"}},
        {"localip", {"192.0.2.1", "192.0.2.0/30", "'2001:db8::/32'", "\"\""}},
        {"remoteip", {"198.51.100.1", "198.51.100.2", "198.51.100.4/30", "'2001:db8:1::/48'", "'2001:db8:1::3'"}},
        {"remotemx", {"host1.a.test", "'*.a.test'", "'*.b.test'", "'/^host[1-4]/'", "'@near'"}},
        {"grouping", {"'&one'", "'&two'", "'*.b.test'", "\"\""}},
        {"jobid", {"job0", "'/[13]$/'", "\"\"", "'*'"}},
        {"transportid", {"transport0", "'/[12]$/'", "\"\""}},
        {"senderdomain", {"sender0.test", "'*.test'", "'/1/'", "\"\""}},
        {"attempt", {"1", "'>=3'", "'2..4'"}},
        {"header.list-id", {"list0", "'/[12]$/'", "\"\""}},
        {"notes.campaign", {"a", "'/[ab]/'", "\"\""}},
    };
    return all;
}

class PolicyMaker {
public:
    explicit PolicyMaker(Random& random) : random_(random) {}

    std::string file() {
        std::string text;
        if (maybe(0.3)) text += std::string("rate: {algorithm: ") + algorithm() + "}\n";
        text += "lists:\n  remotemx: {near: [host2.a.test, '/3/']}\n  recipientdomain: {some: [domain4.test, '*.none.test']}\n";
        text += grouping() + "policies:\n";
        for (std::uint64_t count = random_.below(5); count > 0; --count) text += policy();
        if (text.ends_with("policies:\n")) text += "- fields: []\n  default: " + limits(false) + "\n";
        return text;
    }

private:
    bool maybe(double probability) { return random_.chance(probability); }
    std::string number(std::uint64_t most) { return std::to_string(1 + random_.below(most)); }
    const char* algorithm() { return maybe(0.5) ? "tokenbucket" : "fixedwindow"; }

    std::string grouping() {
        const char* const otherwise[] = {"\"\"", "remotemx", "recipientdomain"};
        std::string text = std::string("grouping: {default: ") + otherwise[random_.below(3)] + ", groupings: [";
        text += maybe(0.5) ? "{id: one, remotemx: '*.a.test'}" : "{id: one, remoteip: [198.51.100.1, 198.51.100.4/30]}";
        text += maybe(0.5) ? ", {id: two, recipientdomain: '/[27]/'}" : ", {id: two, remotemx: '/[1-6]/', remoteip: '2001:db8:1::/48'}";
        return text + "]}\n";
    }

    std::string rate() {
        switch (random_.below(4)) {
            case 0: return std::to_string(1 + random_.below(20));
            case 1: return "\"" + number(40) + "/" + number(30) + "\"";
            case 2: return "[" + number(40) + ", " + number(30) + "]";
            default: return "{count: " + number(40) + ", interval: " + number(60) + ", algorithm: " + algorithm() + "}";
        }
    }

    std::string limits(bool may_inherit) {
        std::string text = "{x-made: up";
        if (maybe(0.65)) text += ", concurrency: " + std::to_string(random_.below(8));
        if (maybe(0.45)) text += maybe(0.35) ? ", rate: [" + rate_in_list() + ", " + rate_in_list() + "]" : ", rate: " + rate();
        if (maybe(0.15)) text += ", connectinterval: 0." + std::to_string(100 + random_.below(900));
        if (maybe(0.2)) text += ", messages_per_connection: " + number(15);
        if (maybe(0.12)) text += ", bytes_per_second: " + std::to_string(1'000 + random_.below(60'000));
        if (maybe(0.12)) text += ", stop: true";
        // The local address is what a transport decides.
        if (!by_localip_ && maybe(0.08)) text += ", transport: transport" + std::to_string(random_.below(3));
        if (may_inherit && maybe(0.3)) text += ", inherit: true";
        return text + "}";
    }
    // A list of two numbers would be a count and an interval.
    std::string rate_in_list() { return "\"" + number(40) + "/" + number(30) + "\""; }

    std::string pattern(const Word& word) { return word.patterns[random_.below(word.patterns.size())]; }
    std::string patterns(const Word& word) {
        if (maybe(0.6)) return pattern(word);
        return "[" + pattern(word) + ", " + pattern(word) + "]";
    }

    std::string tests(const std::vector<const Word*>& fields, const std::vector<bool>& grouped) {
        std::string text;
        for (std::size_t i = 0; i < fields.size(); ++i) {
            if (!maybe(0.7)) continue;
            text += text.empty() ? "" : ", ";
            text += std::string(fields[i]->name) + ": " + (grouped[i] && maybe(0.6) ? (maybe(0.6) ? "'#left'" : "['#left', '#right']") : patterns(*fields[i]));
        }
        return text;
    }
    std::string match(const std::vector<const Word*>& fields, const std::vector<bool>& grouped) {
        const std::string simple = tests(fields, grouped);
        if (maybe(0.75)) return "{" + simple + "}";
        const std::string other = tests(fields, grouped);
        // `not` and `any` need something to ask for.
        if (other.empty() || simple.empty()) return "{" + simple + "}";
        if (maybe(0.5)) return "{" + simple + ", not: {" + other + "}}";
        return "{any: [{" + simple + "}, {" + other + "}]}";
    }

    std::string policy() {
        std::vector<const Word*> fields;
        for (const Word& word : words()) {
            if (fields.size() < fields_max && maybe(0.2)) fields.push_back(&word);
        }
        by_localip_ = std::any_of(fields.begin(), fields.end(), [](const Word* word) { return std::string_view(word->name) == "localip"; });
        std::vector<bool> grouped;
        std::string text = "- fields: [";
        for (const Word* const word : fields) {
            grouped.push_back(maybe(0.35));
            text += (word == fields.front() ? "" : ", ");
            text += grouped.back() ? std::string("{") + word->name + ": {left: " + patterns(*word) + ", right: " + patterns(*word) + "}}" : word->name;
        }
        text += "]\n";
        std::string conditions;
        for (std::uint64_t count = fields.empty() ? 0 : random_.below(4); count > 0; --count) {
            conditions += "  - {if: " + match(fields, grouped) + ", then: " + limits(true) + "}\n";
        }
        if (!conditions.empty()) text += "  conditions:\n" + conditions;
        // `inherit` needs something to take over.
        if (conditions.empty() || conditions.find("inherit") != std::string::npos || maybe(0.7)) text += "  default: " + limits(false) + "\n";
        return text;
    }

    Random& random_;
    bool by_localip_ = false;  // the present policy counts by it
};

// One less where there is more than one.
std::uint32_t less(std::uint32_t count) { return count > 1 ? count - 1 : count; }

policy::Limits spoiled(policy::Limits limits, Fault fault) {
    const bool more = fault == Fault::message_more;
    switch (fault) {
        case Fault::none: break;
        case Fault::session_more: limits.concurrency += limits.concurrency != 0 ? 1 : 0; break;
        case Fault::session_less: limits.concurrency = less(limits.concurrency); break;
        case Fault::message_more:
        case Fault::message_less:
            for (policy::Rate& rate : limits.rates) {
                rate = policy::Rate(more && rate.count() != 0 ? rate.count() + 1 : less(rate.count()), rate.per(), rate.algorithm());
            }
            break;
        case Fault::carries_more: limits.messages_per_connection += limits.messages_per_connection != 0 ? 1 : 0; break;
        case Fault::interval_short: limits.connect_interval = limits.connect_interval * 99 / 100; break;
        case Fault::octets_more: limits.bytes_per_second += limits.bytes_per_second / 100; break;
        case Fault::stop_ignored: limits.stop = false; break;
    }
    return limits;
}

}  // namespace

std::string random_policy_file(Random& random) { return PolicyMaker(random).file(); }

policy::PolicySetPtr random_policies(Random& random) {
    const std::string text = random_policy_file(random);
    Problems problems;
    policy::PolicySetPtr set = policy::parse_policies(text, "random", problems);
    for (const Problem& problem : problems.all()) {
        if (problem.severity == Severity::error) std::fprintf(stderr, "%s\n%s\n", text.c_str(), problem.text().c_str());
    }
    ASSERT(set != nullptr);
    return set;
}

std::vector<std::string> fault_list() { return {std::begin(fault_names), std::end(fault_names)}; }

Fault fault_of(const std::string& name) {
    const auto* const found = std::find(std::begin(fault_names), std::end(fault_names), name);
    ASSERT(found != std::end(fault_names));
    return static_cast<Fault>(found - std::begin(fault_names));
}

policy::PolicySetPtr with_fault(const policy::PolicySetPtr& set, Fault fault) {
    if (set == nullptr || fault == Fault::none) return set;
    auto changed = std::make_shared<policy::PolicySet>(*set);
    changed->text.clear();
    for (policy::PolicyPtr& policy : changed->policies) {
        auto copy = std::make_shared<policy::Policy>(*policy);
        if (copy->fallback) copy->fallback = spoiled(*copy->fallback, fault);
        for (policy::Condition& condition : copy->conditions) condition.limits = spoiled(condition.limits, fault);
        policy = std::move(copy);
    }
    return changed;
}

}  // namespace sluice::sim
