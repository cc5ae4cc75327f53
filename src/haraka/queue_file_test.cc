#include "haraka/queue_file.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace sluice::haraka {
namespace {

std::string file_of(std::string_view todo, std::string_view message) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(todo.size() >> shift & 0xFF));
    return bytes.append(todo).append(message);
}

// As version 3.3 writes it.
constexpr std::string_view todo_now = R"(
{
	"queue_time": 1700000000123,
	"domain": "dst.test",
	"rcpt_to": [
		{
			"original": "<b@DST.test>",
			"original_host": "DST.test",
			"host": "dst.test",
			"user": "b"
		},
		{
			"original": "<c@dst.test>",
			"original_host": "dst.test",
			"host": "dst.test",
			"user": "c",
			"seen": {
				"times": 2
			}
		}
	],
	"mail_from": {
		"original": "<a@src.test>",
		"original_host": "src.test",
		"host": "src.test",
		"user": "a"
	},
	"notes": {
		"campaign": "spring"
	},
	"uuid": "9E0B1F72-3A44-4D7E-9A0B-1C2D3E4F5A6B.1.2",
	"force_tls": false
}
)";
constexpr std::string_view message_now = "Received: (Haraka outbound); today\r\nSubject: x\r\n\r\nhello\r\n..dot\r\n...\r\n";

std::string simple_todo(std::string_view from, std::string_view to, std::string_view domain = R"("dst.test")") {
    return R"({"domain":)" + std::string(domain) + R"(,"rcpt_to":[)" + std::string(to) + R"(],"mail_from":)" + std::string(from) + "}";
}

constexpr std::string_view some_one = R"({"original":"<a@b.test>","original_host":"b.test","host":"b.test","user":"a"})";

tl::expected<QueueFile, Fault> read(std::string_view todo, std::string_view message = "\r\nx\r\n") {
    return parse_queue_file(file_of(todo, message));
}

std::string path_of(std::string_view address) {
    const auto file = read(simple_todo(some_one, address));
    return file ? file->recipients.front().address.text() : "fault: " + file.error().reason;
}

TEST(QueueFile, TheFormOfTodayIsReadWhole) {
    const auto file = read(todo_now, message_now);
    ASSERT_TRUE(file.has_value()) << file.error().reason;
    EXPECT_EQ(file->queue_time_ms, 1'700'000'000'123);
    EXPECT_EQ(file->domain, "dst.test");
    EXPECT_EQ(file->reverse_path.text(), "a@src.test");
    ASSERT_EQ(file->recipients.size(), 2U);
    EXPECT_EQ(file->recipients[0].address.text(), "b@DST.test");
    EXPECT_EQ(file->recipients[0].noted, "");
    EXPECT_EQ(file->recipients[1].noted, R"({"seen":{"times":2}})");
    EXPECT_EQ(file->notes, R"({"campaign":"spring"})");
    EXPECT_EQ(file->uuid, "9E0B1F72-3A44-4D7E-9A0B-1C2D3E4F5A6B.1.2");
    EXPECT_FALSE(file->force_tls);
    EXPECT_EQ(file->content, "Received: (Haraka outbound); today\r\nSubject: x\r\n\r\nhello\r\n.dot\r\n..\r\n");
    EXPECT_FALSE(file->mended);
}

TEST(QueueFile, OldFormsOfAddresses) {
    EXPECT_EQ(path_of(R"({"original":"<B@c.test>","user":"B","host":"c.test"})"), "B@c.test") << "2.x";
    EXPECT_EQ(path_of(R"("<b@c.test>")"), "b@c.test");
    EXPECT_EQ(path_of(R"({"original":"<b@c.test>"})"), "b@c.test");
    EXPECT_EQ(path_of(R"({"original":"x","user":"\"a b\"","host":"c.test"})"), "\"a b\"@c.test") << "quotes stand in `user`";
    EXPECT_EQ(path_of(R"({"original":"x","user":"b","host":"xn--bcher-kva.test","original_host":"bücher.test","is_utf8":true})"), "b@bücher.test");
    EXPECT_EQ(path_of(R"({"original":"x","user":"b","host":"[192.0.2.1]"})"), "b@[192.0.2.1]");
    EXPECT_EQ(path_of(R"({"original":"x","user":")" + std::string(90, 'l') + R"(","host":"c.test"})"), std::string(90, 'l') + "@c.test")
        << "postel mode takes more than 64 octets";
}

TEST(QueueFile, TheNullReversePath) {
    for (const char* sender : {R"({"original":"<>","user":"","host":""})", R"({"original":"<>","user":null,"host":null})", R"("<>")", R"({})"}) {
        const auto file = read(simple_todo(sender, some_one));
        ASSERT_TRUE(file.has_value()) << sender << ": " << file.error().reason;
        EXPECT_TRUE(file->reverse_path.is_null()) << sender;
    }
}

TEST(QueueFile, WhatTheLastAttemptSaidOfARecipientIsOver) {
    const auto file = read(simple_todo(
        some_one, R"({"original":"x","user":"b","host":"c.test","dsn_action":"delayed","dsn_status":"4.2.0","reason":"later","mine":1})"));
    ASSERT_TRUE(file.has_value());
    EXPECT_EQ(file->recipients[0].noted, R"({"mine":1})");
}

