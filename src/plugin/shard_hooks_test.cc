#include "plugin/shard_hooks.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <future>

#include "plugin/host_test_support.h"
#include "plugin/inbound_hooks.h"
#include "plugin/native_test_support.h"
#include "plugin/no_resolver_test_support.h"
#include "plugin/notifications.h"

// What becomes of answers of a plugin host that is as a file says: JSON members of its answer, and octets in front of it.

namespace sluice::plugin {
namespace {

using delivery::Before;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

constexpr const char* prelude = R"(directory = sys.argv[3]
answer = json.load(open(directory + "/answer"))
octets = answer.pop("octets", "").encode()
)";

constexpr const char* cases = R"(        if what == "hello":
            send({"t": "ready", "plugins": ["a"], "hooks": {"get_mx": 5000, "send_email": 5000, "pre_send_trans_email": 5000}, "failed": [], "broken": [],
                  "uncalled": [], "roster": {"plugins": [{"name": "a"}], "hooks": {}}})
        if what in ("hook", "session"):
            if "dies" in answer: os._exit(3)
            ident = message["id"]
            if octets: link.sendall(struct.pack("<IBIB", len(octets) + 6, 2, ident, 1) + octets)
            send({"t": "answer", "id": ident, **answer})
)";

class FakeIntake final : public Intake {
public:
    Task<Result<>> take(mail::MessagePtr message, spool::Batch records) override {
        taken = std::move(message);
        batch = std::move(records);
        if (full) co_return fail(Errc::disk_full, "no room");
        co_return Result<>();
    }
    std::optional<std::string> refusal() const override { return std::nullopt; }
    std::optional<std::string> no_room_after(std::uint64_t) const override { return std::nullopt; }

    bool full = false;
    mail::MessagePtr taken;
    spool::Batch batch;
};

Task<> ask_before(ShardHooks& hooks, const queue::Work& work, std::promise<Before>& out) {
    Before before = co_await hooks.before_attempt(work, work.message);
    out.set_value(std::move(before));
}
Task<> show(reception::Hooks& hooks, mail::MessagePtr message, event::Log& log, std::promise<mail::MessagePtr>& out) {
    mail::MessagePtr changed = co_await show_notification(hooks, message, log);
    out.set_value(std::move(changed));
}

class ShardHooksTest : public testing::Test {
protected:
    ~ShardHooksTest() override {
        hosts_.reset();
        shard_.stop();
    }

