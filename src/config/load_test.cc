#include "config/load.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "config/changes.h"
#include "config/lines.h"
#include "config/plugins.h"
#include "config/schema.h"
#include "config/test_instance.h"
#include "policy/delivery.h"

namespace sluice::config {
namespace {

using test::slurp;
using test::TemporaryFolder;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
namespace fs = std::filesystem;
using std::chrono::seconds;

const fs::path fixtures = fs::path(SLUICE_SOURCE_DIR) / "test/config";

// Stand-ins in fixture files, so that no key lies in the repository: "@certificate NAME" and "@key NAME" are
// the halves of one pair; a NAME that begins with "expired" or "future" is valid at another time.
class Certificates {
public:
    std::string expand(const std::string& content) {
        const std::string text(trim(content));
        if (!text.starts_with("@")) return content;
        std::string out;
        for (const std::string_view line : split(text, '\n')) {
            const std::size_t blank = line.find(' ');
            const test::CertificatePair& pair = named(std::string(line.substr(blank + 1)));
            out += line.starts_with("@key") ? pair.key : pair.certificate;
        }
        return out;
    }

private:
    const test::CertificatePair& named(const std::string& name) {
        const auto found = pairs_.find(name);
        if (found != pairs_.end()) return found->second;
        const long day = 86'400;
        const long from = name.starts_with("future") ? day : name.starts_with("expired") ? -2 * day : -day;
        const long until = name.starts_with("expired") ? -day : 2 * day;
        return pairs_[name] = test::make_certificate(from, until);
    }
    std::map<std::string, test::CertificatePair> pairs_;
};

void copy_fixture(const fs::path& from, const TemporaryFolder& to) {
    Certificates certificates;
    for (const auto& entry : fs::recursive_directory_iterator(from)) {
        const std::string name = fs::relative(entry.path(), from).string();
        if (entry.is_directory()) fs::create_directories(to.path() / name);
        if (entry.is_regular_file()) to.write(name, certificates.expand(slurp(entry.path())));
    }
    // A fixture that is about something else need not say who it is.
    if (!fs::exists(to.path() / "config/me")) to.write("config/me", "mx.example.com\n");
}

std::string report(const Loaded& loaded, const std::string& directory) {
    std::string out;
    for (const Problem& problem : loaded.problems) {
        std::string line = problem.text();
        for (std::size_t at; (at = line.find(directory)) != std::string::npos;)
            line.replace(at, directory.size(), "DIR");
        out += line + "\n";
    }
    return out;
}

std::vector<fs::path> cases_in(const std::string& kind) {
    std::vector<fs::path> cases;
    for (const auto& entry : fs::directory_iterator(fixtures / kind))
        cases.push_back(entry.path());
    std::sort(cases.begin(), cases.end());
    return cases;
}

std::string case_name(const testing::TestParamInfo<fs::path>& info) {
    return info.param.filename().string();
}

// A folder is an instance with a mistake; its expected.txt is what `sluice check` says about it.
class BadInstance : public testing::TestWithParam<fs::path> {};

TEST_P(BadInstance, IsReportedWithFileLineAndExpectation) {
    const TemporaryFolder instance;
    copy_fixture(GetParam(), instance);
    const Loaded loaded = load(instance.text());
    const std::string found = report(loaded, instance.text());

    // New fixtures are written by hand and completed by a run with this variable, then read before they are
    // committed.
    if (std::getenv("SLUICE_WRITE_EXPECTED") != nullptr) std::ofstream(GetParam() / "expected.txt") << found;
    EXPECT_EQ(found, slurp(GetParam() / "expected.txt"));
    EXPECT_FALSE(loaded.problems.empty());
    const bool error =
        std::any_of(loaded.problems.begin(), loaded.problems.end(), [](const Problem& problem) {
            return problem.severity == Severity::error;
        });
    EXPECT_EQ(loaded.settings == nullptr, error);
}
INSTANTIATE_TEST_SUITE_P(Fixtures, BadInstance, testing::ValuesIn(cases_in("bad")), case_name);

// Instances that start; expected.txt holds their warnings.
class GoodInstance : public testing::TestWithParam<fs::path> {};

TEST_P(GoodInstance, LoadsWithTheseWarningsOnly) {
    const TemporaryFolder instance;
    copy_fixture(GetParam(), instance);
    const Loaded loaded = load(instance.text());
    const std::string found = report(loaded, instance.text());
    if (std::getenv("SLUICE_WRITE_EXPECTED") != nullptr) std::ofstream(GetParam() / "expected.txt") << found;
    EXPECT_EQ(found, slurp(GetParam() / "expected.txt"));
    EXPECT_NE(loaded.settings, nullptr);
}
INSTANTIATE_TEST_SUITE_P(Fixtures, GoodInstance, testing::ValuesIn(cases_in("good")), case_name);

// Loads a good fixture whole, and keeps the folder while its settings are looked at.
class Fixture {
public:
    explicit Fixture(const std::string& name) {
        copy_fixture(fixtures / "good" / name, folder_);
        loaded_ = load(folder_.text());
    }
    const Settings& settings() const { return *loaded_.settings; }
    std::string path(const std::string& name) const { return folder_.text() + "/" + name; }

private:
    TemporaryFolder folder_;
    Loaded loaded_;
};

TEST(HarakaInstance, FreshFromInitMeansWhatItMeansThere) {
    const Fixture fixture("haraka_init");
    const Settings& settings = fixture.settings();
    EXPECT_EQ(settings.directory + "/config/me", fixture.path("config/me"));
    EXPECT_EQ(settings.me, "mail.example.com");
    EXPECT_THAT(settings.local_domains, ElementsAre("mail.example.com"));
    EXPECT_THAT(settings.smtp.listen, ElementsAre("[::0]:25"));
    EXPECT_EQ(settings.connection.message_bytes_max, 26'214'400U);
    EXPECT_EQ(settings.connection.data_line_max, 0U);
    EXPECT_THAT(settings.connection.proxy_hosts, IsEmpty());
    EXPECT_EQ(settings.connection.helo_message, "Haraka is at your service.");
    EXPECT_EQ(settings.spool.directory, fixture.path("queue"));
    EXPECT_FALSE(settings.tls.enabled);
    EXPECT_FALSE(settings.auth.enabled);
    EXPECT_FALSE(settings.relay.acl);
    EXPECT_EQ(settings.log.level, 6);
    EXPECT_THAT(settings.outbound.temp_fail_intervals, testing::SizeIs(12));
}

TEST(HarakaInstance, ReceptionIsReadInFull) {
    const Fixture fixture("haraka_full");
    const SmtpSettings& smtp = fixture.settings().smtp;
    EXPECT_THAT(smtp.listen, ElementsAre("0.0.0.0:25", "[2001:db8::25]:587", "127.0.0.1:465"));
    EXPECT_EQ(smtp.public_ip, "198.51.100.7");
    EXPECT_EQ(smtp.inactivity_timeout, seconds(120));
    EXPECT_EQ(smtp.user + ":" + smtp.group, "daemon:daemon");
    EXPECT_TRUE(smtp.daemonize);
    EXPECT_EQ(smtp.daemon_pid_file, "/var/run/haraka.pid");
    EXPECT_EQ(smtp.force_shutdown_timeout, seconds(10));

    const ConnectionSettings& connection = fixture.settings().connection;
    EXPECT_FALSE(connection.smtputf8);
    EXPECT_THAT(connection.proxy_hosts, ElementsAre("192.0.2.4", "2001:db8::1", "10.0.0.0/8"));
    EXPECT_FALSE(connection.add_received);
    EXPECT_FALSE(connection.show_version);
    EXPECT_EQ(connection.header_lines_max, 500U);
    EXPECT_EQ(connection.received_max, 50U);
    EXPECT_EQ(connection.message_bytes_max, 10'485'760U);
    EXPECT_EQ(connection.command_line_max, 1024U);
    EXPECT_THAT(connection.greeting, ElementsAre("mail.example.com, at your service", "No spam"));
    EXPECT_EQ(connection.close_message, "Bye");
    EXPECT_EQ(connection.banner_uuid_chars, 0U);
    EXPECT_THAT(fixture.settings().local_domains, ElementsAre("example.com", "example.org"));
}

TEST(HarakaInstance, TlsOfBothSidesIsReadInFull) {
    const Fixture fixture("haraka_full");
    const InboundTlsSettings& tls = fixture.settings().tls;
    EXPECT_TRUE(tls.enabled);
    EXPECT_THAT(
        tls.certificates, ElementsAre(fixture.path("config/mx.pem"), fixture.path("config/tls/other.pem"))
    );
    EXPECT_THAT(tls.keys, ElementsAre(fixture.path("config/mx.key"), fixture.path("config/tls/other.pem")));
    EXPECT_EQ(tls.dh_params, fixture.path("config/dhparams.pem"));
    EXPECT_EQ(tls.ciphers, "HIGH:!aNULL");
    EXPECT_FALSE(tls.request_certificate);
    EXPECT_FALSE(tls.verify_peer);
    EXPECT_THAT(tls.no_starttls_ports, ElementsAre(2525, 26));
    EXPECT_THAT(tls.no_tls_hosts, ElementsAre("192.168.1.1", "172.16.0.0/16"));

    const OutboundTlsSettings& out = fixture.settings().outbound_tls;
    EXPECT_EQ(out.certificate, fixture.path("config/mx.pem"));
    EXPECT_EQ(out.key, fixture.path("config/mx.key"));
    EXPECT_EQ(out.ciphers, "HIGH:!aNULL");
    EXPECT_TRUE(out.verify_peer);
    EXPECT_THAT(out.force_tls_hosts, ElementsAre("bank.example"));
    EXPECT_THAT(out.no_tls_hosts, ElementsAre("127.0.0.1", "broken.example"));
    EXPECT_EQ(out.broken_tls_expiry, std::chrono::hours(24));
}

TEST(HarakaInstance, UsersAndRoutesAreReadInFull) {
    const Fixture fixture("haraka_full");
    const AuthSettings& auth = fixture.settings().auth;
    EXPECT_TRUE(auth.enabled);
    EXPECT_THAT(auth.methods, ElementsAre("CRAM-MD5", "PLAIN"));
    EXPECT_FALSE(auth.constrain_sender);
    EXPECT_THAT(
        auth.users,
        ElementsAre(testing::Pair("ann", "s3cret with blanks"), testing::Pair("joe@example.com", "007"))
    );

    const RelaySettings& relay = fixture.settings().relay;
    EXPECT_TRUE(relay.acl && relay.force_routing && relay.dest_domains && !relay.all);
    EXPECT_THAT(relay.acl_allow, ElementsAre("127.0.0.0/8", "::1", "2001:db8::/32"));
    ASSERT_THAT(relay.domains, testing::SizeIs(5));
    EXPECT_EQ(relay.domains.at("a.example").nexthop, "127.0.0.1:2525");
    EXPECT_EQ(relay.domains.at("b.example").action, "continue");
    EXPECT_EQ(relay.domains.at("d.example").nexthop, "lmtp://[::1]:24");
    EXPECT_EQ(relay.any->nexthop, "[2001:db8::5]:26");
}

TEST(HarakaInstance, OutboundIsReadInFull) {
    const Fixture fixture("haraka_full");
    const OutboundSettings& outbound = fixture.settings().outbound;
    EXPECT_EQ(outbound.concurrency_max, 500U);
    EXPECT_TRUE(outbound.always_split && outbound.local_mx_ok && !outbound.disabled);
    EXPECT_EQ(outbound.inet_prefer, OutboundSettings::InetPrefer::v4);
    EXPECT_EQ(outbound.connect_timeout, seconds(15));
    EXPECT_THAT(
        outbound.temp_fail_intervals, ElementsAre(seconds(64), seconds(128), seconds(256), seconds(512))
    );
    EXPECT_EQ(outbound.received_header, "disabled");
    EXPECT_THAT(outbound.sources4, ElementsAre("192.0.2.1", "192.0.2.2"));
    EXPECT_THAT(outbound.sources6, ElementsAre("2001:db8::1"));

    const Settings& settings = fixture.settings();
    EXPECT_THAT(
        settings.bounce.text, ElementsAre("From: {from}", "To: {to}", "", "; not a comment", "Sorry.")
    );
    EXPECT_EQ(settings.dns.timeout, seconds(5));
    EXPECT_EQ(settings.dns.tries, 2);
    EXPECT_THAT(settings.dns.servers, ElementsAre("192.0.2.53:53", "[2001:db8::53]:5353"));
    EXPECT_EQ(settings.spool.directory, "/var/spool/sluice");
    EXPECT_EQ(settings.log.format, LogFormat::json);
    EXPECT_TRUE(settings.log.timestamps);
    EXPECT_EQ(settings.log.level, 7);
    EXPECT_THAT(settings.http.listen, ElementsAre("[::1]:8080", "/run/sluice/api.sock"));
}

// Haraka asks the one-value files only where the ini file is silent or says no.
TEST(HarakaInstance, OneValueFilesFillGaps) {
    const Fixture fixture("legacy_files");
    const Settings& settings = fixture.settings();
    EXPECT_TRUE(settings.outbound.disabled);
    EXPECT_TRUE(settings.outbound.enable_tls);
    EXPECT_EQ(settings.outbound.concurrency_max, 77U);
    EXPECT_THAT(settings.outbound.temp_fail_intervals, testing::SizeIs(2));
    EXPECT_EQ(settings.outbound.received_header, "Legacy");
    EXPECT_TRUE(settings.log.timestamps);
    EXPECT_EQ(settings.log.level, 4);
}

struct Snippet {
    std::string file, content;
    std::function<bool(const Settings&)> holds;
};

TEST(Loading, UnderstandsThese) {
    using O = OutboundSettings;
    const std::vector<Snippet> table{
        {"outbound.ini", "maxTempFailures=3\ntemp_fail_intervals=1m*2\n",
         [](const Settings& s) {
             return s.outbound.temp_fail_intervals == std::vector<Milliseconds>(2, seconds(60));
         }},
        {"outbound.ini", "temp_fail_intervals=none\n",
         [](const Settings& s) { return s.outbound.temp_fail_intervals.empty(); }},
        {"outbound.ini", "temp_fail_intervals=60 min\n",
         [](const Settings& s) { return s.outbound.temp_fail_intervals.size() == 12; }},
        {"outbound.ini", "inet_prefer=V6\n",
         [](const Settings& s) { return s.outbound.inet_prefer == O::InetPrefer::v6; }},
        {"outbound.ini", "inet_prefer=both\n",
         [](const Settings& s) { return s.outbound.inet_prefer == O::InetPrefer::standard; }},
        {"outbound.ini", "concurrency_max=0\n",
         [](const Settings& s) { return s.outbound.concurrency_max == 10'000; }},
        {"outbound.ini", "concurrency_max=\n",
         [](const Settings& s) { return s.outbound.concurrency_max == 10'000; }},
        {"outbound.ini", "enable_tls=sure\n", [](const Settings& s) { return !s.outbound.enable_tls; }},
        {"outbound.ini", "concurrency_max=5\nconcurrency_max=6\n",
         [](const Settings& s) { return s.outbound.concurrency_max == 6; }},
        {"smtp.ini", "port=2525\n",
         [](const Settings& s) { return s.smtp.listen == std::vector<std::string>{"[::0]:2525"}; }},
        {"smtp.ini", "listen=127.0.0.1:26\nlisten_host=::1\nport=25\n",
         [](const Settings& s) {
             return s.smtp.listen == std::vector<std::string>{"[::1]:25", "127.0.0.1:26"};
         }},
        {"smtp.ini", "smtps_port=0\n", [](const Settings& s) { return s.smtp.smtps_ports.empty(); }},
        {"connection.ini", "bare_eol=normalise\n",
         [](const Settings& s) { return !s.connection.strict_bare_eol; }},
        {"connection.ini", "[haproxy]\nhosts=192.0.2.1, 192.0.2.2\n",
         [](const Settings& s) { return s.connection.proxy_hosts.size() == 2; }},
        {"spool.ini", "segment_bytes=64M\nsync=false\n",
         [](const Settings& s) { return s.spool.segment_bytes == 64 << 20 && !s.spool.sync; }},
        {"queue_dir", "../spool\n",
         [](const Settings& s) { return s.spool.directory == fs::path(s.directory).parent_path() / "spool"; }
        },
        {"net-utils.ini", "[dns]\ntimeout=2s\n", [](const Settings& s) { return s.dns.timeout == seconds(2); }
        },
        {"log.ini", "level=9\n", [](const Settings& s) { return s.log.level == 9; }},
    };
    for (const Snippet& row : table) {
        const TemporaryFolder instance;
        instance.write("config/me", "mx.example.com\n");
        instance.write("config/" + row.file, row.content);
        const Loaded loaded = load(instance.text());
        ASSERT_NE(loaded.settings, nullptr) << row.file << ": " << row.content;
        EXPECT_TRUE(row.holds(*loaded.settings)) << row.file << ": " << row.content;
    }
}

TEST(Loading, WhoTheEngineBecomesHasToExist) {
    const TemporaryFolder instance;
    instance.write("config/me", "mx.example.com\n");
    instance.write("config/smtp.ini", "listen=127.0.0.1:2525\nuser=nobody-knows-me\ngroup=nor-us\n");
    const Loaded loaded = load(instance.text());
    const std::string said = report(loaded, instance.text());
    const bool root = geteuid() == 0;
    EXPECT_EQ(loaded.settings == nullptr, root) << "others stay who they are";
    EXPECT_THAT(said, testing::HasSubstr(std::string(root ? "error" : "warning") + ": config/smtp.ini:2: user: this system has no user `nobody-knows-me`"));
    EXPECT_THAT(said, testing::HasSubstr("config/smtp.ini:3: group: this system has no group `nor-us`"));
    instance.write("config/smtp.ini", "listen=127.0.0.1:2525\nuser=root\ngroup=root\n");
    EXPECT_EQ(report(load(instance.text()), instance.text()), "");
}

TEST(Loading, TrustAnchorsHaveToBeSome) {
    const TemporaryFolder instance;
    instance.write("config/me", "mx.example.com\n");
    instance.write("config/net-utils.ini", "[dns]\ntrust_anchor_file=" + instance.text() + "/anchors\n");
    const auto said_of = [&](const std::string& text) {
        instance.write("anchors", text);
        return report(load(instance.text()), instance.text());
    };
    const std::string refusal = "error: config/net-utils.ini:2: trust_anchor_file: DIR/anchors holds no DS or DNSKEY record\n";
    EXPECT_EQ(said_of(""), refusal);
    EXPECT_EQ(said_of("; . IN DS 1 13 2 AA\nan address: 192.0.2.1\n"), refusal);
    EXPECT_EQ(said_of("; the root\n.\t172800\tIN\tDNSKEY\t257 3 8 AwEAAa==\n"), "");
    EXPECT_EQ(said_of(". in ds 20326 8 2 E06D44B8\r\n"), "");
}

// A durable promise must not be given up by a typing error.
TEST(Loading, RefusesAnUnclearSync) {
    const TemporaryFolder instance;
    instance.write("config/spool.ini", "sync=flase\n");
    EXPECT_EQ(load(instance.text()).settings, nullptr);
}

TEST(Loading, ImplicitTlsNeedsACertificateButNoPlugin) {
    const TemporaryFolder instance;
    const test::CertificatePair pair = test::make_certificate();
    instance.write("config/tls_cert.pem", pair.certificate);
    instance.write("config/tls_key.pem", pair.key);
    instance.write("config/smtp.ini", "listen=127.0.0.1:465,127.0.0.1:25\n");
    const Loaded loaded = load(instance.text());
    ASSERT_NE(loaded.settings, nullptr);
    EXPECT_TRUE(loaded.settings->tls.enabled);
    EXPECT_THAT(loaded.settings->tls.no_starttls_ports, ElementsAre(465, 25));
}

TEST(Loading, WithoutTheirPluginsFilesHaveNoEffect) {
    const TemporaryFolder instance;
    instance.write("config/relay_acl_allow", "10.0.0.0/8\n");
    instance.write("config/relay.ini", "[relay]\nall=true\n");
    instance.write("config/auth_flat_file.ini", "[core]\nmethods=PLAIN\n[users]\njoe=secret\n");
    const Loaded loaded = load(instance.text());
    ASSERT_NE(loaded.settings, nullptr);
    EXPECT_FALSE(loaded.settings->relay.all || loaded.settings->relay.acl);
    EXPECT_THAT(loaded.settings->relay.acl_allow, IsEmpty());
    EXPECT_THAT(loaded.settings->auth.users, IsEmpty());
}

std::vector<std::string> secret_warnings(const TemporaryFolder& instance) {
    std::vector<std::string> files;
    for (const Problem& problem : load(instance.text()).problems) {
        if (problem.message.starts_with("holds a secret")) files.push_back(problem.file);
    }
    return files;
}

TEST(Loading, WarnsOfSecretsThatEverybodyCanRead) {
    const TemporaryFolder instance;
    const test::CertificatePair pair = test::make_certificate();
    instance.write("config/plugins", "tls\nrelay\n");
    instance.write("config/tls_cert.pem", pair.certificate);
    instance.write("config/tls_key.pem", pair.key);
    instance.write("config/auth_flat_file.ini", "[core]\nmethods=PLAIN\n[users]\njoe=secret\n");
    instance.write("config/http.ini", "token=0123456789abcdef\n");
    instance.write(
        "config/relay_dest_domains.ini",
        "[domains]\nany={\"action\":\"accept\",\"nexthop\":\"smtp://u:p@192.0.2.1\"}\n"
    );
    // The folder itself is private so far.
    EXPECT_THAT(secret_warnings(instance), IsEmpty());

    fs::permissions(instance.path(), fs::perms(0755));
    EXPECT_THAT(
        secret_warnings(instance),
        ElementsAre(
            "config/auth_flat_file.ini", "config/http.ini", "config/relay_dest_domains.ini", "config/tls_key.pem"
        )
    );
    for (const char* file : {"auth_flat_file.ini", "tls_key.pem"})
        fs::permissions(instance.path() / "config" / file, fs::perms(0640));
    EXPECT_THAT(secret_warnings(instance), ElementsAre("config/http.ini", "config/relay_dest_domains.ini"));
    fs::permissions(instance.path() / "config", fs::perms(0750));
    EXPECT_THAT(secret_warnings(instance), IsEmpty());
}

TEST(Loading, SharedObjectsAreNativePlugins) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "# natives\nacme\nscript\nlib/x.so\n/opt/y.so\ny\nacme.so\ntwin\n");
    for (const char* file : {"plugins/acme.so", "plugins/script.js", "lib/x.so", "plugins/y.so", "plugins/twin.so", "plugins/twin.js"}) {
        instance.write(file, "");
    }
    Loaded loaded = load(instance.text());
    EXPECT_EQ(loaded.settings, nullptr);
    EXPECT_THAT(report(loaded, instance.text()), testing::HasSubstr("config/plugins:5: expected a shared object, found no file /opt/y.so (did you mean `y.so`?)"));

    instance.write("config/plugins", "# natives\nacme\nscript\nlib/x.so\nacme.so\ntwin\n");
    loaded = load(instance.text());
    ASSERT_NE(loaded.settings, nullptr) << report(loaded, instance.text());
    std::string natives;
    for (const NativePlugin& plugin : loaded.settings->native_plugins) {
        natives += plugin.name + " " + fs::relative(plugin.file, instance.path()).string() + " " + std::to_string(plugin.line) + " " + std::to_string(plugin.after) + "\n";
    }
    EXPECT_EQ(natives, "acme plugins/acme.so 2 0\nx lib/x.so 4 1\ntwin plugins/twin.so 6 1\n");
    EXPECT_THAT(loaded.settings->javascript_plugins, ElementsAre("script"));
    EXPECT_THAT(report(loaded, instance.text()), testing::HasSubstr("plugin `acme` was listed before, on line 2"));
    EXPECT_THAT(report(loaded, instance.text()), testing::HasSubstr("twin.so is used, plugins/twin.js is not"));
}

TEST(Loading, WhatTheEngineDoesInAnotherWayRunsWhenHarakaIsInstalled) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "tls\nstatus\nrcpt_to.in_host_list\n");
    EXPECT_THAT(load(instance.text()).settings->javascript_plugins, IsEmpty());
    for (const char* name : {"tls", "status", "rcpt_to.in_host_list"}) {
        instance.write("node_modules/Haraka/plugins/" + std::string(name) + ".js", "");
    }
    EXPECT_THAT(load(instance.text()).settings->javascript_plugins, ElementsAre("status", "rcpt_to.in_host_list"));
}

TEST(Loading, APluginMayRunInsteadOfWhatTheEngineDoes) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "relay\nauth/flat_file\n");
    instance.write("config/relay.ini", "[relay]\nacl=true\n");
    instance.write("config/relay_acl_allow", "192.0.2.0/24 # the office\n");
    instance.write("config/plugin_host.ini", "instead=haraka-plugin-relay\n");
    Loaded loaded = load(instance.text());
    EXPECT_EQ(loaded.settings, nullptr);
    EXPECT_THAT(
        report(loaded, instance.text()), testing::HasSubstr("config/plugins:1: plugin `relay` shall run instead of the engine's own (`instead` in plugin_host.ini)"));

