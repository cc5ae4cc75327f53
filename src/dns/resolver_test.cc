// The resolver against a server that misbehaves on purpose: a UDP responder which answers by script.

#include "dns/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/ip/udp.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>

#include "base/clock.h"
#include "dns/dns_test_support.h"

namespace sluice::dns {
namespace {

using namespace std::string_literals;
using namespace std::chrono_literals;
using boost::asio::ip::udp;
using testing::HasSubstr;

constexpr std::size_t header_octets = 12;

std::size_t question_end(const std::string& query) {
    std::size_t at = header_octets;
    while (at < query.size() && query[at] != 0)
        at += 1 + static_cast<std::size_t>(query[at]);
    return at + 5;
}

// The reply to `query` with this response code and these answer records.
std::string reply(const std::string& query, int rcode, int answer_count, const std::string& records) {
    std::string out = query.substr(0, question_end(query));
    out[2] = static_cast<char>(0x85);  // response, authoritative, recursion desired
    out[3] = static_cast<char>(0x80 | rcode);
    out[6] = static_cast<char>(answer_count >> 8);
    out[7] = static_cast<char>(answer_count);
    for (const std::size_t at : {8U, 9U, 10U, 11U})
        out[at] = 0;
    return out + records;
}

std::string a_record(std::uint32_t ttl) {
    std::string out = "\xC0\x0C\0\1\0\1"s;
    for (const int shift : {24, 16, 8, 0})
        out += static_cast<char>(ttl >> shift);
    return out + "\0\4\xC0\0\2\1"s;
}

// Answers every query with what the script makes of it; an empty answer is silence. Has its own thread.
class ScriptedServer {
public:
    using Script = std::function<std::string(const std::string& query)>;

    explicit ScriptedServer(Script script) : script_(std::move(script)) {
        receive();
        shard_.start();
    }
    ~ScriptedServer() {
        shard_.post([this] { socket_.close(); });
        shard_.stop();
    }
    config::DnsSettings settings() const {
        config::DnsSettings settings;
        settings.servers = {"127.0.0.1:" + std::to_string(port_)};
        settings.timeout = 20s;
        return settings;
    }
    // How often this name was asked for, by its first label.
    int asked(const std::string& label) {
        const std::scoped_lock lock(mutex_);
        return asked_[label];
    }

private:
    void receive() {
        socket_.async_receive_from(
            boost::asio::buffer(buffer_), peer_,
            [this](const boost::system::error_code& error, std::size_t size) {
                if (error) return;
                answer(std::string(buffer_.data(), size));
                receive();
            }
        );
    }
    void answer(const std::string& query) {
        if (query.size() <= header_octets) return;
        {
            const std::scoped_lock lock(mutex_);
            ++asked_[query.substr(header_octets + 1, static_cast<std::size_t>(query[header_octets]))];
        }
        const std::string out = script_(query);
        if (!out.empty()) socket_.send_to(boost::asio::buffer(out), peer_);
    }

