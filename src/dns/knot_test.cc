// The resolver and the router with a real authoritative server (Knot DNS), whose zones hold every case of an
// MX.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "base/text.h"
#include "dns/dns_test_support.h"
#include "dns/router.h"

namespace sluice::dns {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* knotd_path = "/usr/sbin/knotd";
constexpr const char* keymgr_path = "/usr/sbin/keymgr";
constexpr Duration start_limit = 20s;

struct Zone {
    std::string name;
    std::string records;  // relative to the zone; SOA and NS are added
    bool sign = false;
};

// A child process whose output we read. Terminated and waited for by the destructor.
class Child {
public:
    explicit Child(std::vector<std::string> arguments) {
        std::array<int, 2> pipe_ends{};
        if (pipe(pipe_ends.data()) != 0) return;
        std::vector<char*> argv;
        for (std::string& argument : arguments)
            argv.push_back(argument.data());
        argv.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDERR_FILENO);
        posix_spawn_file_actions_addclose(&actions, pipe_ends[0]);
        posix_spawn_file_actions_addclose(&actions, pipe_ends[1]);
        if (posix_spawn(&process_, argv[0], &actions, nullptr, argv.data(), environ) != 0) process_ = -1;
        posix_spawn_file_actions_destroy(&actions);
        ::close(pipe_ends[1]);
        output_ = pipe_ends[0];
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        if (process_ > 0) {
            kill(process_, SIGTERM);
            waitpid(process_, nullptr, 0);
        }
        if (output_ >= 0) ::close(output_);
    }

    // More of its output; nothing at its end or when the time is over.
    std::string read_some(Duration limit) {
        pollfd readable{output_, POLLIN, 0};
        if (output_ < 0 || poll(&readable, 1, static_cast<int>(limit.count())) <= 0) return {};
        std::array<char, 4096> buffer{};
        const ssize_t size = ::read(output_, buffer.data(), buffer.size());
        return std::string(buffer.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
    }

private:
    pid_t process_ = -1;
    int output_ = -1;
};

std::uint16_t free_port() {
    const int udp = socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(udp, generic, size) != 0 || getsockname(udp, generic, &size) != 0) address.sin_port = 0;
    ::close(udp);
    return ntohs(address.sin_port);
}

std::size_t count_of(const std::string& text, const std::string& word) {
    std::size_t count = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1))
        ++count;
    return count;
}

// Knot DNS on a port of the loopback, with its files in a directory of its own.
class KnotServer {
public:
    explicit KnotServer(const std::vector<Zone>& zones) {
        if (!std::filesystem::exists(knotd_path)) {
            trouble = std::string(knotd_path) + " is missing: install the package knot (see packages.txt)";
            return;
        }
        std::string pattern = (std::filesystem::temp_directory_path() / "sluice-knot-XXXXXX").string();
        directory = mkdtemp(pattern.data());
        for (const Zone& zone : zones)
            write_zone(zone);
        // Somebody else may take the port between our choice and Knot's start.
        for (int tries = 0; tries < 5 && !running; ++tries)
            start(zones);
    }
    ~KnotServer() {
        process_.reset();
        if (!directory.empty()) std::filesystem::remove_all(directory);
    }
    KnotServer(const KnotServer&) = delete;
    KnotServer& operator=(const KnotServer&) = delete;

    config::DnsSettings settings() const {
        config::DnsSettings settings;
        settings.servers = {"127.0.0.1:" + std::to_string(port_)};
        settings.timeout = 10s;
        return settings;
    }
    // The digest part of the signed zone's DS record: "12345 13 2 ABCD...".
    std::string key_digest(const std::string& zone) const {
        Child keymgr({keymgr_path, "-c", (directory / "knot.conf").string(), zone, "ds"});
        std::string text;
        for (std::string more = "x"; !more.empty();) {
            more = keymgr.read_some(start_limit);
            text += more;
        }
        const std::size_t begin = text.find(" DS ");
        if (begin == std::string::npos) return {};
        return text.substr(begin + 4, text.find('\n', begin) - begin - 4);
    }

