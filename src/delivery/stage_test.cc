#include "delivery/stage.h"

#include <gtest/gtest.h>

#include <array>

namespace sluice::delivery {
namespace {

using std::chrono::minutes;
using Out = config::OutboundSettings;

struct Phase {
    Stage stage;
    config::Milliseconds Out::* timeout;
    minutes by_standard;
};

// RFC 5321 §4.5.3.2; connecting and QUIT are not in its list.
TEST(Stage, C5321_04_EveryPhaseHasItsOwnTimeoutWithTheDefaultOfTheStandard) {
    const std::array phases{
        Phase{Stage::greeting, &Out::greeting_timeout, minutes(5)},
        Phase{Stage::helo, &Out::helo_timeout, minutes(5)},
        Phase{Stage::mail, &Out::mail_timeout, minutes(5)},
        Phase{Stage::rcpt, &Out::rcpt_timeout, minutes(5)},
        Phase{Stage::data, &Out::data_timeout, minutes(2)},
        Phase{Stage::body, &Out::block_timeout, minutes(3)},
        Phase{Stage::dot, &Out::dot_timeout, minutes(10)},
    };
    const Out defaults;
    for (const Phase& phase : phases) {
        const StageFacts& facts = facts_of(phase.stage);
        EXPECT_EQ(facts.timeout, phase.timeout) << facts.name;
        EXPECT_GE(defaults.*facts.timeout, phase.by_standard) << facts.name;
    }
    EXPECT_EQ(facts_of(Stage::connect).timeout, &Out::connect_timeout);
    EXPECT_EQ(facts_of(Stage::quit).timeout, &Out::quit_timeout);
}

TEST(Stage, C5321_08_OnlyALinkLostAtTheDotMayDuplicate) {
    for (std::size_t i = 0; i < stage_count; ++i) {
        const Stage stage = static_cast<Stage>(i);
        EXPECT_EQ(facts_of(stage).may_duplicate, stage == Stage::dot) << facts_of(stage).name;
    }
}

TEST(StageTimeouts, StatesOfTheFileReplaceSettings) {
    config::OutboundSettings settings;
    policy::DeliverySettings how;
    how.connect_timeout = Duration(1);
    how.state_timeouts = {{"BANNER", Duration(2)}, {"EHLO", Duration(3)}, {"LHLO", Duration(4)},  {"HELO", Duration(5)}, {"STARTTLS", Duration(6)}, {"AUTH", Duration(7)},
                          {"MAIL", Duration(8)},   {"RCPT", Duration(9)}, {"DATA", Duration(10)}, {"EOD", Duration(11)}, {"QUIT", Duration(12)}};
    StageTimeouts smtp(settings, &how, false);
    const std::vector<std::pair<Stage, int>> expected{{Stage::connect, 1}, {Stage::greeting, 2}, {Stage::helo, 3}, {Stage::starttls, 6}, {Stage::tls, 6}, {Stage::auth, 7},
                                                      {Stage::mail, 8},    {Stage::rcpt, 9},     {Stage::data, 10}, {Stage::dot, 11},    {Stage::quit, 12}};
    for (const auto& [stage, time] : expected) EXPECT_EQ(smtp[stage], Duration(time)) << facts_of(stage).name;
    EXPECT_EQ(smtp[Stage::body], settings.block_timeout);
    smtp.fall_back_to_helo();
    EXPECT_EQ(smtp[Stage::helo], Duration(5));
    EXPECT_EQ(StageTimeouts(settings, &how, true)[Stage::helo], Duration(4));
    EXPECT_EQ(StageTimeouts(settings, nullptr, false)[Stage::dot], settings.dot_timeout);
}

}  // namespace
}  // namespace sluice::delivery
