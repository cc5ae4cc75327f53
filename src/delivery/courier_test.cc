// The courier against scripted peers on loopback: what it tells the core, and what it keeps.

#include "delivery/courier.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include "delivery/courier_test_support.h"
#include "net/net_test_support.h"

namespace sluice::delivery {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;
TEST_F(CourierTest, DeliversRecordsAndStaysOpen) {
    host({hello + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::done);
    EXPECT_EQ(end.session, 1U);
    EXPECT_TRUE(end.reusable);
    ASSERT_THAT(inbox_.all<queue::SessionOpened>(), SizeIs(1));
    ASSERT_THAT(spool_.batches, SizeIs(1));
    const auto outcomes = spool_.all<spool::OutcomeRecord>();
    ASSERT_THAT(outcomes, SizeIs(1));
    EXPECT_EQ(outcomes[0].outcome, spool::Outcome::delivered);
    EXPECT_THAT(outcomes[0].recipients, ElementsAre(0U));
    EXPECT_THAT(events_.facts, ElementsAre("delivered dot 2.0.0 250 2.0.0 queued [0]"));
    const std::string line = log_.starting_with("delivered");
    const std::string port = hosts_.front()->remote().substr(hosts_.front()->remote().find(':') + 1);
    EXPECT_EQ(
        line, "delivered file=" + end.item.text() + " domain=example.test host=mx1.test ip=127.0.0.1 port=" + port +
                  " mode=SMTP tls=N auth=N response=queued delay=0.000 fails=0 rcpts=1/0/0");
    courier().carry_out(queue::Close{1, 0});
    closed();
}

TEST_F(CourierTest, C5321_19_SecondItemGoesOverTheIdleSession) {
    Host& peer = host({hello + mail_ok + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    ended();
    courier().carry_out(deliver(make_message({"c@example.test"}), 1, false));
    EXPECT_EQ(ended(2).verdict, Ended::done);
    EXPECT_EQ(peer.connections(), 1U);
    EXPECT_THAT(inbox_.all<queue::SessionOpened>(), SizeIs(1));
}

TEST_F(CourierTest, C5321_19_DeadIdleSessionAsksForAFreshOneWithoutPenalty) {
    host({hello + mail_ok + "! close\n"});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    ended();
    run_until([&] { return tasks_.size() == 1; });  // the peer has closed; only the listener is left
    courier().carry_out(deliver(make_message({"c@example.test"}), 1, false));
    const auto end = ended(2);
    EXPECT_EQ(end.verdict, Ended::fresh_session);
    EXPECT_FALSE(end.reusable);
    closed();
    EXPECT_THAT(spool_.batches, SizeIs(1)) << "nothing of the second one is recorded";
}

TEST_F(CourierTest, A11_C5321_05_GreetingOfClass4GoesOnToTheNextHost) {
    host({"S: 421 4.3.2 busy\nC: QUIT\n! close\n"});
    host({hello + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::done);
    EXPECT_THAT(end.unhealthy, ElementsAre(0U));
    EXPECT_EQ(inbox_.all<queue::SessionOpened>().at(0).candidate, 1U);
    EXPECT_THAT(events_.hosts, ElementsAre("mx2.test"));
}

TEST_F(CourierTest, C5321_14_UnreachableHostIsPassedOverAndReported) {
    host({}, false);
    host({hello + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::done);
    EXPECT_THAT(end.unhealthy, ElementsAre(0U));
}

// FM-35: it is not raced against again and again.
TEST_F(CourierTest, SilentHostIsOvertakenAndReported) {
    const net::FullBacklog deaf;
    host({hello + mail_ok + bye});
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    auto route = std::make_shared<queue::Route>(*order.route);
    route->candidates.insert(route->candidates.begin(), {"deaf.test", deaf.address.endpoint().text(), 0});
    order.route = std::move(route);
    order.candidates = {0, 1};
    courier().carry_out(std::move(order));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::done);
    EXPECT_THAT(end.unhealthy, ElementsAre(0U));
    EXPECT_EQ(inbox_.all<queue::SessionOpened>().at(0).candidate, 1U);
}

TEST_F(CourierTest, NoHostReachableDefersWhenNoneIsLeftAndGoesOnWhenSomeAre) {
    host({}, false);
    queue::Deliver first = deliver(make_message({"b@example.test"}));
    first.last_resort = false;
    courier().carry_out(std::move(first));
    EXPECT_EQ(ended().verdict, Ended::next_candidate);
    EXPECT_FALSE(ended().permanent);
    closed();
    EXPECT_THAT(spool_.batches, IsEmpty());

    courier().carry_out(deliver(make_message({"b@example.test"}), 2));
    const auto end = ended(2);
    EXPECT_EQ(end.verdict, Ended::deferred);
    EXPECT_EQ(end.next, clock_.now() + Duration(60'000));
    closed(2);
    const auto schedules = spool_.all<spool::ScheduleRecord>();
    ASSERT_THAT(schedules, SizeIs(1));
    EXPECT_EQ(schedules[0].attempts, 1);
    EXPECT_EQ(schedules[0].next, end.next);
    EXPECT_THAT(schedules[0].last_reply, StartsWith("refused"));
}

TEST_F(CourierTest, C5321_05_AllHostsRefuseForGoodIsPermanent) {
    host({"S: 554 no\nC: QUIT\n! close\n"});
    host({"S: 521 no mail\nC: QUIT\n! close\n"});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("bounced+dsn greeting 5.")));
}

TEST_F(CourierTest, C5321_05_OneHostDownMakesItTemporary) {
    host({}, false);
    host({"S: 521 no mail\nC: QUIT\n! close\n"});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
}

TEST_F(CourierTest, A7_DS_09_EachRecipientKeepsItsOwnReply) {
    const std::string three = "C: MAIL *\nC: RCPT *\nC: RCPT *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\n"
                              "S: 550 5.1.1 who?\nS: 450 4.2.1 later\nS: 354 go\n! body\nS: 250 2.0.0 ok\n";
    host({hello + three + bye});
    courier().carry_out(deliver(make_message({"x@example.test", "y@example.test", "z@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::deferred);
    EXPECT_THAT(end.pending, ElementsAre(2U));
    EXPECT_THAT(
        events_.facts, ElementsAre(
                           "delivered dot 2.0.0 250 2.0.0 ok [0]", "bounced+dsn rcpt 5.1.1 550 5.1.1 who? [1]",
                           "deferred rcpt 4.2.1 450 4.2.1 later [2]"));
    ASSERT_THAT(spool_.batches, SizeIs(1)) << "outcomes, schedule and notification become durable together";
    const auto messages = spool_.all<spool::MessageRecord>();
    ASSERT_THAT(messages, SizeIs(1));
    const mail::Message& dsn = *messages[0].message;
    EXPECT_TRUE(dsn.envelope.reverse_path.is_null());
    EXPECT_EQ(dsn.envelope.recipients.at(0).address.text(), "a@sender.test");
    EXPECT_THAT(dsn.content, testing::HasSubstr("Action: failed"));
    EXPECT_THAT(dsn.content, testing::HasSubstr("Status: 5.1.1"));
    EXPECT_THAT(dsn.content, testing::HasSubstr("550 5.1.1 who?"));
    EXPECT_THAT(dsn.content, testing::Not(testing::HasSubstr("z@example.test")));
    run_until([&] { return !inbox_.all<queue::Admit>().empty(); });
    const auto admits = inbox_.all<queue::Admit>();
    ASSERT_THAT(admits, SizeIs(1));
    EXPECT_EQ(admits[0].domain, "sender.test");
    EXPECT_EQ(admits[0].fresh, messages[0].message);
}

TEST_F(CourierTest, DS_09_TwoThatFailNowAndOneThatFailsLaterMakeTwoNotifications) {
    const std::string now = "C: MAIL *\nC: RCPT *\nC: RCPT *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 550 5.1.1 no\n"
                            "S: 550 5.2.1 no\nS: 450 4.2.1 later\nS: 503 no\n";
    const std::string later = "C: RSET\nC: MAIL *\nC: RCPT TO:<z@example.test>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
                              "S: 550 5.1.6 gone\nS: 503 no\n";
    host({hello + now + later + bye});
    const auto message = make_message({"x@example.test", "y@example.test", "z@example.test"});
    courier().carry_out(deliver(message));
    EXPECT_THAT(ended().pending, ElementsAre(2U));
    clock_.advance(Duration(2 * 86'400'000));
    queue::Deliver second = deliver(message, 1, false);
    second.work.pending = {2};
    courier().carry_out(std::move(second));
    EXPECT_EQ(ended(2).verdict, Ended::done);

    const auto told = spool_.all<spool::MessageRecord>();
    ASSERT_THAT(told, SizeIs(2));
    EXPECT_THAT(told[0].message->content, testing::HasSubstr("Final-Recipient: rfc822; x@example.test"));
    EXPECT_THAT(told[0].message->content, testing::HasSubstr("Final-Recipient: rfc822; y@example.test"));
    EXPECT_THAT(told[0].message->content, testing::Not(testing::HasSubstr("z@example.test")));
    EXPECT_THAT(told[1].message->content, testing::HasSubstr("Final-Recipient: rfc822; z@example.test"));
    EXPECT_THAT(told[1].message->content, testing::Not(testing::HasSubstr("x@example.test")));
    ASSERT_THAT(spool_.batches, SizeIs(2)) << "a notification and the outcomes it tells of become durable together";
}

TEST_F(CourierTest, DS_09_NotificationIsQueuedOnlyWhenItIsDurable) {
    spool_.syncs_at_once = false;
    host({hello + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 550 5.1.1 no\nS: 503 no\n" + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(inbox_.all<queue::Admit>(), IsEmpty()) << "a crash now would send it a second time";
    spool_.sync();
    run_until([&] { return !inbox_.all<queue::Admit>().empty(); });
    EXPECT_EQ(inbox_.all<queue::Admit>().at(0).fresh, spool_.all<spool::MessageRecord>().at(0).message);
}

TEST_F(CourierTest, A8_BounceOfAFreshInstanceHasFromToSubjectAndText) {
    host({hello + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 550 5.7.26 no\nS: 503 no\n" + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    ended();
    const auto messages = spool_.all<spool::MessageRecord>();
    ASSERT_THAT(messages, SizeIs(1));
    const std::string& content = messages[0].message->content;
    for (const char* field : {"From", "To", "Subject", "Date", "Message-ID"}) {
        EXPECT_TRUE(mail::find_field(content, field)) << field;
    }
    EXPECT_THAT(content, testing::HasSubstr("Status: 5.7.26"));  // A14: all digits of the code
    EXPECT_GT(content.size(), 800U);
}

TEST_F(CourierTest, DS_02_NothingIsSentAboutANullSenderOrNotifyNever) {
    const std::string refused = "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 550 5.1.1 no\nS: 503 no\n";
    host({hello + refused + "C: RSET\n" + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 550 5.1.1 no\nS: 503 no\n" + bye});
    auto dsn = make_message({"b@example.test"});
    dsn->envelope.reverse_path = {};
    courier().carry_out(deliver(dsn));
    ended();
    EXPECT_NE(log_.starting_with("double bounce"), "");
    auto silent = make_message({"b@example.test"});
    silent->envelope.recipients[0].notify = mail::notify_never;
    courier().carry_out(deliver(silent, 1, false));
    ended(2);
    EXPECT_THAT(spool_.all<spool::MessageRecord>(), IsEmpty());
    EXPECT_THAT(spool_.all<spool::OutcomeRecord>(), SizeIs(2));
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("bounced rcpt"), StartsWith("bounced rcpt")));
}

TEST_F(CourierTest, DS_03_SuccessIsToldOnlyWhenTheNextHopCannot) {
    auto message = make_message({"b@example.test"});
    message->envelope.recipients[0].notify = mail::notify_success;
    const std::string knows = "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\nS: 250-DSN\nS: 250 PIPELINING\n";
    Host& blind = host({hello + mail_ok + bye});
    courier().carry_out(deliver(message));
    ended();
    ASSERT_THAT(spool_.all<spool::MessageRecord>(), SizeIs(1));
    EXPECT_THAT(spool_.all<spool::MessageRecord>()[0].message->content, testing::HasSubstr("Action: relayed"));
    EXPECT_EQ(blind.connections(), 1U);
    hosts_.front()->stop();
    Host& knowing = host({knows + mail_ok + bye});
    queue::Deliver second = deliver(message, 2);
    second.candidates = {1};
    courier().carry_out(std::move(second));
    ended(2);
    EXPECT_EQ(knowing.connections(), 1U);
    EXPECT_THAT(spool_.all<spool::MessageRecord>(), SizeIs(1)) << "the next hop tells";
}

TEST_F(CourierTest, DS_04_DelayIsToldOnceWhenAsked) {
    const std::string later = "C: MAIL *\nC: RCPT *\nC: DATA\nS: 450 later\nS: 503 no\nS: 503 no\n";
    host({hello + later + later + later + bye});
    auto message = make_message({"b@example.test"});
    message->envelope.recipients[0].notify = mail::notify_delay | mail::notify_failure;
    courier().carry_out(deliver(message));
    EXPECT_FALSE(ended().delay_notified) << "too early";
    clock_.advance(Duration(5 * 3'600'000));
    courier().carry_out(deliver(message, 1, false));
    EXPECT_TRUE(ended(2).delay_notified);
    EXPECT_TRUE(spool_.all<spool::ScheduleRecord>().back().delay_notified);
    queue::Deliver third = deliver(message, 1, false);
    third.work.delay_notified = true;
    courier().carry_out(std::move(third));
    ended(3);
    const auto messages = spool_.all<spool::MessageRecord>();
    ASSERT_THAT(messages, SizeIs(1));
    EXPECT_THAT(messages[0].message->content, testing::HasSubstr("Action: delayed"));
    EXPECT_THAT(messages[0].message->content, testing::HasSubstr("Will-Retry-Until:"));
}

TEST_F(CourierTest, ExpiresAfterTheLastIntervalWith447) {
    host({hello + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 450 4.2.0 later\nS: 503 no\nS: 503 no\n" + bye});
    queue::Deliver last = deliver(make_message({"b@example.test"}));
    last.work.attempts = 3;
    courier().carry_out(std::move(last));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_EQ(spool_.all<spool::OutcomeRecord>().at(0).outcome, spool::Outcome::expired);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("expired+dsn mail 4.4.7")));
    EXPECT_THAT(spool_.all<spool::MessageRecord>().at(0).message->content, testing::HasSubstr("Status: "));
}

TEST_F(CourierTest, A3_LinkLostAfterTheDotIsNeverSentToAnotherHostAtOnce) {
    const std::string lost = "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\n! body\n! close\n";
    host({hello + lost});
    queue::Deliver only = deliver(make_message({"b@example.test"}));
    only.last_resort = false;
    courier().carry_out(std::move(only));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(events_.facts, Contains(StartsWith("duplicate? dot")));
    EXPECT_THAT(events_.facts, Contains(StartsWith("deferred dot")));
    closed();
}

TEST_F(CourierTest, LI_3_RestOfARecipientListGoesOverANewConnection) {
    const std::string small = "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\nS: 250-PIPELINING\n"
                              "S: 250 LIMITS MAILMAX=1 RCPTMAX=1\n";
    Host& peer = host({small + mail_ok + bye, small + mail_ok + bye});
    courier().carry_out(deliver(make_message({"x@example.test", "y@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    closed();
    EXPECT_EQ(peer.connections(), 2U);
    EXPECT_THAT(spool_.all<spool::OutcomeRecord>().at(0).recipients, ElementsAre(0U, 1U));
}

TEST_F(CourierTest, AU_8_AU_9_AuthTroubleDefersAndWarns) {
    transport_.auth_user = "joe";
    transport_.auth_password = "secret";
    host({hello + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_NE(log_.starting_with("authentication towards a route failed"), "");
    closed();
}

TEST_F(CourierTest, MessageIsLoadedFromTheSpoolWhenItIsNotInMemory) {
    host({hello + mail_ok + bye});
    auto message = make_message({"b@example.test"});
    spool_.stored[message->id.value] = message;
    queue::Deliver order = deliver(message);
    order.work.message = nullptr;
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_EQ(spool_.loads, 1);
}

TEST_F(CourierTest, FM_13_DamagedMessageIsHeldForTheOperator) {
    host({});
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    order.work.message = nullptr;
    order.work.pending = {0};
    spool_.load_failure = Errc::corrupt;
    log_.errors_expected = true;
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    closed();
    EXPECT_THAT(spool_.batches, IsEmpty()) << "nothing is decided about recipients that nobody can name";
    EXPECT_THAT(inbox_.all<queue::Hold>(), SizeIs(1));
    EXPECT_NE(log_.starting_with("the message of an item cannot be read: the item is held"), "");
}

TEST_F(CourierTest, FailingDiskIsATemporaryFailure) {
    host({});
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    order.work.message = nullptr;
    spool_.load_failure = Errc::disk_failed;
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(spool_.all<spool::ScheduleRecord>(), SizeIs(1));
}

TEST_F(CourierTest, LM_5_DeliversOverAUnixSocketByLmtp) {
    const std::string path = testing::TempDir() + "sluice-lmtp-" + std::to_string(::getpid());
    transport_.lmtp = true;
    const std::string lmtp = "S: 220 mx.test\nC: LHLO client.test\nS: 250-mx.test\nS: 250 PIPELINING\n";
    hosts_.push_back(std::make_unique<Host>(
        shard_.executor(), tasks_, std::vector<std::string>{lmtp + mail_ok + bye}, true, nullptr, net::Endpoint(path)));
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_NE(log_.starting_with("delivered").find(" ip=" + path + " port= mode=LMTP"), std::string::npos)
        << log_.starting_with("delivered");
}

struct Conclusion {
    Errc error;
    Ended verdict;
    const char* fact;
};

TEST_F(CourierTest, NX_1_C5321_15_ConcludesItemsWithoutARoute) {
    const std::vector<Conclusion> conclusions{
        {Errc::null_mx, Ended::done, "bounced+dsn dns 5.1.10"},
        {Errc::dns_no_domain, Ended::done, "bounced+dsn dns 5.1.2"},
        {Errc::mail_loop, Ended::done, "bounced+dsn dns 5.4.6"},
        {Errc::dns_temporary, Ended::deferred, "deferred dns 4.4.3"},
        {Errc::not_found, Ended::deferred, "deferred dns 4.4.4"},
        {Errc::unreachable, Ended::deferred, "deferred dns 4.4.1"},
        {Errc::timed_out, Ended::done, "expired+dsn dns 4.4.7"},
    };
    std::size_t count = 0;
    for (const Conclusion& conclusion : conclusions) {
        auto message = make_message({"b@example.test"});
        queue::Work work;
        work.item = ItemId{message->id, 0};
        work.arrival = message->arrival;
        work.message = message;
        queue::Conclude conclude{0, std::move(work), Error(conclusion.error, "why")};
        courier().carry_out(std::move(conclude));
        const auto end = ended(++count);
        EXPECT_EQ(end.verdict, conclusion.verdict) << conclusion.fact;
        EXPECT_EQ(end.session, 0U);
        EXPECT_THAT(events_.facts.back(), StartsWith(conclusion.fact));
    }
}

TEST_F(CourierTest, BadSourceAddressIsNotTheDestinationsFault) {
    host({});
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    order.bind = "192.0.2.77";
    courier().carry_out(std::move(order));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::fresh_session);
    EXPECT_THAT(end.unhealthy, IsEmpty());
    EXPECT_GT(end.source_unusable, Duration::zero());
    EXPECT_THAT(spool_.batches, IsEmpty());
    closed();
}

TEST_F(CourierTest, BindsToTheGivenAddress) {
    Host& peer = host({hello + mail_ok + bye});
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    order.bind = "127.0.0.9";
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_EQ(peer.connections(), 1U);
}

TEST_F(CourierTest, CloseBreaksOffWhatHangsAndRecordsNothing) {
    host({hello + "C: MAIL *\n! stall\n"});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    run_until([&] { return !inbox_.all<queue::SessionOpened>().empty(); });
    async::TaskGroup closing(shard_.executor());
    closing.spawn(close_courier(courier(), std::chrono::milliseconds(30)));
    run_until([&] { return closing.size() == 0; });
    EXPECT_EQ(ended().verdict, Ended::fresh_session);
    EXPECT_THAT(inbox_.all<queue::SessionClosed>(), SizeIs(1));
    EXPECT_THAT(spool_.batches, IsEmpty());
    courier().carry_out(deliver(make_message({"b@example.test"}), 9));
    EXPECT_THAT(inbox_.all<queue::AttemptEnded>(), SizeIs(1)) << "nothing is attempted any more";
    hosts_.front()->forgive();
}

TEST_F(CourierTest, CloseOpensNoConnectionForTheRestOfARecipientList) {
    const std::string one_only = "S: 220 mx.test\nC: EHLO client.test\nS: 250-mx.test\nS: 250-PIPELINING\n"
                                 "S: 250 LIMITS MAILMAX=1 RCPTMAX=1\n";
    Host& peer = host({one_only + mail_ok + "C: QUIT\n! stall\n"});
    courier().carry_out(deliver(make_message({"x@example.test", "y@example.test"})));
    run_until([&] { return !log_.starting_with("C: QUIT").empty(); });
    async::TaskGroup closing(shard_.executor());
    closing.spawn(close_courier(courier(), std::chrono::milliseconds(30)));
    run_until([&] { return closing.size() == 0; });
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(spool_.all<spool::OutcomeRecord>().at(0).recipients, ElementsAre(0U));
    EXPECT_EQ(peer.connections(), 1U);
    peer.forgive();
}

TEST_F(CourierTest, ProtocolLinesAreShown) {
    host({hello + mail_ok + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    ended();
    EXPECT_NE(log_.starting_with("C: MAIL FROM:<a@sender.test>"), "");
    EXPECT_NE(log_.starting_with("S: 250 2.0.0 queued"), "");
}

// ---- a peer that does not cope with the PIPELINING it offers -------------------------------------------------

const std::string confused = "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 500 what?\nS: 500 what?\n";
const std::string one_by_one = "C: MAIL *\n~ quiet\nS: 250 ok\nC: RCPT *\n~ quiet\nS: 250 ok\nC: DATA\nS: 354 go\n! body\nS: 250 2.0.0 queued\n";

TEST_F(CourierTest, WhoDoesNotCopeWithPipeliningIsSpokenToOneCommandAtATime) {
    Host& peer = host({hello + confused + bye, hello + one_by_one + one_by_one + bye, hello + one_by_one + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    const auto end = ended();
    EXPECT_EQ(end.verdict, Ended::done);
    EXPECT_THAT(end.unhealthy, IsEmpty());
    EXPECT_THAT(events_.facts, ElementsAre("delivered dot 2.0.0 250 2.0.0 queued [0]"));
    EXPECT_EQ(peer.connections(), 2U);
    courier().carry_out(deliver(make_message({"c@example.test"}), 1, false));
    EXPECT_EQ(ended(2).verdict, Ended::done);
    courier().carry_out(queue::Close{1, 0});
    closed();
    courier().carry_out(deliver(make_message({"d@example.test"}), 2));
    EXPECT_EQ(ended(3).verdict, Ended::done) << "remembered for other sessions";
    EXPECT_EQ(peer.connections(), 3U);
}

TEST_F(CourierTest, WhoWasAcceptedInAConfusedFlightGetsItOnce) {
    const std::string second = "C: MAIL *\nS: 250 ok\nC: RCPT TO:<c@example.test>\nS: 250 ok\nC: DATA\nS: 354 go\n! body\nS: 250 2.0.0 late\n";
    host({hello + "C: MAIL *\nC: RCPT TO:<b@example.test>\nC: RCPT TO:<c@example.test>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 500 what?\nS: 354 go\n"
                  "! body\nS: 250 2.0.0 early\n" + bye,
          hello + second + bye});
    courier().carry_out(deliver(make_message({"b@example.test", "c@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(events_.facts, ElementsAre("delivered dot 2.0.0 250 2.0.0 early [0]", "delivered dot 2.0.0 250 2.0.0 late [1]"));
}

TEST_F(CourierTest, WhoMeansItsNonsenseIsBelievedTheSecondTime) {
    host({hello + confused + bye, hello + "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 500 no, really\n" + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("bounced+dsn rcpt 5.")));
}

TEST_F(CourierTest, NoSecondConnectionForTheConfusedDefers) {
    host({hello + confused + bye, "S: 421 one at a time\nC: QUIT\n! close\n"});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
}

TEST_F(CourierTest, WhoThrowsAwayWhatCameTogetherIsKnownAtTheNextAttempt) {
    settings_.outbound.rcpt_timeout = std::chrono::milliseconds(50);
    host({hello + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\n! stall\n", hello + one_by_one + bye});
    courier().carry_out(deliver(make_message({"b@example.test"})));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    closed();
    courier().carry_out(deliver(make_message({"b@example.test"}), 2));
    EXPECT_EQ(ended(2).verdict, Ended::done);
}

// ---- as delivery.yaml says -----------------------------------------------------------------------------------

policy::DeliverySettingsPtr how(policy::DeliverySettings settings) { return std::make_shared<const policy::DeliverySettings>(std::move(settings)); }

TEST_F(CourierTest, AStateTimeoutOfTheFileCounts) {
    host({hello + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\n! stall\n"});
    policy::DeliverySettings impatient;
    impatient.state_timeouts = {{"RCPT", Duration(50)}};
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    order.how = how(impatient);
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended().verdict, Ended::deferred);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("deferred rcpt 4.4.2 timed_out")));
}

TEST_F(CourierTest, RetriesOfTheFileAreScheduledAndSendersTold) {
    const std::string busy = "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 451 later\nS: 503 nobody\n";
    policy::DeliverySettings slow;
    slow.retries = {{Duration(7'000), false}, {Duration(3'600'000), true}};
    slow.lifetime = Duration(90'000'000);
    std::vector<std::string> scripts;
    host({hello + busy + "C: RSET\n" + busy.substr(0, 7) + "*\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 451 later\nS: 503 nobody\n" + bye});
    hosts_.back()->forgive();
    queue::Deliver order = deliver(make_message({"b@example.test"}));
    order.how = how(slow);
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended().next, clock_.now() + Duration(7'000));
    EXPECT_FALSE(ended().delay_notified);
    order = deliver(make_message({"b@example.test"}), 1, false);
    order.work.attempts = 1;
    order.how = how(slow);
    courier().carry_out(std::move(order));
    EXPECT_EQ(ended(2).next, clock_.now() + Duration(3'600'000));
    EXPECT_TRUE(ended(2).delay_notified) << "at this step, and without having been asked";
    EXPECT_THAT(spool_.all<spool::MessageRecord>(), SizeIs(1));
}

TEST_F(CourierTest, AnItemWithoutARouteRetriesAsTheFileSays) {
    policy::DeliverySettings once;
    once.retry_count = 0;
    const mail::MessagePtr message = make_message({"b@example.test"});
    queue::Work work;
    work.item = ItemId{message->id, 0};
    work.arrival = message->arrival;
    work.message = message;
    courier().carry_out(queue::Conclude{0, std::move(work), Error(Errc::dns_temporary, "no answer"), how(once)});
    EXPECT_EQ(ended().verdict, Ended::done);
    EXPECT_THAT(events_.facts, ElementsAre(StartsWith("expired+dsn dns 4.4.7")));
}

}  // namespace
}  // namespace sluice::delivery
