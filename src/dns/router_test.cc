#include "dns/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <map>

#include "async/blocking.h"
#include "async/task_group.h"
#include "base/text.h"

namespace sluice::dns {
namespace {

using config::OutboundSettings;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using Prefer = OutboundSettings::InetPrefer;

using Addresses = Result<Answer<std::vector<net::IpAddress>>>;

// DNS as a table. A name of which anything is known exists; all others do not.
class FakeResolver final : public Resolver {
public:
    void mx(const std::string& domain, std::vector<MxRecord> records, seconds ttl = seconds(300)) {
        mx_[domain] = Answer<std::vector<MxRecord>>{std::move(records), ttl};
    }
    void host(
        const std::string& name, const std::vector<std::string>& addresses, seconds ttl = seconds(300)
    ) {
        known_[name];
        for (const std::string& text : addresses) {
            const auto address = net::IpAddress::parse(text);
            auto& answer = (text.find(':') == std::string::npos ? a_ : aaaa_)[name];
            if (!answer) answer = Answer<std::vector<net::IpAddress>>{{}, ttl};
            answer->value().records.push_back(*address);
        }
    }
    void exists(const std::string& name) { known_[name]; }
    void mx_fails(const std::string& domain, Errc code) { mx_[domain] = fail(code, domain + " MX: broken"); }
    void a_fails(const std::string& name, Errc code) { a_[name] = fail(code, name + " A: broken"); }
    void aaaa_fails(const std::string& name, Errc code) { aaaa_[name] = fail(code, name + " AAAA: broken"); }

    Task<Result<Answer<std::vector<MxRecord>>>> mx(std::string domain) override {
        asked.push_back(domain + " MX");
        co_return look_up(mx_, domain);
    }
    Task<Addresses> a(std::string name) override { return address(a_, name, " A"); }
    Task<Addresses> aaaa(std::string name) override { return address(aaaa_, name, " AAAA"); }
    void configure(const config::DnsSettings&) override {}
    Task<> close() override { co_return; }

    std::vector<std::string> asked;
    std::size_t most_at_once = 0;

private:
    template <class Table>
    typename Table::mapped_type::value_type look_up(const Table& table, const std::string& name) const {
        const auto found = table.find(name);
        if (found != table.end()) return *found->second;
        const bool known =
            known_.contains(name) || mx_.contains(name) || a_.contains(name) || aaaa_.contains(name);
        return fail(known ? Errc::dns_no_data : Errc::dns_no_domain, name);
    }
    template <class Table>
    Task<Addresses> address(const Table& table, std::string name, const char* type) {
        asked.push_back(name + type);
        most_at_once = std::max(most_at_once, ++at_once_);
        co_await async::sleep_for(std::chrono::milliseconds(1));
        --at_once_;
        co_return look_up(table, name);
    }

    std::map<std::string, std::optional<Result<Answer<std::vector<MxRecord>>>>> mx_;
    std::map<std::string, std::optional<Addresses>> a_, aaaa_;
    std::map<std::string, bool> known_;
    std::size_t at_once_ = 0;
};

Task<> resolve_into(Router& router, std::string key, std::optional<Result<queue::RoutePtr>>& out) {
    out = co_await router.resolve(std::move(key));
}

// One host "out.test" with the addresses 198.51.100.1 and 2001:db8::51, and the loopback.
class RouterTest : public testing::Test {
protected:
    RouterTest() {
        settings.me = "out.test";
        settings.outbound.smtp_port = 25;
    }

    Result<queue::RoutePtr> resolve(const std::string& key) {
        Router router(
            dns, clock, std::make_shared<const config::Settings>(settings),
            {*net::IpAddress::parse("127.0.0.1"), *net::IpAddress::parse("::1"),
             *net::IpAddress::parse("198.51.100.1"), *net::IpAddress::parse("2001:db8::51")}
        );
        boost::asio::io_context loop;
        async::TaskGroup tasks(loop.get_executor());
        std::optional<Result<queue::RoutePtr>> out;
        tasks.spawn(resolve_into(router, key, out));
        loop.run();
        return *out;
    }

