#include "policy/limits.h"

#include <algorithm>
#include <cstdio>

#include "base/assert.h"

namespace sluice::policy {
namespace {

constexpr std::int64_t ns_per_ms = 1'000'000;
constexpr std::int64_t slack_parts = 100;

std::int64_t to_ns(Duration duration) { return duration.count() * ns_per_ms; }
std::int64_t to_ns(Instant instant) { return to_ms(instant) * ns_per_ms; }
Instant at_or_after(std::int64_t ns) { return instant_from_ms((ns + ns_per_ms - 1) / ns_per_ms); }

std::string seconds(Duration duration) {
    char text[32];
    std::snprintf(text, sizeof text, "%.15g", static_cast<double>(duration.count()) / 1e3);
    return text;
}

}  // namespace

Rate::Rate(std::uint32_t count, Duration per, RateAlgorithm algorithm) : count_(count), per_(per), algorithm_(algorithm) {
    ASSERT(per.count() > 0);
    if (count == 0 || algorithm != RateAlgorithm::token_bucket) return;
    slack_ns_ = to_ns(per) / slack_parts;
    // With n starts in a stretch of `per`, (n - 1) steps fit into per + slack; rounding up keeps n at `count` at most.
    step_ns_ = (to_ns(per) + slack_ns_ + count - 1) / count;
}

std::string Rate::text() const {
    const std::string per = per_ == Duration(1'000) ? "second" : seconds(per_) + " s";
    return std::to_string(count_) + " per " + per + (algorithm_ == RateAlgorithm::fixed_window ? " (fixed window)" : "");
}

Instant RateState::opens(const Rate& rate) const {
    if (rate.algorithm_ == RateAlgorithm::token_bucket) return at_or_after(std::max<std::int64_t>(mark_ - rate.slack_ns_, 0));
    return used_ < rate.count_ ? Instant{} : instant_from_ms(mark_) + rate.per_;
}

void RateState::take(const Rate& rate, Instant now) {
    if (rate.count_ == 0) return;
    if (rate.algorithm_ == RateAlgorithm::token_bucket) {
        mark_ = std::max(mark_, to_ns(now)) + rate.step_ns_;
        return;
    }
    if (used_ == 0 || now >= instant_from_ms(mark_) + rate.per_) {
        mark_ = to_ms(now);
        used_ = 0;
    }
    ++used_;
}

Instant RateState::remembers_until(const Rate& rate) const {
    if (rate.count_ == 0) return {};
    if (rate.algorithm_ == RateAlgorithm::token_bucket) return at_or_after(mark_);
    return used_ != 0 ? instant_from_ms(mark_) + rate.per_ : Instant{};
}

void RateState::adopt(const Rate& before, const Rate& after, Instant now) {
    if (before == after) return;
    if (before.algorithm_ != after.algorithm_) *this = {};
    else if (after.algorithm_ == RateAlgorithm::token_bucket) mark_ = std::min(mark_, to_ns(now + after.per_));
}

void ByteState::take(std::uint64_t per_second, std::uint64_t bytes, Instant now) {
    if (per_second == 0) return;
    const double owed_ns = static_cast<double>(bytes) / static_cast<double>(per_second) * 1e9;
    paid_ns_ = std::max(paid_ns_, to_ns(now)) + static_cast<std::int64_t>(std::min(owed_ns, 1e17));
}

Instant ByteState::opens() const { return at_or_after(paid_ns_); }

std::string Limits::text() const {
    std::string out;
    const auto add = [&out](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
    if (concurrency != 0) add(std::to_string(concurrency) + (concurrency == 1 ? " session" : " sessions"));
    for (const Rate& rate : rates) add(rate.text());
    if (connect_interval.count() != 0) add("a new session every " + seconds(connect_interval) + " s");
    if (messages_per_connection != 0) add(std::to_string(messages_per_connection) + " messages a session");
    if (bytes_per_second != 0) add(std::to_string(bytes_per_second) + " octets a second");
    if (adaptive.concurrency_max != 0) {
        add("adaptive from " + std::to_string(adaptive.concurrency_min) + " to " + std::to_string(adaptive.concurrency_max) + " sessions");
    }
    if (adaptive.rate_max != 0) {
        add("adaptive from " + Rate(adaptive.rate_min, adaptive.rate_per).text() + " to " + Rate(adaptive.rate_max, adaptive.rate_per).text());
    }
    if (!transport.empty()) add("from the addresses of `" + transport + "`");
    return out.empty() ? "no limit" : out;
}

}  // namespace sluice::policy
