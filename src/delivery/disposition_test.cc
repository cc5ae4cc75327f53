#include "delivery/disposition.h"

#include <gtest/gtest.h>

#include <array>
#include "base/assert.h"

namespace sluice::delivery {
namespace {

constexpr std::array all_stages{Stage::route, Stage::load, Stage::connect, Stage::greeting, Stage::helo,
                                Stage::starttls, Stage::tls, Stage::auth, Stage::mail, Stage::rcpt,
                                Stage::data, Stage::body, Stage::dot, Stage::quit};
constexpr int errc_count = static_cast<int>(Errc::auth_unavailable) + 1;

char letter(Fate fate) {
    switch (fate) {
        case Fate::delivered: return '+';
        case Fate::deferred: return 'd';
        case Fate::failed: return 'F';
        case Fate::expired: return 'X';
        case Fate::next_candidate: return 'n';
        case Fate::fresh_session: return 'f';
    }
    UNREACHABLE();
}

Verdict reply(Stage stage, int code) { return {stage, static_cast<std::uint16_t>(code), {}, {}, "text"}; }

// One letter a stage, in their order from route to quit: + delivered, d deferred, F failed, X expired, n next candidate,
// f fresh session.
std::string row_of(Errc error, const Standing& standing) {
    std::string row;
    for (const Stage stage : all_stages) row += letter(rule(Verdict::of_error(stage, Error(error, "x")), standing).fate);
    return row;
}

struct ErrorRow {
    Errc error;
    const char* more_hosts;   // another candidate is left
    const char* last_host;    // none is
    const char* reused;       // a pooled connection without a reply to MAIL yet, more hosts
};

// Every Errc at every stage: dns, load, connect, greeting, helo, starttls, tls, auth, mail, rcpt, data, body, dot, quit.
constexpr std::array<ErrorRow, errc_count> error_table{{
    {Errc::link_closed, "nnnnnnnnnnnndn", "dddddddddddddd", "ffffffffffffff"},
    {Errc::timed_out, "Xnnnnnnnnnnndn", "Xddddddddddddd", "Xfffffffffffdf"},
    {Errc::cancelled, "ffffffffffffff", "ffffffffffffff", "ffffffffffffff"},
    {Errc::refused, "nnnnnnnnnnnndn", "dddddddddddddd", "ffffffffffffdf"},
    {Errc::unreachable, "nnnnnnnnnnnndn", "dddddddddddddd", "ffffffffffffdf"},
    {Errc::address_in_use, "ffffffffffffff", "ffffffffffffff", "ffffffffffffff"},
    {Errc::bad_source, "ffffffffffffff", "ffffffffffffff", "ffffffffffffff"},
    {Errc::out_of_resources, "ffffffffffffff", "ffffffffffffff", "ffffffffffffff"},
    {Errc::tls_failed, "nnnnnnnnnnnndn", "dddddddddddddd", "ffffffffffffdf"},
    {Errc::bad_reply, "nnnnnnnnnnnndn", "dddddddddddddd", "ffffffffffffdf"},
    {Errc::bad_input, "dddddddddddddd", "dddddddddddddd", "dddddddddddddd"},
    {Errc::too_large, "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF"},
    {Errc::dns_temporary, "dddddddddddddd", "dddddddddddddd", "dddddddddddddd"},
    {Errc::dns_no_domain, "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF"},
    {Errc::dns_no_data, "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF"},
    {Errc::null_mx, "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF"},
    {Errc::mail_loop, "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF"},
    {Errc::config, "dddddddddddddd", "dddddddddddddd", "dddddddddddddd"},
    {Errc::disk_failed, "dddddddddddddd", "dddddddddddddd", "dddddddddddddd"},
    {Errc::disk_full, "dddddddddddddd", "dddddddddddddd", "dddddddddddddd"},
    {Errc::corrupt, "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF", "FFFFFFFFFFFFFF"},
    {Errc::locked, "dddddddddddddd", "dddddddddddddd", "dddddddddddddd"},
    {Errc::not_found, "dFdddddddddddd", "dFdddddddddddd", "dFdddddddddddd"},
    {Errc::unsupported, "nnnnnnnnnnnnnn", "FFFFFFFFFFFFFF", "nnnnnnnnnnnnnn"},
    {Errc::auth_unavailable, "dddddddddddddd", "dddddddddddddd", "dddddddddddddd"},
}};

TEST(Disposition, EveryErrorAtEveryStage) {
    for (int i = 0; i < errc_count; ++i) {
        const ErrorRow& row = error_table[static_cast<std::size_t>(i)];
        ASSERT_EQ(static_cast<int>(row.error), i) << "the table has a row for every Errc, in order";
        EXPECT_EQ(row_of(row.error, {.more_hosts = true}), row.more_hosts) << name_of(row.error);
        EXPECT_EQ(row_of(row.error, {.more_hosts = false}), row.last_host) << name_of(row.error);
        EXPECT_EQ(row_of(row.error, {.more_hosts = true, .reused_untouched = true}), row.reused) << name_of(row.error);
    }
}

struct ReplyRow {
    Stage stage;
    const char* more_hosts;  // for 421, 450, 554
    const char* last_host;
};
constexpr std::array reply_table{
    ReplyRow{Stage::greeting, "nnn", "ddF"}, ReplyRow{Stage::helo, "nnn", "ddF"},
    ReplyRow{Stage::starttls, "nnn", "ddd"}, ReplyRow{Stage::auth, "nnd", "ddd"},
    ReplyRow{Stage::mail, "ndF", "ddF"},     ReplyRow{Stage::rcpt, "ddF", "ddF"},
    ReplyRow{Stage::data, "ddF", "ddF"},     ReplyRow{Stage::dot, "ddF", "ddF"},
};

TEST(Disposition, EveryClassOfReplyAtEveryStage) {
    for (const ReplyRow& row : reply_table) {
        std::string more_hosts;
        std::string last_host;
        for (const int code : {421, 450, 554}) {
            more_hosts += letter(rule(reply(row.stage, code), {.more_hosts = true}).fate);
            last_host += letter(rule(reply(row.stage, code), {}).fate);
        }
        EXPECT_EQ(more_hosts, row.more_hosts) << facts_of(row.stage).name;
        EXPECT_EQ(last_host, row.last_host) << facts_of(row.stage).name;
    }
    EXPECT_EQ(rule(reply(Stage::dot, 250), {}).fate, Fate::delivered);
}

TEST(Disposition, C5321_03_UnknownCodesGoByTheirFirstDigit) {
    EXPECT_EQ(rule(reply(Stage::dot, 299), {}).fate, Fate::delivered);
    EXPECT_EQ(rule(reply(Stage::rcpt, 499), {}).fate, Fate::deferred);
    EXPECT_EQ(rule(reply(Stage::rcpt, 599), {}).fate, Fate::failed);
}

TEST(Disposition, C5321_05_RefusedGreetingsArePermanentOnlyWhenAllHostsAgree) {
    const Verdict refused = reply(Stage::greeting, 554);
    const Ruling first = rule(refused, {.more_hosts = true});
    EXPECT_EQ(first.fate, Fate::next_candidate);
    EXPECT_TRUE(first.host_refused_for_good);
    EXPECT_EQ(rule(refused, {.permanent_so_far = true}).fate, Fate::failed);
    EXPECT_EQ(rule(refused, {.permanent_so_far = false}).fate, Fate::deferred);
}

TEST(Disposition, A3_C5321_08_LinkLostAfterTheDotIsDeferredAsAPossibleDuplicate) {
    for (const Errc error : {Errc::link_closed, Errc::timed_out, Errc::bad_reply}) {
        const Ruling ruling = rule(Verdict::of_error(Stage::dot, Error(error, "")), {.more_hosts = true});
        EXPECT_EQ(ruling.fate, Fate::deferred);
        EXPECT_TRUE(ruling.possible_duplicate);
    }
    EXPECT_FALSE(rule(Verdict::of_error(Stage::body, Error(Errc::link_closed, "")), {}).possible_duplicate);
}

TEST(Disposition, C5321_19_DeadPooledConnectionIsReplacedWithoutPenalty) {
    const Standing reused{.more_hosts = true, .reused_untouched = true};
    EXPECT_EQ(rule(Verdict::of_error(Stage::mail, Error(Errc::link_closed, "")), reused).fate, Fate::fresh_session);
    EXPECT_EQ(rule(reply(Stage::mail, 421), reused).fate, Fate::fresh_session);
    const Ruling in_flight = rule(Verdict::of_error(Stage::dot, Error(Errc::link_closed, "")), reused);
    EXPECT_EQ(in_flight.fate, Fate::fresh_session);
    EXPECT_TRUE(in_flight.possible_duplicate);
}

TEST(Disposition, WhatIsDecidedHereIsNotAskedOfAnotherHost) {
    const Standing some{.more_hosts = true, .decided_some = true};
    EXPECT_EQ(rule(Verdict::of_error(Stage::rcpt, Error(Errc::link_closed, "")), some).fate, Fate::deferred);
}

struct StatusRow {
    Verdict verdict;
    Fate fate;
    const char* status;
};

TEST(Disposition, ES_2_StatusComesFromThePeerWithTheClassOfTheReply) {
    const std::array rows{
        StatusRow{{Stage::rcpt, 550, {}, "5.7.26", ""}, Fate::failed, "5.7.26"},
        StatusRow{{Stage::rcpt, 550, {}, "4.2.1", ""}, Fate::failed, "5.2.1"},
        StatusRow{{Stage::rcpt, 550, {}, "", ""}, Fate::failed, "5.1.0"},
        StatusRow{{Stage::dot, 250, {}, "", ""}, Fate::delivered, "2.0.0"},
        StatusRow{{Stage::greeting, 521, {}, "", ""}, Fate::failed, "5.3.2"},
        StatusRow{{Stage::rcpt, 452, {}, "", ""}, Fate::deferred, "4.5.3"},
        StatusRow{{Stage::auth, 535, {}, "5.7.8", ""}, Fate::deferred, "4.7.8"},
        StatusRow{{Stage::rcpt, 450, {}, "4.2.0", ""}, Fate::expired, "4.4.7"},
        StatusRow{Verdict::of_error(Stage::route, Error(Errc::null_mx, "")), Fate::failed, "5.1.10"},
        StatusRow{Verdict::of_error(Stage::route, Error(Errc::dns_no_domain, "")), Fate::failed, "5.1.2"},
        StatusRow{Verdict::of_error(Stage::route, Error(Errc::dns_temporary, "")), Fate::deferred, "4.4.3"},
        StatusRow{Verdict::of_error(Stage::route, Error(Errc::mail_loop, "")), Fate::failed, "5.4.6"},
        StatusRow{Verdict::of_error(Stage::connect, Error(Errc::refused, "")), Fate::deferred, "4.4.1"},
        StatusRow{Verdict::of_error(Stage::dot, Error(Errc::link_closed, "")), Fate::deferred, "4.4.2"},
        StatusRow{{Stage::mail, 0, Errc::unsupported, "5.6.7", ""}, Fate::failed, "5.6.7"},
    };
    for (const StatusRow& row : rows) {
        EXPECT_EQ(status_for(row.verdict, row.fate), row.status) << row.verdict.reply_text();
    }
}

TEST(Kept, DoS_13_OfALongReplyAsMuchAsANotificationShows) {
    const std::string whole(reply_text_max, '\x01');
    EXPECT_EQ(kept(whole), whole) << "what is short enough stays as it came";
    const std::string cut = kept("first\tline " + std::string(60'000, 'x'));
    EXPECT_EQ(cut, "first line " + std::string(reply_text_max - 14, 'x') + "...");
    EXPECT_LT(cut.capacity(), 2 * reply_text_max);
    EXPECT_EQ(kept(std::string(60'000, '\xA9')), std::string(reply_text_max - 3, '?') + "...");
}

}  // namespace
}  // namespace sluice::delivery
