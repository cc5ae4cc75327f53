#include "plugin/inbound_facts.h"

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"
#include "mail/header.h"
#include "plugin/facts.h"

namespace sluice::plugin {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using reception::Answer;
using reception::Hook;
using reception::Occasion;

constexpr std::array<const char*, reception::hook_count> points{
    "opening", "hello", "command", "mail", "rcpt", "data", "content", "oversize",
    "vrfy", "noop", "quit", "injected", "rset", "queued", "reset", "left"};
constexpr std::size_t reply_lines_max = 100;

// JSON wants UTF-8, which a client need not send.
std::string text_of(std::string_view octets) { return with_valid_utf8(std::string(octets)); }
std::string path_text(const mail::Address& address) { return text_of("<" + address.text() + ">"); }

object client_facts(const reception::Visitor& visitor) {
    object client{
        {"uuid", visitor.session}, {"ip", visitor.client_ip}, {"port", visitor.client_port},
        {"local_ip", visitor.local_ip}, {"local_port", visitor.local_port}, {"helo", text_of(visitor.helo)},
        {"esmtp", visitor.extended}, {"relaying", visitor.relaying}, {"auth_user", text_of(visitor.auth_user)},
        {"errors", visitor.errors}};
    if (!visitor.proxy_ip.empty()) client["proxy"] = visitor.proxy_ip;
    if (!visitor.tls_version.empty()) {
        client["tls"] = object{{"version", visitor.tls_version}, {"cipher", visitor.tls_cipher}};
    }
    return client;
}

object transaction_facts(const reception::Underway& underway) {
    array recipients;
    const auto& all = underway.envelope->recipients;
    for (std::size_t at = underway.known; at < all.size(); ++at) recipients.emplace_back(path_text(all[at].address));
    object facts{
        {"number", underway.number}, {"mail_from", path_text(underway.envelope->reverse_path)},
        {"rcpt_to", std::move(recipients)}};
    if (underway.relaying) facts["relaying"] = *underway.relaying;
    return facts;
}

// What stood behind the address, as far as plugins ask for it.
object mail_parameters(const reception::Underway& underway) {
    const mail::Envelope& envelope = *underway.envelope;
    object parameters;
    if (underway.declared_size > 0) parameters["SIZE"] = std::to_string(underway.declared_size);
    if (envelope.body == mail::BodyType::seven_bit) parameters["BODY"] = "7BIT";
    if (envelope.body == mail::BodyType::eight_bit_mime) parameters["BODY"] = "8BITMIME";
    if (envelope.body == mail::BodyType::binary_mime) parameters["BODY"] = "BINARYMIME";
    if (envelope.smtputf8) parameters["SMTPUTF8"] = nullptr;
    if (envelope.ret != mail::Return::unspecified) parameters["RET"] = envelope.ret == mail::Return::full ? "FULL" : "HDRS";
    if (!envelope.envid.empty()) parameters["ENVID"] = text_of(envelope.envid);
    return parameters;
}

object rcpt_parameters(const mail::Recipient& recipient) {
    object parameters;
    std::string notify;
    const auto add = [&](mail::Notify bit, const char* word) {
        if ((recipient.notify & bit) != 0) notify.append(notify.empty() ? "" : ",").append(word);
    };
    add(mail::notify_never, "NEVER");
    add(mail::notify_success, "SUCCESS");
    add(mail::notify_failure, "FAILURE");
    add(mail::notify_delay, "DELAY");
    if (!notify.empty()) parameters["NOTIFY"] = notify;
    if (!recipient.orcpt.empty()) parameters["ORCPT"] = text_of(recipient.orcpt);
    return parameters;
}

// The verb and the rest, as Haraka cuts an unknown line.
array words_of(const std::string& line) {
    const std::size_t blank = std::min(line.find(' '), line.size());
    const std::size_t rest = line.find_first_not_of(' ', blank);
    return {text_of(line.substr(0, blank)), rest == std::string::npos ? "" : text_of(line.substr(rest))};
}

void add_content(object& message, const Occasion& about, bool known) {
    const std::string_view content = *about.content;
    if (!known) message["header"] = base64_encode(content.substr(0, mail::header_section_size(content)));
    message["size"] = content.size();
    message["message"] = about.message.text();
    message["keeps"] = about.keeps;
}

// ---- answers ---------------------------------------------------------------------------------------------------------

std::optional<bool> flag_member(const object& from, std::string_view key) {
    const value* found = from.if_contains(key);
    return found != nullptr && found->is_bool() ? std::optional(found->get_bool()) : std::nullopt;
}

int code_member(const object& from) {
    const value* found = from.if_contains("code");
    if (found == nullptr || !found->is_int64()) return 0;
    const std::int64_t code = found->get_int64();
    return code >= 200 && code <= 599 ? static_cast<int>(code) : 0;
}

std::optional<std::vector<std::string>> texts_member(const object& from, std::string_view key) {
    const value* found = from.if_contains(key);
    if (found == nullptr || !found->is_array()) return std::nullopt;
    std::vector<std::string> texts;
    for (const value& one : found->get_array()) {
        if (one.is_string()) texts.emplace_back(one.get_string());
    }
    return texts;
}

std::vector<std::string> lines_member(const object& from, std::string_view key) {
    auto lines = texts_member(from, key).value_or(std::vector<std::string>());
    if (lines.size() > reply_lines_max) lines.resize(reply_lines_max);
    return lines;
}

// A reply that a plugin gave itself; nothing when it is none.
std::optional<smtp::Reply> reply_of(const value& from) {
    if (!from.is_object()) return std::nullopt;
    smtp::Reply reply;
    reply.code = code_member(from.get_object());
    reply.lines = lines_member(from.get_object(), "lines");
    if (reply.lines.empty()) reply.lines.emplace_back();
    return reply.code != 0 ? std::optional(std::move(reply)) : std::nullopt;
}

Answer::What what_of(std::string_view text) {
    if (text == "cont") return Answer::What::go_on;
    if (text == "ok") return Answer::What::ok;
    if (text == "deny") return Answer::What::deny;
    if (text == "denysoft") return Answer::What::deny_soft;
    return Answer::What::lost;
}

void read_content(const object& from, std::string octets, Answer& answer) {
    const std::string changed = text_member(from, "changed");
    if (changed == "header") answer.changed = Answer::Changed::header;
    if (changed == "all") answer.changed = Answer::Changed::all;
    if (answer.changed != Answer::Changed::nothing) answer.octets = std::move(octets);
    // A header section ends; what does not, came in part.
    const bool ends = answer.octets == "\r\n" || answer.octets.ends_with("\r\n\r\n");
    if (answer.changed == Answer::Changed::header && !ends) answer.what = Answer::What::lost;
    if (from.contains("mail_from")) answer.mail_from = text_member(from, "mail_from");
    answer.rcpt_to = texts_member(from, "rcpt_to");
    answer.notes = text_member(from, "notes");
}

}  // namespace

