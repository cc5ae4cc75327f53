#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::reception {

// One AUTH dialogue of a client, without the base64 and the reply codes around it. Knows PLAIN (RFC 4616), LOGIN and
// CRAM-MD5 (RFC 2195). Shard-owned; borrows the users.
//
// Promise: a wrong password and an unknown user give the same answer after the same work (AU-4).
class Authentication {
public:
    using Users = std::map<std::string, std::string>;

    enum class Outcome : std::uint8_t {
        challenge,  // send challenge() and pass the answer to step()
        success,    // user() is who it is
        failure,    // wrong credentials
        malformed,  // not what the mechanism says
    };

    // `host` names us in the challenge of CRAM-MD5. The mechanism is one of supports().
    Authentication(std::string_view mechanism, const Users& users, std::string_view host);
    static bool supports(std::string_view mechanism);

    // `initial`: the decoded initial response, if the client sent one.
    Outcome begin(const std::optional<std::string>& initial);
    // The client's decoded answer to the last challenge.
    Outcome step(std::string_view answer);

    const std::string& challenge() const { return challenge_; }
    const std::string& user() const { return user_; }

private:
    enum class Mechanism : std::uint8_t { plain, login, cram_md5 };

    Outcome plain(std::string_view message);
    Outcome login(std::string_view answer);
    Outcome cram_md5(std::string_view answer);
    Outcome check_password(std::string_view password) const;

    Mechanism mechanism_;
    const Users& users_;
    std::string host_;
    std::string challenge_;
    std::string user_;
    bool user_given_ = false;  // LOGIN: the name came, the password is next
};

}  // namespace sluice::reception
