#include "policy/cron.h"

#include <array>
#include <chrono>
#include <vector>

#include "base/text.h"

namespace sluice::policy {
namespace {

constexpr std::int64_t ms_per_minute = 60'000;
constexpr std::int64_t minutes_per_day = 1'440;
constexpr std::int64_t days_ahead_max = 4 * 366;

struct Part {
    const char* name;
    unsigned from, to;
};
constexpr std::array<Part, 5> parts{{{"minute", 0, 59}, {"hour", 0, 23}, {"day", 1, 31}, {"month", 1, 12}, {"weekday", 0, 7}}};

// One of the words between commas: `*`, `3`, `1-5`, each with `/STEP` behind it or not.
bool add_numbers(std::string_view word, const Part& part, std::uint64_t& bits) {
    unsigned step = 1;
    const std::size_t slash = word.find('/');
    if (slash != std::string_view::npos) {
        const auto number = parse_number<unsigned>(word.substr(slash + 1));
        if (!number || *number == 0) return false;
        step = *number;
        word = word.substr(0, slash);
    }
    unsigned from = part.from, to = part.to;
    if (word != "*") {
        const std::size_t dash = word.find('-');
        const auto first = parse_number<unsigned>(word.substr(0, dash));
        const auto last = dash == std::string_view::npos ? first : parse_number<unsigned>(word.substr(dash + 1));
        if (!first || !last || *first < part.from || *last > part.to || *first > *last) return false;
        from = *first;
        // As in cron, `3/5` is 3, 8, 13 and so on.
        if (dash != std::string_view::npos || slash == std::string_view::npos) to = *last;
    }
    for (unsigned number = from; number <= to && number >= from; number += step) bits |= std::uint64_t{1} << number;
    return true;
}

Result<std::uint64_t> numbers_of(std::string_view text, const Part& part) {
    std::uint64_t bits = 0;
    for (const std::string_view word : split(text, ',')) {
        if (add_numbers(word, part, bits)) continue;
        return fail(Errc::bad_input, std::string("expected numbers from ") + std::to_string(part.from) + " to " + std::to_string(part.to) +
                                         " as " + part.name + ", found `" + printable(text.substr(0, 40)) + "`");
    }
    return bits;
}

bool has(std::uint64_t bits, unsigned number) { return (bits >> number & 1) != 0; }

std::int64_t minute_of(Instant at) { return to_ms(at) / ms_per_minute; }

}  // namespace

Result<Cron> Cron::parse(std::string_view text) {
    std::vector<std::string_view> words;
    for (const std::string_view word : split(text, ' ')) {
        if (!word.empty()) words.push_back(word);
    }
    if (words.size() != parts.size()) return fail(Errc::bad_input, "expected five words: minute hour day month weekday");
    Cron cron;
    cron.text_ = text;
    const std::array<std::uint64_t*, 5> into{&cron.minutes_, &cron.hours_, &cron.days_, &cron.months_, &cron.weekdays_};
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const Result<std::uint64_t> numbers = numbers_of(words[i], parts[i]);
        if (!numbers) return tl::make_unexpected(numbers.error());
        *into[i] = *numbers;
    }
    if (has(cron.weekdays_, 7)) cron.weekdays_ |= 1;  // Sunday has two numbers
    cron.any_day_ = words[2].starts_with('*');
    cron.any_weekday_ = words[4].starts_with('*');
    return cron;
}

bool Cron::matches_day(std::int64_t day) const {
    using namespace std::chrono;
    const sys_days date{days{day}};
    const year_month_day calendar(date);
    if (!has(months_, static_cast<unsigned>(calendar.month()))) return false;
    const bool by_day = has(days_, static_cast<unsigned>(calendar.day()));
    const bool by_weekday = has(weekdays_, weekday(date).c_encoding());
    return any_day_ || any_weekday_ ? by_day && by_weekday : by_day || by_weekday;
}

bool Cron::matches(Instant at) const {
    const std::int64_t minute = minute_of(at);
    const auto of_day = static_cast<unsigned>(minute % minutes_per_day);
    return has(minutes_, of_day % 60) && has(hours_, of_day / 60) && matches_day(minute / minutes_per_day);
}

std::optional<Instant> Cron::next_change(Instant after) const {
    const bool now = matches(after);
    std::int64_t minute = minute_of(after) + 1;
    const std::int64_t end = minute + days_ahead_max * minutes_per_day;
    while (minute < end) {
        const std::int64_t day = minute / minutes_per_day;
        // A day that does not match at all is passed in one step.
        if (!now && !matches_day(day)) {
            minute = (day + 1) * minutes_per_day;
            continue;
        }
        const Instant at = instant_from_ms(minute * ms_per_minute);
        if (matches(at) != now) return at;
        ++minute;
    }
    return std::nullopt;
}

}  // namespace sluice::policy
