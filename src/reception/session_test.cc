// Sessions over real sockets: TLS, PROXY in front of TLS, shutting down; and what goes over the wire in how many writes.

#include "reception/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "async/blocking.h"
#include "base/text.h"
#include "net/pipe.h"
#include "net/tls_context.h"
#include "net/tls_test_support.h"
#include "reception/reception_test_support.h"

namespace sluice::reception {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A client that says lines and hears replies.
class Client {
public:
    explicit Client(net::StreamPtr stream) : stream_(std::move(stream)) { stream_->set_timeout(20s); }

    Task<> say(std::string text) { co_await stream_->write(text); }
    // All lines of the next reply, or "<closed>".
    Task<std::string> hear() {
        std::string reply;
        for (;;) {
            const std::size_t end = heard_.find("\r\n");
            if (end == std::string::npos) {
                std::array<char, 4096> octets;
                const Result<std::size_t> count = co_await stream_->read_some(octets);
                if (!count) co_return "<closed>";
                heard_.append(octets.data(), *count);
                continue;
            }
            const std::string line = heard_.substr(0, end + 2);
            heard_.erase(0, end + 2);
            reply += line;
            if (line.size() < 4 || line[3] != '-') co_return reply;
        }
    }
    Task<std::string> ask(std::string line) {
        line += "\r\n";
        co_await stream_->write(line);
        std::string reply = co_await hear();
        co_return reply;
    }
    Task<bool> start_tls(std::shared_ptr<net::TlsContext> context) {
        const Result<> shaken = co_await stream_->start_tls_client(context, "mx.test");
        co_return shaken.has_value();
    }
    net::Stream& stream() { return *stream_; }

private:
    net::StreamPtr stream_;
    std::string heard_;
};

// A reception on a free port of loopback, and clients on the same loop.
class SessionTest : public testing::Test {
protected:
    SessionTest() {
        std::string place = testing::TempDir() + "/sluice-session-XXXXXX";
        directory_ = ::mkdtemp(place.data());
        const net::Identity identity = net::make_identity("mx.test", "DNS:mx.test");
        const std::string certificate = directory_ / "cert.pem";
        const std::string key = directory_ / "key.pem";
        net::append_certificate(certificate, identity);
        net::write_key(key, identity);
        settings_ = test_settings();
        settings_.smtp.listen = {"127.0.0.1:0"};
        settings_.tls.enabled = true;
        settings_.tls.certificates = {certificate};
        settings_.tls.keys = {key};
        settings_.auth.enabled = true;
        settings_.auth.methods = {"PLAIN", "LOGIN", "CRAM-MD5"};
        settings_.auth.users["joe@sender.test"] = "secret";
        const auto context = net::TlsContext::client(net::TlsOptions());
        EXPECT_TRUE(context);
        client_tls_ = *context;
    }
    ~SessionTest() override { std::filesystem::remove_all(directory_); }

    // Listens, runs `dialogue` to its end, and shuts down.
    void play(Task<> dialogue) {
        async::TaskGroup group(world_.shard.executor());
        group.spawn(run(std::move(dialogue)));
        world_.run(group);
    }

    void start() {
        reception_.emplace(world_.surroundings(), std::make_shared<const config::Settings>(settings_));
        const Result<> listening = reception_->listen();
        ASSERT_TRUE(listening) << listening.error().text();
    }
    // As the daemon does when the files of a certificate change.
    void renew_certificate(const std::string& name) {
        const net::Identity identity = net::make_identity(name, "DNS:" + name);
        std::filesystem::remove(directory_ / "cert.pem");
        std::filesystem::remove(directory_ / "key.pem");
        net::append_certificate(directory_ / "cert.pem", identity);
        net::write_key(directory_ / "key.pem", identity);
        ++settings_.tls.files_crc;  // as the configuration notices it
        const Result<> configured = reception_->configure(std::make_shared<const config::Settings>(settings_));
        ASSERT_TRUE(configured) << configured.error().text();
    }
    // The port is known only now.
    void speak_tls_at_once() {
        settings_.smtp.smtps_ports = {reception_->endpoints().front().port};
        const Result<> configured = reception_->configure(std::make_shared<const config::Settings>(settings_));
        ASSERT_TRUE(configured) << configured.error().text();
    }