    // "level host remote" of every candidate, or the name of the error.
    std::vector<std::string> candidates(const std::string& key) {
        const auto route = resolve(key);
        if (!route) return {name_of(route.error().code)};
        EXPECT_EQ((*route)->key, key);
        std::vector<std::string> lines;
        for (const queue::Candidate& candidate : (*route)->candidates) {
            lines.push_back(
                std::to_string(candidate.level) + " " + candidate.mx_host + " " + candidate.remote
            );
        }
        return lines;
    }
    std::string error_of(const std::string& key) {
        const auto route = resolve(key);
        return route ? "no error" : name_of(route.error().code);
    }
    void rule(const std::string& domain, const std::string& nexthop) {
        settings.relay.domains[domain] = config::DestinationRule{"", nexthop};
    }

    FakeResolver dns;
    ManualClock clock{instant_from_ms(1'000'000)};
    config::Settings settings;
};

// ---- the MX plan
// ------------------------------------------------------------------------------------------------

TEST_F(RouterTest, C5321_14_LowestPreferenceFirstAndEqualOnesShareALevel) {
    dns.mx("a.test", {{20, "c.a.test"}, {10, "b.a.test"}, {10, "a.a.test"}});
    dns.host("a.a.test", {"192.0.2.1"});
    dns.host("b.a.test", {"192.0.2.2"});
    dns.host("c.a.test", {"192.0.2.3"});
    EXPECT_THAT(
        candidates("a.test"),
        ElementsAre("0 a.a.test 192.0.2.1:25", "0 b.a.test 192.0.2.2:25", "1 c.a.test 192.0.2.3:25")
    );
    EXPECT_TRUE((*resolve("a.test"))->transport.from_dns);
}

TEST_F(RouterTest, C5321_15_WithoutMxTheDomainItselfTakesMail) {
    dns.host("a.test", {"192.0.2.1", "2001:db8::1"});
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 a.test [2001:db8::1]:25", "0 a.test 192.0.2.1:25"));
}

TEST_F(RouterTest, C5321_15_DenialsAndTroubleAreToldApart) {
    dns.exists("empty.test");
    dns.mx_fails("servfail.test", Errc::dns_temporary);
    dns.host("servfail.test", {"192.0.2.1"});
    dns.a_fails("half.test", Errc::dns_temporary);
    EXPECT_EQ(error_of("gone.test"), "dns_no_domain");
    EXPECT_EQ(error_of("empty.test"), "dns_no_data");
    EXPECT_EQ(error_of("servfail.test"), "dns_temporary");
    EXPECT_EQ(error_of("half.test"), "dns_temporary");
}

TEST_F(RouterTest, C5321_15_TroubleWithMxNeverFallsBackToAddresses) {
    dns.mx_fails("a.test", Errc::dns_temporary);
    dns.host("a.test", {"192.0.2.1"});
    EXPECT_EQ(error_of("a.test"), "dns_temporary");
    EXPECT_THAT(dns.asked, ElementsAre("a.test MX"));
}

TEST_F(RouterTest, NX_1_NullMxIsRefusedWithoutAnAddressQuestion) {
    dns.mx("a.test", {{0, ""}});
    dns.host("a.test", {"192.0.2.1"});
    EXPECT_EQ(error_of("a.test"), "null_mx");
    EXPECT_THAT(dns.asked, ElementsAre("a.test MX"));
}

TEST_F(RouterTest, NX_2_NullMxOfAnyPreferenceAndAmongOthers) {
    dns.mx("lone.test", {{10, ""}});
    dns.mx("twice.test", {{0, ""}, {10, ""}});
    dns.mx("mixed.test", {{0, ""}, {10, "mx.test"}});
    dns.host("mx.test", {"192.0.2.1"});
    EXPECT_EQ(error_of("lone.test"), "null_mx");
    EXPECT_EQ(error_of("twice.test"), "null_mx");
    EXPECT_THAT(candidates("mixed.test"), ElementsAre("0 mx.test 192.0.2.1:25"));
}

TEST_F(RouterTest, C5321_16_OurNameAndEverythingNotBetterIsDropped) {
    dns.mx("a.test", {{5, "best.test"}, {10, "OUT.test"}, {10, "equal.test"}, {20, "worse.test"}});
    for (const char* name : {"best.test", "equal.test", "worse.test"})
        dns.host(name, {"192.0.2.1"});
    dns.host("OUT.test", {"192.0.2.9"});
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 best.test 192.0.2.1:25"));
}

TEST_F(RouterTest, C5321_16_OurAddressUnderAnotherName) {
    dns.mx("a.test", {{10, "alias.test"}, {20, "worse.test"}});
    dns.host("alias.test", {"192.0.2.7", "2001:db8::51"});
    dns.host("worse.test", {"192.0.2.1"});
    const auto route = resolve("a.test");
    ASSERT_FALSE(route);
    EXPECT_EQ(route.error().code, Errc::mail_loop);
    EXPECT_THAT(route.error().detail, HasSubstr("alias.test is this host"));
}

TEST_F(RouterTest, C5321_16_PublicAddressBehindTranslation) {
    settings.smtp.public_ip = "203.0.113.5";
    dns.mx("a.test", {{10, "alias.test"}});
    dns.host("alias.test", {"203.0.113.5"});
    EXPECT_EQ(error_of("a.test"), "mail_loop");
}

TEST_F(RouterTest, C5321_16_ABetterHostInTroubleIsNoLoop) {
    dns.mx("a.test", {{5, "best.test"}, {10, "out.test"}});
    dns.a_fails("best.test", Errc::dns_temporary);
    EXPECT_EQ(error_of("a.test"), "dns_temporary");
}

TEST_F(RouterTest, C5321_16_OwnAddressesAreFineWhereLocalMxIsOk) {
    settings.outbound.local_mx_ok = true;
    settings.outbound.smtp_port = 2525;
    dns.mx("a.test", {{10, "alias.test"}});
    dns.host("alias.test", {"198.51.100.1", "127.0.0.1"});
    EXPECT_THAT(
        candidates("a.test"), ElementsAre("0 alias.test 198.51.100.1:2525", "0 alias.test 127.0.0.1:2525")
    );
}

TEST_F(RouterTest, C5321_17_TargetThatLooksLikeAnAddressIsAHostName) {
    dns.mx("a.test", {{10, "192.0.2.1"}});
    EXPECT_EQ(error_of("a.test"), "not_found");
    EXPECT_THAT(dns.asked, testing::Contains("192.0.2.1 A"));
}

// ---- addresses
// --------------------------------------------------------------------------------------------------

TEST_F(RouterTest, DNS_4_LocalAddressesAreNotContacted) {
    const std::vector<std::string> local{
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "192.168.1.1",      "169.254.1.1",
        "::1",       "::",        "fe80::1", "fc00::1",  "::ffff:127.0.0.1", "100.64.0.1",
        "224.0.0.1", "ff02::1",   "fec0::1", "::10.0.0.1", "64:ff9b::a00:1"
    };
    for (const std::string& address : local) {
        dns = FakeResolver();
        dns.mx("a.test", {{10, "bad.test"}, {20, "good.test"}});
        dns.host("bad.test", {address});
        dns.host("good.test", {"192.0.2.1"});
        EXPECT_THAT(candidates("a.test"), ElementsAre("0 good.test 192.0.2.1:25")) << address;
    }
}

TEST_F(RouterTest, DNS_4_OnlyLocalAddressesGiveAClearError) {
    dns.mx("private.test", {{10, "ten.test"}});
    dns.host("ten.test", {"10.1.2.3"});
    dns.host("localhost", {"127.0.0.1", "::1"});
    const auto route = resolve("private.test");
    ASSERT_FALSE(route);
    EXPECT_EQ(route.error().code, Errc::not_found);
    EXPECT_THAT(route.error().detail, HasSubstr("local_mx_ok"));
    EXPECT_EQ(error_of("localhost"), "mail_loop");
    EXPECT_EQ(error_of("[IPv6:64:ff9b::a00:1]"), "not_found");
    EXPECT_EQ(error_of("[224.0.0.1]"), "not_found");
}

TEST_F(RouterTest, DNS_4_NamesWithoutAddressesAreSkipped) {
    dns.mx("a.test", {{10, "nothing.test"}, {10, "gone.test"}, {20, "good.test"}});
    dns.exists("nothing.test");
    dns.host("good.test", {"192.0.2.1"});
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 good.test 192.0.2.1:25"));
    dns.mx("b.test", {{10, "nothing.test"}, {10, "gone.test"}});
    EXPECT_EQ(error_of("b.test"), "not_found");
}

TEST_F(RouterTest, DNS_6_OneHostInTroubleDoesNotLoseTheOthersAndIsAskedAgainSoon) {
    dns.mx("a.test", {{10, "sick.test"}, {20, "good.test"}}, seconds(3000));
    dns.a_fails("sick.test", Errc::dns_temporary);
    dns.host("good.test", {"192.0.2.1"}, seconds(3000));
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 good.test 192.0.2.1:25"));
    EXPECT_EQ((*resolve("a.test"))->expires, clock.now() + seconds(60));
}

TEST_F(RouterTest, DNS_6_AllHostsInTroubleIsTemporary) {
    dns.mx("a.test", {{10, "gone.test"}, {20, "sick.test"}});
    dns.aaaa_fails("sick.test", Errc::dns_temporary);
    const auto route = resolve("a.test");
    ASSERT_FALSE(route);
    EXPECT_EQ(route.error().code, Errc::dns_temporary);
    EXPECT_EQ(route.error().detail, "sick.test AAAA: broken");
}

TEST_F(RouterTest, CancellationIsNotADnsError) {
    dns.mx("a.test", {{10, "mx.test"}});
    dns.host("mx.test", {"2001:db8::1"});
    dns.a_fails("mx.test", Errc::cancelled);
    EXPECT_EQ(error_of("a.test"), "cancelled");
}

TEST_F(RouterTest, DNS_2_HostileCountsAreCapped) {
    std::vector<MxRecord> records;
    std::vector<std::string> addresses;
    for (int i = 0; i < 1000; ++i)
        addresses.push_back("192.0." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1));
    for (int i = 5000; i > 0; --i)
        records.push_back({static_cast<std::uint16_t>(i), "mx" + std::to_string(i) + ".test"});
    dns.mx("many.test", records);
    dns.mx("wide.test", {{10, "wide.test"}});
    dns.host("wide.test", addresses);
    for (int i = 1; i <= 5000; ++i) {
        dns.host(
            "mx" + std::to_string(i) + ".test",
            {"203.0." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1)}
        );
    }
    EXPECT_EQ((*resolve("many.test"))->candidates.size(), mx_records_max);
    EXPECT_EQ(dns.asked.size(), 1 + 2 * mx_records_max);
    EXPECT_EQ((*resolve("wide.test"))->candidates.size(), addresses_max);
    EXPECT_EQ((*resolve("many.test"))->candidates.front().mx_host, "mx1.test");
}