    std::filesystem::path directory;
    bool running = false;
    std::string trouble;

private:
    void write_zone(const Zone& zone) const {
        std::ofstream file(directory / (zone.name + ".zone"));
        file << "$ORIGIN " << zone.name << ".\n$TTL 300\n"
             << "@ SOA ns hostmaster 1 3600 600 86400 77\n@ NS ns\nns A 127.0.0.1\n"
             << zone.records;
    }
    void write_configuration(const std::vector<Zone>& zones) const {
        std::ofstream file(directory / "knot.conf");
        const std::string path = directory.string();
        file << "server:\n  listen: 127.0.0.1@" << port_ << "\n  rundir: " << path << "\n  udp-workers: 1\n"
             << "  tcp-workers: 1\n  background-workers: 1\n"
             << "log:\n  - target: stdout\n    any: info\ndatabase:\n  storage: " << path << "\n"
             << "zone:\n";
        for (const Zone& zone : zones) {
            file << "  - domain: " << zone.name << "\n    storage: " << path << "\n    file: " << zone.name
                 << ".zone\n"
                 << "    dnssec-signing: " << (zone.sign ? "on" : "off") << "\n";
        }
    }
    void start(const std::vector<Zone>& zones) {
        port_ = free_port();
        write_configuration(zones);
        process_.emplace(std::vector<std::string>{knotd_path, "-c", (directory / "knot.conf").string()});
        const SystemClock clock;
        const Instant deadline = clock.now() + start_limit;
        std::string log;
        while (clock.now() < deadline && count_of(log, "loaded, serial") < zones.size()) {
            const std::string more = process_->read_some(deadline - clock.now());
            if (more.empty()) break;
            log += more;
        }
        running = count_of(log, "loaded, serial") == zones.size();
        if (!running) trouble = "knotd did not serve its zones; it said:\n" + log;
    }

    std::optional<Child> process_;
    std::uint16_t port_ = 0;
};

std::string numbered(int count, const std::string& before, const std::string& after) {
    std::string records;
    for (int i = 1; i <= count; ++i)
        records += before + std::to_string(i) + after + std::to_string(i) + "\n";
    return records;
}

std::string chain(int length) {
    std::string records;
    for (int i = 1; i < length; ++i) {
        records += "c" + std::to_string(i) + " CNAME c" + std::to_string(i + 1) + "\n";
    }
    return records + "c" + std::to_string(length) + " A 192.0.2.1\n";
}

const std::vector<Zone>& zones() {
    static const std::vector<Zone> all{
        {"cases.test",
         "plain MX 20 MX2.Cases.Test.\nplain MX 10 mx1\n"
         "mx1 A 192.0.2.1\nmx1 AAAA 2001:db8::1\nmx2 A 192.0.2.2\n"
         "null MX 0 .\nmixed MX 0 .\nmixed MX 10 mx1\n"
         "implicit A 192.0.2.3\nnothing TXT \"here\"\n"
         "toalias MX 10 alias\nalias CNAME mx1\nwhole CNAME plain\n"
         "loop CNAME pool\npool CNAME loop\ntoloop MX 10 loop\n"
         "dangling CNAME gone\ntogone MX 10 gone\n"
         "address MX 10 192.0.2.1.\nescaped MX 10 a\\.b\na\\.b A 192.0.2.4\n_under A 192.0.2.5\nunder MX 10 "
         "_under\n"
         "local MX 10 localhost.\nself MX 10 mx1\nself MX 20 out.test.\nself MX 30 mx2\n"
         "zero 0 A 192.0.2.6\nlong 2147483647 A 192.0.2.7\n" +
             numbered(150, "many MX 10 host-with-a-rather-long-name-number-", "\n;") +
             numbered(30, "wide A 203.0.113.", " ;") + chain(20)},
        {"localhost", "@ A 127.0.0.1\n"},
        {"secure.test", "@ MX 10 mx\nmx A 192.0.2.1\n", true},
        {"bogus.test", "@ MX 10 mx\nmx A 192.0.2.1\n"},
    };
    return all;
}

// One Knot for all tests of the suite.
class KnotTest : public testing::Test {
protected:
    static void SetUpTestSuite() { knot = std::make_unique<KnotServer>(zones()); }
    static void TearDownTestSuite() { knot.reset(); }
    void SetUp() override { ASSERT_TRUE(knot->running) << knot->trouble; }

