#include "plugin/plugin_hooks.h"

#include <gmock/gmock.h>

#include <future>

#include "delivery/settlement.h"
#include "plugin/native_test_support.h"
#include "plugin/no_resolver_test_support.h"

// What native plugins answer, at once, later, twice and never, and what becomes of it.

namespace sluice::plugin {
namespace {

using delivery::AfterDeferral;
using delivery::Before;
using delivery::Hook;
using testing::HasSubstr;

Task<> ask_before(PluginHooks& hooks, const queue::Work& work, std::promise<Before>& out) {
    Before before = co_await hooks.before_attempt(work, work.message);
    out.set_value(std::move(before));
}
Task<> ask_deferred(PluginHooks& hooks, const delivery::Hearing& about, std::promise<AfterDeferral>& out) {
    AfterDeferral after = co_await hooks.deferred(about);
    out.set_value(std::move(after));
}
Task<> ask_bounce(PluginHooks& hooks, const delivery::Hearing& about, std::promise<std::optional<std::string>>& out) {
    delivery::AfterBounce after = co_await hooks.bounce(about);
    out.set_value(std::move(after.silenced_by));
}

class PluginHooksTest : public testing::Test {
protected:
    static queue::Work make_work(Instant arrival) {
        auto message = std::make_shared<mail::Message>();
        message->id = MessageId{7};
        message->envelope.reverse_path = {"a", "src.test"};
        message->envelope.recipients = {{{"b", "dst.test"}, 0, {}}, {{"c", "dst.test"}, 0, {}}};
        message->items = {{"dst.test", {0, 1}}};
        message->content = "Subject: x\r\n\r\nhello\r\n";
        message->trace = "Received: y\r\n";
        message->notes = R"({"given":1})";
        queue::Work work;
        work.item = ItemId{message->id, 0};
        work.message = std::move(message);
        work.arrival = arrival;
        work.attempts = 2;
        return work;
    }
    static delivery::Verdict later() {
        delivery::Verdict verdict;
        verdict.code = 450;
        verdict.status = "4.2.1";
        verdict.text = "later";
        return verdict;
    }
    ~PluginHooksTest() override {
        natives_.reset();
        shard_.stop();
    }

    void start(const std::string& ini) {
        instance_.write("config/probe.ini", ini);
        instance_.list("probe", NATIVE_PROBE);
        natives_ = std::make_unique<NativeHost>(instance_.settings, log_);
        const Result<> loaded = natives_->load();
        ASSERT_TRUE(loaded) << loaded.error().detail;
        hooks_ = std::make_unique<PluginHooks>(shard_.executor(), *natives_, nullptr, nullptr, images_, edits_, router_, clock_, log_);
        shard_.start();
    }
    template <class Answer, class Ask, class About>
    Answer ask(Ask question, About& about) {
        const auto promise = std::make_shared<std::promise<Answer>>();
        auto future = promise->get_future();
        promises_.push_back(promise);  // as long as the coroutine
        shard_.post([this, question, &about, promise] { tasks_.spawn(question(*hooks_, about, *promise)); });
        EXPECT_EQ(future.wait_for(std::chrono::seconds(20)), std::future_status::ready);
        return future.get();
    }
    Before before() { return ask<Before>(ask_before, work_); }
    AfterDeferral deferred() { return ask<AfterDeferral>(ask_deferred, about_); }
    std::optional<std::string> bounce() { return ask<std::optional<std::string>>(ask_bounce, about_); }
    std::string said() const { return instance_.read("probe.said"); }