TEST_F(RouterTest, AddressesOfAllHostsAreAskedInParallel) {
    dns.mx("a.test", {{10, "mx1.test"}, {20, "mx2.test"}});
    dns.host("mx1.test", {"192.0.2.1"});
    dns.host("mx2.test", {"192.0.2.2"});
    ASSERT_TRUE(resolve("a.test"));
    EXPECT_EQ(dns.most_at_once, 4U);
}

TEST_F(RouterTest, TheSameAddressIsOneCandidate) {
    dns.mx("a.test", {{10, "mx1.test"}, {20, "mx2.test"}});
    dns.host("mx1.test", {"192.0.2.1"});
    dns.host("mx2.test", {"192.0.2.1", "192.0.2.2"});
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 mx1.test 192.0.2.1:25", "1 mx2.test 192.0.2.2:25"));
}

TEST_F(RouterTest, InetPreferOrdersFamiliesWithinAPreferenceOnly) {
    dns.mx("a.test", {{10, "m.test"}, {10, "n.test"}, {20, "o.test"}});
    dns.host("m.test", {"192.0.2.1", "192.0.2.2", "2001:db8::1"});
    dns.host("n.test", {"192.0.2.3", "2001:db8::3"});
    dns.host("o.test", {"192.0.2.4", "2001:db8::4"});
    EXPECT_THAT(
        candidates("a.test"),
        ElementsAre(
            "0 m.test [2001:db8::1]:25", "0 m.test 192.0.2.1:25", "0 m.test 192.0.2.2:25",
            "0 n.test [2001:db8::3]:25", "0 n.test 192.0.2.3:25", "1 o.test [2001:db8::4]:25",
            "1 o.test 192.0.2.4:25"
        )
    );
    settings.outbound.inet_prefer = Prefer::v4;
    EXPECT_THAT(
        candidates("a.test"), ElementsAre(
                                  "0 m.test 192.0.2.1:25", "0 m.test 192.0.2.2:25", "0 n.test 192.0.2.3:25",
                                  "1 m.test [2001:db8::1]:25", "1 n.test [2001:db8::3]:25",
                                  "2 o.test 192.0.2.4:25", "3 o.test [2001:db8::4]:25"
                              )
    );
    settings.outbound.inet_prefer = Prefer::v6;
    EXPECT_EQ(candidates("a.test").front(), "0 m.test [2001:db8::1]:25");
    EXPECT_EQ(candidates("a.test").back(), "3 o.test 192.0.2.4:25");
}

