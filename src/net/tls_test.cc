#include "net/tls.h"

#include <gmock/gmock.h>
#include <sys/socket.h>

#include <fstream>

#include "async/blocking.h"
#include "net/net_test_support.h"
#include "net/socket_stream.h"
#include "net/tls_test_support.h"

namespace sluice::net {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// An authority and the server identities it vouches for, in files.
class Tls : public testing::Test {
protected:
    Tls() : authority_(make_identity("Test Authority", "", nullptr, true)) {
        append_certificate(file("ca.pem"), authority_);
    }

    std::string file(const std::string& name) const { return directory_.file(name); }
    void issue(const std::string& name, const std::string& common_name, const std::string& names) {
        const Identity identity = make_identity(common_name, names, &authority_);
        append_certificate(file(name + ".pem"), identity);
        write_key(file(name + ".key"), identity);
    }
    TlsOptions options_for(const std::vector<std::string>& names) const {
        TlsOptions options;
        for (const std::string& name : names) {
            options.certificates.push_back(file(name + ".pem"));
            options.keys.push_back(file(name + ".key"));
        }
        return options;
    }
    std::shared_ptr<TlsContext> server_with(const TlsOptions& options) {
        auto context = TlsContext::server(options);
        EXPECT_TRUE(context) << context.error().text();
        return *context;
    }
    std::shared_ptr<TlsContext> server(const std::vector<std::string>& names) {
        return server_with(options_for(names));
    }
    TlsOptions client_options(bool verify = true) const {
        TlsOptions options;
        options.verify_peer = verify;
        options.ca_file = file("ca.pem");
        return options;
    }
    std::shared_ptr<TlsContext> client_with(const TlsOptions& options) {
        auto context = TlsContext::client(options);
        EXPECT_TRUE(context) << context.error().text();
        return *context;
    }
    std::shared_ptr<TlsContext> client(bool verify = true) { return client_with(client_options(verify)); }

    TempDir directory_;
    Identity authority_;
    boost::asio::io_context loop_;
};

Task<> shake_as_server(Stream& stream, std::shared_ptr<TlsContext> context, Result<>& result) {
    result = co_await stream.start_tls_server(std::move(context));
}

// What both ends saw of one handshake.
struct Outcome {
    Result<> client;
    Result<> server;
    std::optional<TlsSession> client_session;
    std::optional<TlsSession> server_session;
};

struct Contexts {
    std::shared_ptr<TlsContext> client;
    std::shared_ptr<TlsContext> server;
};

// A fixed endpoint makes the connections of one test look like visits to one server.
const Endpoint peer_name("/tls-test");

Task<StreamPair> socket_pair(async::Executor executor) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
    StreamPair pair;
    pair.client = *SocketStream::adopt(executor, Descriptor(ends[0]), peer_name);
    pair.server = *SocketStream::adopt(executor, Descriptor(ends[1]), peer_name);
    co_return pair;
}

Task<> shake(StreamPair& pair, Contexts contexts, std::string name, Outcome& outcome) {
    const async::Executor executor = co_await boost::asio::this_coro::executor;
    async::TaskGroup group(executor);
    group.spawn(shake_as_server(*pair.server, contexts.server, outcome.server));
    outcome.client = co_await pair.client->start_tls_client(contexts.client, std::move(name));
    if (!outcome.client) pair.client->abort();
    while (group.size() > 0)
        co_await async::sleep_for(0ms);
    co_await group.close();
    if (pair.client->tls() != nullptr) outcome.client_session = *pair.client->tls();
    if (pair.server->tls() != nullptr) outcome.server_session = *pair.server->tls();
}

Task<> meet(async::Executor executor, Contexts contexts, std::string name, Outcome& outcome) {
    StreamPair pair = co_await socket_pair(executor);
    co_await shake(pair, contexts, std::move(name), outcome);
    if (!outcome.client || !outcome.server) co_return;
    // Bytes in both directions; TLS 1.3 sends its tickets with the first ones.
    const std::array<std::string_view, 3> slices = {"EHLO ", "", "x\r\n"};
    EXPECT_TRUE(co_await pair.client->write_all(slices));
    const std::string seen = co_await read_exactly(*pair.server, 8);
    EXPECT_EQ(seen, "EHLO x\r\n");
    EXPECT_TRUE(co_await pair.server->write("250 ok\r\n"));
    const std::string reply = co_await read_exactly(*pair.client, 8);
    EXPECT_EQ(reply, "250 ok\r\n");
}

