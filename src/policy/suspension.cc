#include "policy/suspension.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr Duration ttl_max{10LL * 366 * 86'400'000};
const std::vector<std::string> own_keys{"id", "tag", "author", "reason", "properties", "ttl", "percent", "cron", "new_connections_only"};

class SuspensionReader {
public:
    SuspensionReader(Reading& reading, const PolicySet& set, Instant now, SuspensionFile& file)
        : reading_(reading), now_(now), file_(file) {
        file.fields = set.fields;
        words_ = {&file.fields, &set.lists, &set.grouping, nullptr, own_keys};
    }

    void read(const YAML::Node& document) {
        if (document.IsNull()) return;
        if (document.IsSequence()) return read_list(document);
        for (const Reading::Entry& entry : reading_.entries(document, "suspension file", {"version", "suspends", "start_suspended"})) {
            if (entry.key == "start_suspended") file_.start_suspended = reading_.boolean(entry.value, entry.key).value_or(false);
            if (entry.key == "suspends" && !entry.value.IsNull()) read_list(entry.value);
        }
    }

private:
    void read_list(const YAML::Node& node) {
        for (const YAML::Node& entry : reading_.sequence(node, "suspends")) {
            Suspension suspension = read_one(entry);
            const bool twice = !suspension.id.empty() && std::any_of(file_.suspensions.begin(), file_.suspensions.end(),
                                                                     [&](const Suspension& s) { return s.id == suspension.id; });
            if (twice) reading_.error(entry, "suspends: there are two with the id `" + shortened(suspension.id) + "`");
            file_.suspensions.push_back(std::move(suspension));
        }
    }

    Suspension read_one(const YAML::Node& node) {
        Suspension suspension;
        std::vector<Reading::Entry> tests;
        for (Reading::Entry& entry : reading_.entries(node, "suspends")) {
            const bool is_own = std::find(own_keys.begin(), own_keys.end(), entry.key) != own_keys.end();
            if (is_own) read_own(entry, suspension);
            else tests.push_back(std::move(entry));
        }
        suspension.match = read_tests(reading_, tests, words_);
        return suspension;
    }

    void read_own(const Reading::Entry& entry, Suspension& into) {
        if (entry.key == "id") into.id = reading_.text(entry.value, "id").value_or("");
        if (entry.key == "tag") into.tag = reading_.tag(entry.value).value_or("");
        if (entry.key == "author") into.author = reading_.text(entry.value, "author").value_or("");
        if (entry.key == "reason") into.reason = reading_.text(entry.value, "reason").value_or("");
        if (entry.key == "properties") into.properties = reading_.properties(entry.value);
        if (entry.key == "percent") read_percent(entry.value, into);
        if (entry.key == "new_connections_only") into.new_connections_only = reading_.boolean(entry.value, entry.key).value_or(false);
        if (entry.key == "ttl") {
            const std::optional<Duration> ttl = reading_.seconds(entry.value, "ttl", ttl_max);
            if (ttl && ttl->count() > 0) into.expires = now_ + *ttl;
        }
        if (entry.key != "cron") return;
        for (const YAML::Node& word : reading_.one_or_more(entry.value)) {
            const std::optional<std::string> text = reading_.text(word, "cron");
            Result<Cron> cron = Cron::parse(text.value_or("* * * * *"));
            if (!cron) reading_.error(word, "cron: " + cron.error().detail);
            else into.during.push_back(std::move(*cron));
        }
    }

    void read_percent(const YAML::Node& node, Suspension& into) {
        const auto percent = node.IsScalar() ? parse_number<double>(node.Scalar()) : std::nullopt;
        if (!percent || !(*percent >= 0.1) || *percent > 100) return reading_.error(node, "percent: expected a number from 0.1 to 100");
        into.per_mille = static_cast<std::uint32_t>(std::lround(*percent * 10));
    }

    Reading& reading_;
    Instant now_;
    SuspensionFile& file_;
    Vocabulary words_;
};

}  // namespace

bool Suspension::is_in_force(Instant now) const {
    if (expires && now >= *expires) return false;
    return during.empty() || std::any_of(during.begin(), during.end(), [&](const Cron& cron) { return cron.matches(now); });
}

std::optional<Instant> Suspension::next_change(Instant after) const {
    if (expires && after >= *expires) return std::nullopt;
    std::optional<Instant> next = expires;
    for (const Cron& cron : during) {
        const std::optional<Instant> change = cron.next_change(after);
        if (change && (!next || *change < *next)) next = change;
    }
    return next;
}

std::optional<SuspensionFile> parse_suspensions(std::string_view text, const std::string& file, const PolicySet& set, Instant now,
                                                Problems& problems) {
    Reading reading(file, problems);
    SuspensionFile suspensions;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) SuspensionReader(reading, set, now, suspensions).read(document);
    if (reading.failed()) return std::nullopt;
    return suspensions;
}

}  // namespace sluice::policy
