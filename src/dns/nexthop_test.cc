#include "dns/nexthop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::dns {
namespace {

using testing::HasSubstr;

std::string shown(const Nexthop& nexthop) {
    const std::string where = nexthop.address ? nexthop.address->text() : nexthop.host + nexthop.path;
    const queue::Transport& t = nexthop.transport;
    return std::string(t.lmtp ? "lmtp " : "smtp ") + t.auth_user + ":" + t.auth_password + "@" + where + " " +
           std::to_string(nexthop.port);
}

TEST(Nexthop, IsReadInEveryFormThatHaraka45Knows) {
    const std::vector<std::pair<std::string, std::string>> table{
        {"mx.example.test", "smtp :@mx.example.test 25"},
        {"MX.Example.test.", "smtp :@mx.example.test 25"},
        {"bücher.test", "smtp :@xn--bcher-kva.test 25"},
        {"mx.example.test:2525", "smtp :@mx.example.test 2525"},
        {"192.0.2.1", "smtp :@192.0.2.1 25"},
        {"192.0.2.1:26", "smtp :@192.0.2.1 26"},
        {"2001:db8::1", "smtp :@2001:db8::1 25"},
        {"[2001:db8::1]", "smtp :@2001:db8::1 25"},
        {"[2001:db8::1]:26", "smtp :@2001:db8::1 26"},
        {"smtp://relay.test", "smtp :@relay.test 25"},
        {"SMTP://u:p@relay.test:587/", "smtp u:p@relay.test 587"},
        {"smtp://u%40d:a:b%2Fc@[2001:db8::1]:587", "smtp u@d:a:b/c@2001:db8::1 587"},
        {"smtp://u:p@w@relay.test", "smtp u:p@w@relay.test 25"},
        {"smtp://u:100%@relay.test", "smtp u:100%@relay.test 25"},
        {"lmtp://127.0.0.1", "lmtp :@127.0.0.1 24"},
        {"lmtp://127.0.0.1:2424", "lmtp :@127.0.0.1 2424"},
        {"lmtp:///run/dovecot/lmtp", "lmtp :@/run/dovecot/lmtp 25"},
        {" /run/dovecot/lmtp ", "lmtp :@/run/dovecot/lmtp 25"},
    };
    for (const auto& [text, meaning] : table) {
        const auto nexthop = parse_nexthop(text);
        ASSERT_TRUE(nexthop) << text << ": " << nexthop.error().text();
        EXPECT_EQ(shown(*nexthop), meaning) << text;
        EXPECT_FALSE(nexthop->transport.from_dns) << text;
    }
}

TEST(Nexthop, IsRefusedWithoutShowingCredentials) {
    for (const char* text :
         {"", "/", "host:", "host:0", "host:65536", "host:25x", "[2001:db8::1", "[x]", "[::1]x",
          "[::1]:", "http://host", "smtp://", "smtp://user:secret@", "smtp://user:secret@host:x", "-a.test",
          "a b", "smtp://user:secret@host/path", "[IPv6:::1]", "lmtp://user:secret@host:25"}) {
        const auto nexthop = parse_nexthop(text);
        ASSERT_FALSE(nexthop) << text;
        EXPECT_EQ(nexthop.error().code, Errc::config) << text;
        EXPECT_THAT(nexthop.error().detail, testing::Not(HasSubstr("secret"))) << text;
    }
}

}  // namespace
}  // namespace sluice::dns
