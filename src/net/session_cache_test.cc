#include "net/session_cache.h"

#include <gtest/gtest.h>

namespace sluice::net {
namespace {

TEST(SessionCache, ForgetsTheLeastRecentlyStored) {
    SessionCache cache;
    cache.put("first", "1");
    cache.put("second", "2");
    cache.put("first", "1b");
    for (std::size_t i = 0; i + 1 < SessionCache::sessions_max; ++i)
        cache.put(std::to_string(i), "x");
    EXPECT_EQ(cache.size(), SessionCache::sessions_max);
    EXPECT_EQ(cache.get("second"), std::nullopt);
    EXPECT_EQ(cache.get("first"), "1b");
    cache.remove("first");
    EXPECT_EQ(cache.get("first"), std::nullopt);
    EXPECT_EQ(cache.size(), SessionCache::sessions_max - 1);
}

TEST(SessionCache, ServersCannotFillTheMemory) {
    SessionCache cache;
    cache.put("modest", std::string(SessionCache::session_octets_max, 'x'));
    cache.put("greedy", std::string(SessionCache::session_octets_max + 1, 'x'));
    EXPECT_EQ(cache.size(), 1U);
    EXPECT_EQ(cache.get("greedy"), std::nullopt);
}

}  // namespace
}  // namespace sluice::net
