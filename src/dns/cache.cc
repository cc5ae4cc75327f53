#include "dns/cache.h"

namespace sluice::dns {
namespace {

std::size_t weight_of(const Finding& finding) {
    if (!finding.records) return 1;
    return 1 + finding.records->mx.size() + finding.records->addresses.size();
}

}  // namespace

void AnswerCache::put(const Question& question, FindingPtr finding, Instant now) {
    if (const auto old = places_.find(question); old != places_.end()) remove(old->second);
    if (finding->ttl <= std::chrono::seconds(0) || weight_of(*finding) > weight_max_) return;

    weight_ += weight_of(*finding);
    const Instant expires = now + finding->ttl;
    entries_.push_front(Entry{question, std::move(finding), expires});
    places_.emplace(question, entries_.begin());
    while (weight_ > weight_max_)
        remove(std::prev(entries_.end()));
}

std::optional<AnswerCache::Hit> AnswerCache::get(const Question& question, Instant now) {
    const auto found = places_.find(question);
    if (found == places_.end()) return std::nullopt;
    const Place place = found->second;
    if (place->expires <= now) {
        remove(place);
        return std::nullopt;
    }
    entries_.splice(entries_.begin(), entries_, place);
    return Hit{place->finding, std::chrono::floor<std::chrono::seconds>(place->expires - now)};
}

void AnswerCache::clear() {
    places_.clear();
    entries_.clear();
    weight_ = 0;
}

void AnswerCache::remove(Place place) {
    weight_ -= weight_of(*place->finding);
    places_.erase(place->question);
    entries_.erase(place);
}

}  // namespace sluice::dns
