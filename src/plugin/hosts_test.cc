#include "plugin/hosts.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <list>
#include <optional>

#include "event/event_test_support.h"
#include "plugin/host_test_support.h"
#include "plugin/inbound_hooks.h"

// Plugins that change while the engine runs, against a host that is as its only plugin says: it answers with its text.

namespace sluice::plugin {
namespace {

using delivery::Hook;
using std::chrono::seconds;

constexpr const char* prelude = R"(directory = sys.argv[3]
plugin = directory + "/plugins/a.js"
text = open(plugin).read()
clients = set()
level = None
def later(ident):
    while not os.path.exists(directory + "/go"): time.sleep(0.01)
    send({"t": "answer", "id": ident, "what": "go", "by": text})
)";

constexpr const char* cases = R"(        if what == "hello":
            level = message["log_level"]
            if "dies" in text: os._exit(3)
            if "waits" in text:
                open(directory + "/loads", "w").close()
                while not os.path.exists(directory + "/go"): time.sleep(0.01)
            broken = [{"name": "a", "reason": "long", "sentence": "bad", "file": plugin, "line": 3}] if "broken" in text else []
            hooks = {"get_mx": 60000, "send_email": 60000, "bounce": 60000} if "bounces" in text else {"get_mx": 60000, "send_email": 60000}
            send({"t": "ready", "plugins": ["a"], "hooks": hooks, "failed": [], "broken": broken, "uncalled": [],
                  "roster": {"plugins": [{"name": "a"}], "hooks": {}}})
        if what == "answer": send({"t": "answer", "id": message["id"], "what": "go", "by": text})
        if what == "level":
            if "id" in message: send({"t": "answer", "id": message["id"], "what": "go", "by": str(level)})
            else: level = message["level"]
        if what == "later": threading.Thread(target=later, args=(message["id"],), daemon=True).start()
        if what == "session":
            if os.path.exists(directory + "/die"): os._exit(3)
            client = message["client"]["uuid"]
            fate = "lost" if message["begun"] and client not in clients else "cont"
            clients.add(client)
            if "id" in message: send({"t": "answer", "id": message["id"], "what": fate, "by": text})
        if what == "request": send({"t": "request", "id": 9, "method": "GET", "path": "/v1/x"}, {"t": "answer", "id": message["id"], "what": "go", "by": text})
        if what == "response": open(directory + "/response", "w").write(json.dumps(message)[:1000])
)";

// Who answered, or the name of the error.
Task<> put(Hosts& hosts, async::Mailbox<Question*>& back, async::Executor executor, std::string what, std::promise<std::string>& out) {
    Question question(Hook::before_attempt, R"("do":")" + what + "\"", executor);
    question.back = &back;
    hosts.ask(question);
    co_await question.done.wait();
    if (!question.answer) {
        out.set_value(name_of(question.answer.error().code));
        co_return;
    }
    const boost::json::value* by = question.answer->if_contains("by");
    out.set_value(by != nullptr ? std::string(by->get_string()) : "nobody");
}

// The same of a client's session.
Task<> ask_about_client(InboundHooks& hooks, bool begun, std::promise<std::string>& out) {
    reception::Occasion about;
    about.visitor.session = "S";
    about.visitor.begun = begun;
    const reception::Answer answer = co_await hooks.ask(reception::Hook::opening, about);
    out.set_value(answer.what == reception::Answer::What::lost ? "lost" : answer.by);
}

class HostsTest : public testing::Test {
protected:
    HostsTest() {
        std::string pattern = testing::TempDir() + "hosts_XXXXXX";
        folder_ = ::mkdtemp(pattern.data());
        std::filesystem::create_directory(folder_ + "/plugins");
        write("index.js", "");
        write("node", host_script(prelude, cases));
        std::filesystem::permissions(folder_ + "/node", std::filesystem::perms::owner_all);
        plugin("one");
        settings_.directory = folder_;
        settings_.plugin_host.node = folder_ + "/node";
        settings_.plugin_host.folder = folder_;
        settings_.plugin_host.hang_timeout = seconds(5);
        settings_.javascript_plugins = {"a"};
    }
    ~HostsTest() override {
        hosts_.reset();
        asker_.stop();
        std::filesystem::remove_all(folder_);
    }

