#include "plugin/native_host.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "base/working_on.h"
#include "plugin/native_config.h"
#include "plugin/native_structures.h"

namespace sluice::plugin {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds tick_every = 20ms;
constexpr std::chrono::milliseconds shutdown_limit = 3s;  // for hooks that still run
constexpr double timeout_usual_s = 30;
constexpr double timeout_max_s = 366.0 * 86'400;
constexpr std::size_t blocking_threads = 4;
constexpr int elsewhere_max = 10'000;  // above, nobody is called
constexpr std::size_t log_line_bytes_max = 8 * 1024;
constexpr std::size_t why_bytes_max = 512;
constexpr std::int32_t priority_max = 100;

const char* const entry_symbol = "sluice_plugin_entry";

std::int32_t on_reply(sluice_call* call, const sluice_answer* answer) {
    if (call == nullptr || answer == nullptr) return SLUICE_CONT;
    call->reply.take(*answer);
    return call->reply.code;
}

sluice_ticket on_later(sluice_call* call) {
    if (call == nullptr) return 0;
    if (call->ticket == 0 && call->open != nullptr) call->ticket = call->open(*call, call->by);
    return call->ticket;
}

void free_config(sluice_config* config) { delete config; }

bool is_elf(const std::string& file) {
    std::array<char, 4> magic{};
    std::ifstream in(file, std::ios::binary);
    in.read(magic.data(), magic.size());
    return in && std::string_view(magic.data(), magic.size()) == "\177ELF";
}

std::string last_error_of_dl() {
    const char* text = ::dlerror();
    return text == nullptr ? "it cannot be loaded" : text;
}

}  // namespace

NativeHost::NativeHost(const config::Settings& settings, event::Log& log)
    : directory_(settings.directory),
      listed_(settings.native_plugins),
      log_(log),
      shard_("sluice-natives"),
      tasks_(shard_.executor()),
      closing_tasks_(shard_.executor()),
      needed_(shard_.executor()) {}

NativeHost::~NativeHost() { end(); }

// ---- loading ---------------------------------------------------------------------------------------------------

Result<> NativeHost::load() {
    for (const config::NativePlugin& listed : listed_) {
        const Result<> loaded = load_one(listed);
        if (loaded) continue;
        if (!ignores_bad()) {
            shut_down();
            return loaded;
        }
        log_.warn("plugins", "a plugin does not load and is left out", {{"plugin", listed.name}, {"reason", loaded.error().detail}});
    }
    unsigned hooks = 0, inbound = 0;
    bool blocks = false;
    for (const auto& listeners : listeners_) {
        for (const NativeListener& listener : listeners) {
            const NativeHook& hook = *native_hook(listener.number);
            if (hook.outbound) hooks |= bit(*hook.outbound);
            inbound |= inbound_bits(listener.number);
            blocks |= listener.may_block;
        }
    }
    if (blocks) blocking_ = std::make_unique<async::Workers>(blocking_threads);
    start();
    hooks_ = hooks;
    inbound_hooks_ = inbound;
    return {};
}

// By which questions of mail in a hook is called, or what it answers gets to where it counts.
unsigned NativeHost::inbound_bits(std::int32_t number) {
    using reception::Hook;
    const auto& hook = native_hook(number)->inbound;
    if (!hook) return 0;
    unsigned bits = bit(*hook);
    if (number == SLUICE_HOOK_PRE_SEND_TRANS_EMAIL) bits |= bit(Hook::injected);
    // What is noted about a transaction goes into its message.
    if (*hook == Hook::mail || *hook == Hook::rcpt || *hook == Hook::data) bits |= bit(Hook::content);
    return bits;
}

// As the plugin host reads it, with the words for yes that Haraka knows.
bool NativeHost::ignores_bad() const {
    const auto said = read_config(directory_, "smtp.ini", SLUICE_INI);
    const std::string_view value = said ? view_of(config_get(&*said, "main", "ignore_bad_plugins")) : std::string_view();
    constexpr std::array<std::string_view, 6> yes{"true", "yes", "ok", "enabled", "on", "1"};
    return std::any_of(yes.begin(), yes.end(), [&](std::string_view word) { return iequals(value, word); });
}

