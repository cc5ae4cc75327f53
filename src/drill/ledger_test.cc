#include "drill/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>

#include "drill/virtual_time.h"

namespace sluice::drill {
namespace {

using testing::HasSubstr;

// One message of sender@s.test for one recipient, and everything that may be told of it. The judge must notice each
// promise that is broken, or a run that ends well means nothing.
class LedgerTest : public testing::Test {
protected:
    LedgerTest() {
        VirtualTime::begin(1'795'000'000'000);
        Sent sent;
        sent.reverse_path = "sender@s.test";
        sent.recipients = {"user@d.test"};
        sent.content = "From: x\r\n" + Ledger::mark(0) + "\r\nhello\r\n";
        message.id = MessageId{77};
        message.envelope.reverse_path = {"sender", "s.test"};
        message.envelope.recipients = {{{"user", "d.test"}, 0, {}}};
        message.items = mail::split_items(message.envelope.recipients, false);
        message.content = sent.content;
        ledger.sent(std::move(sent));
        ledger.record(event::Accepted{message});
        ledger.acknowledged(0);
    }

    event::ItemFact fact() const { return event::ItemFact{message, ItemId{message.id, 0}, everybody}; }
    std::shared_ptr<std::uint64_t> taken(bool reply_read = true) {
        const net::Endpoint end(net::IpAddress::v4(1), 25);
        const LinkPtr link = Link::make(loop.get_executor(), loop.get_executor(), end, end, LinkTerms());
        Taken one{"h.test", "sender@s.test", {"user@d.test"}, "Received: x\r\n" + message.content, link, {}, true};
        // Nothing has been read of the link: a reply that ends after octet 0 was read, after octet 1 was not.
        one.reply_ends = std::make_shared<std::uint64_t>(reply_read ? 0 : 1);
        const auto ends = one.reply_ends;
        ledger.taken(std::move(one));
        return ends;
    }
    void crash(bool comes_back) {
        VirtualTime::advance_to(VirtualTime::now_ns() + 60'000'000'000);
        ledger.died(VirtualTime::now_ns() - 30'000'000'000);
        if (comes_back) {
            spool::RecoveredItem item;
            item.id = ItemId{message.id, 0};
            item.pending = everybody;
            ledger.recovered(item);
        }
        ledger.booted();
    }
    std::string violation() const { return ledger.violation().value_or("none"); }

    boost::asio::io_context loop{1};
    mail::Message message;
    std::vector<std::uint32_t> everybody{0};
    Ledger ledger{[](const std::string& host, const std::string& domain) { return host == "h.test" && domain == "d.test"; }};
};

TEST_F(LedgerTest, IsContentWhenTheMessageIsDelivered) {
    taken();
    ledger.record(event::Delivered{fact()});
    crash(false);
    ledger.settle_accounts();
    EXPECT_EQ(violation(), "none");
}

TEST_F(LedgerTest, MissesAMessageThatACrashTook) {
    crash(false);
    EXPECT_THAT(violation(), HasSubstr("is gone after a crash"));
}

TEST_F(LedgerTest, MissesAnOutcomeThatACrashTook) {
    taken();
    ledger.record(event::Delivered{fact()});
    crash(true);
    EXPECT_THAT(violation(), HasSubstr("came back after a crash"));
}

TEST_F(LedgerTest, MissesAnOutcomeAtTheEnd) {
    ledger.settle_accounts();
    EXPECT_THAT(violation(), HasSubstr("has no outcome"));
}

TEST_F(LedgerTest, MissesTheNotificationOfAFailure) {
    ledger.record(event::Bounced{fact(), MessageId()});
    EXPECT_THAT(violation(), HasSubstr("failed without a notification"));
}

TEST_F(LedgerTest, MissesANotificationThatACrashTook) {
    ledger.record(event::Bounced{fact(), MessageId{78}});
    crash(false);
    EXPECT_THAT(violation(), HasSubstr("its notification is gone"));
}

TEST_F(LedgerTest, SeesADeliveryThatDidNotHappen) {
    ledger.record(event::Delivered{fact()});
    EXPECT_THAT(violation(), HasSubstr("nobody took it"));
}

TEST_F(LedgerTest, SeesASecondDeliveryThatWasNotRecordedAsPossible) {
    taken(false);
    taken();
    EXPECT_THAT(violation(), HasSubstr("no possible duplicate was recorded"));
}

TEST_F(LedgerTest, ForgivesASecondDeliveryWhenTheFirstReplyWasLost) {
    taken(false);
    ledger.record(event::PossibleDuplicate{fact()});
    taken();
    ledger.record(event::Delivered{fact()});
    EXPECT_EQ(violation(), "none");
    EXPECT_EQ(ledger.counts().duplicates, 1U);
}

TEST_F(LedgerTest, ForgivesASecondDeliveryAfterADeath) {
    taken();
    crash(true);
    taken();
    EXPECT_EQ(violation(), "none");
}

TEST_F(LedgerTest, SeesChangedContentStrangersAndWrongHosts) {
    const auto with = [&](const std::function<void(Taken&)>& change) {
        Ledger fresh{[](const std::string& host, const std::string&) { return host == "h.test"; }};
        Sent sent{"sender@s.test", {"user@d.test"}, 0, message.content, false};
        fresh.sent(std::move(sent));
        Taken one{"h.test", "sender@s.test", {"user@d.test"}, message.content, nullptr, std::make_shared<std::uint64_t>(0), true};
        change(one);
        fresh.taken(std::move(one));
        return fresh.violation().value_or("none");
    };
    EXPECT_EQ(with([](Taken&) {}), "none");
    EXPECT_THAT(with([](Taken& one) { one.content += "more\r\n"; }), HasSubstr("content changed"));
    EXPECT_THAT(with([](Taken& one) { one.content.insert(0, "Evil: yes\r\n"); }), HasSubstr("unknown line"));
    EXPECT_THAT(with([](Taken& one) { one.recipients = {"other@d.test"}; }), HasSubstr("never asked for"));
    EXPECT_THAT(with([](Taken& one) { one.host = "other.test"; }), HasSubstr("not in charge"));
    EXPECT_THAT(with([](Taken& one) { one.reverse_path = "else@s.test"; }), HasSubstr("reverse-path"));
    EXPECT_THAT(with([](Taken& one) { one.content = "X-Drill: 99\r\n\r\n"; }), HasSubstr("nobody sent"));
}

}  // namespace
}  // namespace sluice::drill
