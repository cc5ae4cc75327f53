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
#include "config/syntax.h"
#include "net/socket_stream.h"
#include "plugin/json_members.h"

namespace sluice::plugin {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds gather_time = 5ms;      // what nobody waits for comes in batches
constexpr milliseconds tick_every = 100ms;
constexpr milliseconds ping_every = 1s;
constexpr milliseconds start_limit = 30s;      // to load plugins: also the longest wait for a host
constexpr milliseconds grace = 5s;             // the host ends waiting by itself; this is for one that does not
constexpr milliseconds shutdown_limit = 3s;    // for plugins to finish
constexpr milliseconds worth_telling = 800ms;  // of a plugin that does not give way
constexpr milliseconds quick_end = 10s;        // a host that ends sooner is in trouble
constexpr milliseconds pause_max_started = 2s, pause_max_unstarted = 30s;
constexpr std::size_t outgoing_bytes_max = 16u << 20;  // above, notices are dropped
constexpr std::size_t frame_messages_max = 16u << 20;  // together; the host ends at a frame of frame_bytes_max
constexpr int protocol_version = 1;
constexpr const char* hangs = "it hangs";
constexpr const char* too_much_memory = "it uses too much memory";

Error replaced() { return Error(Errc::link_closed, "they were replaced before they answered"); }

bool is_package(const std::string& folder) {
    std::error_code ignored;
    return std::filesystem::exists(folder + "/index.js", ignored);
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
    const config::Settings& settings, event::Log& log, async::Workers& disk_pool, LoadMessage load, Partners partners)
    : settings_([&] {
          config::PluginHostSettings found = settings.plugin_host;
          found.folder = find_plugin_host(settings);
          return found;
      }()),
      directory_(settings.directory),
      javascript_(settings.javascript_plugins),
      native_([&] {
          std::vector<std::string> names = config::native_plugin_names(settings.directory, settings.plugin_host.instead);
          for (const config::NativePlugin& object : settings.native_plugins) names.push_back(config::current_plugin_name(object.listed));
          return names;
      }()),
      log_(log),
      disk_pool_(disk_pool),
      load_(std::move(load)),
      partners_(std::move(partners)),
      shard_("sluice-plugins"),
      notes_(shard_.executor(), [this](std::vector<Note>& notes) { take(notes); }, gather_time),
      tasks_(shard_.executor()),
      closing_tasks_(shard_.executor()),
      written_(shard_.executor()),
      log_level_(settings.log.level) {}

NodeHost::~NodeHost() { end(); }

void NodeHost::serve_calls(std::unique_ptr<Intake> intake, const CallSurroundings& around, config::SettingsPtr settings) {
    const auto reply = [this](std::string_view message) {
        if (state_ != State::down) send(message);
    };
    intake_ = std::move(intake);
    const Calls::Surroundings surroundings{*intake_, around.clock, around.ids, around.events};
    calls_ = std::make_unique<Calls>(surroundings, std::move(settings), tasks_, reply);
}

void NodeHost::configure(config::SettingsPtr settings) {
    shard_.post([this, level = settings->log.level] {
        if (std::exchange(log_level_, level) == level || state_ == State::down) return;
        send(boost::json::serialize(boost::json::object{{"t", "level"}, {"level", level}}));
    });
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

void NodeHost::end(Errc why) {
    if (!std::exchange(started_, false)) return;
    std::latch ended(1);
    shard_.post([this, why, &ended] {
        ending_ = true;
        closing_as_ = why;
        closing_ = Clock::time_point::min();
        end_by_ = Clock::now() + shutdown_limit;
        check_questions(Clock::now());
        if (state_ != State::down) send(R"({"t":"shutdown"})");
        closing_tasks_.spawn(finish(ended));
    });
    ended.wait();
    // What was put before is answered by the loop's last turns.
    gone_.with([](bool& gone) { gone = true; });
    shard_.stop();
}

void NodeHost::retire(std::function<void(Questions)> idle) {
    shard_.post([this, idle = std::move(idle)] {
        retired_ = true;
        on_retired_ = idle;
        check_retired();
    });
}

// What waits for a host need not wait for this one.
void NodeHost::check_retired() {
    if (!on_retired_ || !asked_.empty()) return;
    std::exchange(on_retired_, nullptr)(std::exchange(waiting_, {}));
}

// Nothing is cancelled: the host is waited for, or killed.
Task<> NodeHost::finish(std::latch& ended) {
    while (tasks_.size() > 0) co_await async::sleep_for(5ms);
    co_await tasks_.close();
    ended.count_down();
}

void NodeHost::ask(Question& question) {
    const bool gone = gone_.with([&](bool gone_now) {
        if (gone_now) return true;
        question.asked = this;
        notes_.push(Note{&question, {}, {}});
        return false;
    });
    if (gone) answer(question, fail(Errc::link_closed, "this plugin host has been replaced"));
}
void NodeHost::tell(std::string text) { notes_.push_unhurried(Note{nullptr, std::move(text), {}}); }
void NodeHost::mention(std::string text) { notes_.push_unhurried(Note{nullptr, std::move(text), {}, Care::none}); }
void NodeHost::report(std::string text) { notes_.push(Note{nullptr, std::move(text), {}, Care::must_arrive}); }
void NodeHost::forget(ItemId item) { notes_.push_unhurried(Note{nullptr, {}, item.text()}); }

// ---- questions -------------------------------------------------------------------------------------------------

void NodeHost::take(std::vector<Note>& notes) {
    std::string ended;
    for (Note& note : notes) {
        if (note.question != nullptr) {
            put(*note.question);
        } else if (!note.ended_item.empty()) {
            ended += (ended.empty() ? "\"" : ",\"") + note.ended_item + "\"";
        } else if (state_ == State::ready && (note.care == Care::must_arrive || frames_.size() + outgoing_.size() < outgoing_bytes_max)) {
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
    if (state_ == State::down && retired_) return answer(question, fail(replaced()));
    if (state_ == State::down && pause() > pause_max_started) {
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
    if (!outgoing_.empty() && outgoing_.size() + message.size() > frame_messages_max) close_frame();
    if (!outgoing_.empty()) outgoing_ += ',';
    outgoing_ += message;
    written_.set();
}

void NodeHost::close_frame() { append_frame(frames_, FrameKind::messages, "[" + std::exchange(outgoing_, {}) + "]"); }

void NodeHost::answer(Question& question, Result<boost::json::object> answer) {
    question.answer = std::move(answer);
    question.back->push(&question);
}

void NodeHost::refuse_waiting(const Error& error) {
    const std::deque<Question*> waiting = std::exchange(waiting_, {});
    for (Question* question : waiting) answer(*question, fail(error));
}

// Nobody waits for ever, and while we close nobody waits for the beginning of an attempt.
std::optional<Error> NodeHost::verdict_on(const Question& question, Clock::time_point now) const {
    if (closing_ && (question.point == point_of(delivery::Hook::before_attempt) || now >= *closing_)) {
        return closing_as_ == Errc::cancelled ? Error(closing_as_, "closing") : replaced();
    }
    if (now >= question.deadline) return Error(Errc::timed_out, "plugins do not answer");
    return std::nullopt;
}

void NodeHost::check_questions(Clock::time_point now) {
    for (auto at = asked_.begin(); at != asked_.end();) {
        const auto here = at++;
        auto error = verdict_on(*here->second, now);
        if (!error) continue;
        Question& question = *here->second;
        asked_.erase(here);
        answer(question, fail(std::move(*error)));
    }
    std::deque<Question*> left;
    for (Question* question : std::exchange(waiting_, {})) {
        auto error = verdict_on(*question, now);
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
    while (!ending_ && !retired_) {
        co_await live();
        if (on_retired_) check_retired();
        const Clock::time_point until = Clock::now() + pause();
        while (!ending_ && Clock::now() < until) co_await async::sleep_for(tick_every);
    }
    if (!ending_) refuse_waiting(replaced());
}

// A host that worked is missed at once; when one after the other does not even start, they are given time.
milliseconds NodeHost::pause() const {
    const auto doubled = [](int times, milliseconds longest) { return std::min<milliseconds>(longest, 100ms * (1 << std::min(times, 12))); };
    return std::max(doubled(quick_ends_, pause_max_started), doubled(failed_starts_, pause_max_unstarted));
}

// One host, from its start to its end.
Task<> NodeHost::live() {
    if (const Result<> begun = begin(); !begun) {
        decide_trial(fail(begun.error()));
        if (failed_starts_++ == 0) {
            log_.error("plugins", "the plugin host does not start: mail that plugins decide about waits", {{"reason", begun.error().text()}});
        }
        if (pause() > pause_max_started) refuse_waiting(Error(Errc::unreachable, "the plugin host does not start"));
        co_return;
    }
    async::TaskGroup writing(shard_.executor());
    writing.spawn(write());
    co_await read();
    become(State::down);
    stream_->abort();
    written_.set();
    co_await writing.close();
    bury();
}

Result<> NodeHost::begin() {
    if (settings_.folder.empty()) return fail(Errc::not_found, "the package sluice-plugin-host is not installed");
    if (!may_make_code()) {
        return fail(Errc::unsupported, "Node makes code at run time, and here nobody may: MemoryDenyWriteExecute of the service has to be off");
    }
    const std::vector<std::string> arguments{
        settings_.node, "--max-old-space-size=" + std::to_string(settings_.heap_bytes_max >> 20),
        settings_.folder + "/index.js", directory_, "4"};
    TRY(Child child, Child::start(arguments));
    TRY(stream_, net::SocketStream::adopt(shard_.executor(), child.take_socket(), net::Endpoint()));
    child_.emplace(std::move(child));
    ++life_;
    seen_ = {};
    note_.clear();
    loading_.clear();
    partners_.chronicle.started();
    view_.with([this](View& view) {
        view = View();
        view.process = child_->id();
        view.since_ms = wall_clock_ms();
    });
    become(State::starting);
    reader_ = {};
    outgoing_.clear();
    frames_.clear();
    octets_.clear();
    end_reason_.clear();
    pinged_ = worked_ = unfit_ = false;
    started_at_ = Clock::now();
    send(hello());
    return {};
}

std::string NodeHost::hello() const {
    const boost::json::array native(native_.begin(), native_.end()), order(javascript_.begin(), javascript_.end());
    const boost::json::object budgets{
        {"busy_ms", settings_.call_busy_max.count()}, {"heap_bytes", settings_.plugin_heap_bytes_max}, {"times", settings_.over_budget_max},
        {"rest_ms", settings_.pass_over_time.count()}};
    boost::json::object message{
        {"t", "hello"}, {"version", protocol_version}, {"directory", directory_}, {"native", native}, {"order", order},
        {"addresses", settings_.addresses}, {"log_level", log_level_}, {"budgets", budgets}, {"resting", resting()}};
    if (const auto web = config::parse_endpoint(settings_.web_listen, 0)) message["web"] = {{"host", web->host}, {"port", web->port}};
    return boost::json::serialize(message);
}

Blame::Limits NodeHost::blame_limits() const { return {static_cast<int>(settings_.host_ends_max), settings_.pass_over_time}; }

// By whom earlier hosts ended. Other versions of the plugins begin without a past.
boost::json::array NodeHost::resting() const {
    boost::json::array list;
    if (partners_.on_trial) return list;
    const Clock::time_point now = Clock::now();
    for (const Blame::Resting& one : partners_.chronicle.resting(now)) {
        const auto left = std::chrono::duration_cast<milliseconds>(one.until - now);
        list.push_back(boost::json::array{one.plugin, one.hook, left.count()});
    }
    return list;
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
        if (outgoing_.empty() && frames_.empty() && octets_.empty()) {
            co_await written_.wait();
            continue;
        }
        if (!outgoing_.empty()) close_frame();
        std::string bytes = std::exchange(frames_, {});
        bytes += std::exchange(octets_, {});
        const auto done = co_await stream_->write(bytes);
        if (!done) co_return;
    }
}

// What the engine has to do about a host that has gone.
void NodeHost::bury() {
    stream_.reset();
    if (calls_) calls_->host_ended();
    const std::string how = child_->end();
    for (const auto& [id, question] : std::exchange(asked_, {})) {
        answer(*question, fail(Errc::link_closed, "the plugin host ended"));
    }
    failed_starts_ = worked_ ? 0 : failed_starts_ + 1;
    if (worked_) quick_ends_ = Clock::now() - started_at_ < quick_end ? quick_ends_ + 1 : 0;
    take_notes();
    const HostEnd end = end_of(end_reason_.empty() ? how : end_reason_);
    child_.reset();
    if (ending_) return;
    if (partners_.on_trial) {
        const std::string who = end.plugin.empty() ? "" : " (" + end.plugin + " " + end.because + ")";
        return decide_trial(fail(Errc::link_closed, "the plugin host ended while it loaded plugins: " + end.reason + who));
    }
    if (!unfit_) partners_.chronicle.ended(end);
    if (!unfit_) partners_.chronicle.blame(end, blame_limits(), Clock::now());
    if (unfit_ && pause() > pause_max_started) refuse_waiting(Error(Errc::unreachable, "a plugin does not load"));
    if (unfit_) return;
    tell_end(end);
}

void NodeHost::tell_end(const HostEnd& end) {
    const char* const sentence = retired_ ? "a plugin host whose place was taken ended" : "the plugin host ended and is started again";
    if (end.plugin.empty()) return log_.warn("plugins", sentence, {{"reason", end.reason}, {"after", end.lived_s}});
    log_.warn(
        "plugins", sentence,
        {{"reason", end.reason}, {"after", end.lived_s}, {"plugin", end.plugin}, {"hook", end.hook}, {"because", end.because}});
}

// The last line says how it is; an empty one that all is well again.
void NodeHost::take_notes() {
    std::string notes = child_->take_notes();
    while (notes.ends_with('\n')) notes.pop_back();
    if (!notes.empty()) note_ = notes.substr(notes.rfind('\n') + 1);
    tell_blocking();
}

// Once for each time that it happens.
void NodeHost::tell_blocking() {
    boost::system::error_code error;
    const boost::json::value note = boost::json::parse(note_.empty() ? "{}" : note_, error);
    if (error || !note.is_object()) return;
    const bool blocks = is_true(note.get_object(), "running") && number_of(note.get_object(), "ms") >= worth_telling.count();
    if (blocks && !told_blocking_) {
        log_.warn(
            "plugins", "a plugin does not give way: all others wait",
            {{"plugin", printable(text_of(note.get_object(), "plugin"))}, {"hook", printable(text_of(note.get_object(), "hook"))}});
    }
    told_blocking_ = blocks;
}

// Who was at it when the host ended: whoever did not give way, or else whose objects filled the memory.
HostEnd NodeHost::end_of(const std::string& how) const {
    constexpr std::uint64_t suspicious_share = 4;  // of the heap, a quarter
    // It hung or ran out of memory, where V8 aborts. Whom somebody else ended has proven nothing.
    const bool exhausted = how == hangs || how == too_much_memory || how == "signal 6";
    HostEnd end;
    end.at_ms = wall_clock_ms();
    end.reason = how;
    end.lived_s = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_at_).count();
    boost::system::error_code error;
    const boost::json::value note = boost::json::parse(note_.empty() ? "{}" : note_, error);
    if (!error && note.is_object() && note.get_object().contains("plugin")) {
        end.plugin = printable(text_of(note.get_object(), "plugin"));
        end.hook = printable(text_of(note.get_object(), "hook"));
        const bool running = is_true(note.get_object(), "running");
        end.because = running ? "was running" : "ran last";
        end.certain = running && exhausted;
        return end;
    }
    if (!worked_ && !loading_.empty()) {
        end.plugin = printable(loading_);
        end.hook = "register";
        end.because = "was loading";
        return end;
    }
    const View seen = view();
    const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    const auto most = std::max_element(seen.heap.begin(), seen.heap.end(), less);
    if (most != seen.heap.end() && most->second > settings_.heap_bytes_max / suspicious_share) {
        end.plugin = printable(most->first);
        const auto hook = seen.heap_hooks.find(most->first);
        if (hook != seen.heap_hooks.end()) end.hook = printable(hook->second);
        end.because = "held most of the heap";
        end.certain = exhausted;
    }
    return end;
}

void NodeHost::become(State state) {
    state_ = state;
    view_.with([state](View& view) {
        view.state = state == State::down ? "down" : state == State::starting ? "starting" : "ready";
        if (state == State::down) view.process = 0;
    });
}

NodeHost::View NodeHost::view() const {
    View view = view_.with([](const View& now) { return now; });
    std::erase_if(view.passed_over, [now = wall_clock_ms()](const PassedOver& one) { return one.until_ms <= now; });
    return view;
}

void NodeHost::decide_trial(Result<> loaded) {
    if (const auto on_trial = std::exchange(partners_.on_trial, nullptr)) on_trial(std::move(loaded));
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
        check_retired();
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
    if (pinged_ && now - pinged_at_ > limit) return end_host(hangs);
    if (state_ == State::starting && now - started_at_ > start_limit + settings_.hang_timeout) {
        return end_host("its plugins do not finish loading");
    }
    take_notes();
    if (pinged_ || now - pinged_at_ < ping_every) return;
    pinged_ = true;
    pinged_at_ = now;
    send(R"({"t":"ping","n":1})");
    const std::uint64_t resident = child_->resident_bytes();
    view_.with([resident](View& view) { view.resident_bytes = resident; });
    if (resident > settings_.memory_bytes_max) end_host(too_much_memory);
}

}  // namespace sluice::plugin
