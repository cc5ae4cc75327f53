#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::delivery {

// Who we are towards a route that wants to know. Value.
struct Credentials {
    std::string user;
    std::string password;
    std::string mechanism;  // demanded one; empty: the best that the peer offers
};

// What the channel is worth. In clear nothing goes out unless the operator permits it; a mechanism that shows the
// password to the peer also wants to know that it is the right peer (AU-10).
enum class Channel : std::uint8_t { clear, unverified_tls, trusted };

// The client's side of one SASL exchange (RFC 4422). Not thread-safe; used once.
class SaslExchange {
public:
    virtual ~SaslExchange() = default;
    virtual std::string_view mechanism() const = 0;
    // What goes out with the AUTH command, not in base64; nothing: the server speaks first.
    virtual std::optional<std::string> initial() = 0;
    // Our answer to a decoded challenge; bad_reply when the server does not follow the mechanism or fails to prove itself.
    virtual Result<std::string> respond(std::string_view challenge) = 0;
    // False while the server still owes us a proof: a 235 now must not be believed (SC-3).
    virtual bool satisfied() const { return true; }
};

// The best exchange that both sides can do and the channel permits: SCRAM-SHA-256, PLAIN, LOGIN, CRAM-MD5 in this
// order, or the demanded one alone. auth_unavailable says why there is none.
Result<std::unique_ptr<SaslExchange>> choose_exchange(
    const std::vector<std::string>& offered, const Credentials& credentials, Channel channel);

// SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding. `nonce`: printable, without commas, fresh for each use.
// Refuses fewer than 4,096 iterations (RFC 7677 §4) and more than 200,000, which would keep the shard busy.
std::unique_ptr<SaslExchange> scram_sha256(const Credentials& credentials, std::string nonce);

}  // namespace sluice::delivery
