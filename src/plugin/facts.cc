#include "plugin/facts.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>

#include "base/text.h"
#include "delivery/settlement.h"
#include "mail/address.h"
#include "plugin/json_members.h"
#include "queue/remote.h"
#include "smtp/command.h"

namespace sluice::plugin {
namespace {

using boost::json::array;
using boost::json::object;

constexpr double seconds_max = 366.0 * 86'400;

std::string path_text(const mail::Address& address) { return "<" + address.text() + ">"; }

// What Haraka called a message that it had accepted.
std::string imported_uuid(const mail::Message& message) {
    constexpr std::string_view origin = "haraka ";
    return message.origin.starts_with(origin) ? message.origin.substr(origin.size()) : std::string();
}

object item_facts(
    const queue::Work& work, const mail::Message& message, const std::vector<std::uint32_t>& recipients,
    const std::string& image, const Clock& clock) {
    array paths, places;
    for (const std::uint32_t place : recipients) {
        paths.emplace_back(path_text(message.envelope.recipients[place].address));
        places.emplace_back(place);
    }
    object item{
        {"id", work.item.text()}, {"message", work.item.message.text()}, {"items", message.items.size()},
        {"attempts", work.attempts}, {"arrival", clock.wall_ms(work.arrival)}, {"now", clock.wall_ms(clock.now())},
        {"size", message.size()}, {"domain", message.items[work.item.index].domain},
        {"mail_from", path_text(message.envelope.reverse_path)}, {"rcpt_to", std::move(paths)},
        {"places", std::move(places)}, {"notes", notes_of(message.notes)}};
    if (const std::string uuid = imported_uuid(message); !uuid.empty()) item["uuid"] = uuid;
    if (!image.empty()) item["image"] = image;
    return item;
}

std::string members(const object& message) {
    const std::string text = boost::json::serialize(message);
    return text.substr(1, text.size() - 2);
}

// What decided a recipient. Without a reply of the peer it is a local code, as Haraka has it.
object dsn_of(const delivery::Verdict& verdict, delivery::Hook hook, std::string_view remote) {
    const bool failed = hook == delivery::Hook::bounce;
    const std::string status = status_for(verdict, failed ? delivery::Fate::failed : delivery::Fate::deferred);
    const bool local = verdict.code == 0 || verdict.stage == delivery::Stage::route;
    const int code = verdict.code != 0 ? verdict.code : failed ? 550 : 450;
    return {{"action", failed ? "failed" : "delayed"}, {"code", code}, {"status", status},
            {"response", verdict.text}, {"mta", queue::address_of(remote)}, {"local", local}};
}

}  // namespace

std::string attempt_question(
    const queue::Work& work, const mail::Message& message, const std::string& image, const Clock& clock) {
    const std::vector<std::uint32_t>& recipients =
        work.pending.empty() ? message.items[work.item.index].recipients : work.pending;
    return members({{"point", "attempt"}, {"item", item_facts(work, message, recipients, image, clock)}});
}

std::string hearing_question(
    delivery::Hook hook, const delivery::Hearing& about, const std::string& image, const Clock& clock) {
    using delivery::Hook;
    const delivery::Attempted& attempted = about.attempted;
    const event::Link& link = attempted.link;
    const delivery::Verdict& first = *attempted.verdicts[about.places.front()];
    object item = item_facts(attempted.work, *attempted.message, attempted.recipients, image, clock);
    array of;
    for (const std::size_t place : about.places) of.emplace_back(place);
    object told{{"of", std::move(of)}};
    if (hook == Hook::delivered) {
        told["point"] = "delivered";
        told["host"] = link.mx_host;
        told["ip"] = queue::address_of(link.remote);
        told["port"] = parse_number<int>(queue::port_of(link.remote)).value_or(0);
        told["response"] = first.text;
        told["delay"] = static_cast<double>(about.since_arrival.count()) / 1000;
        told["mode"] = link.lmtp ? "LMTP" : "SMTP";
        told["secured"] = !link.tls_version.empty();
        told["authenticated"] = link.authenticated;
    } else {
        array dsn(attempted.recipients.size());
        for (const std::size_t place : about.places) dsn[place] = dsn_of(*attempted.verdicts[place], hook, link.remote);
        item["dsn"] = std::move(dsn);
        told["point"] = hook == Hook::bounce ? "bounce" : "deferred";
        told["reason"] = printable(first.reply_text());
        told["partial"] = about.places.size() < attempted.recipients.size();
        if (about.notification != nullptr) told["notifies"] = true;
        told["delay"] = static_cast<double>(about.delay.count()) / 1000;
        if (!link.remote.empty()) told["mx"] = object{{"exchange", queue::address_of(link.remote)}, {"from_dns", link.mx_host}};
    }
    told["item"] = std::move(item);
    return members(told);
}

object notes_of(const std::string& text) {
    boost::system::error_code error;
    boost::json::value notes = parse_json(text.empty() ? "{}" : text, error);
    return !error && notes.is_object() ? std::move(notes.get_object()) : object();
}

std::string text_member(const object& from, std::string_view key) {
    const boost::json::value* value = from.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

Duration seconds_member(const object& from, std::string_view key) {
    const boost::json::value* value = from.if_contains(key);
    if (value == nullptr || !value->is_number()) return Duration(0);
    return Duration(std::llround(std::clamp(real_of(*value), 0.0, seconds_max) * 1000));
}

namespace {

Result<dns::Nexthop> nexthop_of(const object& mx) {
    dns::Nexthop hop;
    hop.transport.from_dns = false;
    hop.path = text_member(mx, "path");
    hop.transport.lmtp = mx.contains("lmtp");
    hop.transport.auth_user = text_member(mx, "user");
    hop.transport.auth_password = text_member(mx, "password");
    hop.transport.auth_type = text_member(mx, "auth");
    hop.transport.helo = text_member(mx, "helo");
    hop.transport.bind = text_member(mx, "bind");
    if (!hop.transport.helo.empty() && !smtp::is_hello_name(hop.transport.helo)) {
        return fail(Errc::bad_input, "get_mx named an EHLO name that is none: " + printable(hop.transport.helo));
    }
    hop.port = hop.transport.lmtp ? 24 : 25;
    if (const boost::json::value* port = mx.if_contains("port"); port != nullptr && port->is_int64()) {
        if (port->get_int64() < 1 || port->get_int64() > 65'535) return fail(Errc::bad_input, "get_mx named a port that is none");
        hop.port = static_cast<std::uint16_t>(port->get_int64());
    }
    if (!hop.transport.bind.empty() && !net::IpAddress::parse(hop.transport.bind)) {
        return fail(Errc::bad_input, "get_mx named a local address that is none: " + printable(hop.transport.bind));
    }
    if (!hop.path.empty()) {
        if (!hop.path.starts_with('/')) return fail(Errc::bad_input, "get_mx named a socket without its full path");
        return hop;
    }
    const std::string host = text_member(mx, "host");
    hop.address = net::IpAddress::parse(host);
    if (hop.address) return hop;
    auto name = mail::normalise_domain(host);
    if (!name || name->starts_with('[')) return fail(Errc::bad_input, "get_mx named a host that is none: " + printable(host));
    hop.host = std::move(*name);
    return hop;
}

}  // namespace

Result<std::vector<dns::Nexthop>> mx_member(const object& answer) {
    std::vector<dns::Nexthop> hops;
    const boost::json::value* list = answer.if_contains("mx");
    if (list == nullptr) return hops;
    if (!list->is_array() || list->get_array().empty()) return fail(Errc::bad_input, "get_mx named no host");
    for (const boost::json::value& mx : list->get_array()) {
        if (!mx.is_object()) return fail(Errc::bad_input, "get_mx named no host");
        TRY(dns::Nexthop hop, nexthop_of(mx.get_object()));
        hops.push_back(std::move(hop));
    }
    return hops;
}

}  // namespace sluice::plugin