    Script script_;
    async::Shard shard_{"dns-script"};
    udp::socket socket_{shard_.loop(), udp::endpoint(boost::asio::ip::address_v4::loopback(), 0)};
    std::uint16_t port_ = socket_.local_endpoint().port();
    udp::endpoint peer_;
    std::array<char, 4096> buffer_{};
    std::mutex mutex_;
    std::map<std::string, int> asked_;
};

ScriptedServer::Script always(int rcode) {
    return [rcode](const std::string& query) { return reply(query, rcode, 0, ""); };
}
ScriptedServer::Script one_address(std::uint32_t ttl) {
    return [ttl](const std::string& query) { return reply(query, 0, 1, a_record(ttl)); };
}

TEST(Resolver, DNS_6_FailureCodesAreTemporaryAndNamed) {
    for (const int rcode : {2, 4, 5}) {
        ScriptedServer server(always(rcode));
        TestResolver dns(server.settings());
        const auto answer = dns.mx("a.example");
        ASSERT_FALSE(answer) << rcode;
        EXPECT_EQ(answer.error().code, Errc::dns_temporary) << rcode;
        EXPECT_THAT(answer.error().detail, HasSubstr("a.example MX")) << rcode;
    }
}

TEST(Resolver, DNS_6_SilenceIsTemporaryAtTheDeadline) {
    ScriptedServer server([](const std::string&) { return std::string(); });
    config::DnsSettings settings = server.settings();
    settings.timeout = 150ms;
    settings.tries = 2;
    TestResolver dns(settings);
    const SystemClock clock;
    const Instant begin = clock.now();
    const auto answer = dns.a("a.example");
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::dns_temporary);
    EXPECT_THAT(answer.error().detail, HasSubstr("do not answer"));
    EXPECT_GE(clock.now() - begin, 290ms);
    EXPECT_GE(server.asked("a"), 1);
}

TEST(Resolver, DNS_1_MalformedPacketsAreTemporary) {
    const std::vector<ScriptedServer::Script> scripts{
        [](const std::string& query) { return reply(query, 0, 65535, ""); },
        [](const std::string& query) { return reply(query, 0, 1, "\xC0\x0C\0\1\0\1\0\0\0\1\0\3abc"s); },
        [](const std::string& query) { return reply(query, 0, 1, "\xFF\xFF\0\1\0\1\0\0\0\1\0\4abcd"s); },
        [](const std::string& query) { return query.substr(0, 13); },
    };
    for (std::size_t i = 0; i < scripts.size(); ++i) {
        ScriptedServer server(scripts[i]);
        config::DnsSettings settings = server.settings();
        settings.timeout = 500ms;
        TestResolver dns(settings);
        const auto answer = dns.a("a.example");
        ASSERT_FALSE(answer) << i;
        EXPECT_EQ(answer.error().code, Errc::dns_temporary) << i;
    }
}

TEST(Resolver, DNS_6_ServersThatDoNotKnowEdnsAreAskedWithoutIt) {
    ScriptedServer server([](const std::string& query) {
        const bool edns = query[header_octets - 1] != 0;
        return edns ? reply(query, 1, 0, "") : reply(query, 0, 1, a_record(300));
    });
    TestResolver dns(server.settings());
    EXPECT_TRUE(dns.a("a.example"));
}

TEST(Resolver, DNS_6_TruncationWithoutTcpIsTemporary) {
    ScriptedServer server([](const std::string& query) {
        std::string out = reply(query, 0, 0, "");
        out[2] = static_cast<char>(out[2] | 0x02);
        return out;
    });
    config::DnsSettings settings = server.settings();
    settings.timeout = 500ms;
    TestResolver dns(settings);
    EXPECT_EQ(dns.a("a.example").error().code, Errc::dns_temporary);
}

TEST(Resolver, DNS_6_AReferralIsNoDenial) {
    ScriptedServer server([](const std::string& query) {
        std::string out = reply(query, 0, 0, "\xC0\x0E\0\2\0\1\0\0\1\0\0\4\2ns\0"s);
        out[2] = static_cast<char>(0x81);  // not authoritative
        out[3] = 0;                        // and no recursion
        out[9] = 1;
        return out;
    });
    config::DnsSettings settings = server.settings();
    settings.timeout = 500ms;
    TestResolver dns(settings);
    EXPECT_EQ(dns.mx("a.example").error().code, Errc::dns_temporary);
}

TEST(Resolver, DNS_5_OneQuestionAtATimeIsOnItsWay) {
    ScriptedServer server(one_address(300));
    TestResolver dns(server.settings());
    std::vector<std::future<Result<Answer<std::vector<net::IpAddress>>>>> answers;
    for (int i = 0; i < 50; ++i)
        answers.push_back(dns.start_a(i % 2 == 0 ? "a.example" : "A.Example."));
    for (auto& answer : answers)
        EXPECT_TRUE(answer.get());
    EXPECT_EQ(server.asked("a"), 1);
    EXPECT_THAT(dns.a("a.example")->ttl, testing::AllOf(testing::Gt(200s), testing::Le(300s)));
    EXPECT_EQ(server.asked("a"), 1);
}

TEST(Resolver, DNS_5_TtlZeroServesOnceAndIsAskedAgain) {
    ScriptedServer server(one_address(0));
    TestResolver dns(server.settings());
    EXPECT_EQ(dns.a("a.example")->ttl, 0s);
    EXPECT_TRUE(dns.a("a.example"));
    EXPECT_EQ(server.asked("a"), 2);
}

TEST(Resolver, DNS_5_TtlIsHeldWithinTheSettings) {
    ScriptedServer server([](const std::string& query) {
        return reply(query, 0, 1, a_record(query[header_octets + 1] == 's' ? 3 : 0x7FFFFFFF));
    });
    config::DnsSettings settings = server.settings();
    settings.cache_ttl_min = 20s;
    settings.cache_ttl_max = 50s;
    TestResolver dns(settings);
    EXPECT_EQ(
        dns.a("short.example")->ttl, 20s
    );  // the first answer comes past the cache, so no second is lost
    EXPECT_EQ(dns.a("long.example")->ttl, 50s);
}

TEST(Resolver, DNS_6_RecoversByItselfWhenTheServersDo) {
    std::atomic<bool> sick = true;
    ScriptedServer server([&sick](const std::string& query) {
        return sick ? std::string() : reply(query, 0, 1, a_record(300));
    });
    config::DnsSettings settings = server.settings();
    settings.timeout = 100ms;
    TestResolver dns(settings);
    EXPECT_FALSE(dns.a("a.example"));
    sick = false;
    Result<Answer<std::vector<net::IpAddress>>> answer = dns.a("a.example");
    for (int i = 0; i < 100 && !answer; ++i)
        answer = dns.a("a.example");
    EXPECT_TRUE(answer) << answer.error().text();
}

TEST(Resolver, ConfigureDropsTheCacheAndUsesTheNewServers) {
    ScriptedServer first(one_address(300));
    ScriptedServer second(one_address(300));
    TestResolver dns(first.settings());
    EXPECT_TRUE(dns.a("a.example"));
    dns.configure(second.settings());
    EXPECT_TRUE(dns.a("a.example"));
    EXPECT_EQ(first.asked("a"), 1);
    EXPECT_EQ(second.asked("a"), 1);
}

TEST(Resolver, QuestionsUnderWayMoveToTheNewServers) {
    std::promise<void> reached;
    std::atomic<bool> told = false;
    ScriptedServer silent([&](const std::string&) {
        if (!told.exchange(true)) reached.set_value();
        return std::string();
    });
    ScriptedServer good(one_address(300));
    TestResolver dns(silent.settings());
    auto answer = dns.start_a("a.example");
    reached.get_future().wait();
    dns.configure(good.settings());
    EXPECT_TRUE(answer.get());
}

TEST(Resolver, CloseEndsQuestionsWithCancelled) {
    std::promise<void> reached;
    std::atomic<bool> told = false;
    ScriptedServer silent([&](const std::string&) {
        if (!told.exchange(true)) reached.set_value();
        return std::string();
    });
    TestResolver dns(silent.settings());
    auto answer = dns.start_a("a.example");
    reached.get_future().wait();
    dns.close();
    const auto result = answer.get();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::cancelled);
    EXPECT_EQ(dns.a("b.example").error().code, Errc::cancelled);
}

