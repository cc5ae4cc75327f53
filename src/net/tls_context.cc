#include "net/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "base/assert.h"

namespace sluice::net {
namespace {

constexpr int verify_depth_max = 10;
constexpr std::string_view session_id_context = "sluice";

tl::unexpected<Error> bad_file(const std::string& file, const std::string& problem) {
    return fail(Errc::config, file + ": " + problem);
}

Result<> check_readable(const std::string& file) {
    const std::unique_ptr<std::FILE, decltype(&std::fclose)> opened(
        std::fopen(file.c_str(), "r"), &std::fclose
    );
    if (!opened) return bad_file(file, std::generic_category().message(errno));
    return {};
}

// A key that needs a passphrase is an error, not a question on the terminal.
int no_passphrase(char*, int, int, void*) {
    return 0;
}

Result<> load_pair(SSL_CTX* context, const std::string& certificate, const std::string& key) {
    TRY_VOID(check_readable(certificate));
    TRY_VOID(check_readable(key));
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1) {
        return bad_file(certificate, "not a PEM certificate chain: " + take_openssl_error());
    }
    if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1) {
        const bool mismatch = ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH;
        if (mismatch) return bad_file(key, "does not match the certificate " + certificate);
        return bad_file(key, "not a PEM private key without passphrase: " + take_openssl_error());
    }
    if (SSL_CTX_check_private_key(context) != 1)
        return bad_file(key, "does not match the certificate " + certificate);
    return {};
}

Result<> load_authorities(SSL_CTX* context, const std::string& file) {
    if (file.empty()) {
        // Not SSL_CTX_set_default_verify_paths(): that also installs a store which reads the whole folder of certificates for every
        // chain with an unknown issuer, half of the CPU of a handshake. These two look up one file by name.
        SSL_CTX_set_default_verify_file(context);
        SSL_CTX_set_default_verify_dir(context);
        ERR_clear_error();
        return {};
    }
    TRY_VOID(check_readable(file));
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(context, file.c_str()) == 1) return {};
    return bad_file(file, "no CA certificates in PEM form: " + take_openssl_error());
}

Result<> load_dh_params(SSL_CTX* context, const std::string& file) {
    if (file.empty()) {
        SSL_CTX_set_dh_auto(context, 1);
        return {};
    }
    TRY_VOID(check_readable(file));
    ERR_clear_error();
    const std::unique_ptr<BIO, decltype(&BIO_free)> source(BIO_new_file(file.c_str(), "r"), &BIO_free);
    EVP_PKEY* params = source ? PEM_read_bio_Parameters(source.get(), nullptr) : nullptr;
    if (params == nullptr) return bad_file(file, "no DH parameters in PEM form: " + take_openssl_error());
    if (SSL_CTX_set0_tmp_dh_pkey(context, params) == 1) return {};
    EVP_PKEY_free(params);
    return bad_file(file, "DH parameters refused: " + take_openssl_error());
}

Result<> set_versions_and_ciphers(SSL_CTX* context, const TlsOptions& options) {
    const bool only_13 = options.min_version == "TLSv1.3";
    if (!only_13 && options.min_version != "TLSv1.2") {
        return fail(
            Errc::config, "minimum TLS version \"" + options.min_version + "\": TLSv1.2 or TLSv1.3 expected"
        );
    }
    SSL_CTX_set_min_proto_version(context, only_13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    ERR_clear_error();
    if (options.ciphers.empty() || SSL_CTX_set_cipher_list(context, options.ciphers.c_str()) == 1) return {};
    return fail(Errc::config, "ciphers \"" + options.ciphers + "\": " + take_openssl_error());
}

SslContextPtr new_context(bool is_server) {
    SslContextPtr context(SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method()));
    ASSERT(context);
    SSL_CTX_set_default_passwd_cb(context.get(), &no_passphrase);
    // A missing close_notify is no error (TL-8): SMTP says itself where a message ends.
    SSL_CTX_set_options(
        context.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF
    );
    // Buffers are released while a connection is idle: two of 17 KB otherwise.
    SSL_CTX_set_mode(
        context.get(),
        SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS
    );
    // One recv for header and body of a record.
    SSL_CTX_set_read_ahead(context.get(), 1);
    SSL_CTX_set_max_cert_list(context.get(), chain_bytes_max);
    SSL_CTX_set_verify_depth(context.get(), verify_depth_max);
    return context;
}

}  // namespace

bool within_bounds(const STACK_OF(X509) * chain) {
    const int count = chain == nullptr ? 0 : sk_X509_num(chain);
    if (count > chain_certificates_max) return false;
    for (int i = 0; i < count; ++i) {
        const EVP_PKEY* key = X509_get0_pubkey(sk_X509_value(chain, i));
        if (key != nullptr && EVP_PKEY_get_bits(key) > key_bits_max) return false;
    }
    return true;
}

std::string take_openssl_error() {
    const unsigned long code = ERR_peek_error();
    if (code == 0) return "unknown error";
    std::array<char, 256> text{};
    ERR_error_string_n(code, text.data(), text.size());
    const char* reason = ERR_reason_error_string(code);
    std::string words = reason != nullptr ? reason : text.data();
    ERR_clear_error();
    return words;
}

OpenSslContext::OpenSslContext(const TlsOptions& options, bool is_server)
    : is_server_(is_server), verify_peer_(options.verify_peer) {
    contexts_.push_back(new_context(is_server));
}

