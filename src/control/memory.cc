#include "control/memory.h"

#include <algorithm>
#include <boost/json/serialize.hpp>

namespace sluice::control {
namespace {

constexpr std::size_t overhead_bytes = 200;  // of an entry, beside its texts
// Keys of rates begin with a character that other keys cannot have.
constexpr char rate_mark = '\x01';

Result<> check_key(const std::string& key, const char* name) {
    if (key.empty() || key.size() > Memory::key_bytes_max) {
        return fail(Errc::bad_input, std::string(name) + ": from 1 to " + std::to_string(Memory::key_bytes_max) + " octets are expected");
    }
    for (const char c : key) {
        if (static_cast<unsigned char>(c) < ' ') return fail(Errc::bad_input, std::string(name) + ": control characters cannot stand there");
    }
    return {};
}

tl::unexpected<Error> full() { return fail(Errc::too_large, "the memory is full of entries without a time to live"); }

std::optional<std::int64_t> whole(const boost::json::value& value) {
    if (value.is_int64()) return value.get_int64();
    return std::nullopt;
}

}  // namespace

void Memory::expire() {
    const Instant now = clock_.now();
    while (!expiries_.empty() && expiries_.begin()->first <= now) drop(entries_.find(expiries_.begin()->second));
}

Memory::Entries::iterator Memory::find(const std::string& key) {
    expire();
    return entries_.find(key);
}

void Memory::drop(Entries::iterator at) {
    if (at->second.expires) expiries_.erase({*at->second.expires, at->first});
    bytes_ -= at->second.bytes;
    entries_.erase(at);
}

// For so much more. What is kept under `kept` is not touched.
bool Memory::make_room(const std::string& kept, std::size_t bytes, std::size_t entries) {
    const auto fits = [&] { return bytes_ + bytes <= bytes_max && entries_.size() + entries <= entries_max; };
    for (auto at = expiries_.begin(); !fits() && at != expiries_.end();) {
        const auto here = at++;
        if (here->second != kept) drop(entries_.find(here->second));
    }
    return fits();
}

// In place of what was there. Nothing has changed after an error.
Result<> Memory::put(const std::string& key, Stored stored) {
    const auto old = entries_.find(key);
    const bool is_new = old == entries_.end();
    const std::size_t before = is_new ? 0 : old->second.bytes;
    const std::size_t more = stored.bytes > before ? stored.bytes - before : 0;
    if (!make_room(key, more, is_new ? 1 : 0)) return full();
    if (!is_new) drop(old);
    bytes_ += stored.bytes;
    if (stored.expires) expiries_.emplace(*stored.expires, key);
    entries_.emplace(key, std::move(stored));
    return {};
}

std::optional<Memory::Entry> Memory::get(const std::string& key) {
    const auto found = find(key);
    if (found == entries_.end() || key.starts_with(rate_mark)) return std::nullopt;
    Entry entry{key, found->second.value, {}};
    if (found->second.expires) entry.left = *found->second.expires - clock_.now();
    return entry;
}

Memory::Page Memory::list(std::string_view prefix, const std::string& after, std::size_t limit) {
    expire();
    Page page;
    const bool begins = after.empty() || after < prefix;
    for (auto at = begins ? entries_.lower_bound(prefix) : entries_.upper_bound(after); at != entries_.end(); ++at) {
        if (!at->first.starts_with(prefix)) break;
        if (at->first.starts_with(rate_mark)) continue;
        if (page.entries.size() == limit) {
            page.after = page.entries.back().key;
            break;
        }
        Entry entry{at->first, at->second.value, {}};
        if (at->second.expires) entry.left = *at->second.expires - clock_.now();
        page.entries.push_back(std::move(entry));
    }
    return page;
}

Result<> Memory::set(const std::string& key, boost::json::value value, Ttl ttl) {
    expire();
    TRY_VOID(check_key(key, "key"));
    const std::size_t size = boost::json::serialize(value).size();
    if (size > value_bytes_max) return fail(Errc::bad_input, "value: at most " + std::to_string(value_bytes_max) + " octets of JSON are expected");
    Stored stored;
    stored.value = std::move(value);
    stored.bytes = overhead_bytes + key.size() + size;
    if (ttl) stored.expires = clock_.now() + *ttl;
    return put(key, std::move(stored));
}

Result<std::int64_t> Memory::increment(const std::string& key, std::int64_t by, Ttl ttl) {
    const auto found = find(key);
    if (found == entries_.end()) {
        TRY_VOID(set(key, by, ttl));
        return by;
    }
    const auto before = whole(found->second.value);
    std::int64_t sum = 0;
    if (!before) return fail(Errc::bad_input, "key: no whole number is kept there");
    if (__builtin_add_overflow(*before, by, &sum)) return fail(Errc::bad_input, "by: the sum is too large");
    found->second.value = sum;
    return sum;
}

Result<Memory::Swap> Memory::compare_and_set(
    const std::string& key, const std::optional<boost::json::value>& expected, boost::json::value value, Ttl ttl) {
    const auto found = find(key);
    const bool is_there = found != entries_.end();
    if (is_there != expected.has_value() || (is_there && found->second.value != *expected)) {
        Swap refused;
        if (is_there) refused.value = found->second.value;
        return refused;
    }
    TRY_VOID(set(key, value, ttl));
    return Swap{true, std::move(value)};
}

bool Memory::erase(const std::string& key) {
    const auto found = find(key);
    if (found == entries_.end() || key.starts_with(rate_mark)) return false;
    drop(found);
    return true;
}

Result<Memory::Rate> Memory::rate(const std::string& space, const std::string& key, std::uint64_t count, Duration window) {
    TRY_VOID(check_key(space, "namespace"));
    TRY_VOID(check_key(key, "key"));
    if (count > rate_count_max) return fail(Errc::bad_input, "count: at most " + std::to_string(rate_count_max) + " is expected");
    const std::string name = rate_mark + space + rate_mark + key;
    const Instant now = clock_.now();
    Rate rate;
    auto found = find(name);
    if (found != entries_.end()) {
        const std::deque<Instant>& stamps = found->second.stamps;
        rate.used = static_cast<std::uint64_t>(stamps.end() - std::upper_bound(stamps.begin(), stamps.end(), now - window));
    }
    if (rate.used >= count) return rate;
    if (found == entries_.end()) {
        Stored fresh;
        fresh.bytes = overhead_bytes + name.size();
        TRY_VOID(put(name, std::move(fresh)));
        found = entries_.find(name);
    }
    if (!make_room(name, sizeof(Instant), 0)) return full();
    stamp(found, now, window);
    return Rate{true, rate.used + 1};
}

void Memory::stamp(Entries::iterator at, Instant now, Duration window) {
    Stored& stored = at->second;
    const std::size_t before = stored.stamps.size();
    stored.window = std::max(stored.window, window);
    while (!stored.stamps.empty() && stored.stamps.front() <= now - stored.window) stored.stamps.pop_front();
    if (stored.stamps.size() == rate_count_max) stored.stamps.pop_front();
    stored.stamps.push_back(now);
    const std::size_t bytes = stored.bytes + stored.stamps.size() * sizeof(Instant) - before * sizeof(Instant);
    bytes_ += bytes - stored.bytes;
    stored.bytes = bytes;
    if (stored.expires) expiries_.erase({*stored.expires, at->first});
    stored.expires = now + stored.window;
    expiries_.emplace(*stored.expires, at->first);
}

}  // namespace sluice::control