TEST(Resolver, DNS_6_MoreQuestionsThanTurnsAreAllAnswered) {
    ScriptedServer server(one_address(300));
    TestResolver dns(server.settings());
    std::vector<std::future<Result<Answer<std::vector<net::IpAddress>>>>> answers;
    for (int i = 0; i < 1500; ++i)
        answers.push_back(dns.start_a("n" + std::to_string(i) + ".example"));
    for (auto& answer : answers) {
        const auto result = answer.get();
        EXPECT_TRUE(result) << result.error().text();
    }
}

TEST(Resolver, BadSettingsAreSaidInEveryAnswer) {
    config::DnsSettings settings;
    settings.servers = {"ns.example"};
    TestResolver dns(settings);
    const auto answer = dns.a("a.example");
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, Errc::dns_temporary);
    EXPECT_THAT(answer.error().detail, HasSubstr("\"ns.example\" is not an IP address"));
}

TEST(Resolver, TroubleAtTheStartHealsByItself) {
    std::string file = (std::filesystem::temp_directory_path() / "sluice-anchors-XXXXXX").string();
    ::close(mkstemp(file.data()));
    std::filesystem::remove(file);
    ScriptedServer server(one_address(300));
    config::DnsSettings settings = server.settings();
    settings.trust_anchor_file = file;
    TestResolver dns(settings);
    auto answer = dns.a("a.example");
    ASSERT_FALSE(answer);
    EXPECT_THAT(answer.error().detail, HasSubstr(file));
    std::ofstream(file) << "other.example. IN DS 1 13 2 " << std::string(64, 'A') << "\n";
    const SystemClock clock;
    const Instant deadline = clock.now() + 20s;
    while (!answer && clock.now() < deadline)
        answer = dns.a("a.example");
    EXPECT_TRUE(answer) << answer.error().text();
    std::filesystem::remove(file);
}

TEST(Resolver, NamesThatCannotBeAskedDoNotExist) {
    ScriptedServer server(one_address(300));
    TestResolver dns(server.settings());
    EXPECT_EQ(dns.a(std::string(64, 'a') + ".example").error().code, Errc::dns_no_domain);
    EXPECT_EQ(dns.a("a..example").error().code, Errc::dns_no_domain);
    EXPECT_EQ(dns.a("a\0b.example"s).error().code, Errc::dns_no_domain);
    EXPECT_EQ(dns.a("").error().code, Errc::dns_no_domain);
}

}  // namespace
}  // namespace sluice::dns
