#include "plugin/node_host.h"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <list>

#include "event/event_test_support.h"
#include "plugin/host_test_support.h"

// The engine's side of the plugin host, against a host that does what each question says.

namespace sluice::plugin {
namespace {

using delivery::Hook;
using Answer = Result<boost::json::object>;

constexpr const char* cases = R"(        if what == "endless": open(sys.argv[0] + ".endless", "w").close(); os._exit(3)
        if what == "stillborn":
            open(sys.argv[0] + ".stillborn", "w").close()
            os._exit(3)
        if what == "hello":
            if os.path.exists(sys.argv[0] + ".endless"):
                os.remove(sys.argv[0] + ".endless")
                send({"t": "loading", "plugin": "good"}, {"t": "loading", "plugin": "bad"})
                os._exit(5)
            if os.path.exists(sys.argv[0] + ".stillborn"):
                os.remove(sys.argv[0] + ".stillborn")
                os._exit(4)
            send({"t": "ready", "plugins": ["a"], "hooks": {"get_mx": 100, "send_email": 100, "bounce": 100}, "failed": [], "broken": [],
                  "uncalled": [{"plugin": "a", "hook": "rcpt"}]},
                 {"t": "log", "level": 5, "text": "told %s %s" % (message["budgets"], [one[:2] for one in message["resting"]])})
        if what == "answer": send({"t": "answer", "id": message["id"], "what": "go", "pid": os.getpid()})
        if what == "listens":
            send({"t": "ready", "plugins": ["a"], "hooks": {"get_mx": 100, "delivered": 100}, "failed": [], "broken": []},
                 {"t": "answer", "id": message["id"], "what": "go"})
        if what == "twice": send(*[{"t": "answer", "id": message["id"], "what": "go"}] * 2)
        if what == "die": os._exit(3)
        if what == "accused":
            os.write(4, b'{"plugin":"a","hook":"get_mx","running":true,"ms":200}\n')
            os._exit(3)
        if what == "blocks":
            os.write(4, b'{"plugin":"a","hook":"get_mx","running":true,"ms":800}\n')
            time.sleep(0.5)
            os.write(4, b'{}\n')
            send({"t": "answer", "id": message["id"], "what": "go"})
        if what == "cleared":
            os.write(4, b'{"plugin":"a","hook":"get_mx","running":true,"ms":200}\n{}\n')
            os._exit(3)
        if what == "count":
            send({"t": "metrics", "cpu_ms": 30, "heap_bytes": 5000, "heap": {"a": 4000, "b": "x"},
                  "rows": [["a", "get_mx", 7, 1.5, 1, 0.5, 2, 1, 3, 4], ["short"], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
                  "resting": [["a", "get_mx", 1 << 50], ["a", "bounce", 1000]]},
                 {"t": "request", "id": 5, "method": "GET", "path": "/v1/status"},
                 {"t": "answer", "id": message["id"], "what": "go"})
        if what == "deep":
            notes = {}
            for _ in range(100): notes = {"a": notes}
            send({"t": "answer", "id": message["id"], "what": "go", "notes": notes})
        if what == "forge":
            send({"t": "log", "level": 4, "session": "s\nforged", "origin": "o\nforged", "text": "t"},
                 {"t": "answer", "id": message["id"], "what": "go"})
        if what == "stuck":
            os.write(4, b'{"plugin":"a","hook":"get_mx","running":true,"ms":200}\n')
            time.sleep(1000)
        if what == "hang": time.sleep(1000)
        if what == "garbage": link.sendall(b"\xff" * 16)
        if what == "no array": link.sendall(struct.pack("<IB", 3, 1) + b"{}")
)";

Task<> put(NodeHost& host, async::Mailbox<Question*>& back, async::Executor executor, Hook hook, std::string what, std::promise<Answer>& out) {
    Question question(hook, R"("do":")" + what + "\"", executor);
    question.back = &back;
    host.ask(question);
    co_await question.done.wait();
    out.set_value(std::move(question.answer));
}

class NodeHostTest : public testing::Test {
protected:
    NodeHostTest() {
        std::string pattern = testing::TempDir() + "node_host_XXXXXX";
        folder_ = ::mkdtemp(pattern.data());
        std::ofstream(folder_ + "/index.js") << "";
        std::ofstream(folder_ + "/node") << host_script("", cases);
        std::filesystem::permissions(folder_ + "/node", std::filesystem::perms::owner_all);
        settings_.directory = folder_;
        settings_.plugin_host.node = folder_ + "/node";
        settings_.plugin_host.folder = folder_;
        settings_.plugin_host.hang_timeout = std::chrono::seconds(1);
    }
    ~NodeHostTest() override {
        host_.reset();
        asker_.stop();
        std::filesystem::remove_all(folder_);
    }