    void write(const std::string& name, const std::string& text) {
        std::ofstream(folder_ + "/" + name + ".new") << text;
        std::filesystem::rename(folder_ + "/" + name + ".new", folder_ + "/" + name);
    }
    void plugin(const std::string& text) { write("plugins/a.js", text); }
    config::SettingsPtr settings() const { return std::make_shared<config::Settings>(settings_); }
    Hosts& hosts() {
        if (!hosts_) {
            const auto load = [](MessageId) -> Result<mail::MessagePtr> { return fail(Errc::not_found, "none"); };
            const auto prepare = [](NodeHost&, const config::SettingsPtr&) {};
            hosts_ = std::make_unique<Hosts>(settings(), log_, workers_, load, prepare, [this] { ++hook_changes_; });
            if (limit_) hosts_->see_off_within(*limit_);
            hosts_->start();
            asker_.start();
        }
        return *hosts_;
    }
    std::future<std::string> ask(const std::string& what = "answer") {
        std::promise<std::string>& promise = promises_.emplace_back();
        Hosts& asked = hosts();
        asker_.post([this, what, &asked, &promise] { tasks_.spawn(put(asked, back_, asker_.executor(), what, promise)); });
        return promise.get_future();
    }
    static std::string said(std::future<std::string> future) {
        return future.wait_for(seconds(60)) == std::future_status::ready ? future.get() : "nothing";
    }
    Reloaded reload() {
        std::promise<Reloaded> promise;
        hosts().reload("a test", [&](Reloaded reloaded) { promise.set_value(std::move(reloaded)); });
        return promise.get_future().get();
    }
    // Asks until somebody answers so.
    void until(const std::string& who) {
        const auto limit = std::chrono::steady_clock::now() + seconds(30);
        std::string last;
        while (last != who && std::chrono::steady_clock::now() < limit) last = said(ask());
        EXPECT_EQ(last, who);
    }

    std::string folder_;
    config::Settings settings_;
    std::optional<std::chrono::milliseconds> limit_;  // for those whose place was taken
    event::LinesLog log_;
    async::Workers workers_{1};
    async::Shard asker_{"asker"};
    async::Mailbox<Question*> back_{asker_.executor(), [](std::vector<Question*>& questions) {
                                        for (Question* question : questions) question->done.set();
                                    }};
    async::TaskGroup tasks_{asker_.executor()};
    std::list<std::promise<std::string>> promises_;
    std::atomic<int> hook_changes_ = 0;
    std::unique_ptr<Hosts> hosts_;
};

TEST_F(HostsTest, AReloadPutsTheNextPluginsInTheirPlace) {
    EXPECT_EQ(said(ask()), "one");
    EXPECT_FALSE(hosts().wants(Hook::bounce));
    plugin("two bounces");
    const Reloaded reloaded = reload();
    EXPECT_TRUE(reloaded.done);
    EXPECT_EQ(reloaded.plugins, std::vector<std::string>{"a"});
    EXPECT_EQ(said(ask()), "two bounces");
    EXPECT_TRUE(hosts().wants(Hook::bounce));
    EXPECT_EQ(hook_changes_, 2);
    EXPECT_EQ(hosts().view().totals.reloads, 1U);
    EXPECT_EQ(hosts().view().totals.ends, 0U);
}

TEST_F(HostsTest, WhatTheOldOnesWereAskedTheyAnswer) {
    EXPECT_EQ(said(ask()), "one");
    auto slow = ask("later");
    plugin("two");
    std::promise<Reloaded> reloaded;
    hosts().reload("a test", [&](Reloaded what) { reloaded.set_value(std::move(what)); });
    until("two");
    EXPECT_EQ(slow.wait_for(seconds(0)), std::future_status::timeout);
    write("go", "");
    EXPECT_EQ(said(std::move(slow)), "one");
    EXPECT_TRUE(reloaded.get_future().get().done);
    EXPECT_EQ(said(ask()), "two");
}