Outcome run_meeting(boost::asio::io_context& loop, const Contexts& contexts, const std::string& name) {
    Outcome outcome;
    run_task(loop, meet(loop.get_executor(), contexts, name, outcome));
    return outcome;
}

TEST_F(Tls, AgreesAndTellsOnWhat) {
    issue("mx", "mx.test", "DNS:mx.test");
    const Outcome outcome = run_meeting(loop_, Contexts{client(), server({"mx"})}, "mx.test");
    ASSERT_TRUE(outcome.client) << outcome.client.error().text();
    ASSERT_TRUE(outcome.server) << outcome.server.error().text();
    EXPECT_EQ(outcome.client_session->version, "TLSv1.3");
    EXPECT_THAT(outcome.client_session->cipher, HasSubstr("TLS_"));
    EXPECT_GE(outcome.client_session->bits, 128);
    EXPECT_EQ(outcome.client_session->peer_subject, "CN=mx.test");
    EXPECT_TRUE(outcome.client_session->verified);
    EXPECT_EQ(outcome.client_session->verify_error, "");
    EXPECT_FALSE(outcome.client_session->resumed);
    EXPECT_FALSE(outcome.server_session->verified);
    EXPECT_EQ(outcome.server_session->peer_subject, "");
}

TEST_F(Tls, TL_4_OnlyWholeLabelWildcardsAndSubjectAltNamesCount) {
    struct Row {
        const char* common_name;
        const char* names;
        const char* asked;
        bool verifies;
    };
    const Row rows[] = {
        {"x", "DNS:mx.test", "mx.test", true},
        {"x", "DNS:mx.test", "MX.Test.", true},
        {"x", "DNS:mx.test", "other.test", false},
        {"mx.test", "", "mx.test", false},  // RFC 9525 §2: the common name is no name
        {"mx.test", "DNS:other.test", "mx.test", false},
        {"x", "DNS:*.pool.test", "mx.pool.test", true},
        {"x", "DNS:*.pool.test", "a.mx.pool.test", false},
        {"x", "DNS:m*.pool.test", "mx.pool.test", false},
        {"x", "DNS:mx.*.test", "mx.pool.test", false},
        {"x", "IP:192.0.2.1", "192.0.2.1", true},
        {"x", "IP:2001:db8::1", "2001:db8::1", true},
        {"x", "DNS:192.0.2.1", "192.0.2.1", false},
        {"192.0.2.1", "IP:192.0.2.2", "192.0.2.1", false},
    };
    int n = 0;
    for (const Row& row : rows) {
        const std::string name = "row" + std::to_string(++n);
        issue(name, row.common_name, row.names);
        const Outcome strict = run_meeting(loop_, Contexts{client(), server({name})}, row.asked);
        EXPECT_EQ(strict.client.has_value(), row.verifies) << row.names << " for " << row.asked;
        if (!strict.client) {
            EXPECT_EQ(strict.client.error().code, Errc::tls_failed);
            EXPECT_THAT(strict.client.error().detail, HasSubstr("mismatch"));
        }
        const Outcome lax = run_meeting(loop_, Contexts{client(false), server({name})}, row.asked);
        ASSERT_TRUE(lax.client) << lax.client.error().text();
        EXPECT_EQ(lax.client_session->verified, row.verifies);
        EXPECT_EQ(lax.client_session->verify_error.empty(), row.verifies);
    }
}

