#include "net/tls_link.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <system_error>

#include "base/assert.h"

namespace sluice::net {
namespace {

constexpr std::size_t dns_name_bytes_max = 253;

long control_wire(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_FLUSH) return 1;
    if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    return 0;
}

struct FreeSession {
    void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};

// RFC 8446 appendix C.4: a TLS 1.3 ticket is used once, so that nobody can link our connections by it.
void offer_session(SSL* ssl, SessionCache& cache, const std::string& key) {
    const auto serialized = cache.get(key);
    if (!serialized) return;
    const auto* bytes = reinterpret_cast<const unsigned char*>(serialized->data());
    const std::unique_ptr<SSL_SESSION, FreeSession> session(
        d2i_SSL_SESSION(nullptr, &bytes, static_cast<long>(serialized->size()))
    );
    if (!session || SSL_SESSION_get_protocol_version(session.get()) >= TLS1_3_VERSION) cache.remove(key);
    if (session) SSL_set_session(ssl, session.get());
}

std::string subject_of(X509* certificate) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new(BIO_s_mem()), &BIO_free);
    X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(text.get(), &bytes);
    return std::string(bytes, static_cast<std::size_t>(size));
}

}  // namespace

int TlsLink::write_wire(BIO* bio, const char* bytes, int size) {
    BIO_clear_retry_flags(bio);
    Wire& wire = static_cast<MeteredWire*>(BIO_get_data(bio))->wire;
    const ssize_t sent = wire.send(std::string_view(bytes, static_cast<std::size_t>(size)));
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
    return static_cast<int>(sent);
}

int TlsLink::read_wire(BIO* bio, char* into, int size) {
    BIO_clear_retry_flags(bio);
    auto& metered = *static_cast<MeteredWire*>(BIO_get_data(bio));
    if (metered.is_flooded()) return -1;
    if (metered.turn_is_over()) {
        BIO_set_retry_read(bio);
        return -1;
    }
    const ssize_t received = metered.wire.receive(std::span<char>(into, static_cast<std::size_t>(size)));
    if (received == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
    if (received > 0) {
        metered.turn += static_cast<std::size_t>(received);
        metered.barren += static_cast<std::size_t>(received);
    }
    return static_cast<int>(received);
}

const BIO_METHOD* TlsLink::wire_method() {
    static const auto method = [] {
        std::unique_ptr<BIO_METHOD, decltype(&BIO_meth_free)> made(
            BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire"), &BIO_meth_free
        );
        ASSERT(made);
        BIO_meth_set_write(made.get(), &write_wire);
        BIO_meth_set_read(made.get(), &read_wire);
        BIO_meth_set_ctrl(made.get(), &control_wire);
        return made;
    }();
    return method.get();
}

TlsLink::TlsLink(std::shared_ptr<OpenSslContext> context, Wire& wire)
    : context_(std::move(context)), wire_{wire}, ssl_(SSL_new(context_->native())) {
    ASSERT(ssl_);
    BIO* bio = BIO_new(wire_method());
    ASSERT(bio != nullptr);
    BIO_set_data(bio, &wire_);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);
}

Result<std::unique_ptr<TlsLink>> TlsLink::client(
    std::shared_ptr<TlsContext> context, Wire& wire, const std::string& server_name, const Endpoint& remote
) {
    auto native = std::static_pointer_cast<OpenSslContext>(std::move(context));
    ASSERT(native && !native->is_server());
    std::unique_ptr<TlsLink> link(new TlsLink(std::move(native), wire));
    SSL_set_connect_state(link->ssl_.get());
    TRY_VOID(link->expect_name(server_name));

    link->session_key_ = server_name + '|' + remote.text();
    SSL_set_app_data(link->ssl_.get(), &link->session_key_);
    offer_session(link->ssl_.get(), link->context_->sessions(), link->session_key_);
    return link;
}

Result<std::unique_ptr<TlsLink>> TlsLink::server(std::shared_ptr<TlsContext> context, Wire& wire) {
    auto native = std::static_pointer_cast<OpenSslContext>(std::move(context));
    ASSERT(native && native->is_server());
    std::unique_ptr<TlsLink> link(new TlsLink(std::move(native), wire));
    SSL_set_accept_state(link->ssl_.get());
    return link;
}