TEST(QueueFile, TheDomainIsARoutingKey) {
    EXPECT_EQ(read(simple_todo(some_one, some_one, R"("BÜCHER.test")"))->domain, "xn--bcher-kva.test");
    EXPECT_EQ(read(simple_todo(some_one, some_one, R"("relay.test")"))->domain, "relay.test") << "also one that no recipient has";
    EXPECT_EQ(read(simple_todo(some_one, some_one, R"("")"))->domain, "b.test");
    EXPECT_FALSE(read(simple_todo(some_one, some_one, R"("a b")")).has_value());
}

TEST(QueueFile, HalfACharacterInNotesIsReplaced) {
    const std::string todo = R"({"domain":"b.test","notes":{"cut":"a\ud83d","low":"\ude00b","whole":"\ud83d\ude00","back":"\\ud83d"},"rcpt_to":[)" +
                             std::string(some_one) + R"(],"mail_from":"<>"})";
    const auto file = read(todo);
    ASSERT_TRUE(file.has_value()) << file.error().reason;
    EXPECT_EQ(file->notes, "{\"cut\":\"a\xEF\xBF\xBD\",\"low\":\"\xEF\xBF\xBD" "b\",\"whole\":\"\xF0\x9F\x98\x80\",\"back\":\"\\\\ud83d\"}");
}

TEST(QueueFile, DeepNotesAreKept) {
    const std::string deep = std::string(100, '[') + std::string(100, ']');
    const auto file = read(R"({"domain":"b.test","notes":{"d":)" + deep + R"(},"rcpt_to":[)" + std::string(some_one) + R"(],"mail_from":"<>"})");
    ASSERT_TRUE(file.has_value()) << file.error().reason;
    EXPECT_EQ(file->notes, R"({"d":)" + deep + "}");
}

struct Body {
    std::string_view stored, content;
    bool mended;
};

TEST(QueueFile, LineEndsAndDots) {
    for (const Body& body : {Body{"", "", false}, Body{"\r\n", "\r\n", false}, Body{"..\r\n.\r\n.x\r\n", ".\r\n.\r\nx\r\n", false},
                             Body{"last", "last\r\n", true}, Body{"a\nb\r\n", "a\r\nb\r\n", true}, Body{"a\n..b\n", "a\r\n.b\r\n", true},
                             Body{"a\rb\r\n", "a b\r\n", true}, Body{{"a\0b\r\n", 5}, "a b\r\n", true}}) {
        const auto file = read(simple_todo(some_one, some_one), body.stored);
        ASSERT_TRUE(file.has_value()) << file.error().reason;
        EXPECT_EQ(file->content, body.content);
        EXPECT_EQ(file->mended, body.mended) << body.stored;
    }
}

TEST(QueueFile, OctetsThatAreNoTextStay) {
    const std::string eight("\r\n\xFF\xFE\x80" "binary\r\n");
    EXPECT_EQ(read(simple_todo(some_one, some_one), eight)->content, eight);
}

struct Bad {
    std::string bytes;
    std::uint64_t offset;
    std::string_view reason;  // a part of it
};

TEST(QueueFile, FaultsSayWhereAndWhy) {
    const std::string todo(todo_now);
    const std::string without_end = todo.substr(0, todo.size() - 3);
    const std::string broken = R"({"domain":"x",])";
    for (const Bad& bad : {
             Bad{"", 0, "empty"},
             Bad{std::string("\0\0\1", 3), 0, "ends within the length"},
             Bad{file_of(todo, "").substr(0, 200), 0, "196 are there"},
             Bad{std::string("\xFF\xFF\xFF\xFF{}", 6), 0, "4294967295 octets"},
             Bad{file_of(without_end, ""), 4 + without_end.size(), "not JSON"},
             Bad{file_of(broken, ""), 4 + 14, "not JSON"},
             Bad{file_of("{} x", ""), 4 + 3, "not JSON"},
             Bad{file_of("[]", ""), 4, "not a JSON object"},
             Bad{file_of(R"({"mail_from":"<>"})", ""), 4, "rcpt_to: no recipients"},
             Bad{file_of(R"({"mail_from":"<>","rcpt_to":[]})", ""), 4 + 18, "rcpt_to: no recipients"},
             Bad{file_of(simple_todo(R"("<a@b c>")", some_one), ""), 0, "mail_from: "},
             Bad{file_of(simple_todo("null", some_one), ""), 0, "mail_from: an address is expected"},
             Bad{file_of(simple_todo(some_one, R"({"original":"postmaster","user":"postmaster","host":""})"), ""), 0, "without a domain"},
             Bad{file_of(simple_todo(some_one, R"("<>")"), ""), 0, "a recipient without an address"},
             Bad{file_of(simple_todo(some_one, R"({"original":"x","user":"a\r\nRCPT TO:<x","host":"c.test"})"), ""), 0, "control characters"},
             Bad{file_of(simple_todo(some_one, R"({"original":"x","user":"a","host":"c.test>\r\n"})"), ""), 0, "rcpt_to: "},
         }) {
        const auto file = parse_queue_file(bad.bytes);
        ASSERT_FALSE(file.has_value()) << bad.reason;
        EXPECT_NE(file.error().reason.find(bad.reason), std::string::npos) << file.error().reason;
        if (bad.offset != 0 || bad.reason == "empty") EXPECT_EQ(file.error().offset, bad.offset) << file.error().reason;
    }
}

}  // namespace
}  // namespace sluice::haraka
