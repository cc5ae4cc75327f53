#pragma once

#include <absl/container/flat_hash_map.h>
#include <sluice/plugin.h>

#include <array>
#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/guarded.h"
#include "async/mailbox.h"
#include "async/shard.h"
#include "async/task_group.h"
#include "async/workers.h"
#include "config/settings.h"
#include "delivery/hooks.h"
#include "event/log.h"
#include "plugin/native_event.h"
#include "plugin/native_reply.h"

namespace sluice::plugin {

class NativeHost;
struct NativeModule;

// A hook of one plugin. Immutable.
struct NativeListener {
    NativeModule* module = nullptr;
    std::int32_t number = 0;
    sluice_hook hook = nullptr;
    std::int32_t priority = 0;
    bool may_block = false;
};

// A call that is answered later. The coroutine that waits owns it; `done` comes exactly once.
struct NativeQuestion {
    explicit NativeQuestion(async::Executor executor) : done(executor) {}

    const NativeListener* listener = nullptr;
    sluice_ticket ticket = 0;
    NativeReply reply;
    async::Signal done;
    async::Mailbox<NativeQuestion*>* back = nullptr;  // takes it to where it is waited for
    std::chrono::steady_clock::time_point deadline;
};

// Calls of one hook of one plugin.
struct NativeCounts {
    std::atomic<std::uint64_t> calls = 0, timeouts = 0, failures = 0;
};

// A shared object that was loaded. Stays where it is.
struct NativeModule {
    NativeHost* owner = nullptr;
    config::NativePlugin listed;
    sluice_host host{};
    const sluice_plugin* plugin = nullptr;
    void* state = nullptr;
    std::optional<std::chrono::milliseconds> timeout;  // nothing: none
    bool listening = false;                            // init() is running
    std::atomic<int> running = 0;                      // hooks on threads that may block
    std::array<NativeCounts, SLUICE_HOOK_DISCONNECT + 1> counts;  // by hook

    NativeCounts& counts_of(std::int32_t number) { return counts[static_cast<std::size_t>(number)]; }
};

// Loads native plugins, and keeps the calls that they answer later.
//
// Promise: every question that is open()ed is answered exactly once: by its plugin; not in_time when its timeout passes
// first; cancelled while closing. Answers that come later, or again, are ignored.
// Thread: load() and end() from one; the rest from any.
class NativeHost {
public:
    using Clock = std::chrono::steady_clock;

    NativeHost(const config::Settings& settings, event::Log& log);
    ~NativeHost();

    // Loads all that are listed and calls their init(). Error: config; says which file and line, and why. With
    // ignore_bad_plugins they are left out instead.
    Result<> load();
    // What waits for its beginning is cancelled; other calls may be answered until the deadline.
    void begin_closing(Clock::time_point deadline);
    // After the last question: calls shutdown() of every plugin.
    void end();

    bool wants(delivery::Hook hook) const { return (hooks_ & bit(hook)) != 0; }
    bool wants(reception::Hook hook) const { return (inbound_hooks_ & bit(hook)) != 0; }
    // Whether some plugin listens to any hook of mail in. Who hears refusals only asks no questions, but hears of others'.
    bool hears_mail_in() const { return inbound_hooks_ != 0 || !listeners(SLUICE_HOOK_DENY).empty(); }
    // In the order in which they are called.
    const std::vector<NativeListener>& listeners(std::int32_t number) const { return listeners_[static_cast<std::size_t>(number)]; }
    // Those that were loaded.
    const std::vector<std::unique_ptr<NativeModule>>& modules() const { return modules_; }

    // From now on the question can be answered by the ticket that it gets.
    void open(NativeQuestion& question);
    // Calls a hook that may block on a thread for that; its answer comes by the ticket, if it has one. When too many
    // wait for one, it has not answered in time.
    void call_elsewhere(const NativeListener& listener, NativeEvent& event, sluice_ticket ticket);
    // Whether somebody still waits.
    bool is_open(sluice_ticket ticket) const;
    // False: nobody does, so `done` has come or is on its way.
    bool withdraw(sluice_ticket ticket);