TEST_F(Tls, UnknownAuthorityOrNoNameIsNotVerified) {
    issue("mx", "mx.test", "DNS:mx.test");
    TlsOptions system_authorities;
    const Outcome unknown =
        run_meeting(loop_, Contexts{client_with(system_authorities), server({"mx"})}, "mx.test");
    ASSERT_TRUE(unknown.client);
    EXPECT_FALSE(unknown.client_session->verified);
    EXPECT_NE(unknown.client_session->verify_error, "");
    const Outcome nameless = run_meeting(loop_, Contexts{client(), server({"mx"})}, "");
    ASSERT_TRUE(nameless.client);
    EXPECT_FALSE(nameless.client_session->verified);
    for (const char* name : {".test", "."}) {
        const Outcome refused = run_meeting(loop_, Contexts{client(), server({"mx"})}, name);
        ASSERT_FALSE(refused.client) << name;
        EXPECT_EQ(refused.client.error().code, Errc::bad_input);
    }
}

TEST_F(Tls, ServesTheCertificateForTheNameAskedFor) {
    issue("first", "first", "DNS:first.test");
    issue("second", "second", "DNS:second.test,DNS:*.second.test");
    const auto context = server({"first", "second"});
    const std::pair<const char*, const char*> rows[] = {
        {"first.test", "CN=first"},
        {"second.test", "CN=second"},
        {"mx.second.test", "CN=second"},
        {"unknown.test", "CN=first"},
        {"", "CN=first"}
    };
    for (const auto& [name, subject] : rows) {
        const Outcome outcome = run_meeting(loop_, Contexts{client(false), context}, name);
        ASSERT_TRUE(outcome.client);
        EXPECT_EQ(outcome.client_session->peer_subject, subject) << name;
    }
}

TEST_F(Tls, ResumesSessionsOnlyForTheSameNameAndContext) {
    issue("mx", "mx.test", "DNS:mx.test,DNS:other.test");
    for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
        const auto context = server({"mx"});
        SSL_CTX_set_max_proto_version(std::static_pointer_cast<OpenSslContext>(context)->native(), version);
        const auto visitor = client();
        const Outcome first = run_meeting(loop_, Contexts{visitor, context}, "mx.test");
        const Outcome second = run_meeting(loop_, Contexts{visitor, context}, "mx.test");
        const Outcome other_name = run_meeting(loop_, Contexts{visitor, context}, "other.test");
        const Outcome other_policy = run_meeting(loop_, Contexts{client(false), context}, "mx.test");
        ASSERT_TRUE(second.client && other_name.client && other_policy.client);
        EXPECT_FALSE(first.client_session->resumed);
        EXPECT_TRUE(second.client_session->resumed);
        EXPECT_TRUE(second.server_session->resumed);
        EXPECT_TRUE(second.client_session->verified);
        EXPECT_EQ(second.client_session->peer_subject, "CN=mx.test");
        EXPECT_FALSE(other_name.client_session->resumed);
        EXPECT_FALSE(other_policy.client_session->resumed);
    }
}

TEST_F(Tls, VerifiesClientsOnlyWhenAskedTo) {
    issue("mx", "mx.test", "DNS:mx.test");
    issue("customer", "customer", "DNS:customer.test");
    TlsOptions options = options_for({"mx"});
    options.request_certificate = true;
    options.ca_file = file("ca.pem");
    TlsOptions with_certificate = options_for({"customer"});
    with_certificate.ca_file = file("ca.pem");

    Outcome outcome =
        run_meeting(loop_, Contexts{client_with(with_certificate), server_with(options)}, "mx.test");
    ASSERT_TRUE(outcome.server) << outcome.server.error().text();
    EXPECT_TRUE(outcome.server_session->verified);
    EXPECT_EQ(outcome.server_session->peer_subject, "CN=customer");
    outcome = run_meeting(loop_, Contexts{client(), server_with(options)}, "mx.test");
    ASSERT_TRUE(outcome.server);
    EXPECT_FALSE(outcome.server_session->verified);

    options.verify_peer = true;
    outcome = run_meeting(loop_, Contexts{client(), server_with(options)}, "mx.test");
    EXPECT_FALSE(outcome.server);
}

