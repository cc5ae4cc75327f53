// The challenges of a hostile server, one a line, to every mechanism of the client; and the answers of a hostile client to
// every mechanism of the server. Neither side is convinced without the password.

#include "base/assert.h"
#include "base/text.h"
#include "delivery/sasl.h"
#include "reception/authentication.h"

namespace {

using namespace sluice;

// Longer than any input would guess.
constexpr const char* password = "0d5a4c1e-7b0c-4a51-9a5e-2f6f0e6a9d11";
const delivery::Credentials us{"user", password, ""};

void challenge(delivery::SaslExchange& exchange, std::string_view input) {
    const bool asks_for_proof = !exchange.satisfied();
    static_cast<void>(exchange.initial());
    for (const std::string_view line : split(input, '\n')) {
        if (!exchange.respond(line)) break;
        // The proof needs the password (RFC 5802 §3), which no challenge holds.
        ASSERT(!asks_for_proof || !exchange.satisfied());
    }
}

void answer(std::string_view mechanism, std::string_view input) {
    using Outcome = reception::Authentication::Outcome;
    static const reception::Authentication::Users users{{"user", password}};
    reception::Authentication dialogue(mechanism, users, "mx.test");
    Outcome outcome = dialogue.begin(std::nullopt);
    for (const std::string_view line : split(input, '\n')) {
        if (outcome != Outcome::challenge) break;
        outcome = dialogue.step(line);
    }
    ASSERT(outcome != Outcome::success);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    for (const char* mechanism : {"PLAIN", "LOGIN", "CRAM-MD5"}) {
        const auto exchange = delivery::choose_exchange({mechanism}, us, delivery::Channel::trusted);
        ASSERT(exchange.has_value());
        challenge(**exchange, input);
        answer(mechanism, input);
    }
    challenge(*delivery::scram_sha256(us, "rOprNGfwEbeRWgbNEkqO"), input);
    if (const auto decoded = base64_decode(input)) ASSERT(base64_decode(base64_encode(*decoded)) == decoded);
    ASSERT(base64_decode(base64_encode(input)) == input);
    return 0;
}
