#include "plugin/node_host.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstring>
#include <filesystem>
#include <latch>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "config/plugins.h"
#include "net/socket_stream.h"

namespace sluice::plugin {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds tick_every = 100ms;
constexpr milliseconds ping_every = 1s;
constexpr milliseconds start_limit = 30s;      // to load plugins: also the longest wait for a host
constexpr milliseconds grace = 5s;             // the host ends waiting by itself; this is for one that does not
constexpr milliseconds shutdown_limit = 3s;    // for plugins to finish
constexpr milliseconds quick_end = 10s;        // a host that ends sooner is in trouble
constexpr milliseconds pause_max_started = 2s, pause_max_unstarted = 30s;
constexpr std::size_t outgoing_bytes_max = 16u << 20;  // above, notices are dropped
constexpr std::size_t octets_at_once = 256u << 10, octets_waiting_max = 4u << 20;
constexpr std::size_t returned_octets_more = 16u << 20;
constexpr int protocol_version = 1;

bool is_package(const std::string& folder) {
    std::error_code ignored;
    return std::filesystem::exists(folder + "/index.js", ignored);
}

std::string text_of(const boost::json::object& object, std::string_view key) {
    const boost::json::value* value = object.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::uint64_t number_of(const boost::json::object& object, std::string_view key) {
    const boost::json::value* value = object.if_contains(key);
    boost::system::error_code error;
    const auto number = value != nullptr && value->is_number() ? value->to_number<std::uint64_t>(error) : 0;
    return error ? 0 : number;
}

const boost::json::array& list_of(const boost::json::object& object, std::string_view key) {
    static const boost::json::array none;
    const boost::json::value* value = object.if_contains(key);
    return value != nullptr && value->is_array() ? value->get_array() : none;
}

}  // namespace

std::string find_plugin_host(const config::Settings& settings) {
    std::vector<std::string> places{settings.plugin_host.folder};
    if (settings.plugin_host.folder.empty()) {
        std::error_code ignored;
        const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
        const auto beside = program.parent_path().parent_path() / "share/sluice/plugin-host";
        places = {settings.directory + "/node_modules/sluice-plugin-host", beside.string()};
    }
    const auto found = std::find_if(places.begin(), places.end(), is_package);
    return found == places.end() ? std::string() : *found;
}

NodeHost::NodeHost(
    const config::Settings& settings, event::Log& log, async::Workers& disk_pool, LoadMessage load,
    std::function<void()> on_hooks)
    : settings_([&] {
          config::PluginHostSettings found = settings.plugin_host;
          found.folder = find_plugin_host(settings);
          return found;
      }()),
      directory_(settings.directory),
      javascript_(settings.javascript_plugins),
      native_([&] {
          std::vector<std::string> names = config::native_plugin_names(settings.directory);
          for (const config::NativePlugin& object : settings.native_plugins) names.push_back(config::current_plugin_name(object.listed));
          return names;
      }()),
      log_level_(settings.log.level),
      log_(log),
      disk_pool_(disk_pool),
      load_(std::move(load)),
      on_hooks_(std::move(on_hooks)),
      log_tap_([this](std::string line) { mention(std::move(line)); }),
      shard_("sluice-plugins"),
      notes_(shard_.executor(), [this](std::vector<Note>& notes) { take(notes); }),
      tasks_(shard_.executor()),
      closing_tasks_(shard_.executor()),
      written_(shard_.executor()) {}

NodeHost::~NodeHost() { end(); }

void NodeHost::serve_calls(const Calls::Surroundings& surroundings, config::SettingsPtr settings) {
    const auto reply = [this](std::string_view message) {
        if (state_ != State::down) send(message);
    };
    calls_ = std::make_unique<Calls>(surroundings, std::move(settings), tasks_, reply);
}

void NodeHost::configure(config::SettingsPtr settings) {
    if (calls_) calls_->configure(std::move(settings));
}

void NodeHost::start() {
    started_ = true;
    shard_.post([this] {
        tasks_.spawn(run());
        tasks_.spawn(tick());
    });
    shard_.start();
}

void NodeHost::begin_closing(Clock::time_point deadline) {
    shard_.post([this, deadline] {
        closing_ = deadline;
        check_questions(Clock::now());
    });
}

void NodeHost::end() {
    if (!std::exchange(started_, false)) return;
    std::latch ended(1);
    shard_.post([this, &ended] {
        ending_ = true;
        closing_ = Clock::time_point::min();
        end_by_ = Clock::now() + shutdown_limit;
        check_questions(Clock::now());
        if (state_ != State::down) send(R"({"t":"shutdown"})");
        closing_tasks_.spawn(finish(ended));
    });
    ended.wait();
    shard_.stop();
}

// Nothing is cancelled: the host is waited for, or killed.
Task<> NodeHost::finish(std::latch& ended) {
    while (tasks_.size() > 0) co_await async::sleep_for(5ms);
    co_await tasks_.close();
    ended.count_down();
}

void NodeHost::ask(Question& question) { notes_.push(Note{&question, {}, {}}); }
void NodeHost::tell(std::string text) { notes_.push(Note{nullptr, std::move(text), {}}); }
void NodeHost::mention(std::string text) { notes_.push(Note{nullptr, std::move(text), {}, Care::none}); }
void NodeHost::report(std::string text) { notes_.push(Note{nullptr, std::move(text), {}, Care::must_arrive}); }
void NodeHost::forget(ItemId item) { notes_.push(Note{nullptr, {}, item.text()}); }

// ---- questions -------------------------------------------------------------------------------------------------

void NodeHost::take(std::vector<Note>& notes) {
    std::string ended;
    for (Note& note : notes) {
        if (note.question != nullptr) {
            put(*note.question);
        } else if (!note.ended_item.empty()) {
            ended += (ended.empty() ? "\"" : ",\"") + note.ended_item + "\"";
        } else if (state_ == State::ready && (note.care == Care::must_arrive || outgoing_.size() < outgoing_bytes_max)) {
            send(note.text);
        } else if (note.care == Care::counted) {
            ++dropped_;
        }
    }
    if (!ended.empty() && state_ == State::ready) send(R"({"t":"ended","items":[)" + ended + "]}");
}

void NodeHost::put(Question& question) {
    question.deadline = Clock::now() + start_limit;
    const bool too_late = closing_ && question.point == point_of(delivery::Hook::before_attempt);
    if (state_ == State::ready && !too_late) return send_question(question);
    if (state_ == State::down && quick_ends_ > 0 && pause() > pause_max_started) {
        return answer(question, fail(Errc::unreachable, "the plugin host does not start"));
    }
    waiting_.push_back(&question);
    if (closing_) check_questions(Clock::now());
}

void NodeHost::send_question(Question& question) {
    const auto& patience = patience_[question.point];
    question.deadline = patience ? Clock::now() + *patience + grace : Clock::time_point::max();
    // Numbers come round again, past those of questions that may take for ever.
    do {
        last_question_ = (last_question_ + 1) & ~Calls::request_bit;
    } while (!asked_.emplace(last_question_, &question).second);
    send(R"({"t":")" + std::string(question.type) + R"(","id":)" + std::to_string(last_question_) + "," + question.text + "}");
}

void NodeHost::send(std::string_view message) {
    if (!outgoing_.empty()) outgoing_ += ',';
    outgoing_ += message;
    written_.set();
}

void NodeHost::answer(Question& question, Result<boost::json::object> answer) {
    question.answer = std::move(answer);
    question.back->push(&question);
}

void NodeHost::refuse_waiting(const Error& error) {
    const std::deque<Question*> waiting = std::exchange(waiting_, {});
    for (Question* question : waiting) answer(*question, fail(error));
}

// Nobody waits for ever, and while we close nobody waits for the beginning of an attempt.
void NodeHost::check_questions(Clock::time_point now) {
    const auto verdict = [&](const Question& question) -> std::optional<Error> {
        if (closing_ && (question.point == point_of(delivery::Hook::before_attempt) || now >= *closing_)) {
            return Error(Errc::cancelled, "closing");
        }
        if (now >= question.deadline) return Error(Errc::timed_out, "plugins do not answer");
        return std::nullopt;
    };
    for (auto at = asked_.begin(); at != asked_.end();) {
        const auto here = at++;
        auto error = verdict(*here->second);
        if (!error) continue;
        Question& question = *here->second;
        asked_.erase(here);
        answer(question, fail(std::move(*error)));
    }
    std::deque<Question*> left;
    for (Question* question : std::exchange(waiting_, {})) {
        auto error = verdict(*question);
        if (error) {
            answer(*question, fail(std::move(*error)));
        } else {
            left.push_back(question);
        }
    }
    waiting_ = std::move(left);
}

// ---- the process -----------------------------------------------------------------------------------------------

Task<> NodeHost::run() {
    while (!ending_) {
        co_await live();
        const Clock::time_point until = Clock::now() + pause();
        while (!ending_ && Clock::now() < until) co_await async::sleep_for(tick_every);
    }
}

// A host that worked is missed at once; one that does not even start is given time.
milliseconds NodeHost::pause() const {
    const milliseconds longest = ever_ponged_ && !unfit_ ? pause_max_started : pause_max_unstarted;
    return std::min<milliseconds>(longest, milliseconds(100) * (1 << std::min(quick_ends_, 12)));
}

// One host, from its start to its end.
Task<> NodeHost::live() {
    if (const Result<> begun = begin(); !begun) {
        if (quick_ends_++ == 0) {
            log_.error("plugins", "the plugin host does not start: mail that plugins decide about waits", {{"reason", begun.error().text()}});
        }
        if (pause() > pause_max_started) refuse_waiting(Error(Errc::unreachable, "the plugin host does not start"));
        co_return;
    }
    async::TaskGroup writing(shard_.executor());
    writing.spawn(write());
    co_await read();
    state_ = State::down;
    stream_->abort();
    written_.set();
    co_await writing.close();
    bury();
}

Result<> NodeHost::begin() {
    if (settings_.folder.empty()) return fail(Errc::not_found, "the package sluice-plugin-host is not installed");
    const std::vector<std::string> arguments{
        settings_.node, "--max-old-space-size=" + std::to_string(settings_.heap_bytes_max >> 20),
        settings_.folder + "/index.js", directory_};
    TRY(Child child, Child::start(arguments));
    TRY(stream_, net::SocketStream::adopt(shard_.executor(), child.take_socket(), net::Endpoint()));
    child_.emplace(std::move(child));
    state_ = State::starting;
    reader_ = {};
    outgoing_.clear();
    octets_.clear();
    end_reason_.clear();
    pinged_ = ever_ponged_ = unfit_ = false;
    started_at_ = Clock::now();
    send(hello());
    return {};
}

std::string NodeHost::hello() const {
    const boost::json::array native(native_.begin(), native_.end()), order(javascript_.begin(), javascript_.end());
    const boost::json::object message{
        {"t", "hello"}, {"version", protocol_version}, {"directory", directory_}, {"native", native}, {"order", order},
        {"addresses", settings_.addresses}, {"log_level", log_level_}};
    return boost::json::serialize(message);
}

Task<> NodeHost::read() {
    std::vector<char> buffer(64u << 10);
    for (;;) {
        const auto size = co_await stream_->read_some(buffer);
        if (!size) co_return;
        reader_.append(std::string_view(buffer.data(), *size));
        for (;;) {
            const auto frame = reader_.next();
            if (!frame || (*frame && !understand(**frame))) {
                end_host("it broke the protocol");
                co_return;
            }
            if (!*frame) break;
        }
    }
}

Task<> NodeHost::write() {
    while (state_ != State::down) {
        if (outgoing_.empty() && octets_.empty()) {
            co_await written_.wait();
            continue;
        }
        std::string bytes = std::exchange(octets_, {});
        if (!outgoing_.empty()) {
            append_frame(bytes, FrameKind::messages, "[" + std::exchange(outgoing_, {}) + "]");
        }
        const auto done = co_await stream_->write(bytes);
        if (!done) co_return;
    }
}

// What the engine has to do about a host that has gone.
void NodeHost::bury() {
    stream_.reset();
    log_tap_.open(false);
    if (calls_) calls_->host_ended();
    const std::string how = child_->end();
    child_.reset();
    for (const auto& [id, question] : std::exchange(asked_, {})) {
        answer(*question, fail(Errc::link_closed, "the plugin host ended"));
    }
    quick_ends_ = Clock::now() - started_at_ < quick_end ? quick_ends_ + 1 : 0;
    if (ending_) return;
    if (unfit_ && pause() > pause_max_started) refuse_waiting(Error(Errc::unreachable, "a plugin does not load"));
    if (unfit_) return;
    log_.warn(
        "plugins", "the plugin host ended and is started again",
        {{"reason", end_reason_.empty() ? how : end_reason_}, {"after", std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_at_).count()}});
}

