#pragma once

#include <absl/container/flat_hash_map.h>

#include <list>
#include <optional>

#include "base/clock.h"
#include "dns/finding.h"

namespace sluice::dns {

// Findings by question, until their time is over. When it is full, what was used longest ago goes first.
// Shard-owned.
class AnswerCache {
public:
    struct Hit {
        FindingPtr finding;
        std::chrono::seconds left;
    };

    // A finding weighs one more than it has records; the sum never exceeds `weight_max`.
    explicit AnswerCache(std::size_t weight_max) : weight_max_(weight_max) {}

    void put(const Question& question, FindingPtr finding, Instant now);
    std::optional<Hit> get(const Question& question, Instant now);
    void clear();

    std::size_t size() const { return places_.size(); }
    std::size_t weight() const { return weight_; }

private:
    struct Entry {
        Question question;
        FindingPtr finding;
        Instant expires;
    };
    using Place = std::list<Entry>::iterator;

    void remove(Place place);

    std::size_t weight_max_;
    std::size_t weight_ = 0;
    std::list<Entry> entries_;  // used last first
    absl::flat_hash_map<Question, Place> places_;
};

}  // namespace sluice::dns
