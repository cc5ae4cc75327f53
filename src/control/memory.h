#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace sluice::control {

// What plugins and whoever uses the API remember together: JSON values by key, and rates. Outlives plugin hosts, not the
// engine. Bounded: when room is needed, what would have ended soonest goes; what has no time to live stays.
// Owned by the control shard.
class Memory {
public:
    static constexpr std::size_t entries_max = 100'000, bytes_max = 64u << 20;
    static constexpr std::size_t key_bytes_max = 512, value_bytes_max = 64u << 10;
    static constexpr std::uint64_t rate_count_max = 10'000;
    static constexpr Duration ttl_max{366LL * 86'400'000};

    struct Entry {
        std::string key;
        boost::json::value value;
        std::optional<Duration> left;  // until it ends
    };
    struct Page {
        std::vector<Entry> entries;
        std::string after;  // where to go on; empty: that was all
    };
    struct Swap {
        bool done = false;
        std::optional<boost::json::value> value;  // what is there now
    };
    struct Rate {
        bool allowed = false;
        std::uint64_t used = 0;  // within the time, this one included
    };
    using Ttl = std::optional<Duration>;

    explicit Memory(const Clock& clock) : clock_(clock) {}

    std::optional<Entry> get(const std::string& key);
    Page list(std::string_view prefix, const std::string& after, std::size_t limit);
    // Errors of these: bad_input, "NAME: sentence"; too_large when there is no room.
    Result<> set(const std::string& key, boost::json::value value, Ttl ttl);
    // A key that is not there counts from zero, and then `ttl` is for it; one that is keeps its own.
    Result<std::int64_t> increment(const std::string& key, std::int64_t by, Ttl ttl);
    // `expected`: nothing, when the key must not be there.
    Result<Swap> compare_and_set(
        const std::string& key, const std::optional<boost::json::value>& expected, boost::json::value value, Ttl ttl);
    bool erase(const std::string& key);
    // Whether there were fewer than `count` within the last `window`; if so, this is one more. A count of 0 only looks.
    Result<Rate> rate(const std::string& space, const std::string& key, std::uint64_t count, Duration window);

    std::size_t entries() const { return entries_.size(); }
    std::size_t bytes() const { return bytes_; }

private:
    struct Stored {
        boost::json::value value;
        std::deque<Instant> stamps;  // of a rate
        Duration window{0};          // the longest that was asked for
        std::size_t bytes = 0;
        std::optional<Instant> expires;
    };
    using Entries = std::map<std::string, Stored, std::less<>>;

    void expire();
    Entries::iterator find(const std::string& key);
    void drop(Entries::iterator at);
    bool make_room(const std::string& kept, std::size_t bytes, std::size_t entries);
    Result<> put(const std::string& key, Stored stored);
    void stamp(Entries::iterator at, Instant now, Duration window);

    const Clock& clock_;
    Entries entries_;
    std::set<std::pair<Instant, std::string>> expiries_;
    std::size_t bytes_ = 0;
};

}  // namespace sluice::control