    instance.write("node_modules/haraka-plugin-relay/package.json", "{}");
    loaded = load(instance.text());
    ASSERT_NE(loaded.settings, nullptr) << report(loaded, instance.text());
    EXPECT_THAT(loaded.settings->javascript_plugins, ElementsAre("relay"));
    EXPECT_FALSE(loaded.settings->relay.acl) << "the engine's own is off";
    EXPECT_THAT(native_plugin_names(instance.text(), {"relay"}), Not(Contains("relay")));

    instance.write("config/plugin_host.ini", "");
    loaded = load(instance.text());
    EXPECT_THAT(loaded.settings->javascript_plugins, IsEmpty());
    EXPECT_TRUE(loaded.settings->relay.acl);
    EXPECT_THAT(loaded.settings->relay.acl_allow, ElementsAre("192.0.2.0/24"));

    instance.write("config/plugin_host.ini", "instead=tls\n");
    EXPECT_THAT(report(load(instance.text()), instance.text()), testing::HasSubstr("config/plugin_host.ini:1: instead: expected `relay` or `auth/flat_file`, found `tls`"));
}

TEST(Loading, FilesWithoutSecretsMayBeOpen) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "relay\n");
    instance.write("config/auth_flat_file.ini", "[core]\nmethods=PLAIN\n[users]\n");
    instance.write("config/http.ini", "listen=127.0.0.1:8026\n");
    instance.write(
        "config/relay_dest_domains.ini", "[domains]\nany={\"action\":\"accept\",\"nexthop\":\"192.0.2.1\"}\n"
    );
    fs::permissions(instance.path(), fs::perms(0755));
    EXPECT_THAT(secret_warnings(instance), IsEmpty());
}

