#include "delivery/sasl.h"

#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::delivery {
namespace {

constexpr std::uint32_t iterations_min = 4'096;
constexpr std::uint32_t iterations_max = 200'000;

const unsigned char* octets(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string hmac(const EVP_MD* digest, std::string_view key, std::string_view text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> out;
    unsigned int size = 0;
    HMAC(digest, key.data(), static_cast<int>(key.size()), octets(text), text.size(), out.data(), &size);
    return {reinterpret_cast<const char*>(out.data()), size};
}

std::string sha256(std::string_view text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> out;
    unsigned int size = 0;
    EVP_Digest(text.data(), text.size(), out.data(), &size, EVP_sha256(), nullptr);
    return {reinterpret_cast<const char*>(out.data()), size};
}

// RFC 4013 for names and passwords beyond ASCII; what it forbids stays as it is and will simply not match.
std::string prepared(const std::string& text) {
    if (is_ascii(text)) return text;
    char* out = nullptr;
    if (gsasl_saslprep(text.c_str(), GSASL_ALLOW_UNASSIGNED, &out, nullptr) != GSASL_OK) return text;
    std::string result(out);
    gsasl_free(out);
    return result;
}

class Plain final : public SaslExchange {  // RFC 4616
public:
    explicit Plain(const Credentials& credentials) : credentials_(credentials) {}
    std::string_view mechanism() const override { return "PLAIN"; }
    std::optional<std::string> initial() override {
        std::string out(1, '\0');
        out += credentials_.user;
        out += '\0';
        return out + credentials_.password;
    }
    Result<std::string> respond(std::string_view) override {
        return fail(Errc::bad_reply, "PLAIN has no second step");
    }

private:
    Credentials credentials_;
};

// Never standardised; the prompts vary, so only their order counts.
class Login final : public SaslExchange {
public:
    explicit Login(const Credentials& credentials) : credentials_(credentials) {}
    std::string_view mechanism() const override { return "LOGIN"; }
    std::optional<std::string> initial() override { return std::nullopt; }
    Result<std::string> respond(std::string_view) override {
        switch (++step_) {
            case 1: return credentials_.user;
            case 2: return credentials_.password;
            default: return fail(Errc::bad_reply, "LOGIN has no third step");
        }
    }

private:
    Credentials credentials_;
    int step_ = 0;
};

class CramMd5 final : public SaslExchange {  // RFC 2195
public:
    explicit CramMd5(const Credentials& credentials) : credentials_(credentials) {}
    std::string_view mechanism() const override { return "CRAM-MD5"; }
    std::optional<std::string> initial() override { return std::nullopt; }
    Result<std::string> respond(std::string_view challenge) override {
        if (std::exchange(answered_, true)) return fail(Errc::bad_reply, "CRAM-MD5 has no second step");
        return credentials_.user + " " + hex_encode(hmac(EVP_md5(), credentials_.password, challenge));
    }

private:
    Credentials credentials_;
    bool answered_ = false;
};

class ScramSha256 final : public SaslExchange {
public:
    ScramSha256(const Credentials& credentials, std::string nonce)
        : password_(prepared(credentials.password)),
          nonce_(std::move(nonce)),
          first_bare_("n=" + escaped(prepared(credentials.user)) + ",r=" + nonce_) {}

    std::string_view mechanism() const override { return "SCRAM-SHA-256"; }
    std::optional<std::string> initial() override { return "n,," + first_bare_; }
    Result<std::string> respond(std::string_view challenge) override {
        switch (++step_) {
            case 1: return answer(challenge);
            case 2: return check(challenge);
            default: return fail(Errc::bad_reply, "SCRAM has no third step");
        }
    }
    bool satisfied() const override { return proven_; }

private:
    static std::string escaped(const std::string& name) {
        std::string out;
        for (const char c : name) {
            if (c == '=') {
                out += "=3D";
            } else if (c == ',') {
                out += "=2C";
            } else {
                out += c;
            }
        }
        return out;
    }

    // The server-first message: r=NONCE,s=SALT,i=COUNT; extensions may follow, a mandatory one (m=) comes first.
    Result<std::string> answer(std::string_view challenge) {
        const auto parts = split(challenge, ',');
        if (parts.size() < 3 || !parts[0].starts_with("r=") || !parts[1].starts_with("s=") ||
            !parts[2].starts_with("i=")) {
            return fail(Errc::bad_reply, "malformed SCRAM challenge");
        }
        const std::string_view nonce = parts[0].substr(2);
        if (!nonce.starts_with(nonce_) || nonce.size() == nonce_.size()) {
            return fail(Errc::bad_reply, "the server's nonce does not continue ours");
        }
        const auto salt = base64_decode(parts[1].substr(2));
        const auto iterations = parse_number<std::uint32_t>(parts[2].substr(2));
        if (!salt || salt->empty() || !iterations) return fail(Errc::bad_reply, "malformed SCRAM challenge");
        if (*iterations < iterations_min || *iterations > iterations_max) {
            return fail(Errc::bad_reply, "SCRAM iteration count outside 4,096 to 200,000");
        }
        return proof(challenge, nonce, *salt, *iterations);
    }

    std::string proof(
        std::string_view challenge, std::string_view nonce, const std::string& salt, std::uint32_t iterations) {
        std::array<unsigned char, 32> salted;
        PKCS5_PBKDF2_HMAC(
            password_.data(), static_cast<int>(password_.size()), octets(salt), static_cast<int>(salt.size()),
            static_cast<int>(iterations), EVP_sha256(), static_cast<int>(salted.size()), salted.data());
        const std::string_view key(reinterpret_cast<const char*>(salted.data()), salted.size());

        std::string last = "c=biws,r=";
        last += nonce;
        const std::string covered = first_bare_ + "," + std::string(challenge) + "," + last;
        const std::string client_key = hmac(EVP_sha256(), key, "Client Key");
        std::string signature = hmac(EVP_sha256(), sha256(client_key), covered);
        for (std::size_t i = 0; i < signature.size(); ++i) signature[i] = static_cast<char>(signature[i] ^ client_key[i]);
        expected_ = hmac(EVP_sha256(), hmac(EVP_sha256(), key, "Server Key"), covered);
        return last + ",p=" + base64_encode(signature);
    }

    Result<std::string> check(std::string_view challenge) {
        const std::string_view first = challenge.substr(0, challenge.find(','));
        const auto signature = first.starts_with("v=") ? base64_decode(first.substr(2)) : std::nullopt;
        proven_ = signature && signature->size() == expected_.size() &&
                  CRYPTO_memcmp(signature->data(), expected_.data(), expected_.size()) == 0;
        if (!proven_) return fail(Errc::bad_reply, "the server does not know the password: wrong SCRAM signature");
        return std::string();
    }

    std::string password_;
    std::string nonce_;
    std::string first_bare_;
    std::string expected_;
    int step_ = 0;
    bool proven_ = false;
};

std::string fresh_nonce() {
    std::array<unsigned char, 18> random;
    ASSERT(RAND_bytes(random.data(), static_cast<int>(random.size())) == 1);
    return base64_encode(std::string_view(reinterpret_cast<const char*>(random.data()), random.size()));
}

struct Known {
    std::string_view name;
    bool shows_password;
    std::unique_ptr<SaslExchange> (*make)(const Credentials&);
};

// Best first (AU-11).
constexpr std::array<Known, 4> known{{
    {"SCRAM-SHA-256", false, [](const Credentials& c) { return scram_sha256(c, fresh_nonce()); }},
    {"PLAIN", true, [](const Credentials& c) -> std::unique_ptr<SaslExchange> { return std::make_unique<Plain>(c); }},
    {"LOGIN", true, [](const Credentials& c) -> std::unique_ptr<SaslExchange> { return std::make_unique<Login>(c); }},
    {"CRAM-MD5", false,
     [](const Credentials& c) -> std::unique_ptr<SaslExchange> { return std::make_unique<CramMd5>(c); }},
}};

}  // namespace

std::unique_ptr<SaslExchange> scram_sha256(const Credentials& credentials, std::string nonce) {
    return std::make_unique<ScramSha256>(credentials, std::move(nonce));
}

Result<std::unique_ptr<SaslExchange>> choose_exchange(
    const std::vector<std::string>& offered, const Credentials& credentials, Channel channel) {
    if (offered.empty()) return fail(Errc::auth_unavailable, "credentials are configured, but AUTH is not offered");
    if (channel == Channel::clear) {
        return fail(Errc::auth_unavailable, "credentials would travel in clear, which auth_cleartext does not permit");
    }
    bool withheld = false;
    for (const Known& one : known) {
        if (!credentials.mechanism.empty() && !iequals(credentials.mechanism, one.name)) continue;
        const auto same = [&one](const std::string& name) { return iequals(name, one.name); };
        if (std::none_of(offered.begin(), offered.end(), same)) continue;
        withheld = one.shows_password && channel != Channel::trusted;
        if (!withheld) return one.make(credentials);
    }
    if (withheld) {
        return fail(Errc::auth_unavailable, "the password would go to a peer whose certificate does not verify");
    }
    return fail(Errc::auth_unavailable, "no mechanism is known to both sides");
}

}  // namespace sluice::delivery
