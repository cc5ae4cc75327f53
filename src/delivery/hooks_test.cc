#include <gmock/gmock.h>

#include <set>

#include "delivery/courier_test_support.h"
#include "delivery/settlement.h"

// What plugins may say before and after an attempt, and what becomes of the item then.

namespace sluice::delivery {
namespace {

using std::chrono::minutes;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

// Plugins that answer at once, and remember what they were asked.
class FakeHooks final : public Hooks {
public:
    bool wants(Hook hook) const override { return listens.contains(hook); }
    mail::MessagePtr edited(ItemId, mail::MessagePtr message) const override { return edited_message ? edited_message : message; }
    Task<Before> before_attempt(const queue::Work&, mail::MessagePtr message) override {
        asked.push_back("before " + message->envelope.recipients.front().address.text());
        co_return before;
    }
    Task<AfterDeferral> deferred(const Hearing& about) override {
        asked.push_back("deferred " + std::to_string(about.places.size()));
        co_return after;
    }
    Task<AfterBounce> bounce(const Hearing& about) override {
        asked.push_back("bounce " + std::to_string(about.places.size()));
        shown = about.notification;
        AfterBounce after_bounce{silenced_by, nullptr};
        if (!written.empty()) after_bounce.notification = with_content(about.notification, written);
        co_return after_bounce;
    }
    bool wants_notifications() const override { return sees_notifications; }
    Task<mail::MessagePtr> notification(mail::MessagePtr message) override {
        asked.push_back("notification");
        if (meanwhile) meanwhile();
        co_return with_content(message, "X-Signed: yes\r\n" + message->content);
    }
    void delivered(const Hearing& about) override { asked.push_back("delivered " + std::to_string(about.places.size())); }
    void record(ItemId item, bool decided, spool::Batch& batch) override {
        batch.emplace_back(spool::PolicyRecord{item.text(), decided ? "" : "kept"});
    }
    void ended(ItemId item) override { asked.push_back("ended " + std::to_string(item.index)); }

    mail::MessagePtr edited_message;
    std::set<Hook> listens{Hook::before_attempt, Hook::deferred, Hook::bounce, Hook::delivered};
    Before before;
    AfterDeferral after;
    std::optional<std::string> silenced_by;
    std::string written;               // instead of the notification
    bool sees_notifications = false;
    std::function<void()> meanwhile;   // while it is seen
    mail::MessagePtr shown;
    std::vector<std::string> asked;

private:
    static mail::MessagePtr with_content(const mail::MessagePtr& message, const std::string& content) {
        auto changed = std::make_shared<mail::Message>(*message);
        changed->content = content;
        return changed;
    }
};

class HooksTest : public CourierTest {
protected:
    HooksTest() {
        CourierTest::hooks_ = &plugins_;
        settings_.outbound.retry_jitter = false;
    }

    queue::Consult consult(Instant arrival) {
        auto message = make_message({"b@example.test"});
        queue::Consult consult{0, {}};
        consult.work.item = ItemId{message->id, 0};
        consult.work.arrival = arrival;
        consult.work.attempts = 2;
        consult.work.message = std::move(message);
        return consult;
    }
    queue::Consult consult_three() {
        queue::Consult asked = consult(clock_.now());
        auto message = make_message({"a@example.test", "b@example.test", "c@example.test"});
        asked.work.item = ItemId{message->id, 0};
        asked.work.message = std::move(message);
        return asked;
    }
    template <class Record>
    std::vector<Record> recorded() {
        std::vector<Record> found;
        for (const spool::Batch& batch : spool_.batches) {
            for (const spool::Record& record : batch) {
                if (const auto* one = std::get_if<Record>(&record)) found.push_back(*one);
            }
        }
        return found;
    }