    static std::vector<std::string> hosts(const Result<Answer<std::vector<MxRecord>>>& answer) {
        if (!answer) return {name_of(answer.error().code)};
        std::vector<std::string> lines;
        for (const MxRecord& record : answer->records) {
            lines.push_back(std::to_string(record.preference) + " " + record.host);
        }
        return lines;
    }
    static std::vector<std::string> addresses(const Result<Answer<std::vector<net::IpAddress>>>& answer) {
        if (!answer) return {name_of(answer.error().code)};
        std::vector<std::string> lines;
        for (const net::IpAddress& address : answer->records)
            lines.push_back(address.text());
        return lines;
    }

    static std::unique_ptr<KnotServer> knot;
};
std::unique_ptr<KnotServer> KnotTest::knot;

TEST_F(KnotTest, DNS_7_MxByPreferenceInLowerCase) {
    TestResolver dns(knot->settings());
    const auto answer = dns.mx("Plain.Cases.TEST.");
    EXPECT_THAT(hosts(answer), ElementsAre("10 mx1.cases.test", "20 mx2.cases.test"));
    EXPECT_EQ(answer->ttl, 300s);
    EXPECT_FALSE(answer->secure);
    EXPECT_THAT(hosts(dns.mx("escaped.cases.test")), ElementsAre("10 a\\.b.cases.test"));
    EXPECT_THAT(addresses(dns.a("a\\.b.cases.test")), ElementsAre("192.0.2.4"));
    EXPECT_THAT(addresses(dns.a("_under.cases.test")), ElementsAre("192.0.2.5"));
    EXPECT_THAT(addresses(dns.aaaa("mx1.cases.test")), ElementsAre("2001:db8::1"));
}

TEST_F(KnotTest, C5321_15_DenialsAreToldApartFromTrouble) {
    TestResolver dns(knot->settings());
    EXPECT_EQ(dns.mx("gone.cases.test").error().code, Errc::dns_no_domain);
    EXPECT_EQ(dns.mx("nothing.cases.test").error().code, Errc::dns_no_data);
    EXPECT_EQ(dns.a("dangling.cases.test").error().code, Errc::dns_no_domain);
    EXPECT_EQ(
        dns.mx("elsewhere.example").error().code, Errc::dns_temporary
    );  // Knot refuses what it does not serve
    EXPECT_THAT(dns.mx("elsewhere.example").error().detail, HasSubstr("elsewhere.example MX"));
}

TEST_F(KnotTest, NX_1_NullMxIsARecordWithoutHost) {
    TestResolver dns(knot->settings());
    EXPECT_THAT(hosts(dns.mx("null.cases.test")), ElementsAre("0 "));
}

TEST_F(KnotTest, DNS_2_ManyRecordsComeByTcpAndAreCapped) {
    TestResolver dns(knot->settings());
    const auto answer = dns.mx("many.cases.test");
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ(answer->records.size(), 100U);
    EXPECT_EQ(answer->records.front().host, "host-with-a-rather-long-name-number-1.cases.test");
    EXPECT_EQ(dns.a("wide.cases.test")->records.size(), 20U);
}

TEST_F(KnotTest, DNS_3_AliasesAreFollowedWithinALimit) {
    TestResolver dns(knot->settings());
    EXPECT_THAT(addresses(dns.a("alias.cases.test")), ElementsAre("192.0.2.1"));
    EXPECT_THAT(hosts(dns.mx("whole.cases.test")), ElementsAre("10 mx1.cases.test", "20 mx2.cases.test"));
    EXPECT_THAT(addresses(dns.a("c15.cases.test")), ElementsAre("192.0.2.1"));
    EXPECT_THAT(addresses(dns.a("c1.cases.test")), ElementsAre("dns_temporary"));
    EXPECT_THAT(addresses(dns.a("loop.cases.test")), ElementsAre("dns_temporary"));
}

TEST_F(KnotTest, DNS_5_TimesToLive) {
    TestResolver dns(knot->settings());
    EXPECT_EQ(dns.a("zero.cases.test")->ttl, 0s);
    EXPECT_EQ(dns.a("long.cases.test")->ttl, 3600s);
}

