#include "delivery/sasl.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace sluice::delivery {
namespace {

const Credentials joe{"user", "pencil", ""};

// The exchange of RFC 7677 §3.
const std::string client_nonce = "rOprNGfwEbeRWgbNEkqO";
const std::string server_first =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const std::string client_last =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const std::string server_last = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

TEST(Sasl, SC_1_ExampleOfRfc7677) {
    const auto sasl = scram_sha256(joe, client_nonce);
    EXPECT_EQ(sasl->initial(), "n,,n=user,r=" + client_nonce);
    EXPECT_EQ(sasl->respond(server_first), client_last);
    EXPECT_FALSE(sasl->satisfied());
    EXPECT_EQ(sasl->respond(server_last), "");
    EXPECT_TRUE(sasl->satisfied());
}

TEST(Sasl, SC_2_NonceThatDoesNotContinueOursIsRefused) {
    for (const char* nonce : {"r=other", "r=rOprNGfwEbeRWgbNEkqO", "r="}) {
        const auto sasl = scram_sha256(joe, client_nonce);
        const auto answer = sasl->respond(std::string(nonce) + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        ASSERT_FALSE(answer) << nonce;
        EXPECT_EQ(answer.error().code, Errc::bad_reply);
    }
}

TEST(Sasl, SC_3_ServerThatCannotProveItselfIsNotBelieved) {
    for (const char* last : {"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "e=other-error", ""}) {
        const auto sasl = scram_sha256(joe, client_nonce);
        ASSERT_TRUE(sasl->respond(server_first));
        EXPECT_FALSE(sasl->respond(last)) << last;
        EXPECT_FALSE(sasl->satisfied());
    }
}

TEST(Sasl, SC_4_IterationCountsThatAreWeakOrRuinousAreRefused) {
    for (const char* count : {"1", "4095", "4294967295", "200001", "-1", "x", ""}) {
        const auto sasl = scram_sha256(joe, client_nonce);
        const std::string first = "r=" + client_nonce + "server,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=";
        EXPECT_FALSE(sasl->respond(first + count)) << count;
    }
}

TEST(Sasl, ScramEscapesTheName) {
    const auto sasl = scram_sha256({"a=b,c", "x", ""}, "n");
    EXPECT_EQ(sasl->initial(), "n,,n=a=3Db=2Cc,r=n");
}

TEST(Sasl, MalformedChallengesAreRefused) {
    for (const char* first : {"", "r=", "s=a,i=1", "m=ext,r=a,s=b,i=4096", "r=rOprNGfwEbeRWgbNEkqOx,s=*,i=4096"}) {
        EXPECT_FALSE(scram_sha256(joe, client_nonce)->respond(first)) << first;
    }
}

struct Choice {
    std::vector<std::string> offered;
    std::string demanded;
    Channel channel;
    std::string chosen;  // empty: none
};

TEST(Sasl, AU_10_AU_11_TheBestMechanismThatTheChannelPermits) {
    const std::vector<Choice> choices{
        {{"CRAM-MD5", "LOGIN", "PLAIN", "SCRAM-SHA-256"}, "", Channel::trusted, "SCRAM-SHA-256"},
        {{"CRAM-MD5", "LOGIN", "PLAIN"}, "", Channel::trusted, "PLAIN"},
        {{"CRAM-MD5", "LOGIN"}, "", Channel::trusted, "LOGIN"},
        {{"CRAM-MD5"}, "", Channel::trusted, "CRAM-MD5"},
        {{"PLAIN", "SCRAM-SHA-256"}, "plain", Channel::trusted, "PLAIN"},
        {{"PLAIN"}, "CRAM-MD5", Channel::trusted, ""},
        {{"GSSAPI", "XOAUTH2"}, "", Channel::trusted, ""},
        {{}, "", Channel::trusted, ""},
        {{"PLAIN", "SCRAM-SHA-256"}, "", Channel::clear, ""},
        {{"PLAIN", "LOGIN"}, "", Channel::unverified_tls, ""},
        {{"PLAIN", "CRAM-MD5"}, "", Channel::unverified_tls, "CRAM-MD5"},
        {{"PLAIN", "SCRAM-SHA-256"}, "", Channel::unverified_tls, "SCRAM-SHA-256"},
    };
    for (const Choice& choice : choices) {
        Credentials credentials = joe;
        credentials.mechanism = choice.demanded;
        const auto exchange = choose_exchange(choice.offered, credentials, choice.channel);
        ASSERT_EQ(exchange.has_value(), !choice.chosen.empty());
        if (exchange) {
            EXPECT_EQ((*exchange)->mechanism(), choice.chosen);
        } else {
            EXPECT_EQ(exchange.error().code, Errc::auth_unavailable);
        }
    }
}

TEST(Sasl, CramMd5ExampleOfRfc2195) {
    const Credentials tim{"tim", "tanstaaftanstaaf", ""};
    const auto exchange = choose_exchange({"CRAM-MD5"}, tim, Channel::trusted);
    ASSERT_TRUE(exchange);
    EXPECT_EQ((*exchange)->initial(), std::nullopt);
    EXPECT_EQ((*exchange)->respond("<1896.697170952@postoffice.reston.mci.net>"), "tim b913a602c7eda7a495b4e6e7334d3890");
    EXPECT_FALSE((*exchange)->respond("again"));
}

TEST(Sasl, S4616_PlainAndLoginSayNameAndPassword) {
    const auto plain = choose_exchange({"PLAIN"}, joe, Channel::trusted);
    EXPECT_EQ((*plain)->initial(), std::string("\0user\0pencil", 12));
    const auto login = choose_exchange({"LOGIN"}, joe, Channel::trusted);
    EXPECT_EQ((*login)->respond("Username:"), "user");
    EXPECT_EQ((*login)->respond("Password:"), "pencil");
    EXPECT_FALSE((*login)->respond("More?"));
}

}  // namespace
}  // namespace sluice::delivery