    FakeHooks plugins_;
};

TEST_F(HooksTest, AnAttemptBeginsWithTheRouteOfPlugins) {
    plugins_.before.route = std::make_shared<queue::Route>();
    courier().carry_out(consult(clock_.now()));
    run_until([&] { return !inbox_.all<queue::Consulted>().empty(); });
    EXPECT_EQ(inbox_.all<queue::Consulted>().front().route, plugins_.before.route);
    EXPECT_THAT(plugins_.asked, ElementsAre("before b@example.test"));
    EXPECT_THAT(spool_.batches, IsEmpty());
}

TEST_F(HooksTest, NobodyIsAskedWhoDoesNotListen) {
    plugins_.listens.clear();
    courier().carry_out(consult(clock_.now()));
    run_until([&] { return !inbox_.all<queue::Consulted>().empty(); });
    EXPECT_THAT(plugins_.asked, IsEmpty());
}

TEST_F(HooksTest, PutOffIsNoFailureAndDurable) {
    plugins_.before.what = Before::What::later;
    plugins_.before.delay = minutes(3);
    courier().carry_out(consult(clock_.now()));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::deferred);
    EXPECT_FALSE(end.counts);
    EXPECT_EQ(end.next, clock_.now() + minutes(3));
    const auto schedules = recorded<spool::ScheduleRecord>();
    ASSERT_THAT(schedules, SizeIs(1));
    EXPECT_EQ(schedules[0].attempts, 2);
    EXPECT_EQ(schedules[0].next, end.next);
    EXPECT_THAT(recorded<spool::PolicyRecord>(), SizeIs(1));
    EXPECT_THAT(events_.facts, IsEmpty());
}

TEST_F(HooksTest, PutOffEndsWithTheLifetimeOfTheMessage) {
    plugins_.before.what = Before::What::later;
    plugins_.before.delay = Duration::max();
    const Instant arrival = clock_.now() - settings_.outbound.queue_lifetime + minutes(1);
    courier().carry_out(consult(arrival));
    EXPECT_EQ(ended().next, arrival + settings_.outbound.queue_lifetime);
    clock_.advance(minutes(1));
    courier().carry_out(consult(arrival));
    EXPECT_EQ(ended(2).verdict, Ended::done);
    EXPECT_THAT(events_.facts.back(), StartsWith("expired+dsn"));
}

TEST_F(HooksTest, DenialsBounceAndSoftDenialsDefer) {
    plugins_.before.what = Before::What::fail;
    plugins_.before.text = "never";
    courier().carry_out(consult(clock_.now()));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(events_.facts.back(), StartsWith("bounced+dsn dns 5.1.2"));
    plugins_.before.what = Before::What::defer;
    courier().carry_out(consult(clock_.now()));
    const auto end = ended(2);
    EXPECT_EQ(end.verdict, Ended::deferred);
    EXPECT_TRUE(end.counts);
    EXPECT_THAT(events_.facts.back(), StartsWith("deferred dns 4.1.2"));
    EXPECT_THAT(plugins_.asked, ElementsAre("before b@example.test", "bounce 1", "ended 0", "before b@example.test", "deferred 1"));
}

TEST_F(HooksTest, WhileClosingTheItemStaysAsItIs) {
    plugins_.before.what = Before::What::cancelled;
    courier().carry_out(consult(clock_.now()));
    finish();
    EXPECT_THAT(inbox_.all<queue::Consulted>(), IsEmpty());
    EXPECT_THAT(inbox_.all<queue::AttemptEnded>(), IsEmpty());
    EXPECT_THAT(spool_.batches, IsEmpty());
}

constexpr const char* three_fates =
    "C: MAIL *\nC: RCPT *\nC: RCPT *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 550 5.1.1 no\nS: 450 4.2.1 later\n"
    "S: 354 go\n! body\nS: 250 2.0.0 queued\n";

TEST_F(HooksTest, EveryFateIsHeardOnce) {
    host({hello + three_fates + bye});
    courier().carry_out(deliver(make_message({"a@example.test", "b@example.test", "c@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::deferred);
    EXPECT_THAT(plugins_.asked, ElementsAre("deferred 1", "bounce 1", "delivered 1"));
    EXPECT_EQ(recorded<spool::ScheduleRecord>()[0].next, end.next) << "the delay that plugins were told";
    EXPECT_EQ(recorded<spool::PolicyRecord>()[0].value, "kept");
    EXPECT_THAT(recorded<spool::MessageRecord>(), SizeIs(1)) << "the notification";
}

TEST_F(HooksTest, PluginsChooseTheDelayAndSilenceNotifications) {
    host({hello + three_fates + bye});
    plugins_.after.what = AfterDeferral::What::later;
    plugins_.after.delay = minutes(7);
    plugins_.silenced_by = "quiet";
    courier().carry_out(deliver(make_message({"a@example.test", "b@example.test", "c@example.test"})));
    EXPECT_EQ(ended().next, clock_.now() + minutes(7));
    EXPECT_THAT(recorded<spool::MessageRecord>(), IsEmpty());
    const auto outcomes = recorded<spool::OutcomeRecord>();
    ASSERT_THAT(outcomes, SizeIs(2));
    EXPECT_EQ(outcomes[1].outcome, spool::Outcome::bounced);
}

TEST_F(HooksTest, PluginsSeeNotificationsBeforeTheyAreQueued) {
    host({hello + three_fates + bye});
    plugins_.sees_notifications = true;
    courier().carry_out(deliver(make_message({"a@example.test", "b@example.test", "c@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(plugins_.asked, ElementsAre("deferred 1", "bounce 1", "notification", "delivered 1"));
    const auto notifications = recorded<spool::MessageRecord>();
    ASSERT_THAT(notifications, SizeIs(1));
    EXPECT_THAT(notifications[0].message->content, StartsWith("X-Signed: yes\r\n"));
    EXPECT_EQ(notifications[0].message->id, plugins_.shown->id);
    ASSERT_THAT(spool_.batches, SizeIs(2));
    const auto is_outcome = [](const spool::Record& record) { return std::holds_alternative<spool::OutcomeRecord>(record); };
    EXPECT_EQ(std::ranges::count_if(spool_.batches[1], is_outcome), 1) << "with the outcome that it tells of";
}

// Should the engine end meanwhile, it is not sent to them again.
TEST_F(HooksTest, WhoGotItIsRecordedBeforePluginsThinkOfTheOthers) {
    host({hello + three_fates + bye});
    plugins_.sees_notifications = true;
    std::vector<spool::OutcomeRecord> early;
    plugins_.meanwhile = [&] { early = recorded<spool::OutcomeRecord>(); };
    courier().carry_out(deliver(make_message({"a@example.test", "b@example.test", "c@example.test"})));
    EXPECT_THAT(ended().pending, ElementsAre(2U));
    ASSERT_THAT(early, SizeIs(1));
    EXPECT_EQ(early[0].outcome, spool::Outcome::delivered);
    EXPECT_THAT(early[0].recipients, ElementsAre(0U));
    EXPECT_THAT(recorded<spool::OutcomeRecord>(), SizeIs(2)) << "once";
    EXPECT_EQ(std::ranges::count_if(events_.facts, [](const std::string& fact) { return fact.starts_with("delivered"); }), 1);
}

TEST_F(HooksTest, WhatTheSenderWantsToHearOfIsRecordedWithTheNotification) {
    host({hello + three_fates + bye});
    plugins_.sees_notifications = true;
    std::vector<spool::OutcomeRecord> early;
    plugins_.meanwhile = [&] { early = recorded<spool::OutcomeRecord>(); };
    auto message = std::make_shared<mail::Message>(*make_message({"a@example.test", "b@example.test", "c@example.test"}));
    message->envelope.recipients[0].notify = mail::notify_success | mail::notify_failure;
    courier().carry_out(deliver(message));
    EXPECT_THAT(ended().pending, ElementsAre(2U));
    EXPECT_THAT(early, IsEmpty());
    EXPECT_THAT(recorded<spool::OutcomeRecord>(), SizeIs(2));
    EXPECT_THAT(spool_.batches, SizeIs(1)) << "all of it together";
}

TEST_F(HooksTest, PluginsSeeNotificationsWhoeverListensToTheRest) {
    host({hello + three_fates + bye});
    plugins_.listens.clear();
    plugins_.sees_notifications = true;
    courier().carry_out(deliver(make_message({"a@example.test", "b@example.test", "c@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(plugins_.asked, ElementsAre("notification"));
    EXPECT_THAT(recorded<spool::MessageRecord>(), SizeIs(1));
}

TEST_F(HooksTest, WhatIsDeliveredIsNotified) {
    host({hello + mail_ok + bye});
    plugins_.listens.clear();
    plugins_.sees_notifications = true;
    auto message = std::make_shared<mail::Message>(*make_message({"a@example.test"}));
    message->envelope.recipients[0].notify = mail::notify_success;
    courier().carry_out(deliver(message));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(plugins_.asked, ElementsAre("notification", "ended 0"));
    EXPECT_THAT(recorded<spool::MessageRecord>(), SizeIs(1));
}

TEST_F(HooksTest, WithoutANotificationThereIsNothingToSee) {
    plugins_.sees_notifications = true;
    plugins_.before.what = Before::What::fail;
    queue::Consult bounced = consult(clock_.now());
    auto message = std::make_shared<mail::Message>(*bounced.work.message);
    message->envelope.reverse_path = {};
    bounced.work.message = message;
    courier().carry_out(std::move(bounced));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_EQ(plugins_.shown, nullptr);
    queue::Consult unwanted = consult(clock_.now());
    message = std::make_shared<mail::Message>(*unwanted.work.message);
    message->envelope.recipients[0].notify = mail::notify_never;
    unwanted.work.message = message;
    courier().carry_out(std::move(unwanted));
    EXPECT_EQ(ended(2).verdict, Ended::done);
    EXPECT_THAT(plugins_.asked, testing::Not(testing::Contains("notification")));
    EXPECT_THAT(recorded<spool::MessageRecord>(), IsEmpty());
}

TEST_F(HooksTest, APluginsWordsStandForOurs) {
    plugins_.sees_notifications = true;
    plugins_.written = "Subject: mine\r\n\r\n";
    plugins_.before.what = Before::What::fail;
    courier().carry_out(consult(clock_.now()));
    EXPECT_EQ(ended().verdict, Ended::done);
    const auto notifications = recorded<spool::MessageRecord>();
    ASSERT_THAT(notifications, SizeIs(1));
    EXPECT_EQ(notifications[0].message->content, "X-Signed: yes\r\nSubject: mine\r\n\r\n");
    EXPECT_THAT(events_.facts.back(), StartsWith("bounced+dsn dns 5.1.2"));
}

TEST_F(HooksTest, WhatWasForeseenComesToPassHoweverLongPluginsTake) {
    settings_.outbound.delay_dsn_after = Duration(1);
    plugins_.sees_notifications = true;
    plugins_.before.what = Before::What::defer;
    queue::Consult asked = consult(clock_.now() - settings_.outbound.queue_lifetime + minutes(1));
    auto message = std::make_shared<mail::Message>(*asked.work.message);
    message->envelope.recipients[0].notify = mail::notify_delay | mail::notify_failure;
    asked.work.message = message;
    plugins_.meanwhile = [this] { clock_.advance(minutes(2)); };
    courier().carry_out(std::move(asked));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::deferred);
    EXPECT_TRUE(end.delay_notified) << "that is what the notification says";
    EXPECT_THAT(recorded<spool::MessageRecord>(), SizeIs(1));
}

TEST_F(HooksTest, WhatWasNotedOnAnItemWhoseMessageIsGoneIsForgotten) {
    queue::Consult asked = consult(clock_.now());
    asked.work.message = nullptr;
    courier().carry_out(std::move(asked));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(plugins_.asked, ElementsAre("ended 0"));
    const auto forgotten = recorded<spool::PolicyRecord>();
    ASSERT_THAT(forgotten, SizeIs(1));
    EXPECT_EQ(forgotten[0].value, "");
}

TEST_F(HooksTest, DroppedMailIsRemovedInTheNameOfThePlugin) {
    host({hello + three_fates + bye});
    plugins_.after.what = AfterDeferral::What::drop;
    plugins_.after.by = "dropper";
    courier().carry_out(deliver(make_message({"a@example.test", "b@example.test", "c@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    const auto outcomes = recorded<spool::OutcomeRecord>();
    ASSERT_THAT(outcomes, SizeIs(3));
    EXPECT_EQ(outcomes[2].outcome, spool::Outcome::removed);
    EXPECT_EQ(outcomes[2].by, "plugin dropper");
    EXPECT_THAT(outcomes[2].recipients, ElementsAre(2U));
    EXPECT_EQ(recorded<spool::PolicyRecord>()[0].value, "");
    EXPECT_EQ(plugins_.asked.back(), "ended 0");
}

TEST_F(HooksTest, RecipientsThatAPluginRemovedAfterADeferralAreRecordedAndNotTriedAgain) {
    host({hello + "C: MAIL *\nC: RCPT *\nC: RCPT *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 450 4.2.1 later\nS: 450 4.2.1 later\n"
                  "S: 354 go\n! body\nS: 250 2.0.0 queued\n" + bye});
    plugins_.after.removed = {1};
    plugins_.after.removed_by = "remover";
    courier().carry_out(deliver(make_message({"a@example.test", "b@example.test", "c@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::deferred);
    EXPECT_THAT(end.pending, ElementsAre(2U));
    const auto outcomes = recorded<spool::OutcomeRecord>();
    ASSERT_THAT(outcomes, SizeIs(2));
    EXPECT_EQ(outcomes[1].outcome, spool::Outcome::removed);
    EXPECT_EQ(outcomes[1].by, "plugin remover");
    EXPECT_THAT(outcomes[1].recipients, ElementsAre(1U));
    EXPECT_THAT(recorded<spool::ScheduleRecord>(), SizeIs(1));
}

TEST_F(HooksTest, WhomPluginsRemovedBeforeTheAttemptTheCoreIsTold) {
    plugins_.before.pending = {1};
    courier().carry_out(consult_three());
    run_until([&] { return !inbox_.all<queue::Consulted>().empty(); });
    EXPECT_THAT(inbox_.all<queue::Consulted>().front().pending, ElementsAre(1U));

    plugins_.before.what = Before::What::defer;
    courier().carry_out(consult_three());
    EXPECT_THAT(ended().pending, ElementsAre(1U));
    plugins_.before.what = Before::What::later;
    courier().carry_out(consult_three());
    EXPECT_THAT(ended(2).pending, ElementsAre(1U));
    EXPECT_THAT(recorded<spool::OutcomeRecord>(), IsEmpty()) << "who removed them has recorded it";
}

TEST_F(HooksTest, AnItemOfWhichNobodyIsLeftIsOver) {
    plugins_.before.what = Before::What::removed;
    courier().carry_out(consult_three());
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_EQ(plugins_.asked.back(), "ended 0");
    EXPECT_THAT(spool_.batches, IsEmpty());
}

TEST_F(HooksTest, TheEnvelopeThatPluginsMadeGoesOut) {
    host({hello + "C: MAIL FROM:<srs@us.test>*\nC: RCPT TO:<new@example.test>*\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\n! body\nS: 250 2.0.0 queued\n" + bye});
    auto changed = std::make_shared<mail::Message>(*make_message({"b@example.test"}));
    changed->envelope.reverse_path = *mail::parse_address("srs@us.test");
    changed->envelope.recipients[0].address = *mail::parse_address("new@example.test");
    plugins_.edited_message = changed;
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(events_.facts.back(), StartsWith("delivered"));
}

TEST_F(HooksTest, NothingIsHeardWhileTheAttemptGoesOn) {
    host({"S: 421 4.3.2 not now\n"});
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    order.last_resort = false;
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended().verdict, Ended::next_candidate);
    closed();
    EXPECT_THAT(plugins_.asked, IsEmpty());
}

}  // namespace
}  // namespace sluice::delivery