Result<> NativeHost::load_one(const config::NativePlugin& listed) {
    auto& module = *modules_.emplace_back(std::make_unique<NativeModule>());
    module.owner = this;
    module.listed = listed;
    module.host = host_table(directory_, module);
    Result<> done = open_object(module);
    if (done) done = init(module);
    if (done) {
        log_.info("plugins", "native plugin loaded", {{"plugin", listed.name}, {"version", module.plugin->version == nullptr ? "" : module.plugin->version}});
        return {};
    }
    forget_listeners(module);
    // What cannot be loaded stays so; an init() may only miss something that comes later.
    const Errc code = module.plugin == nullptr ? Errc::config : done.error().code;
    modules_.pop_back();
    return fail(
        code, "config/plugins:" + std::to_string(listed.line) + ": plugin `" + listed.name + "`, " + listed.file + ": " +
                          done.error().detail);
}

Result<> NativeHost::open_object(NativeModule& module) {
    const std::string& file = module.listed.file;
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) return fail(Errc::not_found, "there is no such file");
    if (!is_elf(file)) return fail(Errc::bad_input, "it is no shared object");
    // Never closed: the plugin's threads may outlive everything.
    void* object = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr) return fail(Errc::bad_input, printable(last_error_of_dl()));
    const void* symbol = ::dlsym(object, entry_symbol);
    if (symbol == nullptr) {
        return fail(Errc::bad_input, std::string("it is no plugin: it does not export `") + entry_symbol + "` (see SLUICE_PLUGIN in sluice/plugin.h)");
    }
    const auto* plugin = static_cast<const sluice_plugin*>(symbol);
    if (plugin->abi != SLUICE_PLUGIN_ABI) {
        return fail(
            Errc::unsupported, "it was made for version " + std::to_string(plugin->abi) + " of the plugin interface, and this is version " +
                                   std::to_string(SLUICE_PLUGIN_ABI) + ": compile it with this engine's sluice/plugin.h");
    }
    if (plugin->size < sizeof(sluice_plugin) || plugin->init == nullptr) {
        return fail(Errc::bad_input, "its description has no init()");
    }
    module.plugin = plugin;
    return {};
}

Result<> NativeHost::init(NativeModule& module) {
    module.timeout = timeout_of(module.listed.name);
    std::array<char, why_bytes_max> why{};
    int code = -1;
    module.listening = true;
    try {
        code = module.plugin->init(&module.host, &module.state, why.data(), why.size());
    } catch (const std::exception& error) {
        std::snprintf(why.data(), why.size(), "%s", error.what());
    } catch (...) {
        std::snprintf(why.data(), why.size(), "an exception");
    }
    module.listening = false;
    why.back() = '\0';
    if (code == 0) return {};
    const std::string reason = why.front() == '\0' ? "code " + std::to_string(code) : printable(why.data());
    return fail(Errc::unreachable, "its init() fails: " + reason);
}

std::optional<std::chrono::milliseconds> NativeHost::timeout_of(const std::string& name) const {
    const auto seconds_in = [&](const std::string& file) -> std::optional<double> {
        const auto said = read_config(directory_, file, SLUICE_VALUE);
        if (!said || said->entries.empty()) return std::nullopt;
        const auto seconds = parse_number<double>(said->entries.front().value);
        return seconds && std::isfinite(*seconds) && *seconds >= 0 ? seconds : std::nullopt;
    };
    auto seconds = seconds_in(name + ".timeout");
    if (!seconds) seconds = seconds_in("plugin_timeout");
    const double limit = std::min(seconds.value_or(timeout_usual_s), timeout_max_s);
    if (limit == 0) return std::nullopt;
    return std::chrono::milliseconds(std::max<std::int64_t>(std::llround(limit * 1000), 1));
}

int NativeHost::listen(NativeModule& module, const NativeListener& listener) {
    if (!module.listening || native_hook(listener.number) == nullptr || listener.hook == nullptr) return -1;
    if (listener.priority < -priority_max || listener.priority > priority_max) return -1;
    auto& list = listeners_[static_cast<std::size_t>(listener.number)];
    const auto place = std::find_if(list.begin(), list.end(), [&](const auto& other) { return other.priority > listener.priority; });
    list.insert(place, listener);
    return 0;
}

