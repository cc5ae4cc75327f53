#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "async/task_group.h"
#include "net/stream.h"
#include "peer/blast.h"
#include "peer/script.h"
#include "peer/sink.h"

namespace sluice::peer {
namespace {

TEST(Script, RulesAreReadOrRefusedWithAReason) {
    const auto rule = parse_rule("rcpt:*@slow.test%5=450 4.2.0 busy");
    ASSERT_TRUE(rule);
    EXPECT_EQ(rule->stage, Stage::rcpt);
    EXPECT_EQ(rule->pattern, "*@slow.test");
    EXPECT_EQ(rule->percent, 5);
    EXPECT_EQ(rule->reply, "450 4.2.0 busy");
    EXPECT_EQ(parse_rule("connect=delay 20")->delay, std::chrono::milliseconds(20));
    EXPECT_TRUE(parse_rule("dot=drop-after")->drop_after);
    for (const char* bad : {"", "rcpt", "nowhere=450 x", "rcpt=hello", "rcpt%200=450 x", "rcpt=delay x", "rcpt=150 x"}) {
        EXPECT_FALSE(parse_rule(bad)) << bad;
    }
}

TEST(Script, PatternsKnowOneWildcard) {
    EXPECT_TRUE(matches("*@slow.test", "A@SLOW.TEST"));
    EXPECT_TRUE(matches("a*c*e", "abcde"));
    EXPECT_TRUE(matches("*", ""));
    EXPECT_FALSE(matches("*@slow.test", "a@slow.test.example"));
    EXPECT_FALSE(matches("", "a"));
}

TEST(Script, PercentagesRepeatFromTheirSeed) {
    const std::vector<Rule> rules{*parse_rule("rcpt%30=450 busy")};
    Script a(rules, 7);
    Script b(rules, 7);
    int refused = 0;
    for (int i = 0; i < 1000; ++i) {
        const bool one = a.decide(Stage::rcpt, "x@y").has_value();
        EXPECT_EQ(one, b.decide(Stage::rcpt, "x@y").has_value());
        refused += one ? 1 : 0;
    }
    EXPECT_GT(refused, 200);
    EXPECT_LT(refused, 400);
    EXPECT_FALSE(a.decide(Stage::mail, "x@y"));
}

// A blast against a sink, both real, in every protocol.
class Load : public testing::TestWithParam<BlastOptions::Protocol> {};

TEST_P(Load, EveryMessageIsAnsweredAndCounted) {
    SinkOptions receiving;
    receiving.endpoints.push_back(*net::Endpoint::parse("127.0.0.1:0", 0));
    receiving.rules.push_back(*parse_rule("rcpt:*5@*=550 5.1.1 no"));
    const auto sink = Sink::start(receiving);
    ASSERT_TRUE(sink) << sink.error().text();

    BlastOptions sending;
    sending.target = (*sink)->endpoints().front();
    sending.sessions = 3;
    sending.messages = 100;
    sending.size = 3000;
    sending.window = 2;
    sending.protocol = GetParam();
    const auto report = blast(sending);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_EQ(report->accepted, 90U);
    EXPECT_EQ(report->refused_permanent, 10U);
    EXPECT_EQ(report->lost, 0U);
    (*sink)->stop();
    EXPECT_EQ((*sink)->counts().messages, 90U);
    EXPECT_THAT((*sink)->wire().first(), testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Protocols, Load,
    testing::Values(
        BlastOptions::Protocol::plain, BlastOptions::Protocol::pipelining, BlastOptions::Protocol::chunking));

// A client that says all that it has at once, whatever it is answered, and reads until the sink closes.
Task<> recite(net::Endpoint endpoint, std::string said) {
    auto stream = co_await net::connect(net::ConnectOptions(endpoint));
    if (!stream) co_return;
    co_await (*stream)->write(said);
    std::array<char, 4096> answers;
    for (bool open = true; open;) {
        const auto count = co_await (*stream)->read_some(answers);
        open = count.has_value();
    }
}

std::vector<std::string> complaints_about(const std::string& said) {
    SinkOptions receiving;
    receiving.endpoints.push_back(*net::Endpoint::parse("127.0.0.1:0", 0));
    const auto sink = Sink::start(receiving);
    if (!sink) return {sink.error().text()};
    boost::asio::io_context loop;
    async::TaskGroup group(loop.get_executor());
    group.spawn(recite((*sink)->endpoints().front(), said));
    loop.run();
    (*sink)->stop();
    return (*sink)->wire().first();
}

TEST(Sink, JudgesWhatItsClientsSend) {
    const auto complaints = complaints_about("EHLO bad.test\r\nMAIL FROM:<a@b.test> AUTH=<>\r\nSTARTTLS\nQUIT\r\nRSET\r\n");
    EXPECT_THAT(complaints, testing::Contains(testing::HasSubstr("behind a command that ends a group: EHLO")));
    EXPECT_THAT(complaints, testing::Contains(testing::HasSubstr("not offered: AUTH=<>")));
    EXPECT_THAT(complaints, testing::Contains(testing::HasSubstr("not offered: STARTTLS")));
    EXPECT_THAT(complaints, testing::Contains(testing::HasSubstr("without CR LF")));
    EXPECT_THAT(complaints, testing::Contains(testing::HasSubstr("octets behind QUIT")));

    const std::string chunk = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 4 LAST\r\n";
    EXPECT_THAT(complaints_about(chunk + "a\n\r\nQUIT\r\n"), testing::Contains(testing::HasSubstr("bare CR or bare LF")));
    EXPECT_THAT(complaints_about(chunk + "abcdef\r\nQUIT\r\n"), testing::Contains(testing::HasSubstr("no command")));
}

}  // namespace
}  // namespace sluice::peer
