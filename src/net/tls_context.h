#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <vector>

#include "net/session_cache.h"
#include "net/tls.h"

namespace sluice::net {

struct FreeSslContext {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslContextPtr = std::unique_ptr<SSL_CTX, FreeSslContext>;

// What a peer may make us compute: chains that are longer, or keys that are larger, fail the handshake
// (TLS-I9).
inline constexpr int chain_certificates_max = 16;
inline constexpr int key_bits_max = 8192;
inline constexpr long chain_bytes_max = 64 * 1024;

// True when the chain that the peer sent is within those bounds.
bool within_bounds(const STACK_OF(X509) * chain);

// The words of the oldest error in OpenSSL's queue of this thread, which is emptied.
std::string take_openssl_error();

// The OpenSSL side of a TlsContext. Immutable except for the session cache; thread-safe.
class OpenSslContext final : public TlsContext {
public:
    static Result<std::shared_ptr<TlsContext>> open_client(const TlsOptions& options);
    static Result<std::shared_ptr<TlsContext>> open_server(const TlsOptions& options);

    SSL_CTX* native() const { return contexts_.front().get(); }
    bool is_server() const { return is_server_; }
    SessionCache& sessions() { return sessions_; }

private:
    OpenSslContext(const TlsOptions& options, bool is_server);

    Result<> open(const TlsOptions& options);
    Result<> load_certificates(const TlsOptions& options);
    Result<> equip(SSL_CTX* context, const TlsOptions& options);
    void ask_for_certificates(SSL_CTX* context, const TlsOptions& options);
    void set_up_client();
    void set_up_server(const TlsOptions& options);

    static int verify_chain(X509_STORE_CTX* store, void* self);
    static int remember_session(SSL* ssl, SSL_SESSION* session);
    static int choose_certificate(SSL* ssl, int* alert, void* self);

    // One for each certificate, chosen by SNI; everything but the certificate comes from the first.
    std::vector<SslContextPtr> contexts_;
    SessionCache sessions_;
    bool is_server_;
    bool verify_peer_;
};

}  // namespace sluice::net