// RFC 9525: only subjectAltName counts, and a wildcard stands for one whole label. An address is matched with
// the iPAddress entries, and is never sent as SNI (RFC 6066 §3).
Result<> TlsLink::expect_name(std::string name) {
    if (name.empty()) return {};
    checks_name_ = true;
    X509_VERIFY_PARAM* param = SSL_get0_param(ssl_.get());
    if (const auto address = IpAddress::parse(name)) {
        X509_VERIFY_PARAM_set1_ip(param, address->bytes().data(), address->is_v4() ? 4 : 16);
        return {};
    }
    if (name.back() == '.') name.pop_back();
    // OpenSSL takes a leading dot for "any subdomain".
    const bool usable = !name.empty() && name.front() != '.' && name.size() <= dns_name_bytes_max &&
                        name.find('\0') == std::string_view::npos;
    if (!usable) return fail(Errc::bad_input, "not a name for a TLS server");
    X509_VERIFY_PARAM_set_hostflags(
        param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
    );
    X509_VERIFY_PARAM_set1_host(param, name.c_str(), 0);
    SSL_set_tlsext_host_name(ssl_.get(), name.c_str());
    return {};
}

void TlsLink::begin_turn() {
    ERR_clear_error();
    wire_.turn = 0;
}

TlsLink::Progress TlsLink::progress_of(int status) {
    if (status > 0) return Progress::done;
    const int error_number = errno;
    if (wire_.is_flooded()) {
        failure_ = "the peer keeps TLS busy and says nothing";
        return Progress::failed;
    }
    switch (SSL_get_error(ssl_.get(), status)) {
        case SSL_ERROR_WANT_READ:
            return Progress::wants_read;
        case SSL_ERROR_WANT_WRITE:
            return Progress::wants_write;
        case SSL_ERROR_ZERO_RETURN:
            return Progress::ended;
        case SSL_ERROR_SYSCALL:
            failure_ = std::generic_category().message(error_number);
            return Progress::failed;
        default:
            break;
    }
    failure_ = take_openssl_error();
    const long verdict = SSL_get_verify_result(ssl_.get());
    if (!finished_ && verdict != X509_V_OK) {
        failure_ += std::string(": ") + X509_verify_cert_error_string(verdict);
    }
    return Progress::failed;
}

TlsLink::Progress TlsLink::handshake() {
    begin_turn();
    const Progress progress = progress_of(SSL_do_handshake(ssl_.get()));
    if (progress == Progress::done) describe_session();
    return progress;
}

TlsLink::Moved TlsLink::read(std::span<char> into) {
    begin_turn();
    std::size_t size = 0;
    const int status = SSL_read_ex(ssl_.get(), into.data(), into.size(), &size);
    if (size > 0) wire_.barren = 0;
    return Moved{progress_of(status), size};
}

TlsLink::Moved TlsLink::write(std::string_view bytes) {
    begin_turn();
    std::size_t size = 0;
    const int status = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &size);
    return Moved{progress_of(status), size};
}

void TlsLink::say_goodbye() {
    if (!finished_) return;
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
}

bool TlsLink::is_dead_or_readable() {
    begin_turn();
    char byte = 0;
    std::size_t size = 0;
    // Reading ahead also takes in what TLS 1.3 sends unasked, such as tickets; those do not count unless they do not end.
    return progress_of(SSL_peek_ex(ssl_.get(), &byte, 1, &size)) != Progress::wants_read || wire_.turn_is_over();
}

void TlsLink::describe_session() {
    finished_ = true;
    wire_.barren = 0;
    session_.version = SSL_get_version(ssl_.get());
    session_.cipher = SSL_get_cipher_name(ssl_.get());
    session_.bits = SSL_get_cipher_bits(ssl_.get(), nullptr);
    session_.resumed = SSL_session_reused(ssl_.get()) == 1;
    describe_verification();
}

void TlsLink::describe_verification() {
    X509* certificate = SSL_get0_peer_certificate(ssl_.get());
    if (certificate == nullptr) return;
    session_.peer_subject = subject_of(certificate);
    const long verdict = SSL_get_verify_result(ssl_.get());
    if (verdict != X509_V_OK) {
        session_.verify_error = X509_verify_cert_error_string(verdict);
    } else if (!context_->is_server() && !checks_name_) {
        session_.verify_error = "no name to verify was given";
    } else {
        session_.verified = true;
    }
}

}  // namespace sluice::net