std::string inbound_question(Hook hook, const Occasion& about, bool knows_content) {
    object message{
        {"point", points[static_cast<std::size_t>(hook)]}, {"client", client_facts(about.visitor)},
        {"begun", about.visitor.begun}};
    if (about.transaction) message["tx"] = transaction_facts(*about.transaction);
    if (hook == Hook::mail && about.transaction) message["params"] = mail_parameters(*about.transaction);
    if (hook == Hook::command) message["params"] = words_of(about.command);
    if (hook == Hook::rcpt && about.recipient != nullptr) {
        message["rcpt"] = path_text(about.recipient->address);
        message["params"] = rcpt_parameters(*about.recipient);
        message["permitted"] = about.permitted;
    }
    if (hook == Hook::hello) {
        array lines;
        for (const std::string& line : about.lines) lines.emplace_back(text_of(line));
        message["lines"] = std::move(lines);
    }
    if (about.content != nullptr) add_content(message, about, knows_content);
    if (hook == Hook::queued) message["text"] = about.text;
    if (hook == Hook::injected) message["notes"] = notes_of(about.text);
    const std::string text = boost::json::serialize(message);
    return text.substr(1, text.size() - 2);
}

Answer inbound_answer(const object& from, std::string octets) {
    Answer answer;
    answer.what = what_of(text_member(from, "what"));
    answer.code = code_member(from);
    answer.text = lines_member(from, "text");
    answer.by = text_member(from, "by");
    answer.disconnect = flag_member(from, "disconnect").value_or(false);
    answer.reset = flag_member(from, "reset").value_or(false);
    answer.more = flag_member(from, "more").value_or(false);
    answer.lines = lines_member(from, "lines");
    answer.relaying = flag_member(from, "relaying");
    answer.transaction_relaying = flag_member(from, "tx_relaying");
    answer.auth_user = text_member(from, "auth_user");
    if (const value* said = from.if_contains("said"); said != nullptr && said->is_array()) {
        for (const value& one : said->get_array()) {
            if (auto reply = reply_of(one)) answer.said.push_back(std::move(*reply));
        }
    }
    // Nothing but a refusal can be the answer to everything.
    if (const value* loop = from.if_contains("loop")) answer.loop = reply_of(*loop);
    if (answer.loop && answer.loop->code < 400) answer.loop.reset();
    read_content(from, std::move(octets), answer);
    return answer;
}

}  // namespace sluice::plugin