TEST(Loading, WhatRelayIniSwitchesOffHasNoEffect) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "relay\n");
    instance.write("config/relay.ini", "[relay]\nacl=false\nforce_routing=false\ndest_domains=true\n");
    instance.write("config/relay_acl_allow", "10.0.0.0/8\n");
    instance.write(
        "config/relay_dest_domains.ini",
        "[domains]\na.example={\"action\":\"accept\",\"nexthop\":\"192.0.2.1\"}\nany={\"nexthop\":\"192.0.2."
        "2\"}\n"
    );
    const Loaded loaded = load(instance.text());
    ASSERT_NE(loaded.settings, nullptr);
    const RelaySettings& relay = loaded.settings->relay;
    EXPECT_THAT(relay.acl_allow, IsEmpty());
    EXPECT_EQ(relay.domains.at("a.example").action, "accept");
    EXPECT_EQ(relay.domains.at("a.example").nexthop, "");
    EXPECT_FALSE(relay.any);
}

TEST(Loading, ProblemsNeverShowPasswords) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "relay\nauth/flat_file\n");
    instance.write(
        "config/relay_dest_domains.ini",
        "[domains]\na.example={\"nexthop\":\"smtp://joe:hunter2@mx:0\"}\nb.example=hunter2\n"
    );
    instance.write("config/auth_flat_file.ini", "[users]\njoe=hunter2\njoe=hunter2\n");
    instance.write("config/http.ini", "token=hunter2\n");
    const Loaded loaded = load(instance.text());
    EXPECT_EQ(loaded.settings, nullptr);
    EXPECT_THAT(report(loaded, instance.text()), testing::Not(testing::HasSubstr("hunter2")));
}

