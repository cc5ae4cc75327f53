#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::net {

// What to offer and demand in a handshake; from tls.ini. Value.
struct TlsOptions {
    std::vector<std::string> certificates;  // PEM files; server: served by SNI, the first one by default
    std::vector<std::string> keys;          // PEM files, in the order of the certificates
    std::string ciphers;                    // TLS 1.2 list in OpenSSL's syntax; empty: OpenSSL's default
    std::string min_version = "TLSv1.2";    // "TLSv1.2" or "TLSv1.3" (RFC 8996)
    std::string dh_params;                  // PEM file or empty
    bool verify_peer = false;               // abort the handshake when the certificate does not verify
    bool request_certificate = false;       // server: ask the client for one
    bool prefer_server_ciphers = true;
    bool resumption = true;  // server: give tickets; client: keep and use them
    std::string ca_file;  // empty: the system's
};

// An immutable OpenSSL context, shared by shards. Client contexts keep sessions for resumption, by peer and
// policy. No compression, no renegotiation, no 0-RTT. Thread-safe.
class TlsContext {
public:
    // Reads and checks all files; the error names the file and what is wrong with it (missing, unreadable,
    // key does not match certificate, expired is only a warning elsewhere).
    static Result<std::shared_ptr<TlsContext>> client(const TlsOptions& options);
    static Result<std::shared_ptr<TlsContext>> server(const TlsOptions& options);
    virtual ~TlsContext() = default;
};

}  // namespace sluice::net
