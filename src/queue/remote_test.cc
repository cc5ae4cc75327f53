#include "queue/remote.h"

#include <gtest/gtest.h>

namespace sluice::queue {
namespace {

TEST(Remote, IsTakenApart) {
    const struct {
        const char* remote;
        Family family;
        const char *ip, *address, *port;
    } rows[] = {
        {"192.0.2.1:25", Family::ipv4, "192.0.2.1", "192.0.2.1", "25"},
        {"192.0.2.1", Family::ipv4, "192.0.2.1", "192.0.2.1", ""},
        {"[2001:db8::1]:2525", Family::ipv6, "2001:db8::1", "2001:db8::1", "2525"},
        {"/run/a:b", Family::local, "", "/run/a:b", ""},
        {"", Family::ipv4, "", "", ""},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(family_of(row.remote), row.family) << row.remote;
        EXPECT_EQ(ip_of(row.remote), row.ip) << row.remote;
        EXPECT_EQ(address_of(row.remote), row.address) << row.remote;
        EXPECT_EQ(port_of(row.remote), row.port) << row.remote;
    }
}

}  // namespace
}  // namespace sluice::queue
