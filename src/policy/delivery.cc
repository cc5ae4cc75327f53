#include "policy/delivery.h"

#include <algorithm>
#include <array>

#include "base/nearest.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr Duration timeout_max{86'400'000};
constexpr Duration retry_max{366LL * 86'400'000};
constexpr std::uint64_t count_max = 1'000'000;

template <class Value>
struct Word {
    const char* name;
    Value value;
};
constexpr std::array<Word<TlsDemand>, 5> tls_words{{{"disabled", TlsDemand::disabled},
                                                    {"optional", TlsDemand::optional},
                                                    {"optional_verify", TlsDemand::optional_verify},
                                                    {"require", TlsDemand::require},
                                                    {"require_verify", TlsDemand::require_verify}}};
constexpr std::array<Word<FamilyChoice>, 5> family_words{{{"any", FamilyChoice::any},
                                                          {"ipv4", FamilyChoice::ipv4},
                                                          {"ipv6", FamilyChoice::ipv6},
                                                          {"prefer_ipv4", FamilyChoice::prefer_ipv4},
                                                          {"prefer_ipv6", FamilyChoice::prefer_ipv6}}};
const std::vector<std::string> states{"BANNER", "HELO", "EHLO", "LHLO", "STARTTLS", "AUTH", "XCLIENT", "MAIL",
                                      "RCPT",   "DATA", "EOD",  "RSET", "NOOP",     "QUIT"};

template <class Words, class Value>
void read_word(Reading& reading, const Reading::Entry& entry, const Words& words, std::optional<Value>& into) {
    const std::optional<std::string> text = reading.text(entry.value, entry.key);
    if (!text) return;
    std::vector<std::string> names;
    std::string all;
    for (const auto& word : words) {
        if (*text == word.name) into = word.value;
        names.emplace_back(word.name);
        all += (all.empty() ? "" : ", ") + names.back();
    }
    if (!into) reading.error(entry.value, entry.key + ": expected one of " + all + ", found `" + shortened(*text) + "`", nearest(*text, names));
}

class DeliveryReader {
public:
    DeliveryReader(Reading& reading, const PolicySet& set, DeliveryFile& file) : reading_(reading), file_(file) {
        file.fields = set.fields;
        words_ = {&file.fields, &set.lists, &set.grouping, nullptr, {}};
    }