void NodeHost::end_host(const std::string& why) {
    if (end_reason_.empty()) end_reason_ = why;
    if (child_) child_->kill();
}

Task<> NodeHost::tick() {
    // Until the host is gone too: it may have to be killed.
    while (!ending_ || child_) {
        co_await async::sleep_for(tick_every);
        const Clock::time_point now = Clock::now();
        check_questions(now);
        if (child_) check_health(now);
        if (dropped_ > 0 && now - told_dropped_at_ > 10s) {
            told_dropped_at_ = now;
            log_.warn("plugins", "plugins were not told of deliveries", {{"count", std::exchange(dropped_, 0)}});
        }
    }
}

void NodeHost::check_health(Clock::time_point now) {
    if (ending_ && now >= end_by_) return end_host("it did not end");
    // Plugins that load may keep the host busy for long.
    const milliseconds limit = settings_.hang_timeout + (state_ == State::ready ? 0ms : start_limit);
    if (pinged_ && now - pinged_at_ > limit) return end_host("it hangs");
    if (state_ == State::starting && now - started_at_ > start_limit + settings_.hang_timeout) {
        return end_host("its plugins do not finish loading");
    }
    if (pinged_ || now - pinged_at_ < ping_every) return;
    pinged_ = true;
    pinged_at_ = now;
    send(R"({"t":"ping","n":1})");
    if (child_->resident_bytes() > settings_.memory_bytes_max) end_host("it uses too much memory");
}

