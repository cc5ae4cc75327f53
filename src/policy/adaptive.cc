#include "policy/adaptive.h"

#include <algorithm>

namespace sluice::policy {
namespace {

constexpr double cut_to = 0.75;
constexpr std::uint32_t outage_after = 5;        // connections in a row that failed
constexpr Duration memory{600'000};              // then it begins anew

bool is_about_sessions(Failure failure) { return failure == Failure::connections || failure == Failure::connection || failure == Failure::busy; }
bool is_about_messages(Failure failure) {
    return failure == Failure::throttled || failure == Failure::blocked || failure == Failure::connection || failure == Failure::busy;
}

bool differs_by_a_quarter(std::uint32_t a, std::uint32_t b) { return std::max(a, b) - std::min(a, b) > std::max(a, b) / 4; }

}  // namespace

void MovingLimit::succeed(double step) {
    value_ = std::min(max_, value_ + (value_ < ceiling_ ? 1.0 : step / std::max(value_, 1.0)));
}

void MovingLimit::cut() {
    value_ = std::max(min_, value_ * cut_to);
    ceiling_ = value_;
}

void MovingLimit::collapse() {
    ceiling_ = std::max(min_, value_ / 2);
    value_ = min_;
}

void Adapting::obey(const Limits& base) {
    const Adaptive& bounds = base.adaptive;
    if (bounds.concurrency_min != base_.adaptive.concurrency_min || bounds.concurrency_max != base_.adaptive.concurrency_max) {
        concurrency_ = MovingLimit(bounds.concurrency_min, bounds.concurrency_max);
    }
    if (bounds.rate_min != base_.adaptive.rate_min || bounds.rate_max != base_.adaptive.rate_max || bounds.rate_per != base_.adaptive.rate_per) {
        rate_ = MovingLimit(bounds.rate_min, bounds.rate_max);
    }
    base_ = base;
    make_limits();
}

bool Adapting::apply() {
    // Steps of one in fifty are enough for rates: every one costs a new rate.
    const std::uint32_t rate = rate_.value();
    const bool is_small = rate > applied_rate_ && rate - applied_rate_ <= applied_rate_ / 50;
    if (concurrency_.value() == applied_concurrency_ && (rate == applied_rate_ || is_small)) return false;
    before_ = limits_;
    make_limits();
    return true;
}

void Adapting::make_limits() {
    applied_concurrency_ = concurrency_.value();
    applied_rate_ = rate_.value();
    limits_ = base_;
    if (concurrency_.moves()) {
        limits_.concurrency = base_.concurrency == 0 ? applied_concurrency_ : std::min(base_.concurrency, applied_concurrency_);
    }
    if (rate_.moves()) limits_.rates.emplace_back(applied_rate_, base_.adaptive.rate_per);
}

bool Adapting::delivered(bool was_full, Instant now) {
    if (now - last_ > memory && last_ != Instant()) *this = Adapting(Limits(base_));
    last_ = now;
    unanswered_ = 0;
    if (spared_ > 0) --spared_;
    if (!was_full) return false;
    // A hundredth or so for each crowd: a refused session costs more than one that was not opened.
    if (concurrency_.moves()) concurrency_.succeed(std::max(0.1, concurrency_.value() * 0.015));
    if (rate_.moves()) rate_.succeed(std::max(1.0, rate_.value() * 0.03));
    return apply();
}

bool Adapting::failed(Failure failure, Instant now) {
    last_ = now;
    const bool of_sessions = is_about_sessions(failure) || (is_about_messages(failure) && !rate_.moves());
    const bool of_messages = is_about_messages(failure);
    if (!of_sessions && !of_messages) return false;
    unanswered_ = failure == Failure::connection ? unanswered_ + 1 : 0;
    if (unanswered_ >= outage_after) {
        was_cut_ = was_cut_ || concurrency_.has_moved() || rate_.has_moved();
        if (unanswered_ == outage_after) {
            concurrency_.collapse();
            rate_.collapse();
        }
        return apply();
    }
    if (of_sessions && concurrency_.moves() && spared_ == 0) {
        spared_ = concurrency_.value();
        concurrency_.cut();
        was_cut_ = true;
    } else if (spared_ > 0) {
        --spared_;
    }
    if (of_messages && rate_.moves() && now >= rate_spared_until_) {
        rate_spared_until_ = now + base_.adaptive.rate_per;
        rate_.cut();
        was_cut_ = true;
    }
    return apply();
}

bool Adapting::is_news() {
    const bool news = std::exchange(was_cut_, false) || (concurrency_.moves() && differs_by_a_quarter(concurrency_.value(), told_concurrency_)) ||
                      (rate_.moves() && differs_by_a_quarter(rate_.value(), told_rate_));
    if (news) {
        told_concurrency_ = concurrency_.value();
        told_rate_ = rate_.value();
    }
    return news;
}

std::string Adapting::text() const { return limits_.text(); }

Instant Adapting::remembers_until() const {
    return concurrency_.has_moved() || rate_.has_moved() ? last_ + memory : Instant();
}

}  // namespace sluice::policy
