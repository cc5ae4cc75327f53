#include "plugin/inbound_chain.h"

#include <gmock/gmock.h>

#include <future>

#include "mail/header.h"
#include "plugin/native_roster.h"
#include "plugin/native_test_support.h"

// What native plugins answer about mail in, at once, later, twice and never, and what becomes of it. No plugin host runs;
// how both share a chain is tested end to end.

namespace sluice::plugin {
namespace {

using reception::Answer;
using reception::Hook;
using reception::Occasion;
using testing::ElementsAre;
using testing::HasSubstr;
using What = Answer::What;

constexpr const char* content = "Received: x\r\nSubject: y\r\n\r\nbody\r\n";

Task<> put(InboundChain& chain, Hook hook, const Occasion& about, std::promise<Answer>& out) {
    Answer answer = co_await chain.ask(hook, about);
    out.set_value(std::move(answer));
}

class InboundChainTest : public testing::Test {
protected:
    InboundChainTest() {
        about_.visitor.session = "S";
        about_.visitor.client_ip = "192.0.2.7";
        about_.visitor.local_ip = "192.0.2.1";
        about_.visitor.client_port = 4711;
        about_.visitor.local_port = 25;
        about_.visitor.helo = "client.test";
        about_.visitor.extended = true;
        about_.visitor.relaying = true;
        envelope_.reverse_path = {"a", "src.test"};
        envelope_.body = mail::BodyType::eight_bit_mime;
        recipient_.address = {"b", "dst.test"};
        about_.lines = {"mx.test Hello", "SIZE 1000"};
    }
    ~InboundChainTest() override {
        if (natives_ != nullptr) natives_->end();
        shard_.stop();
        chain_.reset();
    }

    void start(const std::string& ini) {
        instance_.write("config/probe.ini", ini);
        instance_.list("probe", NATIVE_PROBE);
        start();
    }
    void start() {
        natives_ = std::make_unique<NativeHost>(instance_.settings, log_);
        const Result<> loaded = natives_->load();
        ASSERT_TRUE(loaded) << loaded.error().detail;
        const auto settings = std::make_shared<const config::Settings>(instance_.settings);
        const auto load = [](MessageId) -> Result<mail::MessagePtr> { return fail(Errc::not_found, "no message"); };
        hosts_ = std::make_unique<Hosts>(settings, log_, workers_, load, [](NodeHost&, const config::SettingsPtr&) {}, [] {});
        chain_ = std::make_unique<InboundChain>(shard_.executor(), natives_.get(), *hosts_, log_);
        shard_.start();
    }
    // As a session would ask; `about` may go away as soon as there is an answer.
    Answer ask(Hook hook) {
        const auto promise = std::make_shared<std::promise<Answer>>();
        auto future = promise->get_future();
        promises_.push_back(promise);
        const Occasion about = occasion(hook);
        shard_.post([this, hook, &about, promise] { tasks_.spawn(put(*chain_, hook, about, *promise)); });
        EXPECT_EQ(future.wait_for(std::chrono::seconds(20)), std::future_status::ready);
        return future.get();
    }
    void tell(Hook hook, const std::string& text = {}) {
        std::promise<void> told;
        Occasion about = occasion(hook);
        about.text = text;
        shard_.post([&] {
            chain_->tell(hook, about);
            told.set_value();
        });
        told.get_future().get();
    }
    Occasion occasion(Hook hook) const {
        Occasion about = about_;
        const bool underway = hook == Hook::mail || hook == Hook::rcpt || hook == Hook::data || hook == Hook::content || hook == Hook::queued ||
                              hook == Hook::oversize || hook == Hook::reset || hook == Hook::injected;
        if (underway) {
            about.transaction.emplace().envelope = &envelope_;
            about.transaction->number = hook == Hook::injected ? 0 : 1;
        }
        if (hook == Hook::injected) about.visitor = {};
        if (hook == Hook::rcpt) about.recipient = &recipient_;
        if (hook == Hook::command) about.command = "XYZ 1";
        if (hook == Hook::content || hook == Hook::injected) {
            about.content = &content_;
            about.message = MessageId{9};
            about.keeps = true;
        }
        return about;
    }
    std::string said() const { return instance_.read("probe.said"); }