    void start(const std::string& answer) {
        const std::string& folder = instance_.settings.directory;
        instance_.write("answer", answer);
        instance_.write("index.js", "");
        instance_.write("node", host_script(prelude, cases));
        std::filesystem::permissions(folder + "/node", std::filesystem::perms::owner_all);
        instance_.settings.plugin_host.node = folder + "/node";
        instance_.settings.plugin_host.folder = folder;
        instance_.settings.javascript_plugins = {"a"};
        const auto settings = std::make_shared<const config::Settings>(instance_.settings);
        const auto load = [](MessageId) -> Result<mail::MessagePtr> { return fail(Errc::not_found, "none"); };
        hosts_ = std::make_unique<Hosts>(settings, log_, workers_, load, [](NodeHost&, const config::SettingsPtr&) {}, [] {});
        hosts_->start();
        const HookSurroundings around{*hosts_, images_, edits_, router_, intake_, ids_, clock_, events_, log_};
        hooks_ = std::make_unique<ShardHooks>(shard_.executor(), around, settings);
        inbound_ = std::make_unique<InboundHooks>(shard_.executor(), *hosts_, log_);
        shard_.start();
    }
    template <class Answer, class Ask, class About>
    Answer ask(Ask question, const About& about) {
        const auto promise = std::make_shared<std::promise<Answer>>();
        auto future = promise->get_future();
        promises_.push_back(promise);  // as long as the coroutine
        shard_.post([this, question, &about, promise] { tasks_.spawn(question(*hooks_, about, *promise)); });
        EXPECT_EQ(future.wait_for(std::chrono::seconds(20)), std::future_status::ready);
        return future.get();
    }
    mail::MessagePtr shown(const mail::MessagePtr& message) {
        const auto promise = std::make_shared<std::promise<mail::MessagePtr>>();
        auto future = promise->get_future();
        promises_.push_back(promise);
        shard_.post([this, message, promise] { tasks_.spawn(show(*inbound_, message, log_, *promise)); });
        EXPECT_EQ(future.wait_for(std::chrono::seconds(20)), std::future_status::ready);
        return future.get();
    }
    static mail::MessagePtr message_of(const std::vector<std::string>& recipients) {
        auto message = std::make_shared<mail::Message>();
        message->id = MessageId{7};
        message->arrival = instant_from_ms(1'000);
        message->envelope.reverse_path = {"a", "src.test"};
        for (const std::string& user : recipients) message->envelope.recipients.push_back({{user, "dst.test"}, mail::notify_never, {}});
        message->items = mail::split_items(message->envelope.recipients, false);
        message->content = "Subject: x\r\n\r\nhello\r\n";
        return message;
    }
    static queue::Work work_of(mail::MessagePtr message) {
        queue::Work work;
        work.item = ItemId{message->id, 0};
        work.arrival = message->arrival;
        work.message = std::move(message);
        return work;
    }
    template <class Record>
    std::vector<Record> recorded() const {
        std::vector<Record> found;
        for (const spool::Record& record : intake_.batch) {
            if (const auto* one = std::get_if<Record>(&record)) found.push_back(*one);
        }
        return found;
    }

    NativeInstance instance_;
    LinesLog log_;
    async::Workers workers_{1};
    ManualClock clock_{instant_from_ms(1'795'000'000'000)};
    spool::IdSource ids_{clock_, MessageId{}};
    event::SilentRecorder events_;
    Images images_{"plugin image "}, edits_{"plugin edit "};
    NoResolver resolver_;
    dns::Router router_{resolver_, clock_, std::make_shared<const config::Settings>(), {}};
    FakeIntake intake_;
    async::Shard shard_{"asker"};
    async::TaskGroup tasks_{shard_.executor()};
    std::vector<std::shared_ptr<void>> promises_;
    std::unique_ptr<Hosts> hosts_;
    std::unique_ptr<ShardHooks> hooks_;
    std::unique_ptr<InboundHooks> inbound_;
};

constexpr const char* divided =
    R"({"what":"go","edits":{"mail_from":"<rest@src.test>","parts":[)"
    R"({"places":[1],"by":"verp","image":"{\"notes\":{\"n\":1}}","mail_from":"<verp@src.test>","rcpt":[]},)"
    R"({"places":[2,3],"by":"verp","rcpt":[{"place":3,"to":"<other@dst.test>"}]}]}})";

TEST_F(ShardHooksTest, PartsAreItemsOfAMessageOfTheirOwnInOneBatch) {
    start(divided);
    const queue::Work work = work_of(message_of({"a", "b", "c", "d"}));
    const Before before = ask<Before>(ask_before, work);
    EXPECT_EQ(before.what, Before::What::go);
    EXPECT_THAT(before.pending, ElementsAre(0U));

    const mail::MessagePtr parts = intake_.taken;
    ASSERT_NE(parts, nullptr);
    EXPECT_NE(parts->id, work.item.message);
    EXPECT_EQ(parts->arrival, work.arrival) << "they do not become younger";
    EXPECT_EQ(parts->origin, "split by plugin verp");
    EXPECT_EQ(parts->content, work.message->content);
    ASSERT_THAT(parts->items, SizeIs(2));
    EXPECT_THAT(parts->items[0].recipients, ElementsAre(0U));
    EXPECT_THAT(parts->items[1].recipients, ElementsAre(1U, 2U));
    EXPECT_EQ(parts->items[1].domain, "dst.test");
    EXPECT_EQ(parts->envelope.recipients[2].notify, mail::notify_never);

    const auto outcomes = recorded<spool::OutcomeRecord>();
    ASSERT_THAT(outcomes, SizeIs(2));
    EXPECT_EQ(outcomes[0].by, "plugin verp, now " + (ItemId{parts->id, 0}).text());
    EXPECT_THAT(outcomes[1].recipients, ElementsAre(2U, 3U));

    const auto first = hooks_->edited({parts->id, 0}, parts), second = hooks_->edited({parts->id, 1}, parts);
    EXPECT_EQ(first->envelope.reverse_path.text(), "verp@src.test");
    EXPECT_EQ(second->envelope.reverse_path.text(), "a@src.test") << "the sender of the others is not theirs";
    EXPECT_EQ(second->envelope.recipients[1].address.text(), "c@dst.test");
    EXPECT_EQ(second->envelope.recipients[2].address.text(), "other@dst.test");
    EXPECT_EQ(hooks_->edited(work.item, work.message)->envelope.reverse_path.text(), "rest@src.test");
    EXPECT_EQ(images_.get({parts->id, 0}), R"({"notes":{"n":1}})");
    EXPECT_THAT(recorded<spool::PolicyRecord>(), SizeIs(4)) << "the edit of the item and of both parts, and an image";
}