TEST(Loading, AFolderWithoutConfigIsNoInstance) {
    const TemporaryFolder folder;
    const Loaded loaded = load(folder.text() + "/absent");
    EXPECT_EQ(loaded.settings, nullptr);
    ASSERT_THAT(loaded.problems, testing::SizeIs(1));
    EXPECT_THAT(loaded.problems[0].message, testing::HasSubstr("sluice init"));
}

TEST(Loading, RelativeDirectoriesBecomeAbsolute) {
    const TemporaryFolder instance;
    instance.write("config/me", "mx.example.com\n");
    const std::string relative = fs::relative(instance.path()).string() + "/";
    EXPECT_EQ(load(relative).settings->directory, instance.text());
}

TEST(Load, DeliveryFileRefersToListsOfThePolicies) {
    TemporaryFolder instance;
    instance.write("config/me", "mx.example.com\n");
    instance.write("config/policy.yaml", "lists: {tenantid: {vip: [a, b]}}\npolicies: []\n");
    instance.write("config/delivery.yaml", "conditions: [{if: {tenantid: '@vip'}, then: {tls: {mode: require}}}]\n");
    const Loaded loaded = load(instance.text());
    ASSERT_TRUE(loaded.settings) << (loaded.problems.empty() ? "" : loaded.problems[0].text());
    ASSERT_TRUE(loaded.settings->deliveries);
    policy::FieldTexts texts;
    texts.set(policy::Field::tenantid, "b");
    EXPECT_EQ(loaded.settings->deliveries->settings_of(texts).tls, policy::TlsDemand::require);

    instance.write("config/delivery.yaml", "conditions: [{if: {tenantid: '@vip'}, then: {tls: {mode: optional}}}]\n");
    EXPECT_THAT(compare(*loaded.settings, *load(instance.text()).settings).live, ElementsAre("delivery.yaml"));
    instance.write("config/delivery.yaml", "conditions: [{if: {tenantid: '@vipp'}, then: {}}]\n");
    EXPECT_FALSE(load(instance.text()).settings);
    instance.write("config/delivery.yaml", "conditions: [{if: {header.x-one: '1'}, then: {}}]\n");
    EXPECT_THAT(load(instance.text()).settings->kept_fields, ElementsAre("header.x-one"));
}

