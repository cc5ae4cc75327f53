// Mail and receivers as `events.jsonl` remembers them.

#include <absl/container/flat_hash_map.h>
#include <boost/json/parse.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "base/text.h"
#include "delivery/stage.h"
#include "queue/remote.h"
#include "sim/behaviour.h"
#include "sim/traffic.h"

namespace sluice::sim {
namespace {

namespace json = boost::json;

constexpr std::size_t answers_max = 12;  // of one receiver
constexpr std::size_t samples_max = 10'000;
constexpr std::uint32_t usual_size = 20'000;
constexpr std::size_t items_max = 50'000'000;

// "2026-11-20T10:54:00.123Z"
std::optional<std::int64_t> parse_time(std::string_view text) {
    if (text.size() != 24 || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[23] != 'Z') return std::nullopt;
    const auto year = parse_number<int>(text.substr(0, 4));
    const auto part = [&](std::size_t at, std::size_t size) { return parse_number<unsigned>(text.substr(at, size)); };
    const auto month = part(5, 2), day = part(8, 2), hour = part(11, 2), minute = part(14, 2), second = part(17, 2), ms = part(20, 3);
    if (!year || !month || !day || !hour || !minute || !second || !ms || *hour > 24 || *minute > 59 || *second > 60) return std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(*month), std::chrono::day(*day)};
    if (!date.ok()) return std::nullopt;
    const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
    return ((days * 24 + *hour) * 60 + *minute) * 60'000 + std::int64_t{*second} * 1'000 + *ms;
}

std::string_view text_of(const json::object& line, std::string_view key) {
    const json::value* const value = line.if_contains(key);
    return value != nullptr && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}
std::int64_t number_of(const json::object& line, std::string_view key) {
    const json::value* const value = line.if_contains(key);
    return value != nullptr && value->is_int64() ? value->get_int64() : 0;
}

// An answer that a rule can give: replies as they are, errors by their kind.
std::string answer_of(std::string_view reply) {
    if (parse_answer(reply, delivery::Stage::rcpt)) return std::string(reply);
    return reply.starts_with("timed_out") || reply.starts_with("unreachable") ? "silent" : "lost";
}

std::optional<delivery::Stage> stage_of(std::string_view name) {
    for (int i = 0; i < delivery::stage_count; ++i) {
        if (name == delivery::facts_of(static_cast<delivery::Stage>(i)).name) return static_cast<delivery::Stage>(i);
    }
    return std::nullopt;
}

// What hosts were seen to do.
struct Observed {
    std::set<std::string> hosts, addresses;
    std::uint64_t attempts = 0;
    std::map<std::pair<std::string, delivery::Stage>, std::uint64_t> answers;
    std::vector<std::int64_t> took_ms;

    void add(const Observed& other) {
        hosts.insert(other.hosts.begin(), other.hosts.end());
        addresses.insert(other.addresses.begin(), other.addresses.end());
        attempts += other.attempts;
        for (const auto& [answer, count] : other.answers) answers[answer] += count;
        const std::size_t room = samples_max - std::min(samples_max, took_ms.size());
        took_ms.insert(took_ms.end(), other.took_ms.begin(), other.took_ms.begin() + static_cast<std::ptrdiff_t>(std::min(room, other.took_ms.size())));
    }
};

class RecordingReader {
public:
    RecordingReader(const std::string& file, Problems& problems) : file_(file), problems_(problems) {}

    std::optional<Traffic> read(std::string_view text) {
        int number = 0;
        while (!text.empty() && !problems_.any_error()) {
            const std::size_t end = text.find('\n');
            ++number;
            // The engine may be writing the last line just now.
            if (end == std::string_view::npos) break;
            read_line(text.substr(0, end), number);
            text.remove_prefix(end + 1);
        }
        if (arrivals_.empty() && !problems_.any_error()) problems_.error(file_, 0, "no outcome of any message is recorded here");
        if (problems_.any_error()) return std::nullopt;
        return finish();
    }

private:
    void read_line(std::string_view text, int number) {
        boost::system::error_code error;
        const json::value value = json::parse(text, error);
        if (error || !value.is_object()) return problems_.error(file_, number, "expected an event as a JSON object");
        const json::object& line = value.get_object();
        const std::string_view event = text_of(line, "event");
        if (event == "accepted") sizes_[std::string(text_of(line, "message"))] = static_cast<std::uint32_t>(std::clamp<std::int64_t>(number_of(line, "size"), 0, 1 << 30));
        if (event == "delivered" || event == "deferred" || event == "bounced" || event == "expired") read_outcome(line, event, number);
    }

    void read_outcome(const json::object& line, std::string_view event, int number) {
        const auto time = parse_time(text_of(line, "time"));
        const std::string domain(text_of(line, "domain"));
        const std::string item(text_of(line, "item"));
        if (!time || item.empty()) return problems_.error(file_, number, "expected `time` and `item` as docs/reference/events.md describes them");
        if (domain.empty()) return;
        const auto [known, is_new] = domains_.try_emplace(domain, static_cast<std::uint32_t>(traffic_.domains.size()));
        if (is_new) {
            traffic_.domains.push_back(domain);
            observed_.emplace_back();
        }
        if (items_.insert({item, 0}).second) {
            if (arrivals_.size() == items_max) return problems_.error(file_, number, "expected at most " + std::to_string(items_max) + " messages");
            Arrival arrival;
            arrival.at = Duration(*time - number_of(line, "age_ms"));  // since the epoch, until all are known
            arrival.domain = known->second;
            arrival.tenant = traffic_.tenant(std::string(text_of(line, "tenant")));
            const auto size = sizes_.find(std::string(text_of(line, "message")));
            arrival.size = size != sizes_.end() ? size->second : usual_size;
            arrivals_.push_back(arrival);
        }
        observe(line, event, observed_[known->second]);
    }