void NativeHost::forget_listeners(const NativeModule& module) {
    for (auto& list : listeners_) {
        std::erase_if(list, [&](const NativeListener& listener) { return listener.module == &module; });
    }
}

// ---- calls -----------------------------------------------------------------------------------------------------

std::int32_t NativeHost::call(const NativeListener& listener, sluice_call& call, NativeEvent& event) {
    const WorkingOn working(event.message_id());
    event.set_hook(listener.number);
    event.set_host(listener.module->host);
    listener.module->counts_of(listener.number).calls.fetch_add(1, std::memory_order_relaxed);
    std::string why;
    try {
        return listener.hook(listener.module->state, &call, &event);
    } catch (const std::exception& error) {
        why = error.what();
    } catch (...) {
        why = "an exception";
    }
    call.reply.threw = true;
    ++listener.module->counts_of(listener.number).failures;
    complain(listener, event.log_id(), "a native plugin threw", why);
    return SLUICE_CONT;
}

void NativeHost::complain(const NativeListener& listener, std::string_view id, const char* sentence, const std::string& why) {
    if (!log_.enabled(event::Level::error)) return;
    log_.write(
        event::Level::error, id, listener.module->listed.name, sentence,
        {{"hook", name_of_hook(listener.number)}, {"reason", printable(why)}});
}

void NativeHost::open(NativeQuestion& question) {
    question.ticket = ++last_ticket_;
    const auto& timeout = question.listener->module->timeout;
    question.deadline = timeout ? Clock::now() + *timeout : Clock::time_point::max();
    const bool first = open_.with([&](auto& open) {
        open.emplace(question.ticket, &question);
        return open.size() == 1;
    });
    if (first) shard_.post([this] { needed_.set(); });
}

bool NativeHost::is_open(sluice_ticket ticket) const {
    return open_.with([&](const auto& open) { return open.contains(ticket); });
}

bool NativeHost::withdraw(sluice_ticket ticket) {
    return open_.with([&](auto& open) { return open.erase(ticket) > 0; });
}

bool NativeHost::answer(sluice_ticket ticket, NativeReply reply) {
    NativeQuestion* question = open_.with([&](auto& open) -> NativeQuestion* {
        const auto found = open.find(ticket);
        if (found == open.end()) return nullptr;
        NativeQuestion* const waits = found->second;
        open.erase(found);
        return waits;
    });
    if (question == nullptr) return false;
    question->reply = std::move(reply);
    question->back->push(question);
    return true;
}

void NativeHost::call_elsewhere(const NativeListener& listener, NativeEvent& event, sluice_ticket ticket) {
    if (elsewhere_ >= elsewhere_max) return call_nobody(listener, ticket);
    event.set_hook(listener.number);
    event.set_host(listener.module->host);
    ++elsewhere_;
    blocking_->post([this, &listener, kept = event.keep(), ticket] {
        if (ticket == 0 || is_open(ticket)) run_elsewhere(listener, *kept, ticket);
        NativeEvent::release(kept);
        --elsewhere_;
    });
}

// Each call that waits for a thread keeps its message in memory. Hooks that do not come back get no more of them.
void NativeHost::call_nobody(const NativeListener& listener, sluice_ticket ticket) {
    if (ticket != 0) {
        NativeReply none;
        none.in_time = false;
        answer(ticket, std::move(none));
    } else if (dropped_++ % elsewhere_max == 0) {
        log_.warn("plugins", "plugins were not told of everything", {{"plugin", listener.module->listed.name}});
    }
}

void NativeHost::run_elsewhere(const NativeListener& listener, const NativeEvent& event, sluice_ticket ticket) {
    const WorkingOn working(event.message_id());
    sluice_call call;
    call.ticket = ticket;
    std::int32_t code = SLUICE_CONT;
    std::string why;
    ++listener.module->running;
    ++listener.module->counts_of(listener.number).calls;
    try {
        code = listener.hook(listener.module->state, &call, &event);
    } catch (const std::exception& error) {
        call.reply.threw = true;
        why = error.what();
    } catch (...) {
        call.reply.threw = true;
    }
    --listener.module->running;
    if (call.reply.threw) {
        ++listener.module->counts_of(listener.number).failures;
        complain(listener, event.log_id(), "a native plugin threw", why);
    }
    if (code == SLUICE_PENDING) return;
    call.reply.code = code;
    answer(ticket, std::move(call.reply));
}