    Task<std::unique_ptr<Client>> connect() {
        const net::ConnectOptions options(reception_->endpoints().front());
        Result<net::StreamPtr> stream = co_await net::connect(options);
        EXPECT_TRUE(stream);
        co_return std::make_unique<Client>(std::move(*stream));
    }
    Task<> close(std::chrono::milliseconds patience) {
        closed_ = true;
        co_await reception_->close(std::chrono::steady_clock::now() + patience);
    }

    TestWorld world_;
    std::filesystem::path directory_;
    config::Settings settings_;
    std::shared_ptr<net::TlsContext> client_tls_;
    std::optional<Reception> reception_;
    bool closed_ = false;

private:
    Task<> run(Task<> dialogue) {
        co_await std::move(dialogue);
        if (!closed_) co_await close(1s);
    }
};

// ---- STARTTLS -------------------------------------------------------------------------------------------------

class StartTls : public SessionTest {
public:
    Task<> begins_anew() {
        const auto client = co_await connect();
        EXPECT_THAT(co_await client->hear(), StartsWith("220 "));
        EXPECT_THAT(co_await client->ask("EHLO client.test"), HasSubstr("250-STARTTLS\r\n"));
        EXPECT_THAT(co_await client->ask("STARTTLS"), StartsWith("220 2.0.0"));
        EXPECT_TRUE(co_await client->start_tls(client_tls_));
        EXPECT_THAT(co_await client->ask("MAIL FROM:<a@sender.test>"), StartsWith("503 5.5.1"));
        const std::string offered = co_await client->ask("EHLO client.test");
        EXPECT_THAT(offered, Not(HasSubstr("STARTTLS")));
        EXPECT_THAT(co_await client->ask("STARTTLS"), StartsWith("503 5.5.1"));
        co_await client->say("MAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n");
        EXPECT_THAT(co_await client->hear(), StartsWith("250"));
        EXPECT_THAT(co_await client->hear(), StartsWith("250"));
        EXPECT_THAT(co_await client->hear(), StartsWith("354"));
        EXPECT_THAT(co_await client->ask("x: y\r\n."), StartsWith("250 2.0.0 Message Queued ("));
        EXPECT_THAT(world_.acceptance.messages.front()->trace, HasSubstr(" with ESMTPS "));
        EXPECT_THAT(co_await client->ask("QUIT"), StartsWith("221"));
    }

    Task<> refuses(std::string segment) {
        const auto client = co_await connect();
        co_await client->hear();
        co_await client->ask("EHLO client.test");
        co_await client->say(std::move(segment));
        EXPECT_THAT(co_await client->hear(), StartsWith("554 5.5.1"));
        EXPECT_EQ(co_await client->hear(), "<closed>");
        EXPECT_THAT(world_.recorder.refused, testing::Contains(StartsWith("starttls 554"))) << "PL-8: it is on record";
    }

    // A new certificate is shown to new handshakes only; who is there stays.
    Task<> outlives_its_certificate() {
        const auto first = co_await connect();
        co_await first->hear();
        co_await first->ask("EHLO client.test");
        co_await first->ask("STARTTLS");
        EXPECT_TRUE(co_await first->start_tls(client_tls_));
        EXPECT_EQ(first->stream().tls()->peer_subject, "CN=mx.test");

        renew_certificate("renewed.test");
        EXPECT_THAT(co_await first->ask("EHLO client.test"), StartsWith("250"));
        EXPECT_THAT(co_await first->ask("NOOP"), StartsWith("250"));
        const auto second = co_await connect();
        co_await second->hear();
        co_await second->ask("EHLO client.test");
        co_await second->ask("STARTTLS");
        EXPECT_TRUE(co_await second->start_tls(client_tls_));
        EXPECT_EQ(second->stream().tls()->peer_subject, "CN=renewed.test");
        EXPECT_THAT(co_await first->ask("QUIT"), StartsWith("221"));
    }

