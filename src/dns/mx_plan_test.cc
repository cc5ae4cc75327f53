#include "dns/mx_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace sluice::dns {
namespace {

using Prefer = config::OutboundSettings::InetPrefer;

net::IpAddress address4(std::size_t number) {
    return net::IpAddress::v4(0xC0000200U + static_cast<std::uint32_t>(number));
}
net::IpAddress address6(std::size_t number) {
    std::array<std::uint8_t, 16> bytes{0x20, 0x01, 0x0D, 0xB8};
    bytes[14] = static_cast<std::uint8_t>(number >> 8);
    bytes[15] = static_cast<std::uint8_t>(number);
    return net::IpAddress::v6(bytes);
}

TEST(MxPlan, DNS_2_OneHostHasTwentyAddressesAtMostInEveryOrder) {
    MxHost host;
    host.name = "mx.test";
    for (std::size_t i = 0; i < 50; ++i) {
        host.v4.push_back(address4(i));
        host.v6.push_back(address6(i));
    }
    for (const Prefer prefer : {Prefer::standard, Prefer::v4, Prefer::v6}) {
        EXPECT_EQ(arrange({host}, prefer, 25).size(), addresses_max);
    }
    EXPECT_EQ(arrange({host}, Prefer::v4, 25).back().remote, "192.0.2.19:25");
    host.v4.resize(3);
    EXPECT_EQ(arrange({host}, Prefer::v4, 25).size(), addresses_max);
    EXPECT_EQ(arrange({host}, Prefer::v4, 25).back().remote, "[2001:db8::10]:25");
}

TEST(MxPlan, DNS_2_ARouteHasACapAndKeepsTheBest) {
    std::vector<MxHost> hosts(100);
    for (std::size_t i = 0; i < hosts.size(); ++i) {
        hosts[i].preference = static_cast<std::uint16_t>(i);
        hosts[i].name = "mx" + std::to_string(i);
        for (std::size_t n = 0; n < 20; ++n)
            hosts[i].v6.push_back(address6(i * 20 + n));
    }
    const auto candidates = arrange(hosts, Prefer::standard, 25);
    ASSERT_EQ(candidates.size(), candidates_max);
    EXPECT_EQ(candidates.back().mx_host, "mx12");
    EXPECT_EQ(candidates.back().level, 12U);
}

TEST(MxPlan, LevelsBeginAtZeroAndHaveNoGapsWhateverIsMissing) {
    Random random(7);
    for (int run = 0; run < 500; ++run) {
        std::vector<MxHost> hosts(random.below(8));
        for (std::size_t i = 0; i < hosts.size(); ++i) {
            hosts[i].preference = static_cast<std::uint16_t>(i / 2);
            for (std::uint64_t n = random.below(3); n > 0; --n)
                hosts[i].v4.push_back(address4(random.below(6)));
            for (std::uint64_t n = random.below(3); n > 0; --n)
                hosts[i].v6.push_back(address6(random.below(6)));
        }
        for (const Prefer prefer : {Prefer::standard, Prefer::v4, Prefer::v6}) {
            std::uint32_t level = 0;
            for (const queue::Candidate& candidate : arrange(hosts, prefer, 25)) {
                ASSERT_TRUE(candidate.level == level || candidate.level == level + 1);
                level = candidate.level;
            }
            if (const auto all = arrange(hosts, prefer, 25); !all.empty()) {
                ASSERT_EQ(all.front().level, 0U);
            }
        }
    }
}

TEST(MxPlan, DNS_4_AddressesThatNoMailHostCanHave) {
    for (const char* text :
         {"127.0.0.1", "10.1.2.3", "0.0.0.0", "192.0.0.1", "198.18.0.1", "198.19.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1",
          "255.255.255.255", "::", "::1", "::2", "::127.0.0.1", "::8.8.8.8", "64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b::e000:1",
          "64:ff9b:1::808:808", "100::1", "2002:a00:1::1", "2002:7f00:1::1", "2002:ffff:ffff::", "fe80::1", "fec0::1", "feff::1", "fc00::1",
          "ff02::1", "ffff::1"}) {
        EXPECT_FALSE(is_mail_host_address(*net::IpAddress::parse(text))) << text;
    }
    for (const char* text :
         {"8.8.8.8", "192.0.1.1", "192.0.2.1", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:db8::1", "64:ff9b::808:808",
          "64:ff9c::a00:1", "100:0:0:1::1", "2002:808:808::1", "2003:a00:1::1", "2a00::1", "fbff::1"}) {
        EXPECT_TRUE(is_mail_host_address(*net::IpAddress::parse(text))) << text;
    }
}

TEST(MxPlan, C5321_16_ALoopbackAddressDoesNotTakeTheOtherHostsWithIt) {
    std::vector<MxHost> hosts(2);
    hosts[0].name = "bad.test";
    hosts[0].v4 = {*net::IpAddress::parse("127.0.0.1")};
    hosts[1].preference = 10;
    hosts[1].v4 = {address4(1)};
    const std::vector<net::IpAddress> ourselves{*net::IpAddress::parse("127.0.0.1")};
    ASSERT_TRUE(remove_unreachable("a.test", hosts, PlanRules{"out.test", ourselves, false}));
    EXPECT_EQ(arrange(hosts, Prefer::standard, 25).size(), 1U);
}

}  // namespace
}  // namespace sluice::dns
