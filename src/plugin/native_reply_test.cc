#include "plugin/native_reply.h"

#include <gmock/gmock.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "plugin/native_event.h"

namespace sluice::plugin {
namespace {

using testing::HasSubstr;

sluice_mx mx() {
    sluice_mx mx{};
    mx.size = sizeof mx;
    return mx;
}

NativeReply reply_of(const sluice_mx* hosts, std::size_t count, const char* notes = "") {
    sluice_answer answer{};
    answer.size = sizeof answer;
    answer.code = SLUICE_OK;
    answer.mx = hosts;
    answer.mx_count = count;
    answer.notes = text_of(notes);
    NativeReply reply;
    reply.take(answer);
    return reply;
}

std::string refusal(const sluice_mx& of) {
    const auto hosts = reply_of(&of, 1).hosts();
    return hosts ? "none" : hosts.error().detail;
}

TEST(NativeReply, HostsInEveryForm) {
    std::array<sluice_mx, 4> all{mx(), mx(), mx(), mx()};
    all[0].next_hop = text_of("lmtp://mail.example.test:2424");
    all[1].host = text_of("192.0.2.1");
    all[1].user = text_of("joe");
    all[1].password = text_of("secret");
    all[1].helo = text_of("out.example.test");
    all[2].host = text_of("MX.example.test");
    all[2].port = 2525;
    all[3].path = text_of("/run/lmtp");
    const auto hosts = reply_of(all.data(), all.size()).hosts();
    ASSERT_TRUE(hosts) << hosts.error().detail;
    ASSERT_EQ(hosts->size(), 4U);
    EXPECT_EQ((*hosts)[0].host, "mail.example.test");
    EXPECT_EQ((*hosts)[0].port, 2424);
    EXPECT_TRUE((*hosts)[0].transport.lmtp);
    EXPECT_EQ((*hosts)[1].address->text(), "192.0.2.1");
    EXPECT_EQ((*hosts)[1].port, 25);
    EXPECT_EQ((*hosts)[1].transport.auth_user, "joe");
    EXPECT_EQ((*hosts)[1].transport.auth_password, "secret");
    EXPECT_EQ((*hosts)[1].transport.helo, "out.example.test");
    EXPECT_EQ((*hosts)[2].host, "mx.example.test");
    EXPECT_EQ((*hosts)[2].port, 2525);
    EXPECT_EQ((*hosts)[3].path, "/run/lmtp");
    EXPECT_TRUE((*hosts)[3].transport.lmtp);
}

TEST(NativeReply, WhatIsNoHostIsRefusedWithASentence) {
    sluice_mx bad = mx();
    EXPECT_THAT(refusal(bad), HasSubstr("get_mx named a host that is none"));
    bad.next_hop = text_of("http://x");
    EXPECT_THAT(refusal(bad), HasSubstr("get_mx named a host that is none"));
    bad = mx();
    bad.host = text_of(std::string_view("a\0b", 3));
    EXPECT_THAT(refusal(bad), HasSubstr("get_mx named a host that is none"));
    bad = mx();
    bad.path = text_of("relative");
    EXPECT_THAT(refusal(bad), HasSubstr("without its full path"));
    bad = mx();
    bad.host = text_of("192.0.2.1");
    bad.bind = text_of("here");
    EXPECT_THAT(refusal(bad), HasSubstr("local address that is none"));
    bad = mx();
    bad.host = text_of("192.0.2.1");
    bad.helo = text_of("x\r\nMAIL FROM:<>");
    EXPECT_THAT(refusal(bad), HasSubstr("EHLO name that is none: x\\x0d\\x0aMAIL"));
    EXPECT_THAT(reply_of(nullptr, 7).hosts().error().detail, HasSubstr("named no host"));
    sluice_mx unsized{};
    unsized.host = text_of("192.0.2.1");
    EXPECT_FALSE(reply_of(&unsized, 1).hosts());
}

TEST(NativeReply, HugeAnswersAreCut) {
    const std::string longest(1 << 20, 'x');
    std::vector<sluice_mx> many(1000, mx());
    for (sluice_mx& one : many) one.host = text_of(longest);
    const NativeReply reply = reply_of(many.data(), many.size(), longest.c_str());
    EXPECT_LT(reply.mx.size(), std::size_t{1} << 20);
    EXPECT_FALSE(reply.hosts());
    EXPECT_EQ(reply.noted().error().code, Errc::too_large);

    sluice_answer answer{};
    answer.size = sizeof answer;
    answer.delay_ms = std::numeric_limits<std::int64_t>::max();
    NativeReply later;
    later.take(answer);
    EXPECT_EQ(later.delay, std::chrono::hours(24 * 366));
    answer.delay_ms = std::numeric_limits<std::int64_t>::min();
    later.take(answer);
    EXPECT_EQ(later.delay, Duration(0));
}

TEST(NativeReply, NotesAreAnObject) {
    EXPECT_EQ(reply_of(nullptr, 0, R"({"a":1})").noted()->at("a"), 1);
    EXPECT_TRUE(reply_of(nullptr, 0).noted()->empty());
    EXPECT_FALSE(reply_of(nullptr, 0, "[1]").noted());
    EXPECT_FALSE(reply_of(nullptr, 0, "{").noted());
}

TEST(NativeReply, AnOlderPluginsStructuresAreShorter) {
    sluice_mx host = mx();
    host.size = offsetof(sluice_mx, host);
    host.next_hop = text_of("192.0.2.1");
    host.host = text_of("never.read.test");
    sluice_answer answer{};
    answer.size = offsetof(sluice_answer, notes);
    answer.code = SLUICE_OK;
    answer.mx = &host;
    answer.mx_count = 1;
    answer.notes = text_of("never read");
    NativeReply reply;
    reply.take(answer);
    EXPECT_EQ(reply.notes, "");
    ASSERT_TRUE(reply.hosts());
    EXPECT_EQ(reply.hosts()->front().address->text(), "192.0.2.1");
}

sluice_header header(const char* name, std::string_view value) {
    return {static_cast<std::uint32_t>(sizeof(sluice_header)), 0, text_of(name), text_of(value)};
}

NativeReply with_headers(const sluice_header* headers, std::size_t count) {
    sluice_answer answer{};
    answer.size = sizeof answer;
    answer.headers = headers;
    answer.header_count = count;
    NativeReply reply;
    reply.take(answer);
    return reply;
}

TEST(NativeReply, FieldsCannotEndTheHeader) {
    const sluice_header smuggles = header("X-A", "one\r\nBcc: all@dst.test\r\n\r\nbody\x01");
    const NativeReply reply = with_headers(&smuggles, 1);
    ASSERT_EQ(reply.fields.size(), 1U);
    EXPECT_EQ(reply.fields.front().text(), "X-A: oneBcc: all@dst.testbody\r\n");
    EXPECT_FALSE(reply.bad_field);
    for (const char* name : {"", "X A", "X:A", "X\rA", "X\xc3\xa4"}) {
        const sluice_header bad = header(name, "value");
        EXPECT_TRUE(with_headers(&bad, 1).bad_field) << name;
        EXPECT_TRUE(with_headers(&bad, 1).fields.empty()) << name;
    }
    const std::string endless(901, 'x');
    const sluice_header bad = header("X-A", endless);
    EXPECT_TRUE(with_headers(&bad, 1).bad_field);
    const std::vector<sluice_header> many(101, header("X-A", "b"));
    EXPECT_TRUE(with_headers(many.data(), many.size()).bad_field);
    EXPECT_EQ(with_headers(many.data(), many.size()).fields.size(), 100U);
}

TEST(NativeReply, LongFieldsAreFolded) {
    std::string value;
    for (int i = 0; i < 40; ++i) value += (i == 0 ? "" : " ") + std::string("word");
    const sluice_header one = header("X-Words", value);
    const std::string text = with_headers(&one, 1).fields.front().text();
    EXPECT_EQ(text.substr(0, 14), "X-Words: word ");
    EXPECT_THAT(text, HasSubstr("word\r\n word"));
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = text.find("\r\n", at);
        EXPECT_LE(end - at, 78U);
        at = end + 2;
    }
    const sluice_header empty = header("X-Empty", " ");
    EXPECT_EQ(with_headers(&empty, 1).fields.front().text(), "X-Empty:\r\n");
}

TEST(NativeReply, OlderPluginsHaveNoHeaders) {
    sluice_answer answer{};
    std::memset(&answer, 0xff, sizeof answer);
    answer.size = offsetof(sluice_answer, headers);
    answer.code = SLUICE_CONT;
    answer.reason = answer.notes = {};
    answer.mx = nullptr;
    answer.flags = 0;
    NativeReply reply;
    reply.take(answer);
    EXPECT_TRUE(reply.fields.empty());
    EXPECT_FALSE(reply.bad_field);
    EXPECT_EQ(reply.reply_code, 0);
}

TEST(NativeReply, WordsAreLines) {
    NativeReply reply;
    reply.reason = "5.7.1 first\r\n\n second ";
    EXPECT_THAT(reply.words(), testing::ElementsAre("5.7.1 first", "second"));
    reply.reason.clear();
    EXPECT_TRUE(reply.words().empty());
}

}  // namespace
}  // namespace sluice::plugin
