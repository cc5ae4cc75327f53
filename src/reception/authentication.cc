#include "reception/authentication.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <vector>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::reception {
namespace {

constexpr std::size_t credential_octets_max = 255;  // RFC 4616 §2

std::string random_hex(std::size_t octets) {
    std::string bytes(octets, '\0');
    ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(octets)) == 1);
    return hex_encode(bytes);
}

std::string hmac(const EVP_MD* digest, std::string_view key, std::string_view text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> result{};
    unsigned int length = 0;
    const auto* octets = reinterpret_cast<const unsigned char*>(text.data());
    HMAC(digest, key.data(), static_cast<int>(key.size()), octets, text.size(), result.data(), &length);
    return {reinterpret_cast<const char*>(result.data()), length};
}

bool same_secret(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool is_credential(std::string_view text) {
    return !text.empty() && text.size() <= credential_octets_max && is_valid_utf8(text);
}

}  // namespace

Authentication::Authentication(std::string_view mechanism, const Users& users, std::string_view host)
    : mechanism_(
          mechanism == "PLAIN"   ? Mechanism::plain
          : mechanism == "LOGIN" ? Mechanism::login
                                 : Mechanism::cram_md5),
      users_(users), host_(host) {
    ASSERT(supports(mechanism));
}

bool Authentication::supports(std::string_view mechanism) {
    return mechanism == "PLAIN" || mechanism == "LOGIN" || mechanism == "CRAM-MD5";
}

Authentication::Outcome Authentication::begin(const std::optional<std::string>& initial) {
    switch (mechanism_) {
        case Mechanism::plain:
            if (initial) return plain(*initial);
            challenge_.clear();
            return Outcome::challenge;
        case Mechanism::login:
            if (initial) return login(*initial);
            challenge_ = "Username:";
            return Outcome::challenge;
        case Mechanism::cram_md5:
            if (initial) return Outcome::malformed;  // the server speaks first (RFC 2195 §2)
            challenge_ = "<" + random_hex(16) + "@" + host_ + ">";
            return Outcome::challenge;
    }
    UNREACHABLE();
}

Authentication::Outcome Authentication::step(std::string_view answer) {
    switch (mechanism_) {
        case Mechanism::plain:
            return plain(answer);
        case Mechanism::login:
            return login(answer);
        case Mechanism::cram_md5:
            return cram_md5(answer);
    }
    UNREACHABLE();
}

// [authorisation identity] NUL login NUL password
Authentication::Outcome Authentication::plain(std::string_view message) {
    const std::vector<std::string_view> fields = split(message, '\0');
    if (fields.size() != 3 || !is_credential(fields[1]) || !is_credential(fields[2])) return Outcome::malformed;
    if (!fields[0].empty() && !is_credential(fields[0])) return Outcome::malformed;
    user_ = fields[1];
    const Outcome outcome = check_password(fields[2]);
    // Nobody may act as somebody else here.
    if (!fields[0].empty() && fields[0] != fields[1]) return Outcome::failure;
    return outcome;
}

Authentication::Outcome Authentication::login(std::string_view answer) {
    if (!is_credential(answer)) return Outcome::malformed;
    if (user_given_) return check_password(answer);
    user_ = answer;
    user_given_ = true;
    challenge_ = "Password:";
    return Outcome::challenge;
}

Authentication::Outcome Authentication::cram_md5(std::string_view answer) {
    const std::size_t blank = answer.rfind(' ');
    if (blank == std::string_view::npos) return Outcome::malformed;
    user_ = answer.substr(0, blank);
    if (!is_credential(user_)) return Outcome::malformed;
    const auto user = users_.find(user_);
    const std::string_view password = user == users_.end() ? std::string_view("nobody") : user->second;
    const std::string expected = hex_encode(hmac(EVP_md5(), password, challenge_));
    const bool matches = same_secret(expected, to_lower(answer.substr(blank + 1)));
    return matches && user != users_.end() ? Outcome::success : Outcome::failure;
}

// Digests under a fresh key have one length and give nothing away when compared.
Authentication::Outcome Authentication::check_password(std::string_view password) const {
    const auto user = users_.find(user_);
    const std::string_view expected = user == users_.end() ? std::string_view("nobody") : user->second;
    const std::string key = random_hex(16);
    const bool matches =
        same_secret(hmac(EVP_sha256(), key, expected), hmac(EVP_sha256(), key, password));
    return matches && user != users_.end() ? Outcome::success : Outcome::failure;
}

}  // namespace sluice::reception
