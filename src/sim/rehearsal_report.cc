// What a rehearsal found, for people.

#include "sim/rehearsal_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/text.h"

namespace sluice::sim {
namespace {

constexpr unsigned steps_bits = 6;  // 64 steps in each power of two
constexpr std::size_t buckets_shown = 10;
constexpr std::size_t answers_shown = 4;
constexpr std::size_t tenants_shown = 6;
constexpr std::size_t rows_shown = 25;

std::size_t step_of(std::uint64_t value) {
    if (value < (1U << steps_bits)) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - 1 - steps_bits;
    return (static_cast<std::size_t>(shift) << steps_bits) + (value >> shift);
}
// The middle of a step.
std::uint64_t value_of(std::size_t step) {
    if (step < (2U << steps_bits)) return step;
    const std::size_t shift = (step >> steps_bits) - 1;
    return ((step - (shift << steps_bits)) << shift) + (std::uint64_t{1} << shift) / 2;
}

// Cells in columns: the first of a row to the left, the others to the right.
class Table {
public:
    explicit Table(std::vector<std::string> head) { add(std::move(head)); }
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    std::string text() const {
        std::vector<std::size_t> widths;
        for (const std::vector<std::string>& row : rows_) {
            widths.resize(std::max(widths.size(), row.size()), 0);
            for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
        }
        std::string out;
        for (const std::vector<std::string>& row : rows_) {
            std::string line = "  ";
            for (std::size_t i = 0; i < row.size(); ++i) {
                line += i == 0 ? fmt::format("{:<{}}", row[i], widths[i]) : fmt::format("  {:>{}}", row[i], widths[i]);
            }
            out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        }
        return out;
    }

private:
    std::vector<std::vector<std::string>> rows_;
};

std::string shown(Duration duration) {
    const std::int64_t ms = duration.count();
    if (ms < 10'000) return fmt::format("{}.{:02}s", ms / 1'000, ms % 1'000 / 10);
    const std::int64_t seconds = ms / 1'000;
    if (seconds < 120) return fmt::format("{}.{}s", seconds, ms % 1'000 / 100);
    if (seconds < 7'200) return fmt::format("{}m{:02}s", seconds / 60, seconds % 60);
    return fmt::format("{}h{:02}m", seconds / 3'600, seconds / 60 % 60);
}

std::string clock_text(Duration since_begin) {
    const std::int64_t minutes = since_begin.count() / 60'000;
    return fmt::format("{:02}:{:02}", minutes / 60, minutes % 60);
}

std::string shown_name(const std::string& name) { return name.empty() ? "(no tenant)" : printable(name); }

// The letters of the runs, or nothing when there is one.
std::string mark(const std::vector<Rehearsed>& runs, std::size_t run) { return runs.size() == 1 ? "" : std::string(" ") + static_cast<char>('A' + run); }

using Cell = std::string (*)(const Tally& tally);
struct Column {
    const char* name;
    Cell cell;
};
constexpr Column all_columns[] = {
    {"delivered", [](const Tally& t) { return std::to_string(t.delivered); }},
    {"bounced", [](const Tally& t) { return std::to_string(t.bounced); }},
    {"expired", [](const Tally& t) { return std::to_string(t.expired); }},
    {"queued", [](const Tally& t) { return std::to_string(t.queued()); }},
    {"deferrals", [](const Tally& t) { return std::to_string(t.deferrals); }},
    {"p50", [](const Tally& t) { return shown(t.latency.quantile(0.5)); }},
    {"p90", [](const Tally& t) { return shown(t.latency.quantile(0.9)); }},
    {"p99", [](const Tally& t) { return shown(t.latency.quantile(0.99)); }},
    {"max", [](const Tally& t) { return shown(t.latency.quantile(1)); }},
};
constexpr const char* compared[] = {"delivered", "bounced", "queued", "deferrals", "p50", "p99"};

std::vector<Column> columns(bool comparing) {
    std::vector<Column> chosen;
    for (const Column& column : all_columns) {
        const bool wanted = std::any_of(std::begin(compared), std::end(compared), [&](std::string_view name) { return name == column.name; });
        if (!comparing || wanted) chosen.push_back(column);
    }
    return chosen;
}

// `rows` picks the same tallies of each run.
template <class Rows>
std::string tallies(const std::vector<Rehearsed>& runs, const char* what, Rows rows) {
    const std::vector<Column> chosen = columns(runs.size() > 1);
    std::vector<std::string> head{what, "accepted"};
    for (const Column& column : chosen) {
        for (std::size_t run = 0; run < runs.size(); ++run) head.push_back(column.name + mark(runs, run));
    }
    Table table(std::move(head));
    const std::vector<const Tally*> first = rows(runs.front());
    for (std::size_t i = 0; i < std::min(first.size(), rows_shown); ++i) {
        std::vector<std::string> row{shown_name(first[i]->name), std::to_string(first[i]->accepted)};
        for (const Column& column : chosen) {
            for (const Rehearsed& run : runs) row.push_back(column.cell(*rows(run)[i]));
        }
        table.add(std::move(row));
    }
    std::string text = table.text();
    if (first.size() > rows_shown) text += fmt::format("  ... and {} more; --json has all\n", first.size() - rows_shown);
    return text;
}

std::vector<const Tally*> pointers(const std::vector<Tally>& tallies) {
    std::vector<const Tally*> all;
    for (const Tally& tally : tallies) all.push_back(&tally);
    return all;
}

std::string totals(const std::vector<Rehearsed>& runs) {
    std::string text = tallies(runs, "", [](const Rehearsed& run) { return std::vector<const Tally*>{&run.all}; });
    for (std::size_t i = 0; i < runs.size(); ++i) {
        const Rehearsed& run = runs[i];
        text += fmt::format("{}  {} attempts over {} connections, at most {} at once; at most {} messages in the queue; at most {} delivered in a minute; "
                            "over after {}\n",
                            mark(runs, i), run.attempts, run.connections, run.sessions_peak, run.queued_peak, run.minute_peak, shown(run.lasted));
    }
    return text;
}

std::string seen_by_receivers(const std::vector<Rehearsed>& runs) {
    std::vector<std::string> head{""};
    for (const char* name : {"connections", "refused", "sessions at once", "messages a minute"}) {
        for (std::size_t run = 0; run < runs.size(); ++run) head.push_back(name + mark(runs, run));
    }
    Table table(std::move(head));
    for (std::size_t i = 0; i < std::min(runs.front().seen.size(), rows_shown); ++i) {
        std::vector<std::string> row{printable(runs.front().receivers[i].name)};
        for (const Rehearsed& run : runs) row.push_back(std::to_string(run.seen[i].connections));
        for (const Rehearsed& run : runs) row.push_back(std::to_string(run.seen[i].refused_connections));
        for (const Rehearsed& run : runs) row.push_back(std::to_string(run.seen[i].sessions_peak));
        for (const Rehearsed& run : runs) row.push_back(std::to_string(run.seen[i].minute_peak));
        table.add(std::move(row));
    }
    return table.text();
}

std::string answers(const std::vector<Rehearsed>& runs) {
    std::string text;
    for (std::size_t i = 0; i < runs.front().seen.size(); ++i) {
        for (std::size_t run = 0; run < runs.size(); ++run) {
            std::vector<std::pair<std::string, std::uint64_t>> given(runs[run].seen[i].answers.begin(), runs[run].seen[i].answers.end());
            std::sort(given.begin(), given.end(), [](const auto& a, const auto& b) { return a.second != b.second ? a.second > b.second : a.first < b.first; });
            if (given.size() > answers_shown) given.resize(answers_shown);
            for (const auto& [answer, times] : given) {
                text += fmt::format("  {}{}: {} times \"{}\"\n", printable(runs[run].receivers[i].name), mark(runs, run), times, printable(answer));
            }
        }
    }
    return text;
}

std::string bounds(const Rehearsed& run) {
    if (run.policies.empty()) return "  nothing ever waited for a limit\n";
    Table table({"policy, bucket", "waited for", "during", "messages on average", "at most", "message-hours", "limits"});
    const auto add = [&](const Bound& bound, const std::string& name) {
        table.add({name, bound.lack, shown(bound.blocked), fmt::format("{:.0f}", bound.waiting_mean), std::to_string(bound.waiting_peak),
                   fmt::format("{:.2f}", bound.message_seconds / 3'600), bound.limits});
    };
    for (const Bound& policy : run.policies) {
        add(policy, printable(policy.policy));
        std::size_t shown_here = 0;
        for (const Bound& bucket : run.buckets) {
            if (bucket.policy == policy.policy && shown_here++ < buckets_shown) add(bucket, "  " + printable(bucket.bucket));
        }
    }
    return table.text();
}

std::uint64_t queued(const Shape& shape) { return shape.ready + shape.scheduled + shape.sending; }

std::string shape_of_one(const Traffic& traffic, const Rehearsed& run) {
    std::vector<std::size_t> tenants(traffic.tenants.size());
    std::vector<std::uint64_t> peaks(tenants.size(), 0);
    for (std::size_t i = 0; i < tenants.size(); ++i) tenants[i] = i;
    for (const Shape& shape : run.shapes) {
        for (std::size_t i = 0; i < peaks.size(); ++i) peaks[i] = std::max(peaks[i], shape.queued[i]);
    }
    std::sort(tenants.begin(), tenants.end(), [&](std::size_t a, std::size_t b) { return peaks[a] != peaks[b] ? peaks[a] > peaks[b] : a < b; });
    tenants.resize(std::min(tenants.size(), tenants_shown));
    if (traffic.tenants.size() < 2) tenants.clear();
    std::vector<std::string> head{"until", "accepted", "delivered", "deferrals", "ready", "scheduled", "sessions"};
    for (const std::size_t tenant : tenants) head.push_back("queued: " + shown_name(traffic.tenants[tenant]));
    Table table(std::move(head));
    for (const Shape& shape : run.shapes) {
        std::vector<std::string> row{clock_text(shape.at)};
        for (const std::uint64_t value : {shape.accepted, shape.delivered, shape.deferrals, shape.ready, shape.scheduled, shape.sessions}) {
            row.push_back(std::to_string(value));
        }
        for (const std::size_t tenant : tenants) row.push_back(std::to_string(shape.queued[tenant]));
        table.add(std::move(row));
    }
    return table.text();
}

std::string shape_compared(const std::vector<Rehearsed>& runs) {
    Table table({"until", "accepted", "delivered A", "delivered B", "deferrals A", "deferrals B", "queued A", "queued B"});
    static const Shape nothing;
    const std::size_t rows = std::max(runs[0].shapes.size(), runs[1].shapes.size());
    for (std::size_t i = 0; i < rows; ++i) {
        const Shape& a = i < runs[0].shapes.size() ? runs[0].shapes[i] : nothing;
        const Shape& b = i < runs[1].shapes.size() ? runs[1].shapes[i] : nothing;
        const auto number = [](std::uint64_t value) { return std::to_string(value); };
        table.add({clock_text(std::max(a.at, b.at)), number(std::max(a.accepted, b.accepted)), number(a.delivered), number(b.delivered),
                   number(a.deferrals), number(b.deferrals), number(queued(a)), number(queued(b))});
    }
    return table.text();
}

}  // namespace

void Histogram::add(Duration value) {
    const std::size_t step = step_of(static_cast<std::uint64_t>(std::max<std::int64_t>(value.count(), 0)));
    if (counts_.size() <= step) counts_.resize(step + 1, 0);
    ++counts_[step];
    ++count_;
}

Duration Histogram::quantile(double part) const {
    const auto wanted = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(count_)));
    std::uint64_t passed = 0;
    for (std::size_t step = 0; step < counts_.size(); ++step) {
        passed += counts_[step];
        if (passed >= std::max<std::uint64_t>(wanted, 1)) return Duration(static_cast<std::int64_t>(value_of(step)));
    }
    return Duration{0};
}

std::string report_text(const Traffic& traffic, const std::vector<Rehearsed>& runs) {
    std::string text = traffic.title.empty() ? std::string("A rehearsal") : printable(traffic.title);
    text += fmt::format(": {} messages to {} domains in {}, seed {}\n", traffic.messages(), traffic.domains.size(), shown(traffic.lasts), runs.front().seed);
    for (std::size_t i = 0; i < runs.size(); ++i) text += fmt::format("{}  policies: {}\n", mark(runs, i), printable(runs[i].label));
    for (const std::string& note : traffic.notes) text += "  note: " + printable(note) + "\n";
    text += "\nAll mail; the time from acceptance to delivery\n" + totals(runs);
    text += "\nBy tenant\n" + tallies(runs, "", [](const Rehearsed& run) { return pointers(run.tenants); });
    text += "\nBy receiver\n" + tallies(runs, "", [](const Rehearsed& run) { return pointers(run.receivers); });
    text += "\nWhat the receivers saw\n" + seen_by_receivers(runs) + answers(runs);
    for (std::size_t i = 0; i < runs.size(); ++i) text += fmt::format("\nLimits that mail waited for{}\n", mark(runs, i)) + bounds(runs[i]);
    text += "\nThe queue over time\n" + (runs.size() == 1 ? shape_of_one(traffic, runs.front()) : shape_compared(runs));
    return text;
}

}  // namespace sluice::sim
