#include "net/session_cache.h"

#include <utility>

namespace sluice::net {

void SessionCache::put(const std::string& key, std::string session) {
    if (session.size() > session_octets_max) return;
    const std::scoped_lock lock(mutex_);
    const auto [entry, is_new] = entries_.try_emplace(key);
    entry->second.session = std::move(session);
    if (!is_new) {
        oldest_first_.splice(oldest_first_.end(), oldest_first_, entry->second.age);
        return;
    }
    entry->second.age = oldest_first_.insert(oldest_first_.end(), key);
    if (entries_.size() <= sessions_max) return;
    entries_.erase(oldest_first_.front());
    oldest_first_.pop_front();
}

std::optional<std::string> SessionCache::get(const std::string& key) const {
    const std::scoped_lock lock(mutex_);
    const auto entry = entries_.find(key);
    if (entry == entries_.end()) return std::nullopt;
    return entry->second.session;
}

void SessionCache::remove(const std::string& key) {
    const std::scoped_lock lock(mutex_);
    const auto entry = entries_.find(key);
    if (entry == entries_.end()) return;
    oldest_first_.erase(entry->second.age);
    entries_.erase(entry);
}

std::size_t SessionCache::size() const {
    const std::scoped_lock lock(mutex_);
    return entries_.size();
}

}  // namespace sluice::net