TEST_F(Tls, TheOptionsCountForEveryCertificateThatANameChooses) {
    issue("first", "first", "DNS:first.test");
    issue("second", "second", "DNS:second.test");
    issue("customer", "customer", "DNS:customer.test");
    const Identity stranger = make_identity("stranger", "DNS:stranger.test");
    append_certificate(file("stranger.pem"), stranger);
    write_key(file("stranger.key"), stranger);
    TlsOptions options = options_for({"first", "second"});
    options.request_certificate = true;
    options.ca_file = file("ca.pem");
    options.ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305";
    TlsOptions known = options_for({"customer"}), unknown = options_for({"stranger"});
    known.ca_file = unknown.ca_file = file("ca.pem");
    for (const char* name : {"first.test", "second.test"}) {
        options.verify_peer = false;
        const auto lax = server_with(options);
        const auto visitor = client_with(unknown);
        SSL_CTX_set_max_proto_version(std::static_pointer_cast<OpenSslContext>(visitor)->native(), TLS1_2_VERSION);
        Outcome outcome = run_meeting(loop_, Contexts{visitor, lax}, name);
        ASSERT_TRUE(outcome.server) << name << ": " << outcome.server.error().text();
        EXPECT_FALSE(outcome.server_session->verified) << name;
        EXPECT_EQ(outcome.server_session->cipher, options.ciphers) << name;
        options.verify_peer = true;
        const auto strict = server_with(options);
        outcome = run_meeting(loop_, Contexts{client_with(known), strict}, name);
        ASSERT_TRUE(outcome.server) << name << ": " << outcome.server.error().text();
        EXPECT_TRUE(outcome.server_session->verified) << name;
        EXPECT_FALSE(run_meeting(loop_, Contexts{client_with(unknown), strict}, name).server) << name;
    }
}

TEST_F(Tls, TLS_I9_ChainsAndKeysAreBounded) {
    const Identity good = make_identity("mx", "DNS:mx.test", &authority_);
    STACK_OF(X509)* chain = sk_X509_new_null();
    for (int i = 0; i < chain_certificates_max; ++i)
        sk_X509_push(chain, good.certificate.get());
    EXPECT_TRUE(within_bounds(chain));
    sk_X509_push(chain, good.certificate.get());
    EXPECT_FALSE(within_bounds(chain));
    sk_X509_free(chain);

    // Through a real handshake: a chain too long, although each certificate is fine.
    append_certificate(file("long.pem"), good);
    write_key(file("long.key"), good);
    for (int i = 0; i < 100; ++i)
        append_certificate(file("long.pem"), authority_);
    const Outcome outcome = run_meeting(loop_, Contexts{client(false), server({"long"})}, "mx.test");
    ASSERT_FALSE(outcome.client);
    EXPECT_EQ(outcome.client.error().code, Errc::tls_failed);
}

// An RSA key of 16384 bits that nobody had to compute: only its size is looked at.
KeyPtr huge_key() {
    const std::unique_ptr<BIGNUM, decltype(&BN_free)> modulus(BN_new(), &BN_free);
    BN_set_bit(modulus.get(), 16383);
    BN_set_bit(modulus.get(), 0);
    std::array<unsigned char, 2048> n{};
    std::array<unsigned char, 3> e = {1, 0, 1};
    BN_bn2nativepad(modulus.get(), n.data(), n.size());
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_BN("n", n.data(), n.size()), OSSL_PARAM_construct_BN("e", e.data(), e.size()),
        OSSL_PARAM_construct_end()
    };
    EVP_PKEY_CTX* context = EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr);
    EVP_PKEY* key = nullptr;
    EVP_PKEY_fromdata_init(context);
    EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, const_cast<OSSL_PARAM*>(params));
    EVP_PKEY_CTX_free(context);
    return KeyPtr(key);
}

TEST_F(Tls, TLS_I9_HugeKeysAreNotComputedWith) {
    const Identity huge = make_identity("mx", "DNS:mx.test", &authority_, false, huge_key());
    STACK_OF(X509)* chain = sk_X509_new_null();
    sk_X509_push(chain, huge.certificate.get());
    EXPECT_FALSE(within_bounds(chain));
    sk_X509_free(chain);
}

Task<> write_slices(Stream& stream, std::vector<std::string_view> slices, bool& done) {
    const auto written = co_await stream.write_all(slices);
    done = written.has_value();
}