struct NativeCaller::Opening {
    NativeCaller& caller;
    const NativeListener& listener;
    std::unique_ptr<NativeQuestion> question;

    sluice_ticket open() {
        question = std::make_unique<NativeQuestion>(caller.executor_);
        question->listener = &listener;
        question->back = &caller.answers_;
        caller.natives_.open(*question);
        return question->ticket;
    }
};

NativeCaller::NativeCaller(async::Executor executor, NativeHost& natives)
    : executor_(executor), natives_(natives), answers_(executor, [](std::vector<NativeQuestion*>& questions) {
          for (NativeQuestion* question : questions) question->done.set();
      }) {}

std::unique_ptr<NativeQuestion> NativeCaller::begin(const NativeListener& listener, NativeEvent& event, NativeReply& reply) {
    Opening opening{*this, listener, nullptr};
    if (listener.may_block) {
        natives_.call_elsewhere(listener, event, opening.open());
        return std::move(opening.question);
    }
    sluice_call call;
    call.by = &opening;
    call.open = [](sluice_call&, void* by) { return static_cast<Opening*>(by)->open(); };
    call.reply.mx.swap(reply.mx);
    call.reply.mx.clear();
    const std::int32_t code = natives_.call(listener, call, event);
    if (code == SLUICE_PENDING && opening.question != nullptr) return std::move(opening.question);
    // An answer by the ticket that was quicker than the hook is the first one.
    if (opening.question != nullptr && !natives_.withdraw(opening.question->ticket)) return std::move(opening.question);
    reply = std::move(call.reply);
    reply.code = code;
    // Nobody has a ticket, so nobody can answer.
    reply.in_time = code != SLUICE_PENDING;
    return nullptr;
}

Task<> NativeCaller::wait(NativeQuestion& question, NativeReply& reply) {
    co_await question.done.wait();
    reply = std::move(question.reply);
}

void NativeCaller::tell_silence(const NativeListener& listener, const NativeEvent& event, const NativeReply& reply) {
    if (reply.in_time || reply.cancelled) return;
    ++listener.module->counts_of(listener.number).timeouts;
    natives_.complain(listener, event.log_id(), "a native plugin did not answer in time");
}

Task<> NativeCaller::ask(const NativeListener& listener, NativeEvent& event, NativeReply& reply) {
    const std::unique_ptr<NativeQuestion> question = begin(listener, event, reply);
    if (question != nullptr) co_await wait(*question, reply);
    tell_silence(listener, event, reply);
}

// ---- time ------------------------------------------------------------------------------------------------------

void NativeHost::start() {
    if (modules_.empty()) return;
    started_ = true;
    shard_.post([this] { tasks_.spawn(tick()); });
    shard_.start();
}

Task<> NativeHost::tick() {
    while (!ending_) {
        const bool idle = open_.with([](const auto& open) { return open.empty(); });
        if (idle) {
            co_await needed_.wait();
        } else {
            co_await async::sleep_for(tick_every);
            expire();
        }
    }
}

void NativeHost::expire() {
    const Clock::time_point now = Clock::now();
    const Clock::time_point closing = closing_;
    const bool is_closing = closing != Clock::time_point::max();
    std::vector<NativeQuestion*> over;
    open_.with([&](auto& open) {
        for (auto at = open.begin(); at != open.end();) {
            const auto here = at++;
            NativeQuestion& question = *here->second;
            const bool begins = native_hook(question.listener->number)->outbound == delivery::Hook::before_attempt;
            const bool cancelled = is_closing && (begins || now >= closing);
            if (!cancelled && now < question.deadline) continue;
            question.reply.in_time = false;
            question.reply.cancelled = cancelled;
            over.push_back(&question);
            open.erase(here);
        }
    });
    for (NativeQuestion* question : over) question->back->push(question);
}

void NativeHost::begin_closing(Clock::time_point deadline) {
    closing_ = deadline;
    if (started_) shard_.post([this] { expire(); });
}

