// What the plugin host says, and what it is lent: the other half of node_host.cc, which runs and asks it.

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "async/blocking.h"
#include "base/text.h"
#include "plugin/json_members.h"
#include "plugin/node_host.h"

namespace sluice::plugin {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr std::size_t octets_at_once = 256u << 10, octets_waiting_max = 4u << 20;
constexpr std::size_t returned_octets_more = 16u << 20;

}  // namespace

bool NodeHost::understand(const Frame& frame) {
    if (frame.kind == FrameKind::octets) return take_octets(frame.payload);
    boost::system::error_code error;
    boost::json::value messages = parse_json(frame.payload, error);
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
    } else if (type == "log") {
        handle_log(message);
    } else if (type == "loading") {
        loading_ = text_of(message, "plugin");
    } else if (type == "ready") {
        handle_ready(message);
    } else if (type == "inject") {
        if (calls_) calls_->begin(message);
    } else if (type == "uninject") {
        if (calls_) calls_->abandon(static_cast<std::uint32_t>(number_of(message, "id")));
    } else if (type == "metrics") {
        handle_metrics(message);
    } else if (type == "request") {
        partners_.on_request(*this, life_, std::move(message));
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
    if (listened.contains("log")) hooks |= log_bit;
    return listened.contains("get_mx") ? hooks | routes_bit : hooks;
}

// Also when a plugin has registered another hook since.
void NodeHost::handle_ready(const boost::json::object& message) {
    const bool again = state_ == State::ready;
    pinged_at_ = Clock::now();
    const boost::json::value* listened = message.if_contains("hooks");
    const unsigned hooks = listen(listened != nullptr && listened->is_object() ? listened->get_object() : boost::json::object());
    if (!again) tell_of_plugins(message);
    const Roster roster = roster_of(message);
    view_.with([&](View& view) { view.roster = roster; });
    if (!list_of(message, "broken").empty()) return give_up(roster.left_out);
    if (!again) log_.info("plugins", "the plugin host is ready", {{"plugins", list_of(message, "plugins").size()}});
    become(State::ready);
    worked_ = true;
    listeners_.set(read_listeners(message));
    if (hooks_.exchange(hooks) != hooks) partners_.on_hooks(*this);
    decide_trial({});
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
            listeners->places[std::string(hook)].push_back({real_of(pair[0]), real_of(pair[1])});
        }
    }
    return listeners;
}

// Mail must not go past a plugin that would have decided about it. The next host finds the plugin mended, perhaps.
void NodeHost::give_up(const std::vector<LeftOut>& left_out) {
    unfit_ = true;
    const bool on_trial = partners_.on_trial != nullptr;
    for (const LeftOut& plugin : left_out) {
        if (!plugin.broken || failed_starts_ > 0 || on_trial) continue;
        log_.error(
            "plugins", "a plugin does not load: mail waits until it does",
            {{"plugin", plugin.name}, {"reason", plugin.reason}, {"at", plugin.place()}});
    }
    decide_trial(fail(Errc::bad_input, "a plugin does not load"));
    end_host("a plugin does not load");
}

void NodeHost::handle_metrics(const boost::json::object& message) {
    partners_.chronicle.count(message, seen_);
    std::map<std::string, std::uint64_t> heap;
    for (const auto& member : object_of(message, "heap")) heap.emplace(member.key(), whole_of(member.value()));
    std::map<std::string, std::string> hooks;
    for (const auto& member : object_of(message, "heap_hooks")) {
        if (member.value().is_string()) hooks.emplace(member.key(), member.value().get_string());
    }
    view_.with([&](View& view) {
        view.heap_bytes = number_of(message, "heap_bytes");
        view.heap = std::move(heap);
        view.heap_hooks = std::move(hooks);
        view.passed_over = passed_over_of(message);
    });
}

void NodeHost::respond(std::uint64_t life, std::string message) {
    shard_.post([weak = weak_from_this(), life, message = std::move(message)] {
        const auto self = weak.lock();
        if (self && self->life_ == life && self->state_ != State::down) self->send(message);
    });
}

void NodeHost::handle_log(const boost::json::object& message) {
    const auto level = static_cast<event::Level>(std::min<std::uint64_t>(number_of(message, "level"), 9));
    if (!log_.enabled(level)) return;
    const LogTap::FromPlugins seen_there;
    const auto text = [&](const char* member) { return printable(text_of(message, member)); };
    log_.write(level, text("session"), text("origin"), text("text"), {});
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