TEST_F(HostsTest, PluginsThatDoNotLoadChangeNothing) {
    EXPECT_EQ(said(ask()), "one");
    plugin("broken");
    const Reloaded broken = reload();
    EXPECT_FALSE(broken.done);
    EXPECT_EQ(broken.reason, "a: bad");
    ASSERT_EQ(broken.problems.size(), 1U);
    EXPECT_EQ(broken.problems[0].place(), folder_ + "/plugins/a.js:3");
    EXPECT_EQ(said(ask()), "one");
    EXPECT_NE(log_.text().find("3 plugins: plugins were not loaded again: those in service stay plugin=a reason=bad at=" + folder_ + "/plugins/a.js:3"), std::string::npos) << log_.text();
    plugin("dies");
    const Reloaded dead = reload();
    EXPECT_FALSE(dead.done);
    EXPECT_NE(dead.reason.find("exit code 3"), std::string::npos) << dead.reason;
    EXPECT_EQ(said(ask()), "one");
    EXPECT_EQ(hosts().view().totals.failed_reloads, 2U);
}

TEST_F(HostsTest, AChangedFileIsLoadedUnasked) {
    EXPECT_EQ(said(ask()), "one");
    plugin("two");
    until("two");
    plugin("broken");
    wait_for([&] { return hosts().view().totals.failed_reloads > 0; });
    EXPECT_EQ(said(ask()), "two");
    plugin("three");
    until("three");
    EXPECT_EQ(hosts().view().totals.failed_reloads, 1U) << "the same files are not tried twice";
}

TEST_F(HostsTest, QuestionsThatWaitForMendedPluginsGoToThem) {
    plugin("broken");
    auto waiting = ask();
    wait_for([&] { return hosts().view().totals.starts > 1; });
    plugin("mended");
    EXPECT_EQ(said(std::move(waiting)), "mended");
}

TEST_F(HostsTest, AClientThatWaitedForMendedPluginsIsTheirs) {
    plugin("broken");
    InboundHooks inbound(asker_.executor(), hosts(), log_);
    std::promise<std::string> first, second;
    // By now the next start is so far away that another host is faster.
    wait_for([&] {
        const Hosts::View view = hosts().view();
        return view.totals.starts > 3 && view.host.state == "down";
    });
    asker_.post([&] { tasks_.spawn(ask_about_client(inbound, false, first)); });
    plugin("mended");
    EXPECT_TRUE(reload().done);
    EXPECT_EQ(said(first.get_future()), "mended");
    asker_.post([&] { tasks_.spawn(ask_about_client(inbound, true, second)); });
    EXPECT_EQ(said(second.get_future()), "mended");
    asker_.stop();
}

TEST_F(HostsTest, TheFirstPluginNeedsNoRestart) {
    settings_.javascript_plugins = {};
    EXPECT_FALSE(hosts().any());
    EXPECT_FALSE(hosts().wants(Hook::before_attempt));
    EXPECT_EQ(said(ask()), "unreachable");
    EXPECT_FALSE(reload().done);
    settings_.javascript_plugins = {"a"};
    hosts().configure(settings());
    EXPECT_EQ(said(ask()), "one");
    EXPECT_TRUE(hosts().any());
}

TEST_F(HostsTest, PluginsAskTheEngine) {
    hosts().serve([](const ApiCall& call, const Respond& respond) { respond(200, "{\"path\":\"" + call.path + "\"}\n"); });
    EXPECT_EQ(said(ask("request")), "one");
    wait_for([&] { return std::filesystem::exists(folder_ + "/response"); });
}

TEST_F(HostsTest, AnAnswerThatNoFrameTakesIsRefused) {
    hosts().serve([](const ApiCall&, const Respond& respond) { respond(200, "\"" + std::string(33u << 20, 'x') + "\""); });
    EXPECT_EQ(said(ask("request")), "one");
    wait_for([&] { return std::filesystem::exists(folder_ + "/response") && std::filesystem::file_size(folder_ + "/response") > 0; });
    std::string response;
    std::getline(std::ifstream(folder_ + "/response"), response);
    EXPECT_NE(response.find("\"status\": 413"), std::string::npos) << response.substr(0, 200);
}

// "cancelled" is for an engine that stops: mail about which nobody answered would stay as it is until then.
TEST_F(HostsTest, WhatReplacedPluginsNeverAnswerIsAskedAgain) {
    limit_ = std::chrono::milliseconds(200);
    EXPECT_EQ(said(ask()), "one");
    auto silent = ask("silent");
    plugin("two");
    EXPECT_TRUE(reload().done);
    EXPECT_EQ(said(std::move(silent)), "link_closed");
    EXPECT_EQ(said(ask()), "two");
}