    NativeInstance instance_;
    LinesLog log_;
    async::Workers workers_{1};
    async::Shard shard_{"asker"};
    async::TaskGroup tasks_{shard_.executor()};
    std::vector<std::shared_ptr<void>> promises_;
    Occasion about_;
    mail::Envelope envelope_;
    mail::Recipient recipient_;
    const std::string content_ = content;
    std::unique_ptr<NativeHost> natives_;
    std::unique_ptr<Hosts> hosts_;
    std::unique_ptr<InboundChain> chain_;
};

TEST_F(InboundChainTest, HooksThatNobodyListensToAreNotCalled) {
    start("[get_mx]\ncode=900\n");
    for (std::size_t hook = 0; hook < reception::hook_count; ++hook) EXPECT_FALSE(chain_->wants(static_cast<Hook>(hook))) << hook;
}

TEST_F(InboundChainTest, WhoHearsOnlyRefusalsAsksNoQuestions) {
    start("[deny]\ncode=900\n");
    EXPECT_TRUE(natives_->hears_mail_in());
    for (std::size_t hook = 0; hook < reception::hook_count; ++hook) EXPECT_FALSE(chain_->wants(static_cast<Hook>(hook))) << hook;
}

TEST_F(InboundChainTest, WhoHearsHowItEndsHearsItFromTheBeginning) {
    start("[disconnect]\ncode=900\n[reset_transaction]\ncode=900\n[queue_ok]\ncode=900\n[rset]\ncode=900\n");
    for (const Hook hook : {Hook::opening, Hook::mail, Hook::content, Hook::rset}) {
        EXPECT_TRUE(chain_->wants(hook));
        if (hook != Hook::rset) EXPECT_EQ(ask(hook).what, What::go_on);
    }
    EXPECT_FALSE(chain_->wants(Hook::rcpt));
    tell(Hook::queued, "Message Queued (X)");
    tell(Hook::rset);
    tell(Hook::reset);
    tell(Hook::left);
    EXPECT_THAT(said(), HasSubstr("queue_ok probe ip=192.0.2.7"));
    EXPECT_THAT(said(), HasSubstr("text=Message Queued (X)"));
    for (const char* hook : {"\nrset probe", "\nreset_transaction probe", "\ndisconnect probe"}) EXPECT_THAT(said(), HasSubstr(hook));
}

struct Point {
    const char* hook;
    Hook question;
};
constexpr Point deciding[] = {
    {"lookup_rdns", Hook::opening}, {"connect", Hook::opening}, {"ehlo", Hook::hello}, {"unrecognized_command", Hook::command},
    {"mail", Hook::mail}, {"rcpt", Hook::rcpt}, {"rcpt_ok", Hook::rcpt}, {"data", Hook::data}, {"data_post", Hook::content},
    {"queue_outbound", Hook::content}, {"max_data_exceeded", Hook::oversize}, {"vrfy", Hook::vrfy}, {"noop", Hook::noop}, {"quit", Hook::quit}};

class EveryWayIn : public InboundChainTest, public testing::WithParamInterface<const char*> {};

TEST_P(EveryWayIn, EveryHookRefuses) {
    std::string ini;
    for (const Point& point : deciding) {
        ini += std::string("[") + point.hook + "]\ncode=900\nhow=" + GetParam() + "\nreason=4.7.9 as told\nreply_code=459\n";
        ini += std::string("[") + point.hook + " " + point.hook + "]\ncode=909\n";
    }
    start(ini);
    for (const Point& point : deciding) {
        about_.visitor.helo = envelope_.reverse_path.local = recipient_.address.local = point.hook;
        const Answer answer = ask(point.question);
        EXPECT_EQ(answer.what, What::deny_soft) << point.hook;
        EXPECT_EQ(answer.code, 459) << point.hook;
        EXPECT_THAT(answer.text, ElementsAre("4.7.9 as told")) << point.hook;
        EXPECT_EQ(answer.by, "probe");
        EXPECT_TRUE(answer.disconnect) << point.hook;
        EXPECT_THAT(said(), HasSubstr(std::string(point.hook) + " probe"));
    }
}

TEST_P(EveryWayIn, FieldsAndNotesReachTheMessage) {
    start(std::string("[rcpt]\ncode=900\nhow=") + GetParam() + "\nnotes={\"seen\":1}\n[data_post]\ncode=906\nhow=" + GetParam() +
          "\nheader=X-Probe\n[queue_outbound]\ncode=900\nlook=X-Probe: as probe says\nheader=X-First\nfirst=1\n");
    EXPECT_EQ(ask(Hook::rcpt).what, What::ok) << "the client may relay";
    envelope_.recipients.push_back(recipient_);
    const Answer answer = ask(Hook::content);
    EXPECT_EQ(answer.what, What::go_on);
    EXPECT_EQ(answer.changed, Answer::Changed::header);
    EXPECT_EQ(answer.octets, "X-First: as probe says\r\nReceived: x\r\nSubject: y\r\nX-Probe: as probe says\r\n\r\n");
    EXPECT_EQ(answer.notes, R"({"seen":1})");
    EXPECT_THAT(said(), HasSubstr("queue_outbound probe ip=192.0.2.7 local=192.0.2.1 rdns= ehlo=client.test tls= user= relaying=1 errors=0 ports=1 "
                                  "from=a body=8BITMIME envid= number=1 declared=0 octets=1 message=1 found=1 to=b text= notes={\"seen\":1}"));
}

INSTANTIATE_TEST_SUITE_P(Natives, EveryWayIn, testing::Values("sync", "async", "twice", "blocking"));

TEST_F(InboundChainTest, EveryCodeOfADecidingHook) {
    struct Case {
        int code;
        What what;
        bool disconnect;
    };
    std::string ini = "[rcpt]\ncode=900\n";
    const std::vector<Case> cases{
        {SLUICE_CONT, What::ok, false}, {SLUICE_STOP, What::ok, false}, {SLUICE_DENY, What::deny, false}, {SLUICE_DENYSOFT, What::deny_soft, false},
        {SLUICE_DENYDISCONNECT, What::deny, true}, {SLUICE_DISCONNECT, What::deny_soft, true}, {SLUICE_OK, What::ok, false},
        {SLUICE_NEXT_HOOK, What::ok, false}, {SLUICE_DELAY, What::ok, false}, {SLUICE_DENYSOFTDISCONNECT, What::deny_soft, true}};
    for (const Case& of : cases) ini += "[rcpt " + std::to_string(of.code) + "]\ncode=" + std::to_string(of.code) + "\n";
    start(ini);
    for (const Case& of : cases) {
        recipient_.address.local = std::to_string(of.code);
        const Answer answer = ask(Hook::rcpt);
        EXPECT_EQ(answer.what, of.what) << of.code;
        EXPECT_EQ(answer.disconnect, of.disconnect) << of.code;
    }
    about_.visitor.relaying = false;
    recipient_.address.local = std::to_string(SLUICE_CONT);
    EXPECT_EQ(ask(Hook::rcpt).what, What::go_on) << "the session decides";
    recipient_.address.local = std::to_string(SLUICE_OK);
    EXPECT_EQ(ask(Hook::rcpt).what, What::ok);
}

TEST_F(InboundChainTest, SilenceIsTheSafeWayOfEachHook) {
    instance_.write("config/plugin_timeout", "0.05\n");
    std::string ini = "[capabilities]\ncode=900\nhow=silent\n[pre_send_trans_email]\ncode=900\nhow=silent\n";
    for (const Point& point : deciding) {
        ini += std::string("[") + point.hook + "]\ncode=900\n[" + point.hook + " " + point.hook + "]\nhow=silent\n";
    }
    start(ini);
    for (const Point& point : deciding) {
        about_.visitor.helo = envelope_.reverse_path.local = recipient_.address.local = point.hook;
        const Answer answer = ask(point.question);
        if (point.question == Hook::quit) {
            EXPECT_EQ(answer.what, What::go_on);
            continue;
        }
        EXPECT_EQ(answer.what, What::deny_soft) << point.hook;
        EXPECT_THAT(answer.text, ElementsAre("plugin timeout")) << point.hook;
        EXPECT_EQ(answer.code, 451);
    }
    about_.visitor.helo = envelope_.reverse_path.local = "b";
    EXPECT_EQ(ask(Hook::hello).what, What::go_on);
    EXPECT_EQ(ask(Hook::content).what, What::go_on);
    EXPECT_THAT(log_.text(), HasSubstr("probe: a native plugin did not answer in time hook=rcpt"));
    Hosts::View view;
    add_natives(view, *natives_, nullptr);
    const HookCounts counts = view.totals.counts[{"probe", "connect"}];
    EXPECT_EQ(counts.calls, 1U) << "nobody connects before he is named";
    EXPECT_EQ(counts.timeouts, 1U);
}

TEST_F(InboundChainTest, ALateAnswerFindsNobodyAndHarmsNobody) {
    instance_.write("config/plugin_timeout", "0.05\n");
    start("[data_post]\ncode=906\nhow=async\nafter_ms=400\nlook=body\nheader=X-Late\n");
    const Answer answer = ask(Hook::content);
    EXPECT_EQ(answer.what, What::deny_soft);
    EXPECT_EQ(answer.changed, Answer::Changed::nothing);
    tell(Hook::left);
    natives_->end();  // waits for the thread, which looks at the event that it kept
    EXPECT_THAT(said(), HasSubstr("answered 0 of 1"));
}

TEST_F(InboundChainTest, WhoStillWaitsAtTheEndIsTurnedAway) {
    instance_.write("config/plugin_timeout", "0\n");
    start("[mail]\ncode=900\nhow=silent\n");
    natives_->begin_closing(NativeHost::Clock::now() + std::chrono::milliseconds(100));
    EXPECT_EQ(ask(Hook::mail).what, What::lost);
}

TEST_F(InboundChainTest, ThePluginsStandInTheOrderOfTheirPriorities) {
    for (const auto& [name, priority] : {std::pair("late", "5"), std::pair("one", "0"), std::pair("two", "0")}) {
        instance_.write(std::string("config/") + name + ".ini", std::string("[mail]\ncode=900\npriority=") + priority + "\n[connect]\ncode=906\n");
        instance_.list(name, NATIVE_PROBE);
    }
    start();
    EXPECT_EQ(ask(Hook::mail).what, What::go_on);
    EXPECT_THAT(said(), testing::MatchesRegex("mail one [^\n]*\nmail two [^\n]*\nmail late [^\n]*\n"));
    EXPECT_EQ(ask(Hook::opening).what, What::ok);
    EXPECT_THAT(said(), HasSubstr("connect late"));
    EXPECT_EQ(said().find("connect one"), std::string::npos) << "`late` has decided: it stands first in the list";
    Hosts::View view;
    add_natives(view, *natives_, nullptr);
    std::string order;
    for (const HookedPoint& point : view.host.roster.hooks) {
        for (const Listener& listener : point.listeners) order += point.hook + ":" + listener.plugin + " ";
    }
    EXPECT_EQ(order, "connect:late connect:one connect:two mail:one mail:two mail:late ") << "the list decides between equals";
}

TEST_F(InboundChainTest, NamesCapabilitiesAndRelaying) {
    start("[lookup_rdns]\ncode=906\nreason=host.client.test\n[connect]\ncode=900\nrelay=0\n"
          "[capabilities]\ncode=900\nreason=size 5\n[mail]\ncode=900\nrelay=1\n[rcpt]\ncode=900\n");
    const Answer opened = ask(Hook::opening);
    EXPECT_EQ(opened.what, What::go_on);
    EXPECT_EQ(opened.text, std::vector<std::string>()) << "a name is no greeting";
    EXPECT_EQ(opened.relaying, false);
    EXPECT_THAT(said(), HasSubstr("connect probe ip=192.0.2.7 local=192.0.2.1 rdns=host.client.test "));
    EXPECT_THAT(ask(Hook::hello).lines, ElementsAre("mx.test Hello", "SIZE 1000")) << "it is offered already";
    const Answer sent = ask(Hook::mail);
    EXPECT_EQ(sent.transaction_relaying, true);
    EXPECT_FALSE(sent.relaying);
}

TEST_F(InboundChainTest, UnknownIsNoName) {
    start("[lookup_rdns]\ncode=906\nreason=Unknown\n[connect]\ncode=900\n");
    EXPECT_EQ(ask(Hook::opening).what, What::go_on);
    EXPECT_THAT(said(), HasSubstr("connect probe ip=192.0.2.7 local=192.0.2.1 rdns= "));
}

TEST_F(InboundChainTest, NotesLastAsLongAsTheTransaction) {
    start("[mail]\ncode=900\nnotes={\"a\":1}\n[rcpt]\ncode=900\nnotes={\"b\":[2]}\n[noop]\ncode=900\nnotes={\"c\":3}\n");
    ask(Hook::mail);
    ask(Hook::rcpt);
    EXPECT_TRUE(chain_->wants(Hook::content)) << "somebody has to take them";
    EXPECT_EQ(ask(Hook::content).notes, R"({"a":1,"b":[2]})");
    ask(Hook::noop);
    EXPECT_THAT(log_.text(), HasSubstr("notes of a native plugin are not kept plugin=probe session=S hook=noop reason=there is no transaction"));
    ask(Hook::mail);
    EXPECT_EQ(ask(Hook::content).notes, R"({"a":1})");
}

TEST_F(InboundChainTest, ARefusalIsToldAndMayBeUndone) {
    start("[rcpt]\ncode=902\nreason=no\n[deny]\ncode=900\n[deny friend]\ncode=906\n");
    EXPECT_EQ(ask(Hook::rcpt).what, What::deny);
    EXPECT_THAT(said(), HasSubstr("text=no by=probe refused=13:902"));
    recipient_.address.local = "friend";
    EXPECT_EQ(ask(Hook::rcpt).what, What::ok);
}

TEST_F(InboundChainTest, WhoIsToldWithoutBeingWaitedForGetsNoContent) {
    start("[data_post]\ncode=902\nlook=body\n[deny]\ncode=900\nhow=blocking\nlook=body\n");
    EXPECT_EQ(ask(Hook::content).what, What::deny);
    natives_->end();  // waits for the thread
    EXPECT_THAT(said(), testing::ContainsRegex("data_post probe [^\n]* found=1 "));
    EXPECT_THAT(said(), testing::ContainsRegex("deny probe [^\n]* found=0 "));
}

TEST_F(InboundChainTest, AMessageThatAPluginTakesIsNotKept) {
    start("[queue_outbound]\ncode=906\nreason=mine\n[queue_ok]\ncode=900\n[pre_send_trans_email]\ncode=900\n");
    const Answer answer = ask(Hook::content);
    EXPECT_EQ(answer.what, What::ok);
    EXPECT_THAT(answer.text, ElementsAre("mine (S.1)"));
    EXPECT_THAT(said(), HasSubstr("text=mine (S.1)"));
    EXPECT_EQ(said().find("pre_send_trans_email"), std::string::npos);
}

TEST_F(InboundChainTest, MailOfTheApiIsChangedAndNotRefused) {
    start("[pre_send_trans_email]\ncode=902\nheader=X-Probe\nnotes={\"b\":2}\n");
    EXPECT_TRUE(chain_->wants(Hook::injected));
    about_.text = R"({"a":1})";
    const Answer answer = ask(Hook::injected);
    EXPECT_EQ(answer.what, What::go_on);
    EXPECT_EQ(answer.octets, "Received: x\r\nSubject: y\r\nX-Probe: as probe says\r\n\r\n");
    EXPECT_EQ(answer.notes, R"({"a":1,"b":2})");
    EXPECT_THAT(said(), HasSubstr("pre_send_trans_email probe from=a body=8BITMIME envid= number=0 "));
}

TEST_F(InboundChainTest, FieldsOutsideOfContentAreLeftOut) {
    start("[mail]\ncode=900\nheader=X-Probe\n[data_post]\ncode=900\nheader=X Probe\n");
    EXPECT_EQ(ask(Hook::mail).what, What::go_on);
    EXPECT_EQ(ask(Hook::content).changed, Answer::Changed::nothing);
    EXPECT_THAT(log_.text(), HasSubstr("header fields of a native plugin are left out plugin=probe session=S hook=mail reason=there is no content"));
    EXPECT_THAT(log_.text(), HasSubstr("hook=data_post reason=a name or a value is none"));
}

}  // namespace
}  // namespace sluice::plugin