    void read(const YAML::Node& document) {
        if (document.IsNull()) return;
        for (const Reading::Entry& entry : reading_.entries(document, "delivery file", {"version", "delivery", "conditions", "default"})) {
            if (entry.key != "delivery") continue;
            if (document.size() > 2) reading_.error(entry.key_node, "delivery file: conditions and default belong below `delivery` where it is given");
            return read_settings(reading_.entries(entry.value, "delivery", {"conditions", "default"}));
        }
        read_settings(reading_.entries(document, "delivery file", {"version", "conditions", "default"}));
    }

private:
    void read_settings(const std::vector<Reading::Entry>& entries) {
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "default") file_.fallback = settings(entry.value, nullptr);
        }
        for (const Reading::Entry& entry : entries) {
            if (entry.key != "conditions" || entry.value.IsNull()) continue;
            for (const YAML::Node& condition : reading_.sequence(entry.value, "conditions")) read_condition(condition);
        }
    }

    void read_condition(const YAML::Node& node) {
        const std::vector<Reading::Entry> entries = reading_.entries(node, "condition", {"if", "then"});
        reading_.expect(node, entries, "if", "condition");
        reading_.expect(node, entries, "then", "condition");
        DeliveryFile::Condition condition;
        condition.line = node.Mark().line + 1;
        for (const Reading::Entry& part : entries) {
            if (part.key == "if") condition.match = read_match(reading_, part.value, words_);
            if (part.key == "then") condition.settings = settings(part.value, &file_.fallback);
        }
        file_.conditions.push_back(std::move(condition));
    }

    DeliverySettings settings(const YAML::Node& node, const DeliverySettings* inherited) {
        DeliverySettings into;
        const std::vector<Reading::Entry> entries =
            reading_.entries(node, "settings", {"tls", "pooling", "timeout", "retry", "family", "inherit"});
        for (const Reading::Entry& entry : entries) {
            if (entry.key != "inherit" || !reading_.boolean(entry.value, "inherit").value_or(false)) continue;
            if (inherited != nullptr) into = *inherited;
            else reading_.error(entry.key_node, "inherit: there is no `default` to inherit from");
        }
        for (const Reading::Entry& entry : entries) {
            if (entry.key == "tls") read_tls(entry.value, into);
            if (entry.key == "pooling") read_pooling(entry.value, into);
            if (entry.key == "timeout") read_timeouts(entry.value, into);
            if (entry.key == "retry") read_retry(entry.value, into);
            if (entry.key == "family") {
                into.family.reset();
                read_word(reading_, entry, family_words, into.family);
            }
        }
        return into;
    }

    void read_tls(const YAML::Node& node, DeliverySettings& into) {
        for (const Reading::Entry& entry : reading_.entries(node, "tls", {"mode"})) {
            into.tls.reset();
            read_word(reading_, entry, tls_words, into.tls);
        }
    }

    void read_pooling(const YAML::Node& node, DeliverySettings& into) {
        for (const Reading::Entry& entry : reading_.entries(node, "pooling", {"enabled", "timeout", "transactions", "evictable"})) {
            if (entry.key == "enabled") into.pooling = reading_.boolean(entry.value, entry.key);
            if (entry.key == "evictable") into.evictable = reading_.boolean(entry.value, entry.key);
            if (entry.key == "timeout") into.idle_timeout = reading_.seconds(entry.value, "pooling: timeout", timeout_max);
            if (entry.key == "transactions") {
                into.transactions = static_cast<std::uint32_t>(reading_.count(entry.value, entry.key, count_max).value_or(0));
            }
        }
    }

    void read_timeouts(const YAML::Node& node, DeliverySettings& into) {
        for (const Reading::Entry& entry : reading_.entries(node, "timeout", {"connect", "smtp"})) {
            if (entry.key == "connect") into.connect_timeout = timeout(entry.value, "timeout: connect");
            if (entry.key != "smtp") continue;
            for (const Reading::Entry& state : reading_.entries(entry.value, "timeout: smtp", states)) {
                warn_of_unused(state);
                if (const std::optional<Duration> time = timeout(state.value, "timeout: " + state.key)) into.state_timeouts[state.key] = *time;
            }
        }
    }

    // Halon's names are all taken, but some have no counterpart.
    void warn_of_unused(const Reading::Entry& state) {
        if (state.key == "NOOP" || state.key == "XCLIENT") reading_.warning(state.key_node, "timeout: " + state.key + " is never sent, so nothing waits for its answer");
        if (state.key == "RSET") reading_.warning(state.key_node, "timeout: RSET goes out together with MAIL, whose timeout counts");
    }

    std::optional<Duration> timeout(const YAML::Node& node, const std::string& what) {
        const std::optional<Duration> time = reading_.seconds(node, what, timeout_max);
        if (!time || time->count() > 0) return time;
        reading_.error(node, what + ": expected more than 0 seconds");
        return std::nullopt;
    }

    void read_retry(const YAML::Node& node, DeliverySettings& into) {
        for (const Reading::Entry& entry : reading_.entries(node, "retry", {"count", "intervals", "lifetime"})) {
            if (entry.key == "count") into.retry_count = static_cast<std::uint32_t>(reading_.count(entry.value, "retry: count", count_max).value_or(0));
            if (entry.key == "lifetime") into.lifetime = reading_.seconds(entry.value, "retry: lifetime", retry_max);
            if (entry.key != "intervals") continue;
            into.retries.clear();
            for (const YAML::Node& interval : reading_.sequence(entry.value, "intervals")) read_interval(interval, into);
        }
    }

    void read_interval(const YAML::Node& node, DeliverySettings& into) {
        DeliverySettings::Retry retry;
        if (node.IsMap()) {
            const std::vector<Reading::Entry> entries = reading_.entries(node, "interval", {"interval", "notify"});
            reading_.expect(node, entries, "interval", "interval");
            for (const Reading::Entry& entry : entries) {
                if (entry.key == "interval") retry.after = reading_.seconds(entry.value, "interval", retry_max).value_or(Duration(0));
                if (entry.key == "notify") retry.notify = reading_.boolean(entry.value, "notify").value_or(false);
            }
        } else {
            retry.after = reading_.seconds(node, "interval", retry_max).value_or(Duration(0));
        }
        if (retry.after.count() == 0 && !reading_.failed()) reading_.error(node, "interval: expected more than 0 seconds");
        into.retries.push_back(retry);
    }

    Reading& reading_;
    DeliveryFile& file_;
    Vocabulary words_;
};

}  // namespace

std::string DeliverySettings::session_text() const {
    std::string text;
    const auto add = [&text](const char* name, const auto& value) {
        if (value) text += std::string(name) + "=" + std::to_string(static_cast<std::int64_t>(*value)) + " ";
    };
    const auto ms = [](const std::optional<Duration>& time) { return time ? std::optional(time->count()) : std::nullopt; };
    add("tls", tls);
    add("pooling", pooling);
    add("evictable", evictable);
    add("idle", ms(idle_timeout));
    add("transactions", transactions);
    add("connect", ms(connect_timeout));
    for (const auto& [state, time] : state_timeouts) add(state.c_str(), ms(time));
    return text;
}

std::size_t DeliveryFile::place_of(const FieldTexts& texts) const {
    const auto holds = [&texts](const Condition& condition) { return condition.match.holds(texts); };
    const auto found = std::find_if(conditions.begin(), conditions.end(), holds);
    return found == conditions.end() ? 0 : static_cast<std::size_t>(found - conditions.begin()) + 1;
}

FieldSet DeliveryFile::used_fields() const {
    FieldSet used;
    for (const Condition& condition : conditions) used.add(condition.match.fields());
    return used;
}

std::optional<DeliveryFile> parse_delivery(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems) {
    Reading reading(file, problems);
    DeliveryFile delivery;
    delivery.text = text;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) DeliveryReader(reading, set, delivery).read(document);
    if (reading.failed()) return std::nullopt;
    return delivery;
}

}  // namespace sluice::policy