Result<> OpenSslContext::open(const TlsOptions& options) {
    TRY_VOID(load_certificates(options));
    const bool needs_authorities = !is_server_ || options.request_certificate || options.verify_peer;
    if (needs_authorities) TRY_VOID(load_authorities(native(), options.ca_file));
    for (const SslContextPtr& context : contexts_) TRY_VOID(equip(context.get(), options));
    if (is_server_) {
        set_up_server(options);
    } else if (options.resumption) {
        set_up_client();
    }
    return {};
}

// What is not copied from the first context to a connection for which SNI chooses another one.
Result<> OpenSslContext::equip(SSL_CTX* context, const TlsOptions& options) {
    TRY_VOID(set_versions_and_ciphers(context, options));
    if (context != native()) SSL_CTX_set1_cert_store(context, SSL_CTX_get_cert_store(native()));
    ask_for_certificates(context, options);
    return is_server_ ? load_dh_params(context, options.dh_params) : Result<>();
}

Result<> OpenSslContext::load_certificates(const TlsOptions& options) {
    if (options.certificates.size() != options.keys.size()) {
        return fail(Errc::config, "as many TLS keys as certificates are needed");
    }
    if (is_server_ && options.certificates.empty())
        return fail(Errc::config, "a TLS server needs a certificate");
    for (std::size_t i = 0; i < options.certificates.size(); ++i) {
        if (i > 0) contexts_.push_back(new_context(is_server_));
        TRY_VOID(load_pair(contexts_.back().get(), options.certificates[i], options.keys[i]));
    }
    return {};
}

void OpenSslContext::ask_for_certificates(SSL_CTX* context, const TlsOptions& options) {
    int mode = SSL_VERIFY_NONE;
    // verify_chain() lets unverified peers pass where that is wanted, so that every chain meets its bounds.
    if (!is_server_ || options.request_certificate || options.verify_peer) mode = SSL_VERIFY_PEER;
    if (is_server_ && options.verify_peer) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(context, mode, nullptr);
    SSL_CTX_set_cert_verify_callback(context, &OpenSslContext::verify_chain, this);
}

void OpenSslContext::set_up_client() {
    SSL_CTX_set_session_cache_mode(native(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_app_data(native(), this);
    SSL_CTX_sess_set_new_cb(native(), &OpenSslContext::remember_session);
}

void OpenSslContext::set_up_server(const TlsOptions& options) {
    if (options.prefer_server_ciphers) SSL_CTX_set_options(native(), SSL_OP_CIPHER_SERVER_PREFERENCE);
    // Clients keep their sessions themselves, in tickets; we keep nothing for them.
    SSL_CTX_set_session_cache_mode(native(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(native(), options.resumption ? 1 : 0);
    if (!options.resumption) SSL_CTX_set_options(native(), SSL_OP_NO_TICKET);
    const auto* id = reinterpret_cast<const unsigned char*>(session_id_context.data());
    SSL_CTX_set_session_id_context(native(), id, session_id_context.size());
    SSL_CTX_set_tlsext_servername_callback(native(), &OpenSslContext::choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(native(), this);
}

int OpenSslContext::verify_chain(X509_STORE_CTX* store, void* self) {
    if (!within_bounds(X509_STORE_CTX_get0_untrusted(store))) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_CHAIN_TOO_LONG);
        return 0;
    }
    const bool verified = X509_verify_cert(store) == 1;
    if (!verified && X509_STORE_CTX_get_error(store) == X509_V_OK) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    }
    return verified || !static_cast<const OpenSslContext*>(self)->verify_peer_;
}

int OpenSslContext::remember_session(SSL* ssl, SSL_SESSION* session) {
    const auto* key = static_cast<const std::string*>(SSL_get_app_data(ssl));
    if (key == nullptr || SSL_SESSION_is_resumable(session) == 0) return 0;
    const int size = i2d_SSL_SESSION(session, nullptr);
    if (size <= 0) return 0;
    std::string serialized(static_cast<std::size_t>(size), '\0');
    auto* bytes = reinterpret_cast<unsigned char*>(serialized.data());
    i2d_SSL_SESSION(session, &bytes);
    auto* context = static_cast<OpenSslContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    context->sessions_.put(*key, std::move(serialized));
    return 0;  // we took a copy, not the session
}

int OpenSslContext::choose_certificate(SSL* ssl, int*, void* self) {
    const auto& contexts = static_cast<const OpenSslContext*>(self)->contexts_;
    const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
    for (const SslContextPtr& context : contexts) {
        X509* certificate = SSL_CTX_get0_certificate(context.get());
        if (X509_check_host(certificate, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, nullptr) != 1)
            continue;
        if (context != contexts.front()) SSL_set_SSL_CTX(ssl, context.get());
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

Result<std::shared_ptr<TlsContext>> OpenSslContext::open_client(const TlsOptions& options) {
    std::shared_ptr<OpenSslContext> context(new OpenSslContext(options, false));
    TRY_VOID(context->open(options));
    return std::shared_ptr<TlsContext>(std::move(context));
}

Result<std::shared_ptr<TlsContext>> OpenSslContext::open_server(const TlsOptions& options) {
    std::shared_ptr<OpenSslContext> context(new OpenSslContext(options, true));
    TRY_VOID(context->open(options));
    return std::shared_ptr<TlsContext>(std::move(context));
}

Result<std::shared_ptr<TlsContext>> TlsContext::client(const TlsOptions& options) {
    return OpenSslContext::open_client(options);
}

Result<std::shared_ptr<TlsContext>> TlsContext::server(const TlsOptions& options) {
    return OpenSslContext::open_server(options);
}

}  // namespace sluice::net
