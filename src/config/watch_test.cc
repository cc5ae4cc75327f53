#include "config/watch.h"

#include <gmock/gmock.h>
#include <poll.h>

#include "config/test_instance.h"

namespace sluice::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using test::TemporaryFolder;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// An instance that is being watched, and what the watch reported.
class Watched {
public:
    explicit Watched(const TemporaryFolder& instance) {
        if (!test::fs::exists(instance.path() / "config/me")) instance.write("config/me", "mx.example.com\n");
        Loaded loaded = load(instance.text());
        watch_ = std::make_unique<Watch>(loaded.settings, loaded.problems, [this](const Reload& reload) {
            reloads.push_back(reload);
        });
        EXPECT_TRUE(watch_->start().has_value());
    }
    // Serves the watch until it has reported `count` times in all, or five seconds have gone.
    void await(std::size_t count) {
        const auto deadline = steady_clock::now() + milliseconds(5000);
        while (reloads.size() < count && serve_until(deadline)) {
        }
    }
    // Serves the watch for a while: for showing that nothing is reported.
    void serve_for(milliseconds time) {
        const auto deadline = steady_clock::now() + time;
        while (serve_until(deadline)) {
        }
    }
    Watch& watch() { return *watch_; }
    std::vector<Reload> reloads;

private:
    bool serve_until(steady_clock::time_point deadline) {
        const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
        if (left.count() <= 0) return false;
        pollfd waiting{watch_->fd(), POLLIN, 0};
        if (poll(&waiting, 1, static_cast<int>(left.count())) > 0) watch_->on_readable();
        return true;
    }
    std::unique_ptr<Watch> watch_;
};

TEST(Watching, AppliesALiveChangeWithinASecond) {
    const TemporaryFolder instance;
    Watched watched(instance);
    const auto written = steady_clock::now();
    instance.write("config/outbound.ini", "concurrency_max=7\n");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_LT(steady_clock::now() - written, milliseconds(1000));
    const Reload& reload = watched.reloads[0];
    EXPECT_TRUE(reload.applied);
    EXPECT_EQ(reload.settings->outbound.concurrency_max, 7U);
    EXPECT_THAT(reload.changes.live, ElementsAre("outbound.ini [main] concurrency_max"));
    EXPECT_THAT(reload.needs_restart, IsEmpty());
}

TEST(Watching, NamesWhatWaitsForARestartUntilItIsTakenBack) {
    const TemporaryFolder instance;
    Watched watched(instance);
    instance.write("config/smtp.ini", "listen=127.0.0.1:2600\n");
    watched.await(1);
    instance.write("config/outbound.ini", "always_split=true\n");
    watched.await(2);
    instance.write("config/smtp.ini", "\n");
    watched.await(3);
    ASSERT_THAT(watched.reloads, SizeIs(3));
    EXPECT_THAT(watched.reloads[0].changes.needs_restart, ElementsAre("smtp.ini [main] listen"));
    EXPECT_THAT(watched.reloads[1].changes.needs_restart, IsEmpty());
    EXPECT_THAT(watched.reloads[1].needs_restart, ElementsAre("smtp.ini [main] listen"));
    EXPECT_THAT(watched.reloads[2].needs_restart, IsEmpty());
}

TEST(Watching, NobodySeesWhatWaitsForARestart) {
    const TemporaryFolder instance;
    instance.write("config/smtp.ini", "listen=127.0.0.1:2525\nsmtps_port=0\n");
    instance.write("config/http.ini", "listen=192.0.2.1:8026\ntoken=0123456789abcdef\n");
    Watched watched(instance);
    instance.write("config/smtp.ini", "listen=127.0.0.1:2600\nsmtps_port=2525\n");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_TRUE(watched.reloads[0].accepted);
    EXPECT_FALSE(watched.reloads[0].applied) << "nothing of it is in force";

    instance.write("config/http.ini", "listen=192.0.2.1:8026\n;token=0123456789abcdef\n");
    instance.write("config/outbound.ini", "concurrency_max=7\n");
    watched.await(2);
    ASSERT_THAT(watched.reloads, SizeIs(2));
    const Settings& settings = *watched.reloads[1].settings;
    EXPECT_EQ(settings.outbound.concurrency_max, 7U);
    EXPECT_EQ(settings.http.token, "");
    EXPECT_THAT(settings.http.listen, ElementsAre("192.0.2.1:8026")) << "that socket is open";
    EXPECT_THAT(settings.smtp.listen, ElementsAre("127.0.0.1:2525"));
    EXPECT_THAT(settings.smtp.smtps_ports, IsEmpty());
}