TEST_F(KnotTest, LocalhostIsANameLikeAnyOther) {
    TestResolver dns(knot->settings());
    EXPECT_THAT(addresses(dns.a("localhost")), ElementsAre("127.0.0.1"));
    EXPECT_EQ(dns.aaaa("localhost").error().code, Errc::dns_no_data);
}

TEST_F(KnotTest, DNS_9_ValidatedAndBogusAnswers) {
    const std::string digest = knot->key_digest("secure.test");
    ASSERT_FALSE(digest.empty()) << "keymgr names no key of secure.test";
    config::DnsSettings settings = knot->settings();
    settings.trust_anchor_file = (knot->directory / "anchors").string();
    std::ofstream(settings.trust_anchor_file)
        << "secure.test. IN DS " << digest << "\nbogus.test. IN DS " << digest << "\n";
    TestResolver dns(settings);
    const auto secure = dns.mx("secure.test");
    ASSERT_TRUE(secure) << secure.error().text();
    EXPECT_TRUE(secure->secure);
    const auto bogus = dns.mx("bogus.test");
    ASSERT_FALSE(bogus);
    EXPECT_EQ(bogus.error().code, Errc::dns_temporary);
    EXPECT_THAT(bogus.error().detail, HasSubstr("DNSSEC validation failed: "));
    EXPECT_TRUE(dns.mx("plain.cases.test"));
}

// ---- routes from real answers
// -----------------------------------------------------------------------------------

class KnotRouteTest : public KnotTest {
protected:
    // "level host remote" of every candidate, or the name of the error.
    std::vector<std::string> route(const std::string& domain) {
        TestResolver dns(knot->settings());
        Router router(dns.resolver(), clock, std::make_shared<const config::Settings>(settings), {});
        const auto made = dns.start(router.resolve(domain)).get();
        if (!made) return {name_of(made.error().code)};
        std::vector<std::string> lines;
        for (const queue::Candidate& candidate : (*made)->candidates) {
            lines.push_back(
                std::to_string(candidate.level) + " " + candidate.mx_host + " " + candidate.remote
            );
        }
        return lines;
    }
    KnotRouteTest() { settings.me = "out.test"; }

    SystemClock clock;
    config::Settings settings;
};

TEST_F(KnotRouteTest, C5321_14_ToC5321_17_EveryKindOfMx) {
    const std::vector<std::pair<std::string, std::vector<std::string>>> table{
        {"plain",
         {"0 mx1.cases.test [2001:db8::1]:25", "0 mx1.cases.test 192.0.2.1:25",
          "1 mx2.cases.test 192.0.2.2:25"}},
        {"implicit", {"0 implicit.cases.test 192.0.2.3:25"}},
        {"null", {"null_mx"}},
        {"mixed", {"0 mx1.cases.test [2001:db8::1]:25", "0 mx1.cases.test 192.0.2.1:25"}},
        {"nothing", {"dns_no_data"}},
        {"never", {"dns_no_domain"}},
        {"toalias", {"0 alias.cases.test [2001:db8::1]:25", "0 alias.cases.test 192.0.2.1:25"}},
        {"toloop", {"dns_temporary"}},
        {"togone", {"not_found"}},
        {"escaped", {"0 a\\.b.cases.test 192.0.2.4:25"}},
        {"under", {"0 _under.cases.test 192.0.2.5:25"}},
        {"local", {"mail_loop"}},
        {"self", {"0 mx1.cases.test [2001:db8::1]:25", "0 mx1.cases.test 192.0.2.1:25"}},
    };
    for (const auto& [name, expected] : table)
        EXPECT_EQ(route(name + ".cases.test"), expected) << name;
}

// Knot refuses names outside its zones, so nobody vouches that "192.0.2.1." does not exist; an address it is
// not.
TEST_F(KnotRouteTest, C5321_17_TargetThatLooksLikeAnAddressIsNotOne) {
    EXPECT_THAT(route("address.cases.test"), ElementsAre("dns_temporary"));
}

TEST_F(KnotRouteTest, LocalMxIsContactedWhereThatIsAllowed) {
    settings.outbound.local_mx_ok = true;
    settings.outbound.smtp_port = 2525;
    EXPECT_THAT(route("local.cases.test"), ElementsAre("0 localhost 127.0.0.1:2525"));
}

}  // namespace
}  // namespace sluice::dns