    static void observe(const json::object& line, std::string_view event, Observed& observed) {
        ++observed.attempts;
        if (const std::string_view host = text_of(line, "mx"); !host.empty()) observed.hosts.insert(to_lower(host));
        if (const std::string_view ip = queue::ip_of(text_of(line, "remote")); !ip.empty()) observed.addresses.insert(std::string(ip));
        if (event == "delivered") {
            if (observed.took_ms.size() < samples_max) observed.took_ms.push_back(number_of(line, "attempt_ms"));
            return;
        }
        auto stage = stage_of(text_of(line, "stage")).value_or(delivery::Stage::rcpt);
        if (stage < delivery::Stage::mail) stage = delivery::Stage::greeting;
        ++observed.answers[{answer_of(text_of(line, "reply")), stage}];
    }

    // Domains that share their hosts share a receiver.
    Traffic finish() {
        std::sort(arrivals_.begin(), arrivals_.end(), [](const Arrival& a, const Arrival& b) {
            return std::tie(a.at, a.domain, a.tenant, a.size) < std::tie(b.at, b.domain, b.tenant, b.size);
        });
        const std::int64_t begin = arrivals_.front().at.count() / 3'600'000 * 3'600'000;
        traffic_.begin = instant_from_ms(begin);
        for (Arrival& arrival : arrivals_) arrival.at -= Duration(begin);
        traffic_.lasts = std::max(arrivals_.back().at + Duration(1), Duration(60'000));
        traffic_.recorded = std::move(arrivals_);
        traffic_.title = "As recorded";
        std::map<std::set<std::string>, std::vector<std::uint32_t>> sites;
        for (std::uint32_t domain = 0; domain < observed_.size(); ++domain) {
            std::set<std::string> hosts = observed_[domain].hosts;
            if (hosts.empty()) hosts.insert("mx." + traffic_.domains[domain]);
            sites[std::move(hosts)].push_back(domain);
        }
        std::vector<std::pair<Observed, const std::vector<std::uint32_t>*>> found;
        for (const auto& [hosts, domains] : sites) {
            Observed all;
            for (const std::uint32_t domain : domains) all.add(observed_[domain]);
            all.hosts = hosts;
            found.emplace_back(std::move(all), &domains);
        }
        std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
            return a.first.attempts != b.first.attempts ? a.first.attempts > b.first.attempts : a.first.hosts < b.first.hosts;
        });
        traffic_.receiver_of.resize(traffic_.domains.size());
        for (const auto& [observed, domains] : found) {
            for (const std::uint32_t domain : *domains) traffic_.receiver_of[domain] = static_cast<std::uint32_t>(traffic_.receivers.size());
            traffic_.receivers.push_back(receiver(observed));
        }
        traffic_.notes.emplace_back("receivers answer as often and as fast as they did on average, whatever comes; --receivers FILE describes them better");
        return std::move(traffic_);
    }

    Receiver receiver(const Observed& observed) {
        Receiver receiver;
        receiver.name = *observed.hosts.begin() + (observed.hosts.size() > 1 ? " and " + std::to_string(observed.hosts.size() - 1) + " more" : "");
        for (const std::string& host : observed.hosts) receiver.mx.emplace_back(host, 0);
        receiver.addresses.assign(observed.addresses.begin(), observed.addresses.end());
        std::vector<std::int64_t> took = observed.took_ms;
        std::sort(took.begin(), took.end());
        if (!took.empty()) {
            receiver.usual.message = {static_cast<double>(took[took.size() / 10]) / 1e3, static_cast<double>(took[took.size() * 9 / 10]) / 1e3};
        }
        std::vector<std::pair<std::pair<std::string, delivery::Stage>, std::uint64_t>> answers(observed.answers.begin(), observed.answers.end());
        std::sort(answers.begin(), answers.end(), [](const auto& a, const auto& b) { return a.second != b.second ? a.second > b.second : a.first < b.first; });
        std::uint64_t left = observed.attempts;
        for (const auto& [answer, count] : answers) {
            if (receiver.usual.replies.size() == answers_max) break;
            ReplyRule rule;
            rule.id = next_rule_++;
            rule.text = answer.first;
            rule.answer = *parse_answer(answer.first, answer.second);
            rule.share = static_cast<double>(count) / static_cast<double>(left);  // of those that the rules before leave
            left -= count;
            receiver.usual.replies.push_back(std::move(rule));
        }
        return receiver;
    }

    const std::string& file_;
    Problems& problems_;
    Traffic traffic_;
    std::vector<Arrival> arrivals_;
    std::vector<Observed> observed_;  // by domain
    absl::flat_hash_map<std::string, std::uint32_t> domains_;
    absl::flat_hash_map<std::string, std::uint32_t> sizes_;  // by message
    absl::flat_hash_map<std::string, char> items_;           // known
    std::uint32_t next_rule_ = 0;
};

}  // namespace

std::optional<Traffic> parse_recording(std::string_view text, const std::string& file, Problems& problems) {
    return RecordingReader(file, problems).read(text);
}

}  // namespace sluice::sim