TEST(Watching, AScriptRunsUntilASharedObjectTakesItsPlace) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "first\nacme\nlast\n");
    for (const char* name : {"first", "acme", "last"}) instance.write(std::string("plugins/") + name + ".js", "");
    Watched watched(instance);
    test::fs::remove(instance.path() / "plugins/acme.js");
    instance.write("plugins/acme.so", "");
    instance.write("config/outbound.ini", "concurrency_max=7\n");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    const Reload& reload = watched.reloads[0];
    EXPECT_THAT(reload.settings->javascript_plugins, ElementsAre("first", "acme", "last"));
    EXPECT_THAT(reload.settings->native_plugins, IsEmpty());
    EXPECT_THAT(reload.needs_restart, ElementsAre("plugins: shared objects"));
    EXPECT_THAT(reload.changes.live, ElementsAre("outbound.ini [main] concurrency_max"));
}

// Whether there is TLS follows from the listeners; while one is open it must not be taken from under it.
TEST(Watching, TlsIsForTheListenersThatAreOpen) {
    const TemporaryFolder instance;
    const test::CertificatePair pair = test::make_certificate();
    instance.write("config/tls_cert.pem", pair.certificate);
    instance.write("config/tls_key.pem", pair.key);
    instance.write("config/smtp.ini", "listen=127.0.0.1:2525,127.0.0.1:465\n");
    Watched watched(instance);
    instance.write("config/smtp.ini", "listen=127.0.0.1:2525\n");
    instance.write("config/outbound.ini", "concurrency_max=7\n");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_TRUE(watched.reloads[0].applied);
    EXPECT_TRUE(watched.reloads[0].settings->tls.enabled);
    EXPECT_THAT(watched.reloads[0].needs_restart, ElementsAre("smtp.ini [main] listen"));

    test::fs::remove(instance.path() / "config/tls_cert.pem");
    test::fs::remove(instance.path() / "config/tls_key.pem");
    watched.await(2);
    ASSERT_THAT(watched.reloads, SizeIs(2));
    EXPECT_FALSE(watched.reloads[1].accepted) << "the files would do for a restart, but not for the open listener";
    EXPECT_TRUE(watched.reloads[1].settings->tls.enabled);
}

TEST(Watching, APluginThatIsInstalledLaterIsAChangeAndOneThatVanishesStays) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "late\n");
    Watched watched(instance);
    instance.write("plugins/late.js", "exports.register = function () {}\n");
    const Reload installed = watched.watch().reload();
    EXPECT_TRUE(installed.applied);
    EXPECT_THAT(installed.settings->javascript_plugins, ElementsAre("late"));
    EXPECT_THAT(installed.changes.live, ElementsAre("plugins: what is installed"));

    test::fs::remove(instance.path() / "plugins/late.js");
    instance.write("config/outbound.ini", "concurrency_max=7\n");
    const Reload vanished = watched.watch().reload();
    EXPECT_TRUE(vanished.applied);
    EXPECT_THAT(vanished.settings->javascript_plugins, ElementsAre("late")) << "what is loaded of it goes on";
    ASSERT_THAT(vanished.problems, SizeIs(1));
    EXPECT_THAT(vanished.problems[0].text(), HasSubstr("config/plugins:1: plugin `late` is no longer in plugins/"));

    instance.write("config/plugins", "\n");
    EXPECT_THAT(watched.watch().reload().settings->javascript_plugins, IsEmpty());
}

TEST(Watching, ReloadsOnDemandAlsoWhenItCannotWatch) {
    const TemporaryFolder instance;
    instance.write("config/me", "mx.example.com\n");
    const Loaded loaded = load(instance.text());
    std::size_t told = 0;
    Watch watch(loaded.settings, loaded.problems, [&](const Reload&) { ++told; });
    instance.write("config/outbound.ini", "concurrency_max=7\n");
    const Reload reload = watch.reload();
    EXPECT_TRUE(reload.applied);
    EXPECT_EQ(reload.settings->outbound.concurrency_max, 7U);
    EXPECT_EQ(told, 1U);
    EXPECT_LT(watch.fd(), 0);
}