TEST_F(ShardHooksTest, WhatCannotBeRecordedDividesNothing) {
    start(divided);
    intake_.full = true;
    const queue::Work work = work_of(message_of({"a", "b", "c", "d"}));
    const Before before = ask<Before>(ask_before, work);
    EXPECT_EQ(before.what, Before::What::defer);
    EXPECT_THAT(before.text, StartsWith("what plugins changed cannot be recorded"));
    EXPECT_THAT(before.pending, IsEmpty());
    EXPECT_EQ(images_.get({intake_.taken->id, 0}), "");
    EXPECT_EQ(hooks_->edited({intake_.taken->id, 0}, intake_.taken), intake_.taken);
    EXPECT_EQ(hooks_->edited(work.item, work.message), work.message);
}

TEST_F(ShardHooksTest, WhomAPluginAddedGoesWithTheParts) {
    start(
        R"({"what":"go","edits":{"added":["<archive@keep.test>"],"by":"adder",)"
        R"("parts":[{"places":[0],"by":"halves"}],"removed":[{"place":1,"by":"remover"}]}})");
    const queue::Work work = work_of(message_of({"a", "b"}));
    EXPECT_EQ(ask<Before>(ask_before, work).what, Before::What::removed) << "nobody is left";
    ASSERT_THAT(intake_.taken->items, SizeIs(2));
    EXPECT_EQ(intake_.taken->items[0].domain, "keep.test");
    EXPECT_THAT(intake_.taken->items[1].recipients, ElementsAre(1U));
    EXPECT_EQ(intake_.taken->envelope.recipients[1].address.text(), "a@dst.test");
    EXPECT_EQ(intake_.taken->origin, "added by plugin adder");
    const auto outcomes = recorded<spool::OutcomeRecord>();
    ASSERT_THAT(outcomes, SizeIs(2));
    EXPECT_EQ(outcomes[0].by, "plugin remover");
    EXPECT_EQ(outcomes[1].by, "plugin halves, now " + (ItemId{intake_.taken->id, 1}).text());
}

TEST_F(ShardHooksTest, NotificationsKeepTheirEnvelope) {
    start(
        R"({"what":"cont","changed":"header","octets":"X-Signed: yes\r\nSubject: x\r\n\r\n","mail_from":"<a@b.test>",)"
        R"("rcpt_to":["<x@y.test>","<z@y.test>"],"notes":"{\"n\":1}"})");
    const mail::MessagePtr message = message_of({"a"});
    const auto changed = shown(message);
    EXPECT_EQ(changed->content, "X-Signed: yes\r\nSubject: x\r\n\r\nhello\r\n");
    EXPECT_EQ(changed->envelope, message->envelope);
    EXPECT_EQ(changed->items, message->items);
    EXPECT_EQ(changed->notes, "{\"n\":1}");
    EXPECT_THAT(log_.text(), HasSubstr("what plugins changed of a notification's envelope is left out"));
}

class NoAnswer : public ShardHooksTest, public testing::WithParamInterface<const char*> {};

TEST_P(NoAnswer, LeavesNotificationsAsTheyAre) {
    start(GetParam());
    const mail::MessagePtr message = message_of({"a"});
    EXPECT_EQ(shown(message), message);
    EXPECT_THAT(log_.text(), HasSubstr("a notification is sent as it is, because plugins do not answer"));
}

INSTANTIATE_TEST_SUITE_P(
    Hosts, NoAnswer,
    testing::Values(
        R"({"dies":1})", R"({"what":"deny"})", R"({"what":"lost"})", R"({"what":"cont","changed":"header","octets":"X: no end\r\n"})"));

}  // namespace
}  // namespace sluice::plugin
