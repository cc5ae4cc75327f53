#include "plugin/calls.h"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "async/shard.h"
#include "event/event_test_support.h"

// Mail that plugins hand in: what is taken, what is refused, and what becomes of it when the host ends.

namespace sluice::plugin {
namespace {

using namespace std::string_view_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Takes everything at once, or when it is told to.
class FakeIntake final : public Intake {
public:
    explicit FakeIntake(async::Executor executor) : done(executor) {}

    Task<Result<>> take(mail::MessagePtr message, spool::Batch) override {
        messages.push_back(std::move(message));
        while (waits) co_await done.wait();
        if (failure) co_return fail(*failure, "the disk");
        co_return Result<>();
    }
    std::optional<std::string> refusal() const override { return full ? std::optional<std::string>("the queue is full") : std::nullopt; }
    std::optional<std::string> no_room_after(std::uint64_t) const override {
        return memory ? std::optional<std::string>("memory is at its bound") : std::nullopt;
    }

    std::vector<mail::MessagePtr> messages;
    std::optional<Errc> failure;
    bool full = false, memory = false, waits = false;
    async::Signal done;
};

class NoEvents final : public event::SilentRecorder {
public:
    using SilentRecorder::record;
    void record(const event::Accepted& fact) override { accepted.emplace_back(fact.client); }
    std::vector<std::string> accepted;
};

class CallsTest : public testing::Test {
protected:
    CallsTest() {
        auto settings = std::make_shared<config::Settings>();
        settings->me = "mx.us.test";
        settings->connection.message_bytes_max = 1000;
        const Calls::Surroundings around{intake_, clock_, ids_, events_};
        calls_ = std::make_unique<Calls>(around, settings, tasks_, [this](std::string_view text) { said_.emplace_back(text); });
    }
    ~CallsTest() override {
        intake_.waits = false;
        intake_.done.set();
        run();
    }

    void run() {
        for (int turn = 0; turn < 20; ++turn) shard_.loop().poll();
    }
    void begin(std::uint32_t id, const std::string& members = R"("from":"a@here.test","to":["b@there.test"])") {
        const auto message = boost::json::parse("{\"t\":\"inject\",\"id\":" + std::to_string(id) + "," + members + "}");
        calls_->begin(message.get_object());
    }
    void piece(std::uint32_t id, std::string_view octets, bool last) {
        calls_->octets(Octets{id, last, octets});
        run();
    }
    // The codes of the answers, in order.
    std::vector<std::string> codes() const {
        std::vector<std::string> found;
        for (const std::string& text : said_) {
            const auto message = boost::json::parse(text);
            if (message.at("t") == "injected") found.emplace_back(message.at("code").as_string().c_str());
        }
        return found;
    }

