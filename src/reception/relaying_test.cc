#include "reception/relaying.h"

#include <gtest/gtest.h>

#include "reception/census.h"
#include "reception/reception_test_support.h"

namespace sluice::reception {
namespace {

mail::Address address(std::string local, std::string domain) { return {std::move(local), std::move(domain)}; }

TEST(Relaying, OrganisationalDomain) {
    const std::pair<const char*, const char*> cases[] = {
        {"example.com", "example.com"},       {"a.b.Example.COM", "example.com"}, {"example.co.uk", "example.co.uk"},
        {"mail.example.co.uk", "example.co.uk"}, {"co.uk", "co.uk"},              {"mail.example.de", "example.de"},
        {"localhost", "localhost"},
    };
    for (const auto& [domain, expected] : cases) EXPECT_EQ(organisational_domain(domain), expected) << domain;
}

TEST(Relaying, SU_3_OwnsSender) {
    config::Settings settings = test_settings();
    EXPECT_TRUE(owns_sender(settings, "joe@mail.sender.test", address("any", "sender.test")));
    EXPECT_FALSE(owns_sender(settings, "joe@sender.test", address("joe", "other.test")));
    EXPECT_FALSE(owns_sender(settings, "joe@sender.test", address("joe", "sender.test.evil.test")));
    EXPECT_TRUE(owns_sender(settings, "joe", address("any", "other.test")));
    EXPECT_TRUE(owns_sender(settings, "joe@sender.test", address("", "")));

    settings.auth.constrain_sender = false;
    EXPECT_TRUE(owns_sender(settings, "joe@sender.test", address("joe", "other.test")));

    settings.connection.constrain_sender_addresses = true;
    EXPECT_TRUE(owns_sender(settings, "joe@sender.test", address("Joe", "Sender.test")));
    EXPECT_FALSE(owns_sender(settings, "joe@sender.test", address("jim", "sender.test")));
    EXPECT_FALSE(owns_sender(settings, "joe", address("joe", "sender.test")));
}

TEST(Rules, NamesTheFileOfABadRange) {
    config::Settings settings = test_settings();
    settings.relay.acl_allow = {"192.0.2.0/33"};
    const auto rules = make_rules(std::make_shared<const config::Settings>(settings));
    ASSERT_FALSE(rules);
    EXPECT_EQ(rules.error().code, Errc::config);
    EXPECT_EQ(rules.error().detail, "relay_acl_allow: '192.0.2.0/33' is no address or CIDR range");
}

TEST(Census, CountsTheHouseAndEveryClient) {
    using Admission = Census::Admission;
    const net::IpAddress one = net::IpAddress::v4(0x7F000001);
    const net::IpAddress two = net::IpAddress::v4(0x7F000002);
    Census census;
    EXPECT_EQ(census.enter(one, 3, 2), Admission::admitted);
    EXPECT_EQ(census.enter(one, 3, 2), Admission::admitted);
    EXPECT_EQ(census.enter(one, 3, 2), Admission::too_many_of_client);
    EXPECT_EQ(census.enter(two, 3, 2), Admission::admitted);
    EXPECT_EQ(census.enter(two, 3, 2), Admission::too_many);
    census.leave(one);
    EXPECT_EQ(census.enter(two, 3, 2), Admission::admitted);
    EXPECT_EQ(census.total(), 3U);
}

}  // namespace
}  // namespace sluice::reception