TEST(Watching, ABrokenFileKeepsTheOldSettingsAndIsReportedOnceAndSoIsItsRepair) {
    const TemporaryFolder instance;
    Watched watched(instance);
    instance.write("config/outbound.ini", "concurrency_max=many\n");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_FALSE(watched.reloads[0].applied);
    EXPECT_EQ(watched.reloads[0].settings->outbound.concurrency_max, 10'000U);
    ASSERT_THAT(watched.reloads[0].problems, SizeIs(1));
    EXPECT_THAT(
        watched.reloads[0].problems[0].text(),
        HasSubstr("config/outbound.ini:1: concurrency_max: expected a whole number")
    );

    watched.watch().reload();
    EXPECT_THAT(watched.reloads, SizeIs(1));

    instance.write("config/outbound.ini", "; all is well\n");
    watched.await(2);
    ASSERT_THAT(watched.reloads, SizeIs(2));
    EXPECT_FALSE(watched.reloads[1].applied);
    EXPECT_THAT(watched.reloads[1].problems, IsEmpty());
}

TEST(Watching, TakesFilesWrittenTogetherAsOneChange) {
    const TemporaryFolder instance;
    Watched watched(instance);
    instance.write("config/plugins", "relay\n");
    instance.write("config/relay_acl_allow", "10.0.0.0/8\n");
    instance.write("config/log.ini", "level=debug\n");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_THAT(watched.reloads[0].changes.live, SizeIs(5));
    EXPECT_TRUE(watched.reloads[0].settings->relay.acl);
}

TEST(Watching, SeesAnAtomicReplacementAndARemoval) {
    const TemporaryFolder instance;
    Watched watched(instance);
    instance.write("new.ini", "disabled=true\n");
    test::fs::rename(instance.path() / "new.ini", instance.path() / "config/outbound.ini");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_TRUE(watched.reloads[0].settings->outbound.disabled);
    test::fs::remove(instance.path() / "config/outbound.ini");
    watched.await(2);
    ASSERT_THAT(watched.reloads, SizeIs(2));
    EXPECT_FALSE(watched.reloads[1].settings->outbound.disabled);
}

TEST(Watching, SeesAReplacedConfigFolder) {
    const TemporaryFolder instance;
    Watched watched(instance);
    instance.write("next/me", "mx.example.com\n");
    instance.write("next/outbound.ini", "concurrency_max=8\n");
    test::fs::rename(instance.path() / "config", instance.path() / "old");
    test::fs::rename(instance.path() / "next", instance.path() / "config");
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_EQ(watched.reloads[0].settings->outbound.concurrency_max, 8U);
    instance.write("config/outbound.ini", "concurrency_max=9\n");
    watched.await(2);
    ASSERT_THAT(watched.reloads, SizeIs(2));
    EXPECT_EQ(watched.reloads[1].settings->outbound.concurrency_max, 9U);
}

TEST(Watching, SeesARenewedCertificateOutsideTheInstance) {
    const TemporaryFolder instance, elsewhere;
    const auto renew = [&] {
        const test::CertificatePair pair = test::make_certificate();
        elsewhere.write("both.pem", pair.certificate + pair.key);
    };
    renew();
    const std::string path = elsewhere.text() + "/both.pem";
    instance.write("config/plugins", "tls\n");
    instance.write("config/tls.ini", "cert=" + path + "\nkey=" + path + "\n");
    Watched watched(instance);
    renew();
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_TRUE(watched.reloads[0].applied);
    EXPECT_THAT(watched.reloads[0].changes.live, Contains("tls.ini [main]: contents of the files"));
}

TEST(Watching, SeesAFolderOfBundlesAppear) {
    const TemporaryFolder instance;
    instance.write("config/plugins", "tls\n");
    Watched watched(instance);
    const test::CertificatePair pair = test::make_certificate();
    instance.write("config/tls/mx.pem", pair.certificate + pair.key);
    watched.await(1);
    ASSERT_THAT(watched.reloads, SizeIs(1));
    EXPECT_TRUE(watched.reloads[0].settings->tls.enabled);
}

TEST(Watching, SaysNothingWhenNoSettingChanges) {
    const TemporaryFolder instance;
    Watched watched(instance);
    instance.write("config/.outbound.ini.swp", "an editor's notes\n");
    instance.write("config/outbound.ini", "; only a comment\n");
    instance.write("log/events.jsonl", "{}\n");
    watched.serve_for(milliseconds(700));
    EXPECT_THAT(watched.reloads, IsEmpty());
}

}  // namespace
}  // namespace sluice::config
