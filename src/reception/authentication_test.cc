#include "reception/authentication.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>

#include "base/text.h"

namespace sluice::reception {
namespace {

using Outcome = Authentication::Outcome;
using namespace std::string_literals;

const Authentication::Users users{{"tim", "tanstaaftanstaaf"}, {"joe@sender.test", "pass word"}};

Outcome plain(const std::string& message) {
    Authentication dialogue("PLAIN", users, "mx.test");
    return dialogue.begin(message);
}

// The examples of RFC 4616 §4 and what must not pass.
TEST(Authentication, RFC4616_Plain) {
    const std::pair<std::string, Outcome> cases[] = {
        {"\0tim\0tanstaaftanstaaf"s, Outcome::success},
        {"tim\0tim\0tanstaaftanstaaf"s, Outcome::success},
        {"\0joe@sender.test\0pass word"s, Outcome::success},
        {"Ursel\0tim\0tanstaaftanstaaf"s, Outcome::failure},
        {"\0tim\0wrong"s, Outcome::failure},
        {"\0tim\0tanstaaftanstaaf "s, Outcome::failure},
        {"\0nobody\0nobody"s, Outcome::failure},
        {"\0TIM\0tanstaaftanstaaf"s, Outcome::failure},
        {"tim\0tanstaaftanstaaf"s, Outcome::malformed},
        {"tim"s, Outcome::malformed},
        {""s, Outcome::malformed},
        {"\0tim\0tanstaaftanstaaf\0"s, Outcome::malformed},
        {"\0\0tanstaaftanstaaf"s, Outcome::malformed},
        {"\0tim\0"s, Outcome::malformed},
        {"\0\xFF\0x"s, Outcome::malformed},
        {"\0tim\0"s + std::string(256, 'x'), Outcome::malformed},
        {"\0"s + std::string(256, 'x') + "\0x"s, Outcome::malformed},
        {std::string(256, 'x') + "\0tim\0tanstaaftanstaaf"s, Outcome::malformed},
    };
    for (const auto& [message, expected] : cases) EXPECT_EQ(plain(message), expected) << printable(message);
}

TEST(Authentication, LoginAsksForBoth) {
    Authentication dialogue("LOGIN", users, "mx.test");
    ASSERT_EQ(dialogue.begin(std::nullopt), Outcome::challenge);
    EXPECT_EQ(dialogue.challenge(), "Username:");
    ASSERT_EQ(dialogue.step("tim"), Outcome::challenge);
    EXPECT_EQ(dialogue.challenge(), "Password:");
    EXPECT_EQ(dialogue.step("tanstaaftanstaaf"), Outcome::success);
    EXPECT_EQ(dialogue.user(), "tim");
}

TEST(Authentication, LoginTakesTheNameAtOnce) {
    Authentication dialogue("LOGIN", users, "mx.test");
    ASSERT_EQ(dialogue.begin("tim"), Outcome::challenge);
    EXPECT_EQ(dialogue.step("wrong"), Outcome::failure);
}

TEST(Authentication, LoginRefusesEmptyAnswers) {
    Authentication dialogue("LOGIN", users, "mx.test");
    EXPECT_EQ(dialogue.begin(""), Outcome::malformed);
}

std::string cram_answer(const std::string& user, const std::string& password, const std::string& challenge) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    HMAC(EVP_md5(), password.data(), static_cast<int>(password.size()),
         reinterpret_cast<const unsigned char*>(challenge.data()), challenge.size(), digest.data(), &size);
    return user + " " + hex_encode({reinterpret_cast<const char*>(digest.data()), size});
}

TEST(Authentication, CramMd5) {
    Authentication dialogue("CRAM-MD5", users, "mx.test");
    ASSERT_EQ(dialogue.begin(std::nullopt), Outcome::challenge);
    const std::string challenge = dialogue.challenge();
    EXPECT_TRUE(challenge.starts_with("<") && challenge.ends_with("@mx.test>")) << challenge;
    EXPECT_EQ(dialogue.step(cram_answer("tim", "tanstaaftanstaaf", challenge)), Outcome::success);
    EXPECT_EQ(dialogue.step(cram_answer("tim", "wrong", challenge)), Outcome::failure);
    EXPECT_EQ(dialogue.step(cram_answer("nobody", "nobody", challenge)), Outcome::failure);
    EXPECT_EQ(dialogue.step("tim"), Outcome::malformed);
    EXPECT_EQ(dialogue.step("tim x"), Outcome::failure);

    Authentication other("CRAM-MD5", users, "mx.test");
    ASSERT_EQ(other.begin(std::nullopt), Outcome::challenge);
    EXPECT_NE(other.challenge(), challenge);
    EXPECT_EQ(other.step(cram_answer("tim", "tanstaaftanstaaf", challenge)), Outcome::failure);
    EXPECT_EQ(other.begin("anything"), Outcome::malformed);
}

}  // namespace
}  // namespace sluice::reception