    async::Shard shard_{"test"};
    SystemClock clock_;
    spool::IdSource ids_{clock_, MessageId()};
    FakeIntake intake_{shard_.executor()};
    NoEvents events_;
    async::TaskGroup tasks_{shard_.executor()};
    std::vector<std::string> said_;
    std::unique_ptr<Calls> calls_;
};

constexpr const char* text = "From: a@here.test\r\nMessage-Id: <x@here.test>\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n\r\nbody\r\n";

TEST_F(CallsTest, AMessageInPiecesIsNamedTakenAndTold) {
    begin(0x80000001U, R"("from":"a@here.test","to":["b@there.test","c@else.test"],"origin":"mailer","notes":{"n":1})");
    const std::string_view content(text);
    piece(0x80000001U, content.substr(0, 30), false);
    EXPECT_THAT(intake_.messages, IsEmpty());
    piece(0x80000001U, content.substr(30), true);
    ASSERT_THAT(intake_.messages, SizeIs(1));
    const mail::Message& message = *intake_.messages[0];
    EXPECT_EQ(message.content, text);
    EXPECT_EQ(message.origin, "plugin mailer");
    EXPECT_EQ(message.notes, R"({"n":1})");
    EXPECT_THAT(message.items, SizeIs(2));
    EXPECT_THAT(codes(), ElementsAre("ok"));
    ASSERT_THAT(said_, SizeIs(2));
    EXPECT_THAT(said_[0], HasSubstr("\"t\":\"named\",\"id\":2147483649,\"message\":\"" + message.id.text() + "\",\"items\":2"));
    EXPECT_THAT(said_[1], HasSubstr(message.id.text()));
    EXPECT_THAT(events_.accepted, ElementsAre("plugin mailer"));
}

TEST_F(CallsTest, OKComesAfterTheCommitOnly) {
    intake_.waits = true;
    begin(1);
    piece(1, text, true);
    EXPECT_THAT(intake_.messages, SizeIs(1));
    EXPECT_THAT(codes(), IsEmpty());
    intake_.waits = false;
    intake_.done.set();
    run();
    EXPECT_THAT(codes(), ElementsAre("ok"));
}

TEST_F(CallsTest, WhatCannotBeSentIsDeniedAndWhatCannotBeTakenNowIsNot) {
    begin(1, R"("from":"a b","to":["b@there.test"])");
    piece(1, text, true);
    begin(2, R"("from":"","to":[])");
    piece(2, text, true);
    begin(3, R"("from":"","to":[7])");
    piece(3, text, true);
    begin(4);
    piece(4, "Subject: a\r\n\r\nNUL \0 here\r\n"sv, true);
    intake_.full = true;
    begin(5);
    intake_.full = false;
    piece(5, text, true);
    intake_.memory = true;
    begin(6);
    piece(6, text, true);
    intake_.memory = false;
    intake_.failure = Errc::disk_full;
    begin(7);
    piece(7, text, true);
    EXPECT_THAT(codes(), ElementsAre("deny", "deny", "deny", "deny", "denysoft", "denysoft", "denysoft"));
    EXPECT_THAT(events_.accepted, IsEmpty());
}

TEST_F(CallsTest, AMessageThatIsTooLargeIsRefusedBeforeItIsAllHere) {
    begin(1);
    piece(1, std::string(900, 'x'), false);
    EXPECT_THAT(codes(), IsEmpty());
    piece(1, std::string(900, 'x'), false);
    EXPECT_THAT(codes(), ElementsAre("deny"));
    piece(1, std::string(900, 'x'), true);
    EXPECT_THAT(codes(), SizeIs(1));
    EXPECT_THAT(intake_.messages, IsEmpty());
}

TEST_F(CallsTest, SoManyAtOnce) {
    for (std::uint32_t id = 1; id <= Calls::at_once_max; ++id) begin(id);
    EXPECT_THAT(codes(), IsEmpty());
    begin(1000);
    EXPECT_THAT(codes(), ElementsAre("denysoft"));
    calls_->abandon(1);
    begin(1001);
    EXPECT_THAT(codes(), SizeIs(1));
}

TEST_F(CallsTest, AHostThatEndsInTheMiddleLeavesNothingAndOneThatEndsAfterItLosesNothing) {
    begin(1);
    piece(1, text, false);
    intake_.waits = true;
    begin(2);
    piece(2, text, true);
    calls_->host_ended();
    piece(1, "rest\r\n", true);
    intake_.waits = false;
    intake_.done.set();
    run();
    EXPECT_THAT(intake_.messages, SizeIs(1));
    EXPECT_THAT(codes(), IsEmpty()) << "the next host counts anew";
    EXPECT_THAT(events_.accepted, SizeIs(1));
}

TEST_F(CallsTest, OddPiecesAndNumbers) {
    piece(77, text, true);
    calls_->begin(boost::json::parse(R"({"t":"inject"})").get_object());
    calls_->begin(boost::json::parse(R"({"t":"inject","id":"x"})").get_object());
    EXPECT_THAT(said_, IsEmpty());
    EXPECT_THAT(intake_.messages, IsEmpty());
}

}  // namespace
}  // namespace sluice::plugin
