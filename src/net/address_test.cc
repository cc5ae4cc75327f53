#include "net/address.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>

#include <set>
#include <string>

namespace sluice::net {
namespace {

using testing::Contains;

TEST(IpAddress, ParsesAndPrintsTheCanonicalForm) {
    struct Row {
        const char* text;
        const char* canonical;
    };
    const Row rows[] = {
        {"0.0.0.0", "0.0.0.0"},
        {"192.0.2.1", "192.0.2.1"},
        {"255.255.255.255", "255.255.255.255"},
        {"::", "::"},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::FFFF:c000:0201", "192.0.2.1"},
        {"::1", "::1"},
    };
    for (const Row& row : rows) {
        const auto address = IpAddress::parse(row.text);
        ASSERT_TRUE(address) << row.text;
        EXPECT_EQ(address->text(), row.canonical);
    }
}

TEST(IpAddress, PP_4_RefusesWhatIsNotAnAddress) {
    const std::string_view rows[] = {
        "",
        " ",
        "256.0.0.1",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.04",
        "127.1",
        "0x7f.0.0.1",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4/8",
        ":::",
        "1::2::3",
        "12345::",
        "fe80::1%eth0",
        "[::1]",
        "::ffff:256.0.0.1",
        "2001:db8::g",
        "localhost",
        "1.2.3.+4",
        std::string_view("1.2.3.4\0x", 9),
        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"
    };
    for (const std::string_view row : rows)
        EXPECT_FALSE(IpAddress::parse(row)) << row;
}

TEST(IpAddress, MappedAddressesAreTheIpv4AddressTheyName) {
    EXPECT_EQ(IpAddress::parse("::ffff:10.1.2.3"), IpAddress::parse("10.1.2.3"));
    EXPECT_EQ(IpAddress::v4(0x0A010203), IpAddress::parse("10.1.2.3"));
    EXPECT_TRUE(IpAddress::parse("::ffff:10.1.2.3")->is_v4());
}

TEST(IpAddress, KnowsAddressesThatAreNeverMailHosts) {
    for (const char* text :
         {"0.1.2.3", "10.255.0.1", "100.64.0.1", "100.127.255.255", "127.9.9.9", "169.254.1.1", "172.16.0.1",
          "172.31.255.255", "192.168.3.4", "::", "::1", "fc00::1", "fdff::1", "fe80::1", "febf::1",
          "::ffff:10.0.0.1"}) {
        EXPECT_TRUE(IpAddress::parse(text)->is_private()) << text;
    }
    for (const char* text :
         {"1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.167.1.1",
          "2001:db8::1", "fec0::1", "fbff::1", "::2"}) {
        EXPECT_FALSE(IpAddress::parse(text)->is_private()) << text;
    }
    EXPECT_TRUE(IpAddress::parse("::1")->is_loopback());
    EXPECT_FALSE(IpAddress::parse("::2")->is_loopback());
    EXPECT_TRUE(IpAddress().is_unspecified());
}

TEST(Cidr, ContainsExactlyItsNetwork) {
    struct Row {
        const char* network;
        const char* address;
        bool inside;
    };
    const Row rows[] = {
        {"192.0.2.0/24", "192.0.2.255", true},
        {"192.0.2.0/24", "192.0.3.0", false},
        {"192.0.2.77/24", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"::/0", "203.0.113.9", false},
        {"::/0", "2001:db8::1", true},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"::ffff:192.0.2.0/120", "192.0.2.9", true},
        {"::ffff:192.0.2.0/120", "192.0.3.9", false},
        {"10.0.0.0/9", "10.127.0.1", true},
        {"10.0.0.0/9", "10.128.0.1", false},
        {"::1/128", "::1", true},
    };
    for (const Row& row : rows) {
        const auto network = Cidr::parse(row.network);
        ASSERT_TRUE(network) << row.network;
        EXPECT_EQ(network->contains(*IpAddress::parse(row.address)), row.inside)
            << row.network << ' ' << row.address;
    }
}

TEST(Cidr, RefusesBadPrefixes) {
    for (const char* row :
         {"192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/", "192.0.2.0/024", "192.0.2.0/8x", "::/129", "/8",
          "::ffff:1.2.3.4/95", "1.2.3.4/8/8", "host/8"}) {
        EXPECT_FALSE(Cidr::parse(row)) << row;
    }
}

TEST(Endpoint, ParsesAndPrints) {
    struct Row {
        const char* text;
        const char* canonical;
    };
    const Row rows[] = {
        {"192.0.2.1:587", "192.0.2.1:587"},
        {"192.0.2.1", "192.0.2.1:25"},
        {"[2001:db8::1]:465", "[2001:db8::1]:465"},
        {"[::0]", "[::]:25"},
        {"::1", "[::1]:25"},
        {"[::ffff:192.0.2.1]:0", "192.0.2.1:0"},
        {"/run/x.sock", "/run/x.sock"},
    };
    for (const Row& row : rows) {
        const auto endpoint = Endpoint::parse(row.text, 25);
        ASSERT_TRUE(endpoint) << row.text;
        EXPECT_EQ(endpoint->text(), row.canonical);
    }
}

TEST(Endpoint, PP_4_RefusesBadPortsAndHosts) {
    for (const char* row :
         {"", "192.0.2.1:70000", "192.0.2.1:", "192.0.2.1:025", "192.0.2.1:-1", "192.0.2.1:+1", "[::1",
          "[::1]25", "[::1]:x", "[192.0.2.1]:25", "localhost:25", ":25", "::1:99999"}) {
        EXPECT_FALSE(Endpoint::parse(row, 25)) << row;
    }
    EXPECT_FALSE(Endpoint::parse('/' + std::string(107, 'x'), 25));
    EXPECT_TRUE(Endpoint::parse('/' + std::string(106, 'x'), 25));
}

TEST(LocalAddresses, ContainLoopback) {
    EXPECT_THAT(local_addresses(), Contains(*IpAddress::parse("127.0.0.1")));
}

TEST(LocalAddresses, AreThoseThatTheSystemLists) {
    ifaddrs* list = nullptr;
    ASSERT_EQ(getifaddrs(&list), 0);
    std::set<std::string> expected, found;
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
        char text[INET6_ADDRSTRLEN] = {};
        if (entry->ifa_addr == nullptr) continue;
        if (entry->ifa_addr->sa_family == AF_INET) {
            inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(entry->ifa_addr)->sin_addr, text, sizeof text);
        } else if (entry->ifa_addr->sa_family == AF_INET6) {
            inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6*>(entry->ifa_addr)->sin6_addr, text, sizeof text);
        } else {
            continue;
        }
        expected.insert(IpAddress::parse(text)->text());
    }
    freeifaddrs(list);
    for (const IpAddress& address : local_addresses()) found.insert(address.text());
    EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace sluice::net