    NodeHost& host() {
        if (!host_) {
            const auto load = [](MessageId) -> Result<mail::MessagePtr> { return fail(Errc::not_found, "none"); };
            NodeHost::Partners partners{
                chronicle_, [this](NodeHost&) { ++hook_changes_; },
                [this](NodeHost& host, std::uint64_t life, const boost::json::object& request) {
                    requests_.with([&](auto& requests) { requests += boost::json::serialize(request) + "\n"; });
                    host.respond(life, R"({"t":"pong"})");
                },
                {}};
            host_ = std::make_shared<NodeHost>(settings_, log_, workers_, load, std::move(partners));
            host_->start();
            asker_.start();
        }
        return *host_;
    }
    std::future<Answer> ask(const std::string& what, Hook hook = Hook::before_attempt) {
        std::promise<Answer>& promise = promises_.emplace_back();
        NodeHost& asked = host();
        asker_.post([this, what, hook, &asked, &promise] {
            tasks_.spawn(put(asked, back_, asker_.executor(), hook, what, promise));
        });
        return promise.get_future();
    }
    static std::string outcome(std::future<Answer> future) {
        if (future.wait_for(std::chrono::seconds(60)) != std::future_status::ready) return "nothing";
        const Answer answer = future.get();
        return answer ? "answered" : name_of(answer.error().code);
    }