// ---- messages --------------------------------------------------------------------------------------------------

bool NodeHost::understand(const Frame& frame) {
    if (frame.kind == FrameKind::octets) return take_octets(frame.payload);
    boost::system::error_code error;
    boost::json::value messages = boost::json::parse(frame.payload, error);
    if (error || !messages.is_array()) return false;
    for (boost::json::value& message : messages.get_array()) {
        if (!message.is_object()) return false;
        handle(message.get_object());
    }
    return true;
}

void NodeHost::handle(boost::json::object& message) {
    const std::string type = text_of(message, "t");
    if (type == "answer") {
        const auto found = asked_.find(number_of(message, "id"));
        if (found == asked_.end()) return;  // too late
        Question& question = *found->second;
        asked_.erase(found);
        answer(question, std::move(message));
    } else if (type == "pong") {
        pinged_ = false;
        ever_ponged_ = true;
    } else if (type == "log") {
        handle_log(message);
    } else if (type == "ready") {
        handle_ready(message);
    } else if (type == "inject") {
        if (calls_) calls_->begin(message);
    } else if (type == "uninject") {
        if (calls_) calls_->abandon(static_cast<std::uint32_t>(number_of(message, "id")));
    } else if (type == "read" && message.contains("question")) {
        lend(static_cast<std::uint32_t>(number_of(message, "id")), number_of(message, "question"));
    } else if (type == "read") {
        const auto request = static_cast<std::uint32_t>(number_of(message, "id"));
        const auto item = ItemId::parse(text_of(message, "item"));
        if (item) tasks_.spawn(send_message(request, *item));
    }
}

