#include "plugin/inbound_chain.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <utility>

#include "base/text.h"
#include "mail/header.h"
#include "plugin/images.h"
#include "plugin/json_members.h"
#include "reception/revision.h"

namespace sluice::plugin {

using reception::Answer;
using reception::Hook;
using reception::Occasion;
using What = Answer::What;

namespace {


// Hooks of the transaction's content, to which plugins may add.
bool is_about_content(std::int32_t number) {
    switch (number) {
        case SLUICE_HOOK_DATA_POST:
        case SLUICE_HOOK_QUEUE:
        case SLUICE_HOOK_QUEUE_OUTBOUND:
        case SLUICE_HOOK_PRE_SEND_TRANS_EMAIL: return true;
        default: return false;
    }
}

// The one hook of questions that have no more; 0: there are several.
std::int32_t only_hook_of(Hook hook) {
    switch (hook) {
        case Hook::command: return SLUICE_HOOK_UNRECOGNIZED_COMMAND;
        case Hook::mail: return SLUICE_HOOK_MAIL;
        case Hook::data: return SLUICE_HOOK_DATA;
        case Hook::oversize: return SLUICE_HOOK_MAX_DATA_EXCEEDED;
        case Hook::vrfy: return SLUICE_HOOK_VRFY;
        case Hook::noop: return SLUICE_HOOK_NOOP;
        case Hook::quit: return SLUICE_HOOK_QUIT;
        case Hook::rset: return SLUICE_HOOK_RSET;
        case Hook::queued: return SLUICE_HOOK_QUEUE_OK;
        case Hook::reset: return SLUICE_HOOK_RESET_TRANSACTION;
        case Hook::left: return SLUICE_HOOK_DISCONNECT;
        case Hook::opening:
        case Hook::hello:
        case Hook::rcpt:
        case Hook::content:
        case Hook::injected: return 0;
    }
    return 0;
}

// What the plugin host is asked of a point: one hook of it, or what stands between two native plugins there.
std::string part_of(const char* hook, const std::string& span = {}) {
    const std::string rest = span.empty() ? std::string() : R"(,"span":)" + span;
    return std::string(R"({"hook":")") + hook + '"' + rest + "}";
}

// Whether EHLO is answered with that already; the first line is the greeting.
bool is_offered(const std::vector<std::string>& lines, std::string_view line) {
    const auto word = [](std::string_view of) { return of.substr(0, of.find(' ')); };
    return std::any_of(lines.begin() + (lines.empty() ? 0 : 1), lines.end(), [&](const std::string& one) { return iequals(word(one), word(line)); });
}

const char* action_of(What what) { return what == What::ok ? "accept" : what == What::deny_soft ? "tempfail" : "reject"; }

std::string joined(const std::vector<std::string>& lines, const char* between) {
    std::string all;
    for (const std::string& line : lines) all.append(all.empty() ? "" : between).append(line);
    return all;
}

// What JavaScript plugins see where no name was found.
bool is_name(const std::string& rdns) { return !rdns.empty() && rdns != "Unknown" && rdns != "NXDOMAIN" && rdns != "DNSERROR"; }

// Of calls that nobody waits for, each with a copy of what it is told, any number may be under way.
Occasion without_content(Occasion about) {
    about.content = nullptr;
    return about;
}

std::string clean(std::string octets) { return mail::is_clean_text(octets) ? std::move(octets) : mail::clean_text(octets); }

}  // namespace

bool InboundChain::Verdict::refuses() const { return what == What::deny || what == What::deny_soft; }
bool InboundChain::Verdict::stops() const { return refuses() || what == What::lost; }

// One question of the engine's, and where the answers have led so far.
struct InboundChain::Course {
    Course(Hook hook_, const Occasion& occasion, Standing& standing_)
        : hook(hook_), asked(occasion.transaction ? occasion.transaction->envelope : nullptr), about(occasion), standing(standing_) {}