TEST_F(HostsTest, AReloadThatWaitsForThoseBeforeSaysSoAndComes) {
    std::list<std::future<std::string>> slow;
    for (const char* text : {"one", "two", "three", "four"}) {
        plugin(text);
        if (text != std::string("one")) EXPECT_TRUE(reload().done);
        EXPECT_EQ(said(ask()), text);
        slow.push_back(ask("later"));
    }
    plugin("five");
    std::promise<Reloaded> reloaded;
    hosts().reload("a test", [&](Reloaded what) { reloaded.set_value(std::move(what)); });
    wait_for([&] { return log_.text().find("plugins are loaded again later") != std::string::npos; });
    EXPECT_EQ(said(ask()), "four");
    write("go", "");
    EXPECT_TRUE(reloaded.get_future().get().done);
    EXPECT_EQ(said(ask()), "five");
    EXPECT_EQ(said(std::move(slow.front())), "one");
}

TEST_F(HostsTest, ReplacedPluginsThatDieAreNotStartedAgain) {
    InboundHooks inbound(asker_.executor(), hosts(), log_);
    const auto session = [&](bool begun) {
        std::promise<std::string>& said_so = promises_.emplace_back();
        asker_.post([&, begun] { tasks_.spawn(ask_about_client(inbound, begun, said_so)); });
        return said(said_so.get_future());
    };
    EXPECT_EQ(session(false), "one");
    plugin("two");
    EXPECT_TRUE(reload().done);
    write("die", "");
    EXPECT_EQ(session(true), "lost");
    EXPECT_EQ(session(true), "lost");
    EXPECT_EQ(hosts().view().totals.starts, 2U);
    EXPECT_NE(log_.text().find("a plugin host whose place was taken ended"), std::string::npos) << log_.text();
    EXPECT_EQ(said(ask()), "two");
    asker_.stop();
}

TEST_F(HostsTest, ReplacedPluginsHearThatTheEngineCloses) {
    EXPECT_EQ(said(ask()), "one");
    auto attempt = ask("silent");
    InboundHooks inbound(asker_.executor(), hosts(), log_);
    std::promise<std::string> session;
    asker_.post([&] { tasks_.spawn(ask_about_client(inbound, false, session)); });
    EXPECT_EQ(said(session.get_future()), "one");
    plugin("two");
    EXPECT_TRUE(reload().done);
    hosts().stop_reloading();
    hosts().begin_closing(NodeHost::Clock::now() + std::chrono::minutes(1));
    EXPECT_EQ(said(std::move(attempt)), "cancelled");
    // Sessions may go on until the deadline, with the plugins that they began with.
    std::promise<std::string> next;
    asker_.post([&] { tasks_.spawn(ask_about_client(inbound, true, next)); });
    EXPECT_EQ(said(next.get_future()), "one");
    EXPECT_EQ(said(ask()), "cancelled");
    hosts().end();
    asker_.stop();
}

TEST_F(HostsTest, ALevelThatChangesReachesPlugins) {
    settings_.log.level = 6;
    EXPECT_EQ(said(ask("level")), "6");
    settings_.log.level = 7;
    hosts().configure(settings());
    EXPECT_EQ(said(ask("level")), "7");
}

// What was changed while other plugins loaded holds for them too.
TEST_F(HostsTest, ALevelThatChangesDuringAReloadReachesPlugins) {
    settings_.log.level = 6;
    EXPECT_EQ(said(ask("level")), "6");
    plugin("two waits");
    std::promise<Reloaded> reloaded;
    hosts().reload("a test", [&](Reloaded what) { reloaded.set_value(std::move(what)); });
    wait_for([&] { return std::filesystem::exists(folder_ + "/loads"); });
    settings_.log.level = 7;
    hosts().configure(settings());
    write("go", "");
    EXPECT_TRUE(reloaded.get_future().get().done);
    EXPECT_EQ(said(ask("level")), "7");
}

TEST_F(HostsTest, EndsInTheMiddleOfAReload) {
    EXPECT_EQ(said(ask()), "one");
    auto slow = ask("later");
    std::promise<void> done;
    hosts().reload("a test", [&](const Reloaded&) { done.set_value(); });
    hosts().begin_closing(NodeHost::Clock::now());
    hosts().end();
    done.get_future().get();
    EXPECT_EQ(said(std::move(slow)), "cancelled");
}

}  // namespace
}  // namespace sluice::plugin
