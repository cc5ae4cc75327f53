#include "plugin/native_reply.h"

#include <gmock/gmock.h>

#include <array>

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

}  // namespace
}  // namespace sluice::plugin