// Who listens, and how long each point may take. Several hooks of one question follow each other; one may take for ever.
unsigned NodeHost::listen(const boost::json::object& listened) {
    struct Listening {
        const char* name;
        std::size_t point;
    };
    using In = reception::Hook;
    using Out = delivery::Hook;
    static constexpr Listening table[] = {
        {"send_email", point_of(Out::before_attempt)}, {"get_mx", point_of(Out::before_attempt)},
        {"deferred", point_of(Out::deferred)}, {"bounce", point_of(Out::bounce)}, {"delivered", point_of(Out::delivered)},
        {"connect_init", point_of(In::opening)}, {"lookup_rdns", point_of(In::opening)}, {"connect", point_of(In::opening)},
        {"helo", point_of(In::hello)}, {"ehlo", point_of(In::hello)}, {"capabilities", point_of(In::hello)},
        {"unrecognized_command", point_of(In::command)}, {"mail", point_of(In::mail)}, {"rcpt", point_of(In::rcpt)},
        {"rcpt_ok", point_of(In::rcpt)}, {"data", point_of(In::data)}, {"data_post", point_of(In::content)},
        {"queue", point_of(In::content)}, {"queue_outbound", point_of(In::content)}, {"queue_ok", point_of(In::content)},
        {"pre_send_trans_email", point_of(In::content)}, {"pre_send_trans_email", point_of(In::injected)}, {"max_data_exceeded", point_of(In::oversize)},
        {"vrfy", point_of(In::vrfy)}, {"noop", point_of(In::noop)}, {"quit", point_of(In::quit)}, {"rset", point_of(In::rset)},
        // Who is to hear how a session or a transaction ends must know it from its beginning.
        {"disconnect", point_of(In::opening)}, {"reset_transaction", point_of(In::mail)},
    };
    unsigned hooks = 0;
    patience_ = {};
    for (const Listening& row : table) {
        const boost::json::value* limit = listened.if_contains(row.name);
        if (limit == nullptr) continue;
        auto& patience = patience_[row.point];
        const bool first = (hooks & bit(row.point)) == 0;
        hooks |= bit(row.point);
        if (!limit->is_number()) {
            patience.reset();
        } else if (first || patience) {
            patience = patience.value_or(0ms) + milliseconds(number_of(listened, row.name));
        }
    }
    log_tap_.open(listened.contains("log"));
    return listened.contains("get_mx") ? hooks | routes_bit : hooks;
}