// ---- time and hash
// ----------------------------------------------------------------------------------------------

TEST_F(RouterTest, DNS_5_RoutesLiveAsLongAsTheirShortestAnswerWithinTheSettings) {
    settings.dns.cache_ttl_min = seconds(2);
    settings.dns.cache_ttl_max = seconds(1000);
    dns.mx("short.test", {{10, "mx.test"}}, seconds(500));
    dns.host("mx.test", {"192.0.2.1"}, seconds(30));
    dns.mx("zero.test", {{10, "mx.test"}}, seconds(0));
    dns.mx("long.test", {{10, "mx-long.test"}}, seconds(2'147'483'647));
    dns.host("mx-long.test", {"192.0.2.1"}, seconds(2'147'483'647));
    EXPECT_EQ((*resolve("short.test"))->expires, clock.now() + seconds(30));
    EXPECT_EQ((*resolve("zero.test"))->expires, clock.now() + seconds(2));
    EXPECT_EQ((*resolve("long.test"))->expires, clock.now() + seconds(1000));
    settings.dns.cache_ttl_min = settings.dns.cache_ttl_max = seconds(0);
    EXPECT_EQ((*resolve("zero.test"))->expires, clock.now() + seconds(1));
}

TEST_F(RouterTest, TheHashFollowsTheAddressesAndNothingElse) {
    dns.mx("a.test", {{10, "mx.test"}});
    dns.mx("b.test", {{30, "other.test"}});
    dns.mx("c.test", {{30, "third.test"}});
    dns.host("mx.test", {"192.0.2.1"});
    dns.host("other.test", {"192.0.2.1"});
    dns.host("third.test", {"192.0.2.2"});
    const std::uint32_t hash = (*resolve("a.test"))->mx_hash;
    EXPECT_EQ(hash, 0xDBC24C2DU);  // of "192.0.2.1:25\n"
    EXPECT_EQ((*resolve("b.test"))->mx_hash, hash);
    EXPECT_NE((*resolve("c.test"))->mx_hash, hash);
}

// ---- literals and static routes
// ---------------------------------------------------------------------------------

TEST_F(RouterTest, AddressLiteralsNeedNoDns) {
    EXPECT_THAT(candidates("[192.0.2.1]"), ElementsAre("0 192.0.2.1 192.0.2.1:25"));
    EXPECT_THAT(candidates("[IPv6:2001:db8::1]"), ElementsAre("0 2001:db8::1 [2001:db8::1]:25"));
    EXPECT_EQ(error_of("[127.0.0.1]"), "mail_loop");
    EXPECT_EQ(error_of("[198.51.100.1]"), "mail_loop");
    EXPECT_EQ(error_of("[10.0.0.1]"), "not_found");
    EXPECT_EQ(error_of("[IPv6:::ffff:127.0.0.1]"), "mail_loop");
    for (const char* bad :
         {"[]", "[", "[192.0.2]", "[2001:db8::1]", "[IPv6:192.0.2.1]", "[192.0.2.1", "[x]"}) {
        EXPECT_EQ(error_of(bad), "bad_input") << bad;
    }
    EXPECT_TRUE(dns.asked.empty());
}

TEST_F(RouterTest, AStaticRouteMayBeLocalAndNeedsNoMx) {
    rule("a.test", "127.0.0.1:2526");
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 127.0.0.1 127.0.0.1:2526"));
    EXPECT_FALSE((*resolve("a.test"))->transport.from_dns);
    EXPECT_TRUE(dns.asked.empty());
}

TEST_F(RouterTest, AStaticRouteByNameAsksForItsAddresses) {
    rule("a.test", "smtp://user:p%40ss@relay.test:587");
    dns.mx("relay.test", {{10, "elsewhere.test"}});
    dns.host("relay.test", {"10.0.0.1", "2001:db8::9"}, seconds(77));
    EXPECT_THAT(
        candidates("a.test"), ElementsAre("0 relay.test [2001:db8::9]:587", "0 relay.test 10.0.0.1:587")
    );
    const auto route = resolve("a.test");
    EXPECT_EQ((*route)->transport.auth_user, "user");
    EXPECT_EQ((*route)->transport.auth_password, "p@ss");
    EXPECT_EQ((*route)->expires, clock.now() + seconds(77));
    EXPECT_THAT(dns.asked, testing::Not(testing::Contains("relay.test MX")));
}

TEST_F(RouterTest, AStaticRouteToASocketSpeaksLmtp) {
    rule("a.test", "/run/lmtp.sock");
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 /run/lmtp.sock /run/lmtp.sock"));
    EXPECT_TRUE((*resolve("a.test"))->transport.lmtp);
}

TEST_F(RouterTest, LocalhostAsNexthopIsThisMachine) {
    rule("a.test", "lmtp://localhost");
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 localhost [::1]:24", "0 localhost 127.0.0.1:24"));
}

TEST_F(RouterTest, AMissingNexthopIsNotFinalForTheMail) {
    rule("gone.test", "nowhere.test");
    rule("sick.test", "sick-relay.test");
    rule("bad.test", "smtp://relay.test:0");
    dns.a_fails("sick-relay.test", Errc::dns_temporary);
    EXPECT_EQ(error_of("gone.test"), "not_found");
    EXPECT_EQ(error_of("sick.test"), "dns_temporary");
    EXPECT_EQ(error_of("bad.test"), "config");
}

TEST_F(RouterTest, AnyCatchesWhatHasNoRuleOfItsOwn) {
    settings.relay.any = config::DestinationRule{"", "192.0.2.77"};
    rule("a.test", "192.0.2.78:26");
    rule("dns.test", "");
    dns.host("dns.test", {"192.0.2.79"});
    EXPECT_THAT(candidates("other.test"), ElementsAre("0 192.0.2.77 192.0.2.77:25"));
    EXPECT_THAT(candidates("[192.0.2.1]"), ElementsAre("0 192.0.2.77 192.0.2.77:25"));
    EXPECT_THAT(candidates("a.test"), ElementsAre("0 192.0.2.78 192.0.2.78:26"));
    EXPECT_THAT(candidates("dns.test"), ElementsAre("0 dns.test 192.0.2.79:25"));
}

// ---- hosts that a plugin names

Task<> to_hosts_into(
    Router& router, std::vector<Nexthop> hosts, std::optional<Result<queue::RoutePtr>>& out
) {
    out = co_await router.to_hosts("key.test", std::move(hosts));
}

TEST_F(RouterTest, HostsOfAPluginKeepTheirOrderAndMayBeLocal) {
    dns.host("b.test", {"192.0.2.1"}, seconds(40));
    dns.host("a.test", {"2001:db8::1", "192.0.2.2"});
    dns.exists("nowhere.test");
    Router router(dns, clock, std::make_shared<const config::Settings>(settings), {});
    const auto route_to = [&](const std::vector<std::string>& texts) {
        std::vector<Nexthop> hosts;
        for (const std::string& text : texts)
            hosts.push_back(*parse_nexthop(text));
        boost::asio::io_context loop;
        async::TaskGroup tasks(loop.get_executor());
        std::optional<Result<queue::RoutePtr>> out;
        tasks.spawn(to_hosts_into(router, std::move(hosts), out));
        loop.run();
        return *out;
    };
    const auto route = route_to({"b.test:26", "nowhere.test", "a.test", "127.0.0.1:2525"});
    ASSERT_TRUE(route);
    std::vector<std::string> lines;
    for (const queue::Candidate& candidate : (*route)->candidates) {
        lines.push_back(std::to_string(candidate.level) + " " + candidate.remote);
    }
    EXPECT_THAT(
        lines, ElementsAre("0 192.0.2.1:26", "1 [2001:db8::1]:25", "1 192.0.2.2:25", "2 127.0.0.1:2525")
    );
    EXPECT_EQ((*route)->key, "key.test");
    EXPECT_EQ((*route)->expires - clock.now(), seconds(40));
    EXPECT_FALSE((*route)->transport.from_dns);

    EXPECT_EQ((*route_to({"lmtp:///run/socket"}))->candidates.front().remote, "/run/socket");
    EXPECT_FALSE(route_to({"nowhere.test", "gone.test"}));
}

}  // namespace
}  // namespace sluice::dns