void NativeHost::end() {
    if (!std::exchange(started_, false)) return;
    std::latch ended(1);
    shard_.post([this, &ended] {
        closing_ = Clock::time_point::min();
        ending_ = true;
        needed_.set();
        closing_tasks_.spawn(finish(ended));
    });
    ended.wait();
    shard_.stop();
    shut_down();
}

Task<> NativeHost::finish(std::latch& ended) {
    expire();
    const Clock::time_point until = Clock::now() + shutdown_limit;
    while (elsewhere_ > 0 && Clock::now() < until) co_await async::sleep_for(tick_every);
    while (tasks_.size() > 0) co_await async::sleep_for(tick_every);
    co_await tasks_.close();
    ended.count_down();
}

// Whose hook still runs keeps its thread, its state and us.
void NativeHost::shut_down() {
    for (const auto& module : modules_) {
        if (module->running > 0) {
            log_.error("plugins", "a hook of a native plugin does not return", {{"plugin", module->listed.name}});
            continue;
        }
        if (module->plugin->shutdown == nullptr) continue;
        try {
            module->plugin->shutdown(module->state);
        } catch (...) {
            log_.warn("plugins", "the shutdown of a native plugin threw", {{"plugin", module->listed.name}});
        }
    }
    closed_ = true;
    if (elsewhere_ > 0) {
        static_cast<void>(blocking_.release());
    } else {
        blocking_.reset();
    }
}

// ---- what plugins call -----------------------------------------------------------------------------------------

sluice_host NativeHost::host_table(const std::string& directory, NativeModule& module) {
    sluice_host host{};
    host.size = sizeof host;
    host.abi = SLUICE_PLUGIN_ABI;
    host.version = SLUICE_VERSION;
    host.directory = directory.c_str();
    host.name = module.listed.name.c_str();
    host.engine = &module;
    host.listen = on_listen;
    host.reply = on_reply;
    host.later = on_later;
    host.answer = on_answer;
    host.keep = NativeEvent::keep;
    host.release = NativeEvent::release;
    host.recipient = NativeEvent::recipient;
    host.notes = NativeEvent::notes;
    host.content = NativeEvent::content;
    host.log = on_log;
    host.config = on_config;
    host.config_count = config_count;
    host.config_entry = config_entry;
    host.config_get = config_get;
    host.config_free = free_config;
    return host;
}

int NativeHost::on_listen(
    const sluice_host* host, std::int32_t number, sluice_hook hook, std::int32_t priority, std::uint32_t flags) {
    if (host == nullptr || (flags & ~std::uint32_t{SLUICE_MAY_BLOCK}) != 0) return -1;
    auto& module = *static_cast<NativeModule*>(host->engine);
    return module.owner->listen(module, NativeListener{&module, number, hook, priority, (flags & SLUICE_MAY_BLOCK) != 0});
}

int NativeHost::on_answer(const sluice_host* host, sluice_ticket ticket, const sluice_answer* answer) {
    if (host == nullptr || answer == nullptr || ticket == 0) return 0;
    NativeReply reply;
    reply.take(*answer);
    // Who answers has nothing to wait for any more.
    if (reply.code == SLUICE_PENDING) reply.code = SLUICE_CONT;
    return static_cast<NativeModule*>(host->engine)->owner->answer(ticket, std::move(reply)) ? 1 : 0;
}

void NativeHost::on_log(const sluice_host* host, int level, sluice_text line) {
    if (host == nullptr) return;
    const auto& module = *static_cast<const NativeModule*>(host->engine);
    if (module.owner->closed_) return;
    const auto of = static_cast<event::Level>(std::clamp(level, 0, 9));
    event::Log& log = module.owner->log_;
    if (log.enabled(of)) log.write(of, {}, module.listed.name, printable(view_of(line).substr(0, log_line_bytes_max)), {});
}

sluice_config* NativeHost::on_config(const sluice_host* host, const char* name, int type, char* why, std::size_t why_size) {
    if (host == nullptr || name == nullptr) return nullptr;
    auto config = read_config(static_cast<const NativeModule*>(host->engine)->owner->directory_, name, type);
    if (config) return std::make_unique<sluice_config>(std::move(*config)).release();
    if (why != nullptr && why_size > 0) std::snprintf(why, why_size, "%s", config.error().detail.c_str());
    return nullptr;
}

}  // namespace sluice::plugin
