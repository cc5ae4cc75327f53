#pragma once

#include <boost/json/object.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <latch>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "async/guarded.h"
#include "async/mailbox.h"
#include "async/published.h"
#include "async/shard.h"
#include "async/task_group.h"
#include "async/workers.h"
#include "config/settings.h"
#include "delivery/hooks.h"
#include "event/log.h"
#include "mail/message.h"
#include "net/stream.h"
#include "plugin/calls.h"
#include "plugin/child.h"
#include "plugin/frames.h"
#include "plugin/log_tap.h"
#include "plugin/plan.h"
#include "plugin/roster.h"
#include "reception/hooks.h"

namespace sluice::plugin {

// The hooks of mail out, then those of mail in.
inline constexpr std::size_t point_count = delivery::hook_count + reception::hook_count;
constexpr std::size_t point_of(delivery::Hook hook) { return static_cast<std::size_t>(hook); }
constexpr std::size_t point_of(reception::Hook hook) { return delivery::hook_count + static_cast<std::size_t>(hook); }

class NodeHost;

// One question to plugins. The coroutine that asks owns it and waits for `done`.
struct Question {
    template <class Hook>
    Question(Hook hook, std::string text_, async::Executor executor)
        : type(std::is_same_v<Hook, delivery::Hook> ? "hook" : "session"), point(point_of(hook)), text(std::move(text_)), done(executor) {}

    const char* const type;  // of the message
    const std::size_t point;
    const std::string text;  // members of the message, without braces
    const std::string* content = nullptr;  // what the host may read
    std::string octets;                    // what it sent with the answer
    Result<boost::json::object> answer = fail(Errc::cancelled, "no answer");
    async::Signal done;
    async::Mailbox<Question*>* back = nullptr;  // takes it to where it is waited for
    const NodeHost* asked = nullptr;            // who got it: the last one, when it was handed on

    std::chrono::steady_clock::time_point deadline;  // of the host's own
};

// Runs the plugin host, a Node process, and asks it. Starts it again, with growing pauses, when it ends, hangs or uses too
// much memory.
//
// Promise: every question is answered exactly once and in bounded time: by plugins; timed_out; link_closed when the host
// died with it, or others took its place; unreachable when there is no host; cancelled while closing. Questions wait for a host
// that is being started.
// Thread: ask(), tell(), wants() and the like from any thread; the rest lives on a shard of its own.
class NodeHost : public std::enable_shared_from_this<NodeHost> {
public:
    using LoadMessage = std::function<Result<mail::MessagePtr>(MessageId)>;
    using Clock = std::chrono::steady_clock;
    using Questions = std::deque<Question*>;

    // Who else has to do with a host. Called on its shard.
    struct Partners {
        Chronicle& chronicle;
        // hooks() has changed.
        std::function<void(NodeHost& host)> on_hooks;
        // A plugin asks for something; respond() with `life` takes the answer.
        std::function<void(NodeHost& host, std::uint64_t life, boost::json::object request)> on_request;
        // Set for a host that shall take the place of another one: called once, when its plugins have loaded, or do not.
        // Until it succeeds nothing of it is an error.
        std::function<void(Result<> loaded)> on_trial;
    };
    // What people see of it. Value.
    struct View {
        std::string state;  // "down", "starting", "ready"
        std::int64_t process = 0, since_ms = 0;  // of the process; by the wall clock
        Roster roster;
        std::uint64_t heap_bytes = 0, resident_bytes = 0;
        std::map<std::string, std::uint64_t> heap;  // by plugin, sampled
        std::map<std::string, std::string> heap_hooks;  // where most of that comes from, as far as it is known
        std::vector<PassedOver> passed_over;
    };

    NodeHost(
        const config::Settings& settings, event::Log& log, async::Workers& disk_pool, LoadMessage load, Partners partners);
    ~NodeHost();

    // What mail that plugins hand in needs beside an intake.
    struct CallSurroundings {
        const sluice::Clock& clock;
        spool::IdSource& ids;
        event::Recorder& events;
    };
    // Where what plugins hand in lives.
    async::Executor executor() { return shard_.executor(); }
    // Before start(): lets plugins hand in mail. `around` outlives end().
    void serve_calls(std::unique_ptr<Intake> intake, const CallSurroundings& around, config::SettingsPtr settings);
    void configure(config::SettingsPtr settings);

    void start();
    // Items that are asked about from now on, or wait for that, are left as they are; the other questions may be
    // answered until the deadline.
    void begin_closing(Clock::time_point deadline);
    // Another host has taken its place: `idle` is called when everything that was asked is answered, with the questions
    // that nobody here has heard. A process that dies after that is not started again: nobody else would know its clients.
    void retire(std::function<void(Questions unheard)> idle);
    // After the last question: lets plugins finish, ends the host and the shard. Questions after that are refused. What is still
    // asked is answered with `why`: cancelled is for an engine that stops.
    void end(Errc why = Errc::cancelled);

    void ask(Question& question);
    // Nobody waits for an answer. Dropped, and counted, when the host is slow or down.
    void tell(std::string text);
    // The same for what is not worth a word when it is dropped: log lines.
    void mention(std::string text);
    // The same, but whoever was asked about something must hear how it ends: only a host that is down misses it.
    void report(std::string text);
    // The item has left the queue.
    void forget(ItemId item);

