#include "smtp/parameters.h"

#include <gtest/gtest.h>

#include "smtp/command.h"

namespace sluice::smtp {
namespace {

Extensions everything() {
    Extensions all;
    all.pipelining = all.size = all.eight_bit_mime = all.smtputf8 = all.chunking = all.binarymime = all.dsn =
        true;
    all.enhanced_codes = all.starttls = all.requiretls = all.mt_priority = true;
    all.size_max = 1000000;
    all.auth = {"PLAIN"};
    return all;
}
const Extensions all_offered = everything();
const CommandSyntax full{&all_offered, true};
const CommandSyntax bare{nullptr, false};

// "501 5.5.4": how a line is refused; "" if it is understood.
std::string refusal(std::string_view line, const CommandSyntax& syntax = full) {
    const auto command = parse_command(line, syntax);
    if (command) return {};
    EXPECT_FALSE(command.error().reply.text().empty()) << line;
    return std::to_string(command.error().reply.code) + " " + command.error().reply.enhanced->text();
}

TEST(Parameters, ParametersAreRefusedByTheirKind_S5321_05_DS_01_SZ_1_SZ_3) {
    const std::string envid_100(100, 'e');
    EXPECT_EQ(refusal("MAIL FROM:<> ENVID=" + envid_100), "");
    const std::pair<std::string, std::string_view> table[] = {
        {"MAIL FROM:<> FOO=1", "555 5.5.4"},
        {"MAIL FROM:<> NOTIFY=NEVER", "555 5.5.4"},
        {"RCPT TO:<a@x> SIZE=1", "555 5.5.4"},
        {"RCPT TO:<a@x> FOO", "555 5.5.4"},
        {"MAIL FROM:<> =x", "555 5.5.4"},
        {"MAIL FROM:<> SIZE=", "501 5.5.4"},
        {"MAIL FROM:<> SIZE=-1", "501 5.5.4"},
        {"MAIL FROM:<> SIZE=0x10", "501 5.5.4"},
        {"MAIL FROM:<> SIZE=99999999999999999999", "552 5.3.4"},
        {"MAIL FROM:<> SIZE=1000001", "552 5.3.4"},
        {"MAIL FROM:<> SIZE=1000000", ""},
        {"MAIL FROM:<> SIZE=999999999999999999999", "501 5.5.4"},
        {"MAIL FROM:<> SIZE=1 size=2", "501 5.5.4"},
        {"MAIL FROM:<> BODY=9BIT", "501 5.5.4"},
        {"MAIL FROM:<> SMTPUTF8=1", "501 5.5.4"},
        {"MAIL FROM:<> RET=BOTH", "501 5.5.4"},
        {"MAIL FROM:<> RET", "501 5.5.4"},
        {"MAIL FROM:<> MT-PRIORITY", "501 5.5.4"},
        {"MAIL FROM:<> MT-PRIORITY=", "501 5.5.4"},
        {"MAIL FROM:<> MT-PRIORITY=10", "501 5.5.4"},
        {"MAIL FROM:<> MT-PRIORITY=-0", "501 5.5.4"},
        {"MAIL FROM:<> MT-PRIORITY=+1", "501 5.5.4"},
        {"MAIL FROM:<> MT-PRIORITY=--1", "501 5.5.4"},
        {"MAIL FROM:<> mt-priority=-9", ""},
        {"MAIL FROM:<> ENVID=e" + envid_100, "501 5.5.4"},
        {"MAIL FROM:<> ENVID=+ZZ", "501 5.5.4"},
        {"MAIL FROM:<> ENVID=+2b", "501 5.5.4"},
        {"MAIL FROM:<> ENVID=a+0D+0Ab", "501 5.5.4"},
        {"MAIL FROM:<> AUTH=a+0D+0Ab", "501 5.5.4"},
        {"MAIL FROM:<> AUTH=", "501 5.5.4"},
        {"RCPT TO:<a@x> NOTIFY=NEVER,FAILURE", "501 5.5.4"},
        {"RCPT TO:<a@x> NOTIFY=", "501 5.5.4"},
        {"RCPT TO:<a@x> NOTIFY", "501 5.5.4"},
        {"RCPT TO:<a@x> NOTIFY=FOO", "501 5.5.4"},
        {"RCPT TO:<a@x> NOTIFY=FAILURE,", "501 5.5.4"},
        {"RCPT TO:<a@x> ORCPT=a@x", "501 5.5.4"},
        {"RCPT TO:<a@x> ORCPT=rfc822;", "501 5.5.4"},
        {"RCPT TO:<a@x> ORCPT=;a@x", "501 5.5.4"},
        {"RCPT TO:<a@x> ORCPT=rfc822;a+0D+0Ax", "501 5.5.4"},
        {"RCPT TO:<a@x> ORCPT=rfc822;ö@x", "501 5.5.4"},
        {"RCPT TO:<a@x> ORCPT=rfc822;" + std::string(500, 'a'), "501 5.5.4"},
    };
    for (const auto& [line, expected] : table)
        EXPECT_EQ(refusal(line), expected) << line;
}

TEST(Parameters, ParametersOfWhatWasNotOffered_S5321_05) {
    for (const char* line :
         {"MAIL FROM:<> SIZE=1", "MAIL FROM:<> BODY=8BITMIME", "MAIL FROM:<> SMTPUTF8",
          "MAIL FROM:<> RET=FULL", "MAIL FROM:<> ENVID=x", "MAIL FROM:<> AUTH=<>", "MAIL FROM:<> REQUIRETLS",
          "RCPT TO:<a@x> NOTIFY=NEVER", "RCPT TO:<a@x> ORCPT=rfc822;a@x"}) {
        EXPECT_EQ(refusal(line, bare), "555 5.5.4") << line;
        EXPECT_EQ(refusal(line, full), "") << line;
    }
}

TEST(Parameters, AThousandParametersAreRefusedQuickly) {
    std::string line = "MAIL FROM:<>";
    for (int i = 0; i < 5000; ++i)
        line += " X" + std::to_string(i);
    EXPECT_EQ(refusal(line), "501 5.5.4");
}

}  // namespace
}  // namespace sluice::smtp