    Task<> forgets() {
        const auto client = co_await connect();
        co_await client->hear();
        co_await client->ask("EHLO client.test");
        EXPECT_THAT(co_await client->ask("AUTH PLAIN AGpvZUBzZW5kZXIudGVzdABzZWNyZXQ="), StartsWith("235"));
        EXPECT_THAT(co_await client->ask("MAIL FROM:<joe@sender.test>"), StartsWith("250"));
        EXPECT_THAT(co_await client->ask("RCPT TO:<b@example.test>"), StartsWith("250"));
        EXPECT_THAT(co_await client->ask("STARTTLS"), StartsWith("220"));
        EXPECT_TRUE(co_await client->start_tls(client_tls_));
        co_await client->ask("EHLO client.test");
        EXPECT_THAT(co_await client->ask("RCPT TO:<b@example.test>"), StartsWith("503"));
        EXPECT_THAT(co_await client->ask("MAIL FROM:<joe@sender.test>"), StartsWith("250"));
        EXPECT_THAT(co_await client->ask("RCPT TO:<b@example.test>"), StartsWith("550 5.7.1"));
    }
};

TEST_F(StartTls, TL_1_TheSessionBeginsAnewInside) {
    start();
    play(begins_anew());
}
TEST_F(StartTls, TL_6_ANewCertificateDropsNobody) {
    start();
    play(outlives_its_certificate());
}
TEST_F(StartTls, TLS_I1_CommandsBehindItEndTheSession) {
    start();
    play(refuses("STARTTLS\r\nEHLO evil.test\r\n"));
}
TEST_F(StartTls, TLS_I2_HalfACommandBehindItEndsTheSession) {
    start();
    play(refuses("STARTTLS\r\nMAIL FR"));
}
TEST_F(StartTls, TLS_I3_LoginAndTransactionOfTheClearAreForgotten) {
    settings_.relay.acl = false;
    start();
    play(forgets());
}

// ---- implicit TLS, PROXY, AUTH ----------------------------------------------------------------------------------

class ImplicitTls : public SessionTest {
public:
    Task<> speaks_inside() {
        const auto client = co_await connect();
        EXPECT_TRUE(co_await client->start_tls(client_tls_));
        EXPECT_THAT(co_await client->hear(), StartsWith("220 "));
        EXPECT_THAT(co_await client->ask("EHLO client.test"), Not(HasSubstr("STARTTLS")));
    }
    Task<> agrees_on(std::string cipher) {
        const auto client = co_await connect();
        EXPECT_TRUE(co_await client->start_tls(client_tls_));
        EXPECT_EQ(client->stream().tls()->cipher, cipher);
    }
    Task<> hears_nothing() {
        const auto client = co_await connect();
        // In TLS 1.3 a client may learn of a refusal only when it reads.
        [[maybe_unused]] const bool shaken = co_await client->start_tls(client_tls_);
        EXPECT_EQ(co_await client->hear(), "<closed>");
    }
    // Whose certificate this authority signed.
    std::shared_ptr<net::TlsContext> client_of(const net::Identity& authority) {
        const net::Identity identity = net::make_identity("client.test", "DNS:client.test", &authority);
        const std::string name = directory_ / "client";
        std::filesystem::remove(name + ".pem");
        std::filesystem::remove(name + ".key");
        net::append_certificate(name + ".pem", identity);
        net::write_key(name + ".key", identity);
        net::TlsOptions options;
        options.certificates = {name + ".pem"};
        options.keys = {name + ".key"};
        const auto context = net::TlsContext::client(options);
        EXPECT_TRUE(context);
        return *context;
    }
    Task<> parses_nothing_in_clear() {
        const auto client = co_await connect();
        co_await client->say("EHLO client.test\r\nMAIL FROM:<a@sender.test>\r\n");
        EXPECT_THAT(co_await client->hear(), Not(HasSubstr("250")));
    }
    // Behind a proxy the client's own address decides: a public one logs in inside TLS only.
    Task<> behind_proxy(std::string header) {
        const auto client = co_await connect();
        co_await client->say(std::move(header));
        EXPECT_TRUE(co_await client->start_tls(client_tls_));
        EXPECT_THAT(co_await client->hear(), StartsWith("220 "));
        const std::string offered = co_await client->ask("EHLO client.test");
        EXPECT_THAT(offered, HasSubstr("[203.0.113.9]"));
        EXPECT_THAT(offered, HasSubstr("250-AUTH PLAIN LOGIN CRAM-MD5\r\n"));
        EXPECT_THAT(co_await client->ask("AUTH PLAIN AGpvZUBzZW5kZXIudGVzdABzZWNyZXQ="), StartsWith("235 2.7.0"));
        co_await client->ask("MAIL FROM:<joe@sender.test>");
        EXPECT_THAT(co_await client->ask("RCPT TO:<b@example.test>"), StartsWith("250"));
        EXPECT_THAT(co_await client->ask("DATA"), StartsWith("354"));
        EXPECT_THAT(co_await client->ask("x: y\r\n."), StartsWith("250"));
        EXPECT_THAT(world_.acceptance.messages.back()->trace, HasSubstr(" with ESMTPSA "));
        EXPECT_EQ(world_.acceptance.messages.back()->auth_user, "joe@sender.test");
    }
};

TEST_F(ImplicitTls, SU_2_SpeaksInsideAndOffersNoStartTls) {
    start();
    speak_tls_at_once();
    play(speaks_inside());
}
TEST_F(ImplicitTls, SU_2_NothingBeforeTheHandshakeIsSmtp) {
    start();
    speak_tls_at_once();
    play(parses_nothing_in_clear());
}
TEST_F(ImplicitTls, PP_2_ProxyHeaderV1ComesBeforeTheHandshake) {
    settings_.connection.proxy_hosts = {"127.0.0.1"};
    start();
    speak_tls_at_once();
    play(behind_proxy("PROXY TCP4 203.0.113.9 198.51.100.1 40000 465\r\n"));
}
TEST_F(ImplicitTls, PP_2_ProxyHeaderV2ComesBeforeTheHandshake) {
    settings_.connection.proxy_hosts = {"127.0.0.1"};
    start();
    speak_tls_at_once();
    play(behind_proxy("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xCB\0\x71\x09\xC6\x33\x64\x01\x9C\x40\x01\xD1"s));
}

// A listener may be open whose certificate is not there any more.
TEST_F(ImplicitTls, WithoutCertificateTheConnectionEnds) {
    start();
    settings_.tls.enabled = false;
    speak_tls_at_once();
    play(hears_nothing());
    EXPECT_THAT(world_.log.lines, testing::Contains(HasSubstr("handshake failed ip=127.0.0.1 error=there is no certificate")));
}

TEST_F(ImplicitTls, ClientsAreVerifiedByTheAuthoritiesOfTheSettings) {
    const net::Identity ours = net::make_identity("Our customers", "", nullptr, true);
    const net::Identity others = net::make_identity("Somebody else's", "", nullptr, true);
    net::append_certificate(directory_ / "ca.pem", ours);
    settings_.tls.ca_file = directory_ / "ca.pem";
    settings_.tls.verify_peer = true;
    start();
    speak_tls_at_once();
    client_tls_ = client_of(ours);
    play(speaks_inside());
    closed_ = false;
    start();
    speak_tls_at_once();
    client_tls_ = client_of(others);
    play(hears_nothing());
    closed_ = false;
    settings_.tls.ca_file.clear();  // those of the system, which know neither
    start();
    speak_tls_at_once();
    client_tls_ = client_of(ours);
    play(hears_nothing());
}

TEST_F(ImplicitTls, TheOrderOfCiphersIsOursOrTheClients) {
    const std::string one = "ECDHE-ECDSA-AES128-GCM-SHA256", other = "ECDHE-ECDSA-AES256-GCM-SHA384";
    settings_.tls.ciphers = one + ":" + other;
    net::TlsOptions options;
    options.ciphers = other + ":" + one;
    client_tls_ = net::TlsContext::client(options).value();
    SSL_CTX_set_max_proto_version(std::static_pointer_cast<net::OpenSslContext>(client_tls_)->native(), TLS1_2_VERSION);
    for (const bool ours : {true, false}) {
        settings_.tls.prefer_server_ciphers = ours;
        start();
        speak_tls_at_once();
        play(agrees_on(ours ? one : other));
        closed_ = false;
    }
}

TEST_F(ImplicitTls, WithoutCertificateListeningFails) {
    settings_.tls.enabled = false;
    settings_.smtp.smtps_ports = {0};
    reception_.emplace(world_.surroundings(), std::make_shared<const config::Settings>(settings_));
    const Result<> listening = reception_->listen();
    ASSERT_FALSE(listening);
    EXPECT_EQ(listening.error().code, Errc::config);
}

// ---- limits and shutdown ------------------------------------------------------------------------------------------

class Crowd : public SessionTest {
public:
    Task<> third_of_one_client_is_told() {
        const auto first = co_await connect();
        EXPECT_THAT(co_await first->hear(), StartsWith("220"));
        const auto second = co_await connect();
        EXPECT_THAT(co_await second->hear(), StartsWith("220"));
        const auto third = co_await connect();
        EXPECT_THAT(co_await third->hear(), StartsWith("421 4.7.0"));
        EXPECT_EQ(co_await third->hear(), "<closed>");
        EXPECT_THAT(co_await first->ask("QUIT"), StartsWith("221"));
        EXPECT_EQ(co_await first->hear(), "<closed>");
        const auto fourth = co_await connect();
        EXPECT_THAT(co_await fourth->hear(), StartsWith("220"));
    }
};

class EmptyChunks : public SessionTest {
public:
    Task<> end_in_421() {
        const auto client = co_await connect();
        co_await client->hear();
        co_await client->ask("EHLO client.test");
        co_await client->ask("MAIL FROM:<a@sender.test>");
        co_await client->ask("RCPT TO:<b@example.test>");
        int taken = 0;
        std::string answer = co_await client->ask("BDAT 0");
        while (answer.starts_with("250") && taken < 5'000) {
            ++taken;
            answer = co_await client->ask("BDAT 0");
        }
        EXPECT_THAT(answer, StartsWith("421 4.7.0"));
        EXPECT_EQ(co_await client->hear(), "<closed>");
        EXPECT_TRUE(world_.acceptance.messages.empty());
    }
};

TEST_F(EmptyChunks, DoS_4_WithoutEndAreNoProgress) {
    start();
    play(end_in_421());
}

TEST_F(Crowd, ConnectionsOfAClientAreLimited) {
    settings_.smtp.connections_per_client_max = 2;
    start();
    play(third_of_one_client_is_told());
}

class Shutdown : public SessionTest {
public:
    Task<> idle_clients_are_told() {
        const auto client = co_await connect();
        co_await client->hear();
        co_await client->ask("EHLO client.test");
        co_await close(20s);
        EXPECT_EQ(reception_->connections(), 0U);
        EXPECT_THAT(co_await client->hear(), StartsWith("421 4.3.2"));
        EXPECT_EQ(co_await client->hear(), "<closed>");
    }
    // S5321-15: what is under way may finish; the next command is refused.
    Task<> content_under_way_finishes() {
        const auto client = co_await connect();
        co_await client->hear();
        co_await client->ask("EHLO client.test");
        co_await client->ask("MAIL FROM:<a@sender.test>");
        co_await client->ask("RCPT TO:<b@example.test>");
        EXPECT_THAT(co_await client->ask("DATA"), StartsWith("354"));
        async::TaskGroup closing(world_.shard.executor());
        closing.spawn(close(20s));
        EXPECT_THAT(co_await client->ask("x\r\n."), StartsWith("250 2.0.0"));
        EXPECT_THAT(co_await client->ask("MAIL FROM:<a@sender.test>"), StartsWith("421 4.3.2"));
        EXPECT_EQ(co_await client->hear(), "<closed>");
        while (closing.size() > 0) co_await async::sleep_for(1ms);
        co_await closing.close();
        EXPECT_EQ(world_.acceptance.messages.size(), 1U);
    }
    Task<> deadline_cuts() {
        const auto client = co_await connect();
        co_await client->hear();
        co_await client->ask("EHLO client.test");
        co_await client->ask("MAIL FROM:<a@sender.test>");
        co_await client->ask("RCPT TO:<b@example.test>");
        co_await client->ask("DATA");
        co_await client->say("half a mess");
        co_await close(20ms);
        EXPECT_EQ(reception_->connections(), 0U);
        EXPECT_EQ(co_await client->hear(), "<closed>");
        EXPECT_TRUE(world_.acceptance.messages.empty());
    }
};

TEST_F(Shutdown, IdleClientsAreToldAtOnce) {
    start();
    play(idle_clients_are_told());
}
TEST_F(Shutdown, S5321_15_ContentUnderWayFinishes) {
    start();
    play(content_under_way_finishes());
}
TEST_F(Shutdown, S5321_15_TheDeadlineCutsWithoutAccepting) {
    start();
    play(deadline_cuts());
}

// ---- writes ---------------------------------------------------------------------------------------------------------

// Counts writes; everything else is the stream inside.
class CountedStream final : public net::Stream {
public:
    CountedStream(net::StreamPtr inner, int& writes) : inner_(std::move(inner)), writes_(writes) {}
    Task<Result<std::size_t>> read_some(std::span<char> into) override { return inner_->read_some(into); }
    Task<Result<>> write_all(std::span<const std::string_view> slices) override {
        ++writes_;
        return inner_->write_all(slices);
    }
    void set_deadline(TimePoint when) override { inner_->set_deadline(when); }
    Task<Result<>> start_tls_client(std::shared_ptr<net::TlsContext> context, std::string name) override {
        return inner_->start_tls_client(std::move(context), std::move(name));
    }
    Task<Result<>> start_tls_server(std::shared_ptr<net::TlsContext> context) override {
        return inner_->start_tls_server(std::move(context));
    }
    const net::TlsSession* tls() const override { return inner_->tls(); }
    bool idle_link_is_dead() override { return inner_->idle_link_is_dead(); }
    Task<> close() override { return inner_->close(); }
    void abort() override { inner_->abort(); }
    net::Endpoint local() const override { return inner_->local(); }
    net::Endpoint remote() const override { return inner_->remote(); }

private:
    net::StreamPtr inner_;
    int& writes_;
};

Task<> one_group(net::StreamPtr stream, int& writes) {
    Client client(std::move(stream));
    co_await client.hear();
    co_await client.ask("EHLO client.test");
    const int before = writes;
    std::string group = "MAIL FROM:<a@sender.test>\r\n";
    for (int i = 0; i < 50; ++i) group += "RCPT TO:<b" + std::to_string(i) + "@example.test>\r\n";
    co_await client.say(group + "DATA\r\n");
    for (int i = 0; i < 51; ++i) EXPECT_THAT(co_await client.hear(), StartsWith("250"));
    EXPECT_THAT(co_await client.hear(), StartsWith("354"));
    EXPECT_EQ(writes - before, 1);
    co_await client.say("x\r\n.\r\nQUIT\r\n");
    EXPECT_THAT(co_await client.hear(), StartsWith("250"));
    EXPECT_THAT(co_await client.hear(), StartsWith("221"));
}

// Says everything at once and is gone before any reply.
Task<> hit_and_run(net::StreamPtr stream) {
    Client client(std::move(stream));
    co_await client.hear();
    co_await client.say(
        "EHLO client.test\r\nMAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nx\r\n.\r\n");
    co_await client.stream().close();
}

TEST(Pipelining, S5321_14_AClientGoneAfterTheDotHasSentItsMailOnce) {
    TestWorld world;
    auto [client_end, server_end] = net::make_pipe(world.shard.executor());
    const net::Endpoint listener(net::IpAddress::v4(0x7F000001), 25);
    Session session(world.surroundings(), world.census, test_rules(test_settings()), std::move(server_end), listener);
    async::TaskGroup group(world.shard.executor());
    group.spawn(session.run());
    group.spawn(hit_and_run(std::move(client_end)));
    world.run(group);
    EXPECT_EQ(world.acceptance.messages.size(), 1U);
    EXPECT_EQ(world.recorder.accepted, 1);
}

// Sends content without end, in `opening` and then in lines, until it is cut off; keeps the last reply.
Task<> endless(net::StreamPtr stream, std::string opening, std::string& last) {
    Client client(std::move(stream));
    co_await client.hear();
    co_await client.ask("EHLO client.test");
    co_await client.ask("MAIL FROM:<a@sender.test>");
    co_await client.ask("RCPT TO:<b@example.test>");
    co_await client.say(opening);
    if (opening.starts_with("DATA")) co_await client.hear();
    const std::string lines = [] {
        std::string text;
        for (int i = 0; i < 512; ++i) text += std::string(62, 'x') + "\r\n";
        return text;
    }();
    for (int i = 0; i < 8; ++i) co_await client.say(lines);
    last = co_await client.hear();
    co_await client.stream().close();
}

TEST(Content, DoS_7_TheEndOfMemoryEndsContentUnderWay) {
    for (const char* opening : {"DATA\r\n", "BDAT 8000000 LAST\r\n"}) {
        TestWorld world;
        world.acceptance.room = 128 * 1024;
        auto [client_end, server_end] = net::make_pipe(world.shard.executor());
        const net::Endpoint listener(net::IpAddress::v4(0x7F000001), 25);
        Session session(world.surroundings(), world.census, test_rules(test_settings()), std::move(server_end), listener);
        async::TaskGroup group(world.shard.executor());
        std::string last;
        group.spawn(session.run());
        group.spawn(endless(std::move(client_end), opening, last));
        world.run(group);
        EXPECT_THAT(last, StartsWith("421")) << opening;
        EXPECT_TRUE(world.acceptance.messages.empty());
        EXPECT_EQ(world.census.total(), 0U);
    }
}

TEST(Pipelining, PL_1_FiftyRecipientsAreAnsweredTogether) {
    TestWorld world;
    int writes = 0;
    auto [client_end, server_end] = net::make_pipe(world.shard.executor());
    auto counted = std::make_unique<CountedStream>(std::move(server_end), writes);
    const net::Endpoint listener(net::IpAddress::v4(0x7F000001), 25);
    Session session(world.surroundings(), world.census, test_rules(test_settings()), std::move(counted), listener);
    async::TaskGroup group(world.shard.executor());
    group.spawn(session.run());
    group.spawn(one_group(std::move(client_end), writes));
    world.run(group);
    EXPECT_EQ(writes, 4);  // banner, EHLO, the group, the last two replies
    EXPECT_EQ(world.recorder.accepted, 1);
    EXPECT_EQ(world.census.total(), 0U);
}

}  // namespace
}  // namespace sluice::reception