    ManualClock clock_{instant_from_ms(1'795'000'000'000)};
    NativeInstance instance_;
    LinesLog log_;
    Images images_{"plugin image "}, edits_{"plugin edit "};
    NoResolver resolver_;
    dns::Router router_{resolver_, clock_, std::make_shared<const config::Settings>(), {}};
    async::Shard shard_{"asker"};
    async::TaskGroup tasks_{shard_.executor()};
    std::vector<std::shared_ptr<void>> promises_;
    queue::Work work_ = make_work(clock_.now());
    std::vector<std::uint32_t> recipients_{0, 1};
    delivery::Verdicts verdicts_{later(), later()};
    const std::vector<std::size_t> places_{1};
    std::unique_ptr<NativeHost> natives_;
    std::unique_ptr<PluginHooks> hooks_;
    const delivery::Attempted attempted_{
        .work = work_, .message = work_.message, .domain = "dst.test", .recipients = recipients_, .verdicts = verdicts_,
        .standing = {}, .link = {"mx.dst.test", "192.0.2.9:25", {}, {}}};
    const delivery::Hearing about_{attempted_, places_, Duration(64'000), Duration(5)};
};

TEST_F(PluginHooksTest, AnAnswerAtOnceIsTheRoute) {
    start("[get_mx]\ncode=906\nnext_hop=192.0.2.1:2525\n");
    const Before before = this->before();
    EXPECT_EQ(before.what, Before::What::go);
    ASSERT_NE(before.route, nullptr);
    EXPECT_EQ(before.route->key, "dst.test");
    EXPECT_EQ(before.route->candidates.front().remote, "192.0.2.1:2525");
    EXPECT_EQ(this->before().route, before.route) << "the same answer is the same route for a while";
    clock_.advance(std::chrono::seconds(6));
    EXPECT_NE(this->before().route, before.route);
    EXPECT_THAT(said(), HasSubstr("get_mx probe domain=dst.test from=a@src.test attempts=2 octets=1 notes={\"given\":1}"));
    EXPECT_THAT(said(), HasSubstr("to=b:0:,c:0:"));
}

class EveryWay : public PluginHooksTest, public testing::WithParamInterface<const char*> {
protected:
    std::string section(const std::string& hook, const std::string& rest) const {
        return "[" + hook + "]\nhow=" + GetParam() + "\n" + rest;
    }
};

TEST_P(EveryWay, BeforeAnAttempt) {
    start(section("get_mx", "code=906\nnext_hop=192.0.2.1\n") + section("send_email", "code=900\n"));
    const Before before = this->before();
    ASSERT_NE(before.route, nullptr);
    EXPECT_EQ(before.route->candidates.front().remote, "192.0.2.1:25");
    EXPECT_THAT(said(), HasSubstr("send_email probe"));
}

TEST_P(EveryWay, Deny) {
    start(section("get_mx", "code=902\nreason=not from here\n"));
    const Before before = this->before();
    EXPECT_EQ(before.what, Before::What::fail);
    EXPECT_EQ(before.text, "not from here");
    EXPECT_EQ(before.by, "probe");
}

TEST_P(EveryWay, Delay) {
    start(section("send_email", "code=908\ndelay_ms=1500\n") + section("get_mx", "code=902\n"));
    const Before before = this->before();
    EXPECT_EQ(before.what, Before::What::later);
    EXPECT_EQ(before.delay, Duration(1500));
    EXPECT_EQ(said().find("get_mx"), std::string::npos);
}

TEST_P(EveryWay, AfterAnAttempt) {
    start(section("deferred", "code=903\ndelay_ms=9000\n") + section("bounce", "code=906\n"));
    const AfterDeferral after = deferred();
    EXPECT_EQ(after.what, AfterDeferral::What::later);
    EXPECT_EQ(after.delay, Duration(9000));
    EXPECT_EQ(bounce(), "probe");
    EXPECT_THAT(said(), HasSubstr("reason=450 4.2.1 later ip=192.0.2.9 port=25 response= to=c:450:4.2.1"));
}

INSTANTIATE_TEST_SUITE_P(Natives, EveryWay, testing::Values("sync", "async", "twice", "blocking"));

TEST_F(PluginHooksTest, SilenceIsTheSafeWayOfEachHook) {
    instance_.write("config/plugin_timeout", "0.1\n");
    const std::string silent = "how=silent\ncode=902\n";
    start("[send_email]\n" + silent + "[get_mx]\n" + silent + "[deferred]\n" + silent + "[bounce]\n" + silent);
    const Before before = this->before();
    EXPECT_EQ(before.what, Before::What::defer);
    EXPECT_EQ(before.text, "plugin timeout");
    EXPECT_EQ(deferred().what, AfterDeferral::What::usual);
    EXPECT_EQ(bounce(), std::nullopt);
    EXPECT_THAT(log_.text(), HasSubstr("probe: a native plugin did not answer in time hook=send_email"));
}

TEST_F(PluginHooksTest, PendingWithoutATicketIsSilenceAtOnce) {
    start("[get_mx]\nhow=no_ticket\ncode=906\n");
    EXPECT_EQ(before().text, "plugin timeout");
}

TEST_F(PluginHooksTest, AnAnswerThatComesTooLateIsNone) {
    instance_.write("config/plugin_timeout", "0.05\n");
    start("[get_mx]\nhow=async\ncode=906\nnext_hop=192.0.2.1\nafter_ms=300\n[bounce]\nhow=blocking\ncode=906\nafter_ms=300\n");
    EXPECT_EQ(before().text, "plugin timeout");
    EXPECT_EQ(bounce(), std::nullopt);
    natives_->end();
    EXPECT_THAT(said(), HasSubstr("answered 0 of 1"));
    EXPECT_FALSE(natives_->abandoned());
}

TEST_F(PluginHooksTest, OfTwoAnswersTheFirstCounts) {
    start("[get_mx]\nhow=twice\ncode=906\nnext_hop=192.0.2.1\n");
    EXPECT_NE(before().route, nullptr);
    natives_->end();
    EXPECT_THAT(said(), HasSubstr("answered 1 of 2"));
}

TEST_F(PluginHooksTest, WhileClosingAttemptsAreLeftAndOthersMayFinish) {
    start("[get_mx]\nhow=silent\ncode=906\n[bounce]\nhow=async\nafter_ms=200\ncode=906\n[deferred]\nhow=silent\ncode=906\n");
    natives_->begin_closing(NativeHost::Clock::now() + std::chrono::milliseconds(600));
    EXPECT_EQ(before().what, Before::What::cancelled);
    EXPECT_EQ(bounce(), "probe");
    EXPECT_EQ(deferred().what, AfterDeferral::What::usual);
}

TEST_F(PluginHooksTest, NotesAreKeptAndConcernTheAttempt) {
    start("[get_mx]\ncode=906\nnext_hop=192.0.2.1\nnotes={\"outbound_ip\":\"192.0.2.77\",\"outbound_helo\":\"out.test\",\"seen\":1}\n");
    const Before first = before();
    ASSERT_NE(first.route, nullptr);
    EXPECT_EQ(first.route->transport.bind, "192.0.2.77");
    EXPECT_EQ(first.route->transport.helo, "out.test");
    before();
    EXPECT_THAT(said(), HasSubstr("notes={\"given\":1,\"outbound_ip\":\"192.0.2.77\",\"outbound_helo\":\"out.test\",\"seen\":1}"));
    EXPECT_THAT(images_.take_noted(work_.item), HasSubstr("\"seen\":1"));
    EXPECT_EQ(images_.take_noted(work_.item), "");
}

TEST_F(PluginHooksTest, NotesThatAreNoneAreTold) {
    start("[get_mx]\ncode=900\nnotes=[1]\n");
    EXPECT_EQ(before().route, nullptr);
    EXPECT_THAT(log_.text(), HasSubstr("notes of a native plugin are not kept plugin=probe"));
}

TEST_F(PluginHooksTest, BadHostsDefer) {
    start("[get_mx]\ncode=906\nnext_hop=http://nowhere\n");
    const Before before = this->before();
    EXPECT_EQ(before.what, Before::What::defer);
    EXPECT_THAT(before.text, HasSubstr("get_mx named a host that is none"));
}

TEST_F(PluginHooksTest, NamesThatWouldSmuggleCommandsAreLeftOut) {
    start("[get_mx]\ncode=906\nnext_hop=192.0.2.1\nnotes={\"outbound_ip\":\"nowhere\",\"outbound_helo\":\"x\\r\\nRSET\"}\n");
    const Before before = this->before();
    ASSERT_NE(before.route, nullptr);
    EXPECT_EQ(before.route->transport.helo, "");
    EXPECT_EQ(before.route->transport.bind, "");
    EXPECT_THAT(log_.text(), HasSubstr("what plugins want of an attempt is left out"));
}

TEST_F(PluginHooksTest, NotesOnTheLastDeliveryAreNotKept) {
    start("[delivered]\ncode=900\nnotes={\"seen\":1}\n");
    shard_.post([this] {
        hooks_->delivered(about_);
        EXPECT_FALSE(images_.empty()) << "other recipients may be left";
        hooks_->ended(work_.item);
    });
    shard_.stop();
    EXPECT_TRUE(images_.empty());
}

TEST_F(PluginHooksTest, HooksThatDoNotComeBackKeepNoMoreMessagesThanThat) {
    start(
        "[delivered]\nhow=blocking\ncode=900\nafter_ms=0\n[delivered slow.test]\nafter_ms=1500\n"
        "[get_mx]\nhow=blocking\ncode=906\nnext_hop=192.0.2.1\n");
    auto message = std::make_shared<mail::Message>(*work_.message);
    message->items.front().domain = "slow.test";
    const delivery::Attempted attempted{
        .work = work_, .message = message, .domain = "slow.test", .recipients = recipients_, .verdicts = verdicts_, .standing = {}, .link = {}};
    const delivery::Hearing slow{attempted, places_, Duration(0), Duration(5)};
    std::promise<void> told;
    shard_.post([&] {
        for (int i = 0; i < 4; ++i) hooks_->delivered(slow);
        for (int i = 0; i < 10'000; ++i) hooks_->delivered(about_);
        told.set_value();
    });
    told.get_future().get();
    EXPECT_EQ(before().text, "plugin timeout");
}

TEST_F(PluginHooksTest, DeliveriesAreToldAndNothingIsWaitedFor) {
    start("[delivered]\nhow=silent\ncode=900\n");
    shard_.post([this] { hooks_->delivered(about_); });
    shard_.stop();
    EXPECT_THAT(said(), HasSubstr("delivered probe domain=dst.test"));
    EXPECT_THAT(said(), HasSubstr("response=later to=c:450"));
}

}  // namespace
}  // namespace sluice::plugin
