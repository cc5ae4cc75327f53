#include "queue/sources.h"

#include <gtest/gtest.h>

namespace sluice::queue {
namespace {

TEST(Sources, FamilyIsReadFromTheEndpoint) {
    const struct {
        const char* remote;
        Family family;
    } rows[] = {
        {"192.0.2.1:25", Family::ipv4},
        {"[2001:db8::1]:25", Family::ipv6},
        {"/run/lmtp.sock", Family::local},
    };
    for (const auto& row : rows) EXPECT_EQ(family_of(row.remote), row.family) << row.remote;
}

TEST(Sources, UnusableAddressesAreSkippedUntilAllAre) {
    Names names;
    const Instant now = instant_from_ms(1'000);
    {
        Sources sources(names);
        sources.configure({"192.0.2.1", "192.0.2.2", "192.0.2.3"}, {});
        const SourceChoice choice = sources.choose(4, 0);  // the second
        const auto text = [&](Instant when) { return names.text(sources.address(Family::ipv4, choice, when)); };
        EXPECT_EQ(text(now), "192.0.2.2");
        for (const char* const next : {"192.0.2.3", "192.0.2.1", "192.0.2.2"}) {
            sources.avoid(sources.address(Family::ipv4, choice, now), now + Duration(500));
            EXPECT_EQ(text(now), next);
        }
        EXPECT_EQ(text(now + Duration(500)), "192.0.2.2");
        sources.configure({"192.0.2.2"}, {"2001:db8::1"});
        EXPECT_EQ(names.text(sources.address(Family::ipv6, choice, now)), "2001:db8::1");
        EXPECT_EQ(sources.address(Family::local, choice, now), Names::empty);
    }
    EXPECT_EQ(names.size(), 1U) << "only the empty name is left";
}

}  // namespace
}  // namespace sluice::queue