    // Calls it here and now. An exception counts as CONT; the call notes it.
    std::int32_t call(const NativeListener& listener, sluice_call& call, NativeEvent& event);
    // `id`: of the item or session, for the log.
    void complain(const NativeListener& listener, std::string_view id, const char* sentence, const std::string& why = {});
    // After end(): some hook did not return, so this must stay in memory as long as the process.
    bool abandoned() const { return elsewhere_ > 0; }

private:
    static constexpr int hook_numbers = SLUICE_HOOK_DISCONNECT + 1;
    template <class Hook>
    static unsigned bit(Hook hook) {
        return 1u << static_cast<unsigned>(hook);
    }
    static unsigned inbound_bits(std::int32_t number);

    bool ignores_bad() const;
    Result<> load_one(const config::NativePlugin& listed);
    Result<> open_object(NativeModule& module);
    Result<> init(NativeModule& module);
    std::optional<std::chrono::milliseconds> timeout_of(const std::string& name) const;
    int listen(NativeModule& module, const NativeListener& listener);
    void forget_listeners(const NativeModule& module);
    bool answer(sluice_ticket ticket, NativeReply reply);
    void call_nobody(const NativeListener& listener, sluice_ticket ticket);
    void run_elsewhere(const NativeListener& listener, const NativeEvent& event, sluice_ticket ticket);
    void start();
    Task<> tick();
    Task<> finish(std::latch& ended);
    void expire();
    void shut_down();

    static int on_listen(const sluice_host* host, std::int32_t number, sluice_hook hook, std::int32_t priority, std::uint32_t flags);
    static int on_answer(const sluice_host* host, sluice_ticket ticket, const sluice_answer* answer);
    static void on_log(const sluice_host* host, int level, sluice_text line);
    static sluice_config* on_config(const sluice_host* host, const char* name, int type, char* why, std::size_t why_size);
    static sluice_host host_table(const std::string& directory, NativeModule& module);

    const std::string directory_;
    const std::vector<config::NativePlugin> listed_;
    event::Log& log_;
    std::vector<std::unique_ptr<NativeModule>> modules_;
    std::array<std::vector<NativeListener>, hook_numbers> listeners_;
    std::atomic<unsigned> hooks_ = 0, inbound_hooks_ = 0;

    async::Guarded<absl::flat_hash_map<sluice_ticket, NativeQuestion*>> open_;
    std::atomic<sluice_ticket> last_ticket_ = 0;
    std::atomic<Clock::time_point> closing_ = Clock::time_point::max();  // answers count until then
    std::atomic<int> elsewhere_ = 0;  // calls that wait for a thread that may block, or are there
    std::atomic<std::uint64_t> dropped_ = 0;
    std::unique_ptr<async::Workers> blocking_;  // with plugins that may block

    async::Shard shard_;
    async::TaskGroup tasks_;
    async::TaskGroup closing_tasks_;
    async::Signal needed_;  // something is open, or we end
    bool ending_ = false;
    bool started_ = false;
    std::atomic<bool> closed_ = false;
};

// Calls hooks of native plugins from one shard, and waits there for those that answer later. Shard-owned.
class NativeCaller {
public:
    NativeCaller(async::Executor executor, NativeHost& natives);

    // Calls the hook. Null: `reply` is the answer; otherwise it is to be waited for. What `reply` holds is used as memory.
    std::unique_ptr<NativeQuestion> begin(const NativeListener& listener, NativeEvent& event, NativeReply& reply);
    // Waits for it.
    Task<> wait(NativeQuestion& question, NativeReply& reply);
    // Says in the log that there was no answer, if so.
    void tell_silence(const NativeListener& listener, const NativeEvent& event, const NativeReply& reply);
    // All three. The event lives that long.
    Task<> ask(const NativeListener& listener, NativeEvent& event, NativeReply& reply);

private:
    struct Opening;

    const async::Executor executor_;
    NativeHost& natives_;
    async::Mailbox<NativeQuestion*> answers_;
};

}  // namespace sluice::plugin

// One call of a hook, while it runs.
struct sluice_call {
    sluice::plugin::NativeReply reply;
    sluice_ticket ticket = 0;
    // Makes the ticket when it is asked for; null: there is none to be had.
    sluice_ticket (*open)(sluice_call& call, void* by) = nullptr;
    void* by = nullptr;
};