    bool relays() const { return about.transaction ? about.transaction->relaying.value_or(about.visitor.relaying) : about.visitor.relaying; }
    // What was decided, with all that plugins said on the way.
    Answer conclude(Verdict verdict) {
        answer.what = verdict.what;
        answer.code = verdict.code;
        answer.text = std::move(verdict.text);
        answer.by = std::move(verdict.by);
        answer.disconnect |= verdict.disconnect;
        return std::move(answer);
    }
    // From now on the content is ours to change.
    void own_content() {
        if (about.content == &content) return;
        content = *about.content;
        about.content = &content;
    }

    const Hook hook;
    const mail::Envelope* const asked;  // as it was when the question came
    Occasion about;
    Standing& standing;
    bool host_listens = false;  // the plugin host wants this question
    Answer answer;
    std::string content;        // as plugins made it, once they did
    bool host_has_content = false;
    mail::Envelope envelope;    // as JavaScript plugins made it, once they did
    boost::json::array added;   // fields that the plugin host has not heard of
};

InboundChain::InboundChain(async::Executor executor, NativeHost* natives, Hosts& hosts, event::Log& log)
    : natives_(natives), node_(executor, hosts, log), log_(log) {
    if (natives_ != nullptr) caller_ = std::make_unique<NativeCaller>(executor, *natives_);
}

InboundChain::Standing& InboundChain::standing_of(const Occasion& occasion) {
    std::unique_ptr<Standing>& standing = sessions_[occasion.visitor.session];
    if (!standing) standing = std::make_unique<Standing>();
    const std::uint32_t number = occasion.transaction ? occasion.transaction->number : 0;
    if (number != standing->transaction) {
        standing->transaction = number;
        standing->told_recipients = 0;
        standing->notes.clear();
        standing->notes_text.clear();
        standing->untold.clear();
    }
    return *standing;
}

// Whether native plugins are asked there, and do not only hear how it ends.
bool InboundChain::stands_in(Hook hook) const {
    if (hook == Hook::injected) return !natives_->listeners(SLUICE_HOOK_PRE_SEND_TRANS_EMAIL).empty();
    for (std::int32_t number = 1; number <= SLUICE_HOOK_DISCONNECT; ++number) {
        const NativeHook& of = *native_hook(number);
        if (of.inbound == hook && of.waits && !natives_->listeners(number).empty()) return true;
    }
    return false;
}

std::shared_ptr<const InboundChain::Steps> InboundChain::steps_of(std::int32_t number, const Course& course) {
    Planned& planned = plans_[static_cast<std::size_t>(number)];
    JavaScriptListenersPtr listeners = course.host_listens ? node_.listeners(course.about.visitor) : nullptr;
    if (!planned.made || planned.listeners != listeners) {
        planned.steps = std::make_shared<const Steps>(plan_of(number, *natives_, listeners.get()));
        planned.listeners = std::move(listeners);
        planned.made = true;
    }
    return planned.steps;
}

// ---- questions -------------------------------------------------------------------------------------------------

Task<Answer> InboundChain::ask(Hook hook, const Occasion& occasion) {
    if (natives_ == nullptr || !natives_->hears_mail_in()) co_return co_await node_.ask(hook, occasion);
    Standing alone;  // of mail that no session brought
    Course course(hook, occasion, occasion.visitor.session.empty() ? alone : standing_of(occasion));
    course.host_listens = node_.wants(hook);
    if (!stands_in(hook)) co_return co_await ask_whole(course);
    switch (hook) {
        case Hook::opening: co_return co_await ask_opening(course);
        case Hook::hello: co_return co_await ask_hello(course);
        case Hook::rcpt: co_return co_await ask_rcpt(course);
        case Hook::content: co_return co_await ask_content(course);
        case Hook::injected: co_return co_await ask_injected(course);
        default: break;
    }
    Verdict verdict = co_await run(only_hook_of(hook), course, occasion.command);
    co_return course.conclude(std::move(verdict));
}

// The plugin host alone is asked. Native plugins hear what came of it.
Task<Answer> InboundChain::ask_whole(Course& course) {
    HostAnswer said;
    if (course.host_listens) {
        std::string news = news_for_host(course);
        said = co_await node_.put(course.hook, course.about, std::move(news));
        host_was_told(course);
    }
    Answer& answer = said.answer;
    if (course.hook == Hook::opening && is_name(said.rdns)) course.standing.rdns = said.rdns;
    if (course.hook == Hook::rcpt && answer.what == What::ok) ++course.standing.told_recipients;
    if (course.hook == Hook::content && answer.what == What::ok) hear(SLUICE_HOOK_QUEUE_OK, course, {.text = joined(answer.text, "\n")});
    if (course.hook == Hook::content) note_recipients(answer, course.standing);
    if (answer.notes.empty()) answer.notes = course.standing.notes_text;
    if (answer.what == What::deny || answer.what == What::deny_soft) {
        Verdict refusal;
        refusal.what = answer.what;
        refusal.by = answer.by;
        refusal.text = answer.text;
        static_cast<void>(is_undone(refusal, only_hook_of(course.hook), course));
    }
    co_return std::move(answer);
}

Task<Answer> InboundChain::ask_opening(Course& course) {
    if (course.host_listens) {
        Verdict begun = co_await ask_part(0, part_of("connect_init"), course);
        if (begun.stops()) co_return course.conclude(std::move(begun));
    }
    Verdict named = co_await run(SLUICE_HOOK_LOOKUP_RDNS, course);
    if (named.stops()) co_return course.conclude(std::move(named));
    const std::string name = named.what == What::ok && !named.text.empty() ? named.text.front() : course.standing.rdns;
    if (is_name(name)) course.standing.rdns = name;
    if (course.host_listens) {
        boost::json::object part{{"hook", "named"}};
        if (!name.empty()) part["rdns"] = with_valid_utf8(name);
        std::string text = boost::json::serialize(part);
        Verdict known = co_await ask_part(0, std::move(text), course);
        if (known.stops()) co_return course.conclude(std::move(known));
    }
    Verdict verdict = co_await run(SLUICE_HOOK_CONNECT, course);
    co_return course.conclude(std::move(verdict));
}

Task<Answer> InboundChain::ask_hello(Course& course) {
    Verdict verdict = co_await run(course.about.visitor.extended ? SLUICE_HOOK_EHLO : SLUICE_HOOK_HELO, course);
    if (verdict.stops() || !course.about.visitor.extended) co_return course.conclude(std::move(verdict));
    const Verdict offered = co_await run(SLUICE_HOOK_CAPABILITIES, course);
    if (offered.what == What::lost) verdict = offered;
    course.answer.lines = course.about.lines;
    co_return course.conclude(std::move(verdict));
}

Task<Answer> InboundChain::ask_rcpt(Course& course) {
    Verdict verdict = co_await run(SLUICE_HOOK_RCPT, course);
    const bool permitted = verdict.what == What::go_on && (course.relays() || course.about.permitted);
    if (verdict.what == What::ok || permitted) {
        Verdict last = co_await run(SLUICE_HOOK_RCPT_OK, course);
        if (last.stops()) {
            verdict = std::move(last);
        } else {
            verdict.what = What::ok;
            if (!last.text.empty()) verdict.text = std::move(last.text);
        }
    }
    if (course.standing.told && verdict.what != What::lost) {
        tell_part(course, {{"hook", "rcpt_end"}, {"action", action_of(verdict.what)}, {"text", with_valid_utf8(joined(verdict.text, " "))}});
        if (verdict.what == What::ok) ++course.standing.told_recipients;
    }
    co_return course.conclude(std::move(verdict));
}

Task<Answer> InboundChain::ask_content(Course& course) {
    Verdict verdict = co_await run(SLUICE_HOOK_DATA_POST, course);
    if (!verdict.stops() && course.host_listens) verdict = co_await ask_part(0, part_of("posted"), course);
    if (!verdict.stops()) verdict = co_await run(course.relays() ? SLUICE_HOOK_QUEUE_OUTBOUND : SLUICE_HOOK_QUEUE, course);
    if (verdict.what == What::ok) {
        const std::string id = course.about.visitor.session + "." + std::to_string(course.standing.transaction);
        verdict.text = {(verdict.text.empty() ? "Message Queued" : joined(verdict.text, " ")) + " (" + id + ")"};
        Occasion taken = without_content(course.about);
        taken.text = verdict.text.front();
        tell(Hook::queued, taken);
    }
    if (verdict.refuses() && course.standing.told) tell_part(course, {{"hook", "refused"}, {"action", action_of(verdict.what)}});
    if (verdict.what != What::go_on) co_return course.conclude(std::move(verdict));
    if (course.relays() || course.about.keeps) verdict = co_await run(SLUICE_HOOK_PRE_SEND_TRANS_EMAIL, course);
    if (verdict.what != What::lost && course.host_listens) verdict = co_await ask_part(0, part_of("kept"), course);
    if (verdict.what != What::lost) verdict = {};
    if (course.answer.changed == Answer::Changed::header) {
        course.answer.octets = course.content.substr(0, mail::header_section_size(course.content));
    } else if (course.answer.changed == Answer::Changed::all) {
        course.answer.octets = std::move(course.content);
    }
    course.answer.notes = course.standing.notes_text;
    note_recipients(course.answer, course.standing);
    co_return course.conclude(std::move(verdict));
}

// Those that plugins put into the envelope the plugin host knows.
void InboundChain::note_recipients(const Answer& answer, Standing& standing) {
    if (answer.rcpt_to) standing.told_recipients = answer.rcpt_to->size();
}

// A message that no session brought. Each part of the plugin host's begins with it as it stands then.
Task<Answer> InboundChain::ask_injected(Course& course) {
    Standing& standing = course.standing;
    boost::system::error_code error;
    const boost::json::value notes = parse_json(course.about.text, error);
    if (!error && notes.is_object()) standing.notes = notes.get_object();
    standing.notes_text = course.about.text;
    Verdict verdict = co_await run(SLUICE_HOOK_PRE_SEND_TRANS_EMAIL, course);
    if (verdict.what != What::lost) verdict = {};
    if (course.answer.changed != Answer::Changed::nothing) {
        const bool all = course.answer.changed == Answer::Changed::all;
        course.answer.octets = all ? std::move(course.content) : course.content.substr(0, mail::header_section_size(course.content));
    }
    course.answer.notes = standing.notes_text;
    co_return course.conclude(std::move(verdict));
}

// ---- one hook --------------------------------------------------------------------------------------------------

Task<InboundChain::Verdict> InboundChain::run(std::int32_t number, Course& course, std::string_view text) {
    Verdict verdict;
    const auto steps = steps_of(number, course);
    for (const Step& step : *steps) {
        if (step.native != nullptr) {
            verdict = co_await ask_native(*step.native, course, text);
        } else {
            verdict = co_await ask_part(number, part_of(name_of_hook(number), step.spans), course);
        }
        if (verdict.over) co_return verdict;
    }
    co_return verdict;
}

Task<InboundChain::Verdict> InboundChain::ask_native(const NativeListener& listener, Course& course, std::string_view text) {
    NativeVisit event(listener.number, course.about, {.rdns = course.standing.rdns, .notes = course.standing.notes_text, .text = text});
    NativeReply reply;
    const std::unique_ptr<NativeQuestion> question = caller_->begin(listener, event, reply);
    if (question != nullptr) co_await caller_->wait(*question, reply);
    caller_->tell_silence(listener, event, reply);
    Verdict verdict = weigh(listener, reply, course);
    if (verdict.refuses() && is_undone(verdict, listener.number, course)) verdict = {};
    if (!verdict.stops()) take_effects(listener, reply, course);
    co_return verdict;
}

InboundChain::Verdict InboundChain::weigh(const NativeListener& listener, NativeReply& reply, Course& course) {
    const NativeHook& hook = *native_hook(listener.number);
    Verdict verdict;
    verdict.by = listener.module->listed.name;
    verdict.over = true;
    if (reply.cancelled) {
        verdict.what = What::lost;
        return verdict;
    }
    const bool silent = !reply.in_time;
    if (silent || (reply.threw && hook.last_word)) {
        if (!hook.decides || listener.number == SLUICE_HOOK_QUIT) return {};
        verdict.what = What::deny_soft;
        verdict.code = 451;
        verdict.text = {silent ? "plugin timeout" : "plugin failure"};
        return verdict;
    }
    if (reply.code == SLUICE_CONT) return {};
    if (!hook.decides) return verdict;
    const bool leaves = reply.code == SLUICE_DISCONNECT;
    if (reply.denies() || (leaves && course.hook == Hook::opening)) verdict.what = What::deny;
    if (reply.denies_for_now() || (leaves && course.hook != Hook::opening)) verdict.what = What::deny_soft;
    if (reply.code == SLUICE_OK) verdict.what = What::ok;
    verdict.disconnect = leaves || reply.code == SLUICE_DENYDISCONNECT || reply.code == SLUICE_DENYSOFTDISCONNECT;
    verdict.code = reply.reply_code;
    verdict.text = reply.words();
    return verdict;
}

// Whether a plugin that listens to `deny` takes a refusal back. That of a JavaScript plugin is only told.
bool InboundChain::is_undone(const Verdict& refusal, std::int32_t number, const Course& course) {
    const auto& listeners = natives_->listeners(SLUICE_HOOK_DENY);
    if (listeners.empty()) return false;
    static constexpr std::pair<int, int> codes[] = {{SLUICE_DENY, SLUICE_DENYDISCONNECT}, {SLUICE_DENYSOFT, SLUICE_DENYSOFTDISCONNECT}};
    const auto& [stays, leaves] = codes[refusal.what == What::deny_soft ? 1 : 0];
    const std::string words = joined(refusal.text, "\n");
    const VisitDetails details{
        .rdns = course.standing.rdns, .notes = course.standing.notes_text, .text = words, .refused_by = refusal.by, .refused_hook = number,
        .refused_code = refusal.disconnect ? leaves : stays};
    const Occasion about = without_content(course.about);
    for (const NativeListener& listener : listeners) {
        NativeVisit event(SLUICE_HOOK_DENY, about, details);
        if (listener.may_block) {
            natives_->call_elsewhere(listener, event, 0);
            continue;
        }
        sluice_call call;
        const std::int32_t code = natives_->call(listener, call, event);
        if (code != SLUICE_CONT) return code == SLUICE_OK;
    }
    return false;
}

// Where nobody waits.
void InboundChain::hear(std::int32_t number, const Course& course, const VisitDetails& details) {
    const auto& listeners = natives_->listeners(number);
    if (listeners.empty()) return;
    const Occasion about = without_content(course.about);
    for (const NativeListener& listener : listeners) {
        NativeVisit event(number, about, details);
        if (listener.may_block) {
            natives_->call_elsewhere(listener, event, 0);
            continue;
        }
        sluice_call call;
        const std::int32_t code = natives_->call(listener, call, event);
        if (code != SLUICE_CONT && code != SLUICE_PENDING) return;
    }
}

void InboundChain::tell(Hook hook, const Occasion& occasion) {
    if (natives_ == nullptr || !natives_->hears_mail_in()) return node_.tell(hook, occasion);
    Course course(hook, occasion, standing_of(occasion));
    if (course.standing.told || (hook == Hook::rset && node_.wants(hook))) {
        const std::string news = news_for_host(course);
        node_.tell(hook, course.about, news);
        host_was_told(course);
    }
    const std::string text = occasion.text;
    hear(only_hook_of(hook), course, {.rdns = course.standing.rdns, .notes = course.standing.notes_text, .text = text});
    if (hook == Hook::left) sessions_.erase(occasion.visitor.session);
}

// ---- what native plugins do ------------------------------------------------------------------------------------

void InboundChain::take_effects(const NativeListener& listener, NativeReply& reply, Course& course) {
    if (!reply.in_time || reply.threw) return;
    if (reply.relaying) {
        auto& of = course.about.transaction ? course.answer.transaction_relaying : course.answer.relaying;
        of = reply.relaying;
        if (course.about.transaction) course.about.transaction->relaying = reply.relaying;
        else course.about.visitor.relaying = *reply.relaying;
    }
    if (listener.number == SLUICE_HOOK_CAPABILITIES) {
        for (std::string& line : reply.words()) {
            if (!is_offered(course.about.lines, line)) course.about.lines.push_back(std::move(line));
        }
    }
    if (!reply.notes.empty()) note(listener, reply, course);
    if (!reply.fields.empty() || reply.bad_field) add_fields(listener, reply, course);
}

void InboundChain::note(const NativeListener& listener, const NativeReply& reply, Course& course) {
    Standing& standing = course.standing;
    auto noted = reply.noted();
    if (noted && !course.about.transaction) noted = fail(Errc::bad_input, "there is no transaction");
    if (noted) {
        boost::json::object notes = standing.notes;
        for (const auto& [name, value] : *noted) notes[name] = value;
        std::string text = boost::json::serialize(notes);
        if (text.size() > notes_bytes_max) noted = fail(Errc::too_large, "more than 64 Ki octets of notes for one message");
        if (noted) {
            for (const auto& [name, value] : *noted) standing.untold[name] = value;
            standing.notes = std::move(notes);
            standing.notes_text = std::move(text);
            course.about.text = course.hook == Hook::injected ? standing.notes_text : course.about.text;
        }
    }
    if (!noted) warn(listener, course, "notes of a native plugin are not kept", noted.error().detail);
}

void InboundChain::add_fields(const NativeListener& listener, NativeReply& reply, Course& course) {
    if (!is_about_content(listener.number)) return warn(listener, course, "header fields of a native plugin are left out", "there is no content");
    if (reply.bad_field) warn(listener, course, "header fields of a native plugin are left out", "a name or a value is none");
    for (const NativeField& field : reply.fields) {
        course.own_content();
        std::size_t place = 0;
        if (!field.first) {
            place = mail::header_section_size(course.content);
            const bool ends = std::string_view(course.content).substr(0, place).ends_with("\r\n\r\n") || course.content.starts_with("\r\n");
            if (ends) place -= 2;
        }
        course.content.insert(place, field.text());
        course.added.push_back(boost::json::array{field.first, field.name, with_valid_utf8(field.value)});
        if (course.answer.changed == Answer::Changed::nothing) course.answer.changed = Answer::Changed::header;
    }
}

void InboundChain::warn(const NativeListener& listener, const Course& course, const char* sentence, const std::string& reason) {
    log_.warn(
        "plugins", sentence,
        {{"plugin", listener.module->listed.name}, {"session", course.about.visitor.session}, {"hook", name_of_hook(listener.number)},
         {"reason", reason}});
}

// ---- the plugin host -------------------------------------------------------------------------------------------

// What the plugin host has to hear along with the next question, and what it knows of the session.
std::string InboundChain::news_for_host(Course& course) {
    Standing& standing = course.standing;
    course.about.visitor.begun = standing.told;
    std::string news;
    if (course.hook == Hook::opening) news += R"(,"named":true)";
    if (!course.about.transaction) return news;
    const std::size_t recipients = course.about.transaction->envelope->recipients.size();
    course.about.transaction->known = course.hook == Hook::injected ? 0 : std::min(standing.told_recipients, recipients);
    if (!standing.untold.empty() && course.hook != Hook::injected) news += R"(,"noted":)" + boost::json::serialize(standing.untold);
    if (!course.added.empty() && course.host_has_content) news += R"(,"added":)" + boost::json::serialize(course.added);
    return news;
}

void InboundChain::host_was_told(Course& course) {
    course.standing.told = true;
    course.standing.untold.clear();
    course.added.clear();
    course.host_has_content |= course.about.content != nullptr && course.hook == Hook::content;
    if (course.about.transaction) course.standing.told_recipients = course.about.transaction->envelope->recipients.size();
}

Task<InboundChain::Verdict> InboundChain::ask_part(std::int32_t number, std::string part, Course& course) {
    std::string more = news_for_host(course) + R"(,"part":)" + part;
    HostAnswer said = co_await node_.put(course.hook, course.about, std::move(more), course.host_has_content);
    host_was_told(course);
    absorb(said, course);
    Answer& answer = said.answer;
    Verdict verdict;
    verdict.what = answer.what;
    verdict.over = said.decided || verdict.stops();
    if (verdict.what == What::lost) co_return verdict;
    const NativeHook* const hook = native_hook(number);
    if (hook != nullptr && !hook->decides) {
        verdict.what = What::go_on;
        co_return verdict;
    }
    verdict.code = answer.code;
    verdict.text = std::move(answer.text);
    verdict.by = std::move(answer.by);
    if (verdict.refuses()) static_cast<void>(is_undone(verdict, number, course));
    if (number == SLUICE_HOOK_LOOKUP_RDNS && verdict.what == What::ok) verdict.text = {said.rdns};
    co_return verdict;
}

// What plugins said besides, for those that come after them and for the end.
void InboundChain::absorb(HostAnswer& said, Course& course) {
    Answer& from = said.answer;
    Answer& into = course.answer;
    reception::Visitor& visitor = course.about.visitor;
    for (smtp::Reply& reply : from.said) into.said.push_back(std::move(reply));
    into.disconnect |= from.disconnect;
    into.reset |= from.reset;
    into.more = from.more;
    if (from.loop) into.loop = from.loop;
    if (from.relaying) {
        into.relaying = from.relaying;
        visitor.relaying = *from.relaying;
    }
    if (from.transaction_relaying && course.about.transaction) {
        into.transaction_relaying = from.transaction_relaying;
        course.about.transaction->relaying = from.transaction_relaying;
    }
    if (!from.auth_user.empty()) {
        into.auth_user = from.auth_user;
        visitor.auth_user = from.auth_user;
    }
    if (!from.lines.empty()) course.about.lines = std::move(from.lines);
    if (is_name(said.rdns)) course.standing.rdns = said.rdns;
    if (course.about.content != nullptr && from.what != What::lost) absorb_content(from, course);
}

void InboundChain::absorb_content(Answer& from, Course& course) {
    Answer& into = course.answer;
    if (from.changed != Answer::Changed::nothing) {
        course.own_content();
        std::string octets = clean(std::move(from.octets));
        if (from.changed == Answer::Changed::all) course.content = std::move(octets);
        else course.content.replace(0, mail::header_section_size(course.content), octets);
        into.changed = std::max(into.changed, from.changed);
    }
    absorb_envelope(from, course);
    if (from.notes.empty()) return;
    boost::system::error_code error;
    boost::json::value notes = parse_json(from.notes, error);
    if (error || !notes.is_object()) return;
    course.standing.notes = std::move(notes.get_object());
    course.standing.notes_text = std::move(from.notes);
    if (course.hook == Hook::injected) course.about.text = course.standing.notes_text;
}

// Whoever comes next sees it. What makes no sense is told by whoever gets the answer.
void InboundChain::absorb_envelope(const Answer& from, Course& course) {
    // Each part of a session's tells all of its changes, of other mail those of its own.
    const bool all_told = course.hook == Hook::content;
    Answer& into = course.answer;
    if (all_told || from.mail_from) into.mail_from = from.mail_from;
    if (all_told || from.rcpt_to) into.rcpt_to = from.rcpt_to;
    reception::Underway& transaction = *course.about.transaction;
    if (!from.mail_from && !from.rcpt_to && (!all_told || transaction.envelope == course.asked)) return;
    mail::Envelope changed = all_told ? *course.asked : *transaction.envelope;
    if (!reception::revise_envelope(changed, from.mail_from, from.rcpt_to)) return;
    course.envelope = std::move(changed);
    transaction.envelope = &course.envelope;
    course.standing.told_recipients = course.envelope.recipients.size();
}

void InboundChain::tell_part(const Course& course, const boost::json::object& part) {
    node_.tell(course.hook, course.about, R"(,"part":)" + boost::json::serialize(part));
}

}  // namespace sluice::plugin