// A new one that needs a restart is kept from half-way obedience by this alone.
TEST(Changes, EverySettingThatNeedsARestartCanBeKeptUntilThen) {
    for (const Setting& setting : schema()) {
        if (setting.effect == Effect::restart) EXPECT_TRUE(setting.kind.copy) << setting.name();
    }
    const TemporaryFolder before, after;
    after.write("config/me", "mx.example.com\n");
    before.write("config/me", "mx.example.com\n");
    after.write("config/smtp.ini", "listen=127.0.0.1:2600\nsmtps_port=26\nuser=mail\ngroup=mail\ncore_dumps=true\ndaemonize=true\n"
                                   "daemon_log_file=/l\ndaemon_pid_file=/p\nshards=3\n");
    after.write("config/plugin_host.ini", "node=/n\nfolder=/f\nhang_timeout=99s\naddresses=both\nheap_bytes_max=100M\n");
    after.write("config/spool.ini", "segment_bytes=8M\nsync=false\n");
    after.write("config/log.ini", "[main]\nevents=false\nlevel=debug\n");
    const SettingsPtr running = load(before.text()).settings;
    Settings settings = *load(after.text()).settings;
    const std::vector<std::string> waiting = keep_until_restart(settings, *running);
    EXPECT_EQ(waiting.size(), 18U) << testing::PrintToString(waiting);
    EXPECT_THAT(compare(*running, settings).needs_restart, IsEmpty());
    EXPECT_THAT(compare(*running, settings).live, Contains("log.ini [main] level"));
}

}  // namespace
}  // namespace sluice::config
