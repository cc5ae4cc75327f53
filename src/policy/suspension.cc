#include "policy/suspension.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.h"
#include "policy/reading.h"
#include "policy/record.h"

namespace sluice::policy {
namespace {

const std::vector<std::string> own_keys{"id", "tag", "author", "reason", "properties", "ttl", "percent", "cron", "new_connections_only"};
// What only the journal says.
const std::vector<std::string> record_keys{"since", "expires"};

bool is_among(const std::vector<std::string>& keys, const std::string& key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
}

class SuspensionReader {
public:
    // Without a set: a record of the journal.
    SuspensionReader(Reading& reading, const PolicySet* set) : reading_(reading), is_record_(set == nullptr) {
        if (set != nullptr) fields_ = set->fields;
        words_ = {&fields_, set != nullptr ? &set->lists : &no_lists_, set != nullptr ? &set->grouping : nullptr, nullptr, own_keys};
    }

    void read(const YAML::Node& document, SuspensionFile& file) {
        if (document.IsNull()) return;
        if (document.IsSequence()) return read_list(document, file);
        for (const Reading::Entry& entry : reading_.entries(document, "suspension file", {"version", "suspends", "start_suspended"})) {
            if (entry.key == "start_suspended") file.start_suspended = reading_.boolean(entry.value, entry.key).value_or(false);
            if (entry.key == "suspends" && !entry.value.IsNull()) read_list(entry.value, file);
        }
    }

    Suspension read_one(const YAML::Node& node) {
        Suspension suspension;
        std::vector<Reading::Entry> tests;
        for (Reading::Entry& entry : reading_.entries(node, "suspends")) {
            if (is_among(own_keys, entry.key)) read_own(entry, suspension);
            else if (is_record_ && is_among(record_keys, entry.key)) read_instant(entry, suspension);
            else tests.push_back(std::move(entry));
        }
        suspension.match = read_tests(reading_, tests, words_);
        suspension.fields = fields_;
        return suspension;
    }

private:
    void read_list(const YAML::Node& node, SuspensionFile& file) {
        for (const YAML::Node& entry : reading_.sequence(node, "suspends")) {
            Suspension suspension = read_one(entry);
            suspension.line = entry.Mark().line + 1;
            if (suspension.id.empty()) suspension.id = "line " + std::to_string(suspension.line);
            const bool twice = !ids_.insert(suspension.id).second;
            if (twice) reading_.error(entry, "suspends: there are two with the id `" + shortened(suspension.id) + "`");
            file.suspensions.push_back(std::move(suspension));
        }
        for (const Suspension& suspension : file.suspensions) file.text += record_of(suspension) + "\n";
    }

    void read_own(const Reading::Entry& entry, Suspension& into) {
        if (entry.key == "id") into.id = reading_.id(entry.value).value_or("");
        if (entry.key == "tag") into.tag = reading_.tag(entry.value).value_or("");
        if (entry.key == "author") into.author = reading_.remark(entry.value, "author").value_or("");
        if (entry.key == "reason") into.reason = reading_.remark(entry.value, "reason").value_or("");
        if (entry.key == "properties") into.properties = reading_.properties(entry.value);
        if (entry.key == "percent") read_percent(entry.value, into);
        if (entry.key == "new_connections_only") into.new_connections_only = reading_.boolean(entry.value, entry.key).value_or(false);
        if (entry.key == "ttl") into.ttl = reading_.seconds(entry.value, "ttl", Reading::ttl_max).value_or(Duration(0));
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

    void read_instant(const Reading::Entry& entry, Suspension& into) {
        const std::optional<Instant> instant = reading_.instant(entry.value, entry.key);
        if (!instant) return;
        if (entry.key == "since") into.since = *instant;
        else into.expires = *instant;
    }

    Reading& reading_;
    const bool is_record_;
    FieldTable fields_;
    const Lists no_lists_;
    std::set<std::string> ids_;
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

std::uint64_t leak_hash(std::uint64_t message) {
    // splitmix64: ids of messages that came together differ in their last bits only.
    std::uint64_t hash = message + 0x9e3779b97f4a7c15;
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
    return hash ^ hash >> 31;
}

bool says_the_same(const Suspension& a, const Suspension& b) {
    return a.per_mille == b.per_mille && a.during == b.during && a.new_connections_only == b.new_connections_only &&
           Record().tests(a.match, a.fields).take() == Record().tests(b.match, b.fields).take();
}

SuspensionFilePtr parse_suspensions(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems) {
    Reading reading(file, problems);
    auto suspensions = std::make_shared<SuspensionFile>();
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) SuspensionReader(reading, &set).read(document, *suspensions);
    if (reading.failed()) return nullptr;
    if (suspensions->start_suspended) suspensions->text += "start_suspended\n";
    return suspensions;
}

std::optional<Suspension> parse_suspension(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems) {
    Reading reading(file, problems);
    Suspension suspension;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) suspension = SuspensionReader(reading, &set).read_one(document);
    return reading.failed() ? std::nullopt : std::optional(std::move(suspension));
}

std::string record_of(const Suspension& suspension) {
    Record record;
    record.text_if("id", suspension.id).tests(suspension.match, suspension.fields);
    if (suspension.per_mille != 1'000) {
        record.plain("percent", std::to_string(suspension.per_mille / 10) + "." + std::to_string(suspension.per_mille % 10));
    }
    if (!suspension.during.empty()) {
        std::string words;
        for (const Cron& cron : suspension.during) words += (words.empty() ? "\"" : ", \"") + cron.text() + "\"";
        record.plain("cron", "[" + words + "]");
    }
    if (suspension.new_connections_only) record.truth("new_connections_only", true);
    if (suspension.ttl.count() > 0) record.seconds("ttl", suspension.ttl);
    record.text_if("tag", suspension.tag).text_if("author", suspension.author).text_if("reason", suspension.reason);
    record.properties(suspension.properties);
    if (suspension.since != Instant()) record.number("since", static_cast<std::uint64_t>(to_ms(suspension.since)));
    if (suspension.expires) record.number("expires", static_cast<std::uint64_t>(to_ms(*suspension.expires)));
    return record.take();
}

std::optional<Suspension> parse_suspension_record(std::string_view text, const std::string& file, Problems& problems) {
    Reading reading(file, problems);
    Suspension suspension;
    const YAML::Node document = reading.load(text);
    if (!reading.failed()) suspension = SuspensionReader(reading, nullptr).read_one(document);
    return reading.failed() ? std::nullopt : std::optional(std::move(suspension));
}

}  // namespace sluice::policy