    std::string folder_;
    config::Settings settings_;
    event::LinesLog log_;
    async::Workers workers_{1};
    async::Shard asker_{"asker"};
    async::Mailbox<Question*> back_{asker_.executor(), [](std::vector<Question*>& questions) {
                                        for (Question* question : questions) question->done.set();
                                    }};
    async::TaskGroup tasks_{asker_.executor()};
    std::list<std::promise<Answer>> promises_;
    std::atomic<int> hook_changes_ = 0;
    Chronicle chronicle_;
    async::Guarded<std::string> requests_;
    std::shared_ptr<NodeHost> host_;
};

TEST_F(NodeHostTest, AsksAndKnowsWhoListens) {
    EXPECT_TRUE(host().wants(Hook::delivered)) << "before a host has told, everything is wanted";
    EXPECT_EQ(outcome(ask("answer")), "answered");
    EXPECT_TRUE(host().wants(Hook::before_attempt));
    EXPECT_TRUE(host().routes());
    EXPECT_TRUE(host().wants(Hook::bounce));
    EXPECT_FALSE(host().wants(Hook::deferred));
    EXPECT_FALSE(host().wants(Hook::delivered));
    EXPECT_EQ(hook_changes_, 1);
    EXPECT_NE(log_.text().find("hook that is not called plugin=a hook=rcpt"), std::string::npos) << log_.text();
    EXPECT_EQ(outcome(ask("twice")), "answered");
    EXPECT_EQ(outcome(ask("answer")), "answered");
}

TEST_F(NodeHostTest, LearnsOfHooksThatAreRegisteredLater) {
    EXPECT_EQ(outcome(ask("answer")), "answered");
    EXPECT_FALSE(host().wants(Hook::delivered));
    EXPECT_EQ(outcome(ask("listens")), "answered");
    EXPECT_TRUE(host().wants(Hook::delivered));
    EXPECT_FALSE(host().wants(Hook::bounce));
    EXPECT_EQ(hook_changes_, 2);
    EXPECT_EQ(outcome(ask("answer")), "answered");
    const std::string told = log_.text();
    EXPECT_EQ(told.find("is ready"), told.rfind("is ready")) << told;
}

TEST_F(NodeHostTest, WhateverEndsAHostEndsItsQuestionsAndAnotherOneAnswers) {
    for (const char* what : {"die", "hang", "garbage", "no array"}) {
        auto same_fate = ask("ignore");
        EXPECT_EQ(outcome(ask(what)), "link_closed") << what;
        EXPECT_EQ(outcome(std::move(same_fate)), "link_closed") << what;
        EXPECT_EQ(outcome(ask("answer")), "answered") << what;
    }
    for (const char* reason : {"exit code 3", "it hangs", "it broke the protocol"}) {
        EXPECT_NE(log_.text().find(reason), std::string::npos) << reason << "\n" << log_.text();
    }
}

TEST_F(NodeHostTest, OneThatDiesAtItsStartIsNoReasonForALongPause) {
    for (int i = 0; i < 3; ++i) EXPECT_EQ(outcome(ask("die")), "link_closed");
    EXPECT_EQ(outcome(ask("stillborn")), "link_closed");
    wait_for([&] { return chronicle_.state().ends == 5; });
    EXPECT_EQ(outcome(ask("answer")), "answered");
    EXPECT_NE(log_.text().find("exit code 4"), std::string::npos) << log_.text();
}

TEST_F(NodeHostTest, NamesWhoDoesNotEndToLoad) {
    EXPECT_EQ(outcome(ask("endless")), "link_closed");
    EXPECT_EQ(outcome(ask("answer")), "answered");
    const Chronicle::State state = chronicle_.state();
    const auto& ends = state.last_ends;
    ASSERT_FALSE(ends.empty());
    EXPECT_EQ(ends.front().plugin + " " + ends.front().because, "bad was loading") << log_.text();
}

TEST_F(NodeHostTest, CountsOverHostsAndNamesWhoWasRunning) {
    EXPECT_EQ(outcome(ask("count")), "answered");
    EXPECT_EQ(outcome(ask("count")), "answered");
    EXPECT_EQ(host().view().heap.at("a"), 4000U);
    ASSERT_EQ(host().view().passed_over.size(), 1U) << "the other is asked again";
    EXPECT_EQ(host().view().passed_over[0].hook, "get_mx");
    EXPECT_EQ(outcome(ask("accused")), "link_closed");
    EXPECT_EQ(outcome(ask("count")), "answered");
    EXPECT_EQ(log_.text().find("does not give way"), std::string::npos);
    EXPECT_EQ(outcome(ask("blocks")), "answered");
    EXPECT_NE(log_.text().find("does not give way: all others wait plugin=a hook=get_mx"), std::string::npos) << log_.text();
    EXPECT_EQ(outcome(ask("cleared")), "link_closed");
    EXPECT_EQ(outcome(ask("answer")), "answered");
    const Chronicle::State state = chronicle_.state();
    const HookCounts& counts = state.counts.at({"a", "get_mx"});
    EXPECT_EQ(counts.calls, 14U) << "two hosts have told of seven calls each";
    EXPECT_EQ(counts.timeouts, 4U);
    EXPECT_EQ(counts.failures, 2U);
    EXPECT_EQ(counts.over_budget, 6U);
    EXPECT_EQ(counts.passed_over, 8U);
    EXPECT_DOUBLE_EQ(counts.ms, 3);
    EXPECT_EQ(state.cpu_ms, 60U);
    EXPECT_EQ(state.starts, 3U);
    EXPECT_EQ(state.ends, 2U);
    ASSERT_EQ(state.last_ends.size(), 2U);
    EXPECT_EQ(state.last_ends[0].plugin, "") << "it had given way again";
    EXPECT_EQ(state.last_ends[1].plugin, "a");
    EXPECT_EQ(state.last_ends[1].hook, "get_mx");
    EXPECT_EQ(state.last_ends[1].because, "was running");
    EXPECT_NE(log_.text().find("plugin=a hook=get_mx because=was running"), std::string::npos) << log_.text();
    EXPECT_NE(requests_.with([](const auto& text) { return text; }).find("/v1/status"), std::string::npos);
}

TEST_F(NodeHostTest, WhoEndsHostsAgainAndAgainIsPassedOverByTheNext) {
    settings_.plugin_host.host_ends_max = 2;
    settings_.plugin_host.plugin_heap_bytes_max = 4096;
    for (const char* what : {"stuck", "accused", "stuck"}) EXPECT_EQ(outcome(ask(what)), "link_closed") << what;
    EXPECT_EQ(outcome(ask("answer")), "answered");
    wait_for([&] { return log_.text().find("[['a', 'get_mx']]") != std::string::npos; });
    const std::string budgets = "told {'busy_ms': 1000, 'heap_bytes': 4096, 'times': 10, 'rest_ms': 30000} []";
    EXPECT_NE(log_.text().find(budgets), std::string::npos) << log_.text();
}

TEST_F(NodeHostTest, WhatWaitsIsSentInFramesThatTheHostTakes) {
    settings_.plugin_host.hang_timeout = std::chrono::seconds(20);
    const std::string large = "answer\",\"header\":\"" + std::string(5u << 20, 'x');
    std::list<std::future<Answer>> asked;
    for (int i = 0; i < 14; ++i) asked.push_back(ask(large));
    for (auto& one : asked) EXPECT_EQ(outcome(std::move(one)), "answered");
}

TEST_F(NodeHostTest, WhatPluginsSayCanBeNestedDeeplyAndForgesNoLine) {
    EXPECT_EQ(outcome(ask("deep")), "answered");
    EXPECT_EQ(outcome(ask("forge")), "answered");
    EXPECT_EQ(log_.text().find('\n' + std::string("forged")), std::string::npos) << log_.text();
    EXPECT_NE(log_.text().find("forged"), std::string::npos) << log_.text();
}

TEST_F(NodeHostTest, AQuestionThatIsIgnoredTimesOut) { EXPECT_EQ(outcome(ask("ignore")), "timed_out"); }

TEST_F(NodeHostTest, WhileClosingAttemptsAreLeftAndOthersMayFinish) {
    EXPECT_EQ(outcome(ask("answer")), "answered");
    auto attempt = ask("ignore");
    auto bounce = ask("ignore", Hook::bounce);
    host().begin_closing(NodeHost::Clock::now() + std::chrono::milliseconds(300));
    EXPECT_EQ(outcome(std::move(attempt)), "cancelled");
    EXPECT_EQ(outcome(std::move(bounce)), "cancelled");
    EXPECT_EQ(outcome(ask("answer")), "cancelled");
    host().end();
}

TEST_F(NodeHostTest, WithoutNodeQuestionsAreRefusedAfterAWhile) {
    settings_.plugin_host.node = "/no/such/node";
    EXPECT_EQ(outcome(ask("answer")), "unreachable");
    EXPECT_NE(log_.text().find("/no/such/node"), std::string::npos);
}

TEST_F(NodeHostTest, EndsInTheMiddleOfAnything) {
    auto forgotten = ask("hang");
    EXPECT_EQ(outcome(ask("answer", Hook::bounce)), "link_closed");
    auto starting = ask("answer");
    host().end();
    EXPECT_NE(outcome(std::move(forgotten)), "nothing");
    EXPECT_NE(outcome(std::move(starting)), "nothing");
}

}  // namespace
}  // namespace sluice::plugin
