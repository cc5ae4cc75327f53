#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace sluice {

// What went wrong in the world outside: a closed table, so that -Wswitch asks about every new entry
// wherever a decision depends on it. Protocol answers (replies, dispositions) are never errors.
enum class Errc : std::uint8_t {
    link_closed,      // the peer ended the connection or reset it
    timed_out,        // a deadline passed
    cancelled,        // we were asked to stop; not worth a log line
    refused,          // connecting was refused
    unreachable,      // no route, network or host down
    address_in_use,   // bind failed: taken
    bad_source,       // bind failed: the local address is not configured here; our fault, not the peer's
    out_of_resources, // descriptors, memory or ports ran out; our fault, not the peer's
    tls_failed,       // handshake or certificate verification failed
    bad_reply,        // the peer broke the protocol
    bad_input,        // text that does not parse, from whoever
    too_large,        // a limit was exceeded
    dns_temporary,    // SERVFAIL, timeout, bogus: try again later
    dns_no_domain,    // NXDOMAIN
    dns_no_data,      // the name exists without such records
    null_mx,          // RFC 7505: the domain accepts no mail
    mail_loop,        // the route leads back to ourselves
    config,           // a setting is wrong; detail names file and line
    disk_failed,      // EIO, failed sync, read-only file system
    disk_full,        // ENOSPC, EDQUOT, or the admission threshold
    corrupt,          // a checksum does not match
    locked,           // another instance owns it
    not_found,        // no such thing
    unsupported,      // a peer or format lacks what is needed
    auth_unavailable, // credentials configured, but AUTH not offered or no common mechanism
};

// The table's short name, e.g. "link_closed". Never null.
const char* name_of(Errc code);

// An operating error: what kind, and a sentence for people. Value.
struct [[nodiscard]] Error {
    Errc code;
    std::string detail;

    Error(Errc code_, std::string detail_) : code(code_), detail(std::move(detail_)) {}
    // "link_closed: peer reset the connection"
    std::string text() const;
};

template <class T = void>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Errc code, std::string detail) {
    return tl::unexpected<Error>(Error(code, std::move(detail)));
}
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

}  // namespace sluice

#define SLUICE_JOIN2(a, b) a##b
#define SLUICE_JOIN(a, b) SLUICE_JOIN2(a, b)

// TRY(const Thing thing, expression): declares `thing` from the value, or returns the error.
// Expands to three statements, so it always stands inside braces.
#define TRY(declaration, expression)                                 \
    auto SLUICE_JOIN(tried_, __LINE__) = (expression);               \
    if (!SLUICE_JOIN(tried_, __LINE__)) {                            \
        return ::sluice::fail(std::move(SLUICE_JOIN(tried_, __LINE__)).error()); \
    }                                                                \
    declaration = std::move(*SLUICE_JOIN(tried_, __LINE__))

// The same inside a coroutine.
#define CO_TRY(declaration, expression)                              \
    auto SLUICE_JOIN(tried_, __LINE__) = expression;                 \
    if (!SLUICE_JOIN(tried_, __LINE__)) {                            \
        co_return ::sluice::fail(std::move(SLUICE_JOIN(tried_, __LINE__)).error()); \
    }                                                                \
    declaration = std::move(*SLUICE_JOIN(tried_, __LINE__))

// For Result<void>: TRY_VOID(expr) / CO_TRY_VOID(co_await expr).
#define TRY_VOID(expression)                                                     \
    do {                                                                         \
        if (auto tried_void = (expression); !tried_void) {                       \
            return ::sluice::fail(std::move(tried_void).error());                \
        }                                                                        \
    } while (false)
#define CO_TRY_VOID(expression)                                                  \
    auto SLUICE_JOIN(tried_, __LINE__) = expression;                             \
    if (!SLUICE_JOIN(tried_, __LINE__)) {                                        \
        co_return ::sluice::fail(std::move(SLUICE_JOIN(tried_, __LINE__)).error()); \
    }