void NodeHost::handle_ready(const boost::json::object& message) {
    pinged_at_ = Clock::now();
    const boost::json::value* listened = message.if_contains("hooks");
    const unsigned hooks = listen(listened != nullptr && listened->is_object() ? listened->get_object() : boost::json::object());
    tell_of_plugins(message);
    if (!list_of(message, "broken").empty()) return give_up(list_of(message, "broken"));
    log_.info("plugins", "the plugin host is ready", {{"plugins", list_of(message, "plugins").size()}});
    state_ = State::ready;
    listeners_.set(read_listeners(message));
    if (hooks_.exchange(hooks) != hooks) on_hooks_();
    for (Question* question : std::exchange(waiting_, {})) send_question(*question);
    if (closing_) check_questions(Clock::now());
}

void NodeHost::tell_of_plugins(const boost::json::object& message) {
    for (const boost::json::value& failed : list_of(message, "failed")) {
        if (!failed.is_object()) continue;
        log_.warn(
            "plugins", "a plugin does not load and is left out",
            {{"plugin", text_of(failed.get_object(), "name")}, {"reason", printable(text_of(failed.get_object(), "reason"))}});
    }
    for (const boost::json::value& uncalled : list_of(message, "uncalled")) {
        if (!uncalled.is_object()) continue;
        log_.warn(
            "plugins", "a plugin waits for a hook that is not called",
            {{"plugin", text_of(uncalled.get_object(), "plugin")}, {"hook", text_of(uncalled.get_object(), "hook")}});
    }
}

