#pragma once

#include <openssl/ssl.h>
#include <sys/types.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "net/stream.h"
#include "net/tls_context.h"

namespace sluice::net {

// What TLS records travel over. Moves bytes without waiting: sizes, -1 and errno are those of send() and recv().
class Wire {
public:
    virtual ssize_t send(std::string_view bytes) = 0;
    virtual ssize_t receive(std::span<char> into) = 0;

protected:
    ~Wire() = default;
};

// The TLS engine on one wire, which outlives it. Nothing here waits: a call that would says what to wait for and is
// then repeated with the same arguments. Reads and writes the wire itself, so no byte is copied twice. Shard-owned.
//
// OpenSSL reads on by itself while only records without content come (KeyUpdate, tickets, requests for another
// handshake), each of which the peer makes for nothing and we compute with. So each call takes a bounded number of
// octets from the wire, then wants to wait; and a peer that sends nothing else fails the link.
class TlsLink {
public:
    enum class Progress { done, wants_read, wants_write, ended, failed };
    struct Moved {
        Progress progress;
        std::size_t size = 0;
    };
    // About as many octets are received before other tasks of the shard get their turn: a whole record.
    static constexpr std::size_t turn_octets = 16 * 1024;
    // So many octets of handshake, or without content after it, fail the link: some times the longest chain.
    static constexpr std::size_t barren_octets_max = 256 * 1024;

    // server_name: a DNS name or an IP address; with `remote` it also names the session to resume.
    static Result<std::unique_ptr<TlsLink>> client(
        std::shared_ptr<TlsContext> context, Wire& wire, const std::string& server_name, const Endpoint& remote
    );
    static Result<std::unique_ptr<TlsLink>> server(std::shared_ptr<TlsContext> context, Wire& wire);

    Progress handshake();
    Moved read(std::span<char> into);
    // May take fewer bytes than offered.
    Moved write(std::string_view bytes);
    // Sends close_notify if that is possible without waiting.
    void say_goodbye();
    // Looks without waiting: the peer has closed, or sent application bytes or much else.
    bool is_dead_or_readable();

    // Null until the handshake is done.
    const TlsSession* session() const { return finished_ ? &session_ : nullptr; }
    // Why the last call failed.
    const std::string& failure() const { return failure_; }

private:
    struct FreeSsl {
        void operator()(SSL* ssl) const { SSL_free(ssl); }
    };
    // The wire as OpenSSL gets it.
    struct MeteredWire {
        Wire& wire;
        std::size_t turn = 0;    // octets received in this call
        std::size_t barren = 0;  // octets received since the last content
        bool turn_is_over() const { return turn >= turn_octets; }
        bool is_flooded() const { return barren >= barren_octets_max; }
    };

    TlsLink(std::shared_ptr<OpenSslContext> context, Wire& wire);
    static const BIO_METHOD* wire_method();
    static int write_wire(BIO* bio, const char* bytes, int size);
    static int read_wire(BIO* bio, char* into, int size);
    Result<> expect_name(std::string name);
    void begin_turn();
    Progress progress_of(int status);
    void describe_session();
    void describe_verification();

    std::shared_ptr<OpenSslContext> context_;
    MeteredWire wire_;
    std::unique_ptr<SSL, FreeSsl> ssl_;
    std::string session_key_;  // the SSL's app data on a client: what its sessions are stored under
    bool checks_name_ = false;
    bool finished_ = false;
    TlsSession session_;
    std::string failure_;
};

}  // namespace sluice::net