    void respond(std::uint64_t life, std::string message);
    View view() const;

    // Until a host has told what its plugins listen to, everything is wanted.
    template <class Hook>
    bool wants(Hook hook) const {
        return (hooks_ & bit(point_of(hook))) != 0;
    }
    // Some plugin decides about routes.
    bool routes() const { return (hooks_ & routes_bit) != 0; }
    unsigned hooks() const { return hooks_; }

    static constexpr unsigned routes_bit = 1u << point_count;
    static constexpr unsigned log_bit = routes_bit << 1;
    static_assert(point_count < 32);
    static constexpr unsigned bit(std::size_t point) { return 1u << point; }
    // Where they stand in the order of all plugins.
    JavaScriptListenersPtr listeners() const { return listeners_.get(); }

private:
    enum class Care : std::uint8_t { counted, none, must_arrive };  // about what is dropped
    struct Note {
        Question* question = nullptr;
        std::string text;        // without a question: a message
        std::string ended_item;  // or this
        Care care = Care::counted;
    };
    enum class State : std::uint8_t { down, starting, ready };

    void take(std::vector<Note>& notes);
    void put(Question& question);
    void send_question(Question& question);
    void send(std::string_view message);
    void close_frame();
    void answer(Question& question, Result<boost::json::object> answer);
    void refuse_waiting(const Error& error);
    Task<> finish(std::latch& ended);
    Task<> run();
    Task<> live();
    Result<> begin();
    Task<> read();
    Task<> write();
    Task<> tick();
    Task<> send_message(std::uint32_t request, ItemId item);
    void check_questions(Clock::time_point now);
    std::optional<Error> verdict_on(const Question& question, Clock::time_point now) const;
    void check_health(Clock::time_point now);
    void end_host(const std::string& why);
    void bury();
    std::chrono::milliseconds pause() const;
    void lend(std::uint32_t request, std::uint64_t question);
    bool take_octets(std::string_view payload);
    bool understand(const Frame& frame);
    void handle(boost::json::object& message);
    void handle_ready(const boost::json::object& message);
    void give_up(const std::vector<LeftOut>& left_out);
    void handle_metrics(const boost::json::object& message);
    void take_notes();
    void tell_blocking();
    HostEnd end_of(const std::string& how) const;
    void tell_end(const HostEnd& end);
    void decide_trial(Result<> loaded);
    void check_retired();
    void become(State state);
    static JavaScriptListenersPtr read_listeners(const boost::json::object& message);
    unsigned listen(const boost::json::object& hooks);
    void tell_of_plugins(const boost::json::object& message);
    void handle_log(const boost::json::object& message);
    Blame::Limits blame_limits() const;
    boost::json::array resting() const;
    std::string hello() const;

    const config::PluginHostSettings settings_;
    const std::string directory_;
    const std::vector<std::string> javascript_;
    const std::vector<std::string> native_;  // that it leaves to us, as they are listed
    event::Log& log_;
    async::Workers& disk_pool_;
    const LoadMessage load_;
    Partners partners_;
    async::Guarded<View> view_;
    async::Guarded<bool> gone_;
    std::atomic<unsigned> hooks_ = ~0u;
    async::Published<JavaScriptListeners> listeners_{std::make_shared<const JavaScriptListeners>()};

    async::Shard shard_;
    async::Mailbox<Note> notes_;
    async::TaskGroup tasks_;
    async::TaskGroup closing_tasks_;
    std::unique_ptr<Intake> intake_;
    std::unique_ptr<Calls> calls_;
    async::Signal written_;  // there is something to write, or no more will come
    State state_ = State::down;
    std::optional<Child> child_;
    net::StreamPtr stream_;
    FrameReader reader_;
    std::string outgoing_;   // JSON messages of the next frame, without brackets
    std::string frames_;     // whole ones of messages, which go before those
    std::string octets_;     // whole ones of octets
    std::uint32_t last_question_ = 0;
    std::map<std::uint64_t, Question*> asked_;
    Questions waiting_;  // for a host
    std::array<std::optional<std::chrono::milliseconds>, point_count> patience_{};  // nothing: for ever
    Clock::time_point started_at_, pinged_at_, told_dropped_at_;
    bool pinged_ = false;
    bool worked_ = false;        // this host: its plugins have loaded
    bool unfit_ = false;         // this host: a plugin does not load
    std::string end_reason_;
    std::uint64_t life_ = 0;      // number of the process
    std::string note_;            // of the lookout, while a plugin does not give way
    std::string loading_;         // the plugin that this host loads, or loaded last
    bool told_blocking_ = false;
    Chronicle::Seen seen_;
    std::function<void(Questions)> on_retired_;
    bool retired_ = false;
    int log_level_;          // what its plugins may say
    int quick_ends_ = 0;     // one after the other, of hosts that worked
    int failed_starts_ = 0;  // likewise, of hosts that did not come to it
    std::uint64_t dropped_ = 0;
    std::optional<Clock::time_point> closing_;  // questions may be answered until then
    Errc closing_as_ = Errc::cancelled;         // what the others are answered
    bool ending_ = false;
    Clock::time_point end_by_;
    bool started_ = false;
};

// The folder of the package sluice-plugin-host for this instance; empty when it is nowhere.
std::string find_plugin_host(const config::Settings& settings);

}  // namespace sluice::plugin