// {"get_mx": [[0, 2], [10, 1]]}: priority and place of each listener.
JavaScriptListenersPtr NodeHost::read_listeners(const boost::json::object& message) {
    auto listeners = std::make_shared<JavaScriptListeners>();
    listeners->known = true;
    const boost::json::value* places = message.if_contains("places");
    if (places == nullptr || !places->is_object()) {
        listeners->known = false;
        return listeners;
    }
    for (const auto& [hook, list] : places->get_object()) {
        if (!list.is_array()) continue;
        for (const boost::json::value& place : list.get_array()) {
            if (!place.is_array() || place.get_array().size() != 2) continue;
            const auto& pair = place.get_array();
            if (!pair[0].is_number() || !pair[1].is_number()) continue;
            listeners->places[std::string(hook)].push_back({pair[0].to_number<double>(), pair[1].to_number<double>()});
        }
    }
    return listeners;
}

// Mail must not go past a plugin that would have decided about it. The next host finds the plugin mended, perhaps.
void NodeHost::give_up(const boost::json::array& broken) {
    unfit_ = true;
    for (const boost::json::value& plugin : broken) {
        if (!plugin.is_object() || quick_ends_ > 0) continue;
        log_.error(
            "plugins", "a plugin does not load: mail waits until it does",
            {{"plugin", text_of(plugin.get_object(), "name")}, {"reason", printable(text_of(plugin.get_object(), "reason"))}});
    }
    end_host("a plugin does not load");
}

void NodeHost::handle_log(const boost::json::object& message) {
    const auto level = static_cast<event::Level>(std::min<std::uint64_t>(number_of(message, "level"), 9));
    if (!log_.enabled(level)) return;
    const LogTap::FromPlugins seen_there;
    log_.write(level, text_of(message, "session"), text_of(message, "origin"), printable(text_of(message, "text")), {});
}

// The content that a question is about. It stays where it is for as long as the question is open.
void NodeHost::lend(std::uint32_t request, std::uint64_t question) {
    const auto found = asked_.find(question);
    if (found == asked_.end() || found->second->content == nullptr) {
        const boost::json::object refusal{{"t", "unread"}, {"id", request}, {"reason", "the question is no longer open"}};
        return send(boost::json::serialize(refusal));
    }
    const std::string_view content = *found->second->content;
    for (std::size_t at = 0; at < content.size(); at += octets_at_once) {
        append_octets(octets_, request, content.substr(at, octets_at_once), false);
    }
    append_octets(octets_, request, {}, true);
    written_.set();
}

// What comes in front of an answer. Plugins may make a message larger, within reason.
bool NodeHost::take_octets(std::string_view payload) {
    const auto piece = read_octets(payload);
    if (!piece) return false;
    if ((piece->request & Calls::request_bit) != 0) {
        if (calls_) calls_->octets(*piece);
        return true;
    }
    const auto found = asked_.find(piece->request);
    if (found == asked_.end()) return true;  // too late
    Question& question = *found->second;
    const std::string_view octets = piece->octets;
    const std::size_t size_max = 2 * (question.content == nullptr ? 0 : question.content->size()) + returned_octets_more;
    if (question.octets.size() + octets.size() > size_max) {
        asked_.erase(found);
        answer(question, fail(Errc::too_large, "plugins made the message too large"));
    } else {
        question.octets += octets;
    }
    return true;
}

// The content of an item's message, as it goes out.
Task<> NodeHost::send_message(std::uint32_t request, ItemId item) {
    const auto read = [this, id = item.message] { return load_(id); };
    const Clock::time_point host = started_at_;
    const auto message = co_await async::blocking(disk_pool_, shard_.executor(), read);
    const auto same_host = [&] { return state_ == State::ready && started_at_ == host; };
    if (!same_host()) co_return;
    if (!message) {
        const boost::json::object refusal{{"t", "unread"}, {"id", request}, {"reason", message.error().text()}};
        co_return send(boost::json::serialize(refusal));
    }
    for (const std::string_view part : {std::string_view((*message)->trace), std::string_view((*message)->content)}) {
        for (std::size_t at = 0; at < part.size(); at += octets_at_once) {
            while (same_host() && octets_.size() > octets_waiting_max) co_await async::sleep_for(5ms);
            if (!same_host()) co_return;
            append_octets(octets_, request, part.substr(at, octets_at_once), false);
            written_.set();
        }
    }
    append_octets(octets_, request, {}, true);
    written_.set();
}

}  // namespace sluice::plugin