Task<> carry_much_in_tls(async::Executor executor, Contexts contexts) {
    StreamPair pair = co_await open_pair(executor);
    Outcome outcome;
    co_await shake(pair, contexts, "mx.test", outcome);
    std::string bytes(3'000'000, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<char>(i * 7 + i / 251);
    std::vector<std::string_view> slices;
    for (std::size_t at = 0, size = 0; at < bytes.size(); at += size, size = (size * 5 + 1) % 39'989) {
        slices.push_back(std::string_view(bytes).substr(at, size));
    }
    async::TaskGroup group(executor);
    bool written = false;
    group.spawn(write_slices(*pair.client, slices, written));
    const std::string seen = co_await read_exactly(*pair.server, bytes.size());
    EXPECT_TRUE(seen == bytes);
    while (group.size() > 0)
        co_await async::sleep_for(0ms);
    EXPECT_TRUE(written);
    co_await group.close();
}

TEST_F(Tls, CarriesMoreThanTheKernelBuffers) {
    issue("mx", "mx.test", "DNS:mx.test");
    run_task(loop_, carry_much_in_tls(loop_.get_executor(), Contexts{client(), server({"mx"})}));
}

Task<> end_tls(async::Executor executor, Contexts contexts, bool politely) {
    StreamPair pair = co_await socket_pair(executor);
    Outcome outcome;
    co_await shake(pair, contexts, "mx.test", outcome);
    EXPECT_FALSE(pair.client->idle_link_is_dead());  // tickets are no application bytes
    EXPECT_TRUE(co_await pair.server->write("250 ok"));
    const std::string reply = co_await read_exactly(*pair.client, 6);
    EXPECT_EQ(reply, "250 ok");
    EXPECT_FALSE(pair.client->idle_link_is_dead());
    if (politely) co_await pair.server->close();
    if (!politely) pair.server.reset();
    EXPECT_TRUE(pair.client->idle_link_is_dead());
    const Errc error = co_await read_error(*pair.client);
    EXPECT_EQ(error, Errc::link_closed);
    co_await pair.client->close();
}

TEST_F(Tls, TL_8_TheEndNeedsNoCloseNotify) {
    issue("mx", "mx.test", "DNS:mx.test");
    for (const bool politely : {true, false}) {
        run_task(loop_, end_tls(loop_.get_executor(), Contexts{client(), server({"mx"})}, politely));
    }
}

Task<> hear_plain_text(
    async::Executor executor, std::shared_ptr<TlsContext> context, std::string said, Errc expected
) {
    StreamPair pair = co_await socket_pair(executor);
    EXPECT_TRUE(co_await pair.server->write(said));
    pair.client->set_timeout(20ms);
    const auto started = co_await pair.client->start_tls_client(context, "mx.test");
    EXPECT_FALSE(started);
    EXPECT_EQ(started.error().code, expected) << started.error().text();
    EXPECT_EQ(pair.client->tls(), nullptr);
    // There is no way back to clear text.
    const auto written = co_await pair.client->write("MAIL FROM:<a@b.test>\r\n");
    EXPECT_FALSE(written);
}

TEST_F(Tls, TLS_I7_PlainTextOrSilenceInsteadOfAHandshakeFails) {
    const auto context = client(false);
    run_task(
        loop_,
        hear_plain_text(loop_.get_executor(), context, "250-mx.test\r\n250 AUTH PLAIN\r\n", Errc::tls_failed)
    );
    run_task(loop_, hear_plain_text(loop_.get_executor(), context, "\x16", Errc::timed_out));
    run_task(loop_, hear_plain_text(loop_.get_executor(), context, "", Errc::timed_out));
}

Task<> expect_cancelled(Stream& stream) {
    const Errc error = co_await read_error(stream);
    EXPECT_EQ(error, Errc::cancelled);
}

Task<> cancel_tls_read(async::Executor executor, Contexts contexts) {
    StreamPair pair = co_await socket_pair(executor);
    Outcome outcome;
    co_await shake(pair, contexts, "mx.test", outcome);
    async::TaskGroup group(executor);
    group.spawn(expect_cancelled(*pair.client));
    co_await async::sleep_for(1ms);
    co_await group.close();
    pair.server->set_timeout(5ms);
    const Errc error = co_await read_error(*pair.server);
    EXPECT_EQ(error, Errc::timed_out);
}

TEST_F(Tls, DeadlineAndCancellationHoldInTlsToo) {
    issue("mx", "mx.test", "DNS:mx.test");
    run_task(loop_, cancel_tls_read(loop_.get_executor(), Contexts{client(), server({"mx"})}));
}

TEST_F(Tls, NamesTheFileThatIsWrong) {
    issue("mx", "mx.test", "DNS:mx.test");
    issue("other", "other.test", "DNS:other.test");
    std::ofstream(file("junk.pem")) << "junk";
    const Identity secret = make_identity("secret", "DNS:secret.test");
    append_certificate(file("secret.pem"), secret);
    write_key(file("secret.key"), secret, "passphrase");

    const auto expect_failure = [&](const std::string& certificate, const std::string& key,
                                    const std::string& words) {
        TlsOptions options;
        options.certificates = {file(certificate)};
        options.keys = {file(key)};
        const auto context = TlsContext::server(options);
        ASSERT_FALSE(context) << certificate;
        EXPECT_EQ(context.error().code, Errc::config);
        EXPECT_THAT(context.error().detail, HasSubstr(words));
    };
    expect_failure("none.pem", "mx.key", "none.pem: No such file");
    expect_failure("mx.pem", "none.key", "none.key: No such file");
    expect_failure("junk.pem", "mx.key", "junk.pem: not a PEM certificate");
    expect_failure("mx.pem", "junk.pem", "junk.pem: not a PEM private key");
    expect_failure("mx.pem", "other.key", "other.key: does not match the certificate");
    expect_failure("secret.pem", "secret.key", "secret.key: not a PEM private key without passphrase");

    TlsOptions options = options_for({"mx"});
    options.dh_params = file("junk.pem");
    EXPECT_THAT(TlsContext::server(options).error().detail, HasSubstr("junk.pem: no DH parameters"));
    options = options_for({"mx"});
    options.ciphers = "nonsense";
    EXPECT_THAT(TlsContext::server(options).error().detail, HasSubstr("nonsense"));
    options = client_options();
    options.ca_file = file("junk.pem");
    EXPECT_THAT(TlsContext::client(options).error().detail, HasSubstr("junk.pem: no CA certificates"));
    options.ca_file.clear();
    options.min_version = "TLSv1";
    EXPECT_EQ(TlsContext::client(options).error().code, Errc::config);
    EXPECT_EQ(TlsContext::server(TlsOptions()).error().code, Errc::config);
}

// A client in OpenSSL's own hands, which says what ours never would, and the link under test, with wires of memory.
class UnrulyClient final : public Wire {
public:
    UnrulyClient(const Contexts& contexts)
        : client_(SSL_new(std::static_pointer_cast<OpenSslContext>(contexts.client)->native())),
          link_(*TlsLink::server(contexts.server, *this)) {
        SSL_set_bio(client_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_connect_state(client_.get());
        for (int turn = 0; turn < 4; ++turn) {
            SSL_do_handshake(client_.get());
            link_->handshake();
        }
    }
    void change_keys(std::size_t times) {
        for (std::size_t i = 0; i < times; ++i) {
            SSL_key_update(client_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
            ASSERT_EQ(SSL_do_handshake(client_.get()), 1);
        }
    }
    void say(std::string_view words) { SSL_write(client_.get(), words.data(), static_cast<int>(words.size())); }

    ssize_t send(std::string_view bytes) override {
        return BIO_write(SSL_get_rbio(client_.get()), bytes.data(), static_cast<int>(bytes.size()));
    }
    ssize_t receive(std::span<char> into) override {
        const int size = BIO_read(SSL_get_wbio(client_.get()), into.data(), static_cast<int>(into.size()));
        if (size <= 0) errno = EAGAIN;
        return size <= 0 ? -1 : size;
    }
    std::size_t on_the_way() const { return BIO_ctrl_pending(SSL_get_wbio(client_.get())); }
    TlsLink& link() { return *link_; }

private:
    struct FreeSsl {
        void operator()(SSL* ssl) const { SSL_free(ssl); }
    };
    std::unique_ptr<SSL, FreeSsl> client_;
    std::unique_ptr<TlsLink> link_;
};

constexpr std::size_t key_update_octets = 27;

TEST_F(Tls, TLS_I10_RecordsWithoutContentAreReadInTurns) {
    issue("mx", "mx.test", "DNS:mx.test");
    UnrulyClient client(Contexts{this->client(false), server({"mx"})});
    ASSERT_NE(client.link().session(), nullptr);
    std::array<char, 64> words{};
    for (int round = 0; round < 3; ++round) {
        client.change_keys(TlsLink::barren_octets_max / key_update_octets * 3 / 4);
        client.say("NOOP\r\n");
        int turns = 1;
        TlsLink::Moved moved = client.link().read(words);
        for (; moved.progress == TlsLink::Progress::wants_read; ++turns) {
            ASSERT_GT(client.on_the_way(), 0U) << "it waits for what is here already";
            const std::size_t before = client.on_the_way();
            moved = client.link().read(words);
            ASSERT_LE(before - client.on_the_way(), 3 * TlsLink::turn_octets);
        }
        EXPECT_GE(turns, 5);
        EXPECT_EQ(std::string_view(words.data(), moved.size), "NOOP\r\n") << client.link().failure();
    }
}

TEST_F(Tls, TLS_I10_AFloodOfThemEndsTheLink) {
    issue("mx", "mx.test", "DNS:mx.test");
    UnrulyClient client(Contexts{this->client(false), server({"mx"})});
    client.change_keys(3 * TlsLink::barren_octets_max / key_update_octets);
    std::array<char, 64> words{};
    TlsLink::Moved moved{TlsLink::Progress::wants_read};
    for (int turn = 0; turn < 100 && moved.progress == TlsLink::Progress::wants_read; ++turn) moved = client.link().read(words);
    EXPECT_EQ(moved.progress, TlsLink::Progress::failed);
    EXPECT_THAT(client.link().failure(), HasSubstr("says nothing"));
    EXPECT_GE(client.on_the_way(), TlsLink::barren_octets_max);
}

TEST_F(Tls, TLS_I10_AnIdleLinkThatIsKeptBusyIsDead) {
    issue("mx", "mx.test", "DNS:mx.test");
    UnrulyClient client(Contexts{this->client(false), server({"mx"})});
    client.change_keys(5);
    EXPECT_FALSE(client.link().is_dead_or_readable());
    client.change_keys(3 * TlsLink::turn_octets / key_update_octets);
    EXPECT_TRUE(client.link().is_dead_or_readable());
    EXPECT_GT(client.on_the_way(), 0U) << "looking took all of it";
}

// A list that cannot be fetched must not stop mail, so nobody is asked who was revoked.
TEST_F(Tls, TL_7_RevocationIsNotAskedAbout) {
    issue("mx", "mx.test", "DNS:mx.test");
    for (const auto& context : {client(), server({"mx"})}) {
        SSL_CTX* native = std::static_pointer_cast<OpenSslContext>(context)->native();
        const unsigned long flags = X509_VERIFY_PARAM_get_flags(SSL_CTX_get0_param(native));
        EXPECT_EQ(flags & (X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL), 0U);
        EXPECT_EQ(SSL_CTX_get_tlsext_status_type(native), -1) << "no OCSP response is asked for";
    }
}

TEST_F(Tls, RFC8996_OldVersionsAreRefused) {
    issue("mx", "mx.test", "DNS:mx.test");
    TlsOptions modern = options_for({"mx"});
    modern.min_version = "TLSv1.3";
    const auto native = std::static_pointer_cast<OpenSslContext>(client());
    EXPECT_EQ(SSL_CTX_get_min_proto_version(native->native()), TLS1_2_VERSION);
    const auto old = client();
    SSL_CTX_set_max_proto_version(std::static_pointer_cast<OpenSslContext>(old)->native(), TLS1_2_VERSION);
    const Outcome outcome = run_meeting(loop_, Contexts{old, server_with(modern)}, "mx.test");
    ASSERT_FALSE(outcome.client);
    EXPECT_EQ(outcome.client.error().code, Errc::tls_failed);
    EXPECT_EQ(outcome.server.error().code, Errc::tls_failed);
}

}  // namespace
}  // namespace sluice::net
