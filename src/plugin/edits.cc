#include "plugin/edits.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <memory>
#include <utility>

#include "base/text.h"
#include "plugin/facts.h"

namespace sluice::plugin {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

const value* member(const object& from, std::string_view key) { return from.if_contains(key); }

std::optional<mail::Address> address_of(std::string_view path, bool may_be_null) {
    mail::PathSyntax syntax;
    syntax.allow_null = may_be_null;
    auto address = mail::parse_path(path, syntax);
    return address ? std::optional<mail::Address>(std::move(*address)) : std::nullopt;
}

std::string path_of(const mail::Address& address) { return "<" + address.text() + ">"; }

std::optional<std::uint32_t> place_of(const value& text) {
    if (text.is_int64() && text.get_int64() >= 0 && text.get_int64() <= 0xFFFF'FFFF) return static_cast<std::uint32_t>(text.get_int64());
    return std::nullopt;
}

// Calls `take` with every object of a list.
template <class Take>
void each_object(const object& from, std::string_view key, Take take) {
    const value* list = member(from, key);
    if (list == nullptr || !list->is_array()) return;
    for (const value& one : list->get_array()) {
        if (one.is_object()) take(one.get_object());
    }
}

class Reader {
public:
    Reader(const object& edits, std::span<const std::uint32_t> recipients) : edits_(edits), recipients_(recipients) {}

    Editing read() {
        if (const value* path = member(edits_, "mail_from"); path != nullptr) {
            editing_.edit.reverse_path = address(text_member(edits_, "mail_from"), true);
        }
        each_object(edits_, "rcpt", [this](const object& one) { read_changed(one); });
        each_object(edits_, "removed", [this](const object& one) { read_removed(one); });
        each_object(edits_, "parts", [this](const object& one) { read_part(one); });
        read_added();
        return std::move(editing_);
    }

private:
    std::optional<mail::Address> address(const std::string& path, bool may_be_null) {
        auto found = address_of(path, may_be_null);
        if (!found) editing_.problems.push_back("no address: " + printable(path.substr(0, 256)));
        return found;
    }

    std::optional<std::uint32_t> place(const value* given) {
        const auto found = given != nullptr ? place_of(*given) : std::nullopt;
        if (found && std::find(recipients_.begin(), recipients_.end(), *found) != recipients_.end()) return found;
        editing_.problems.emplace_back("no recipient of this attempt");
        return std::nullopt;
    }

    void read_changed(const object& one) {
        const auto at = place(member(one, "place"));
        auto to = address(text_member(one, "to"), false);
        if (at && to) editing_.edit.recipients.insert_or_assign(*at, std::move(*to));
    }

    void read_removed(const object& one) {
        const auto at = place(member(one, "place"));
        if (at && !editing_.removes(*at)) editing_.removed[text_member(one, "by")].push_back(*at);
    }

    void read_part(const object& one) {
        Part part;
        const value* list = member(one, "places");
        if (list == nullptr || !list->is_array()) return;
        for (const value& given : list->get_array()) {
            const auto at = place(&given);
            const bool twice = at && std::find(part.places.begin(), part.places.end(), *at) != part.places.end();
            if (at && !twice && !editing_.removes(*at)) part.places.push_back(*at);
        }
        if (part.places.empty()) return;
        part.by = text_member(one, "by");
        part.image = text_member(one, "image");
        if (member(one, "mail_from") != nullptr) part.edit.reverse_path = address(text_member(one, "mail_from"), true);
        each_object(one, "rcpt", [&](const object& changed) {
            const auto at = place(member(changed, "place"));
            auto to = address(text_member(changed, "to"), false);
            if (at && to) part.edit.recipients.insert_or_assign(*at, std::move(*to));
        });
        editing_.parts.push_back(std::move(part));
    }

    void read_added() {
        editing_.added_by = text_member(edits_, "by");
        const value* list = member(edits_, "added");
        if (list == nullptr || !list->is_array()) return;
        for (const value& one : list->get_array()) {
            if (editing_.added.size() == added_max) {
                editing_.problems.push_back("more than " + std::to_string(added_max) + " recipients added");
                return;
            }
            auto to = address(one.is_string() ? std::string(one.get_string()) : std::string(), false);
            if (to) editing_.added.push_back(std::move(*to));
        }
    }

    const object& edits_;
    const std::span<const std::uint32_t> recipients_;
    Editing editing_;
};

}  // namespace

void Edit::add(const Edit& later) {
    if (later.reverse_path) reverse_path = later.reverse_path;
    for (const auto& [place, address] : later.recipients) recipients.insert_or_assign(place, address);
}

std::string Edit::format() const {
    object text;
    if (reverse_path) text["from"] = path_of(*reverse_path);
    if (!recipients.empty()) {
        object to;
        for (const auto& [place, address] : recipients) to[std::to_string(place)] = path_of(address);
        text["to"] = std::move(to);
    }
    return boost::json::serialize(text);
}

Edit Edit::parse(std::string_view text) {
    Edit edit;
    boost::system::error_code error;
    const value parsed = boost::json::parse(text.empty() ? std::string_view("{}") : text, error);
    if (error || !parsed.is_object()) return edit;
    const object& members = parsed.get_object();
    if (member(members, "from") != nullptr) edit.reverse_path = address_of(text_member(members, "from"), true);
    const value* to = member(members, "to");
    if (to == nullptr || !to->is_object()) return edit;
    for (const auto& one : to->get_object()) {
        const auto place = parse_number<std::uint32_t>(one.key());
        auto address = one.value().is_string() ? address_of(std::string(one.value().get_string()), false) : std::nullopt;
        if (place && address) edit.recipients.insert_or_assign(*place, std::move(*address));
    }
    return edit;
}

mail::MessagePtr Edit::applied(const mail::MessagePtr& message) const {
    if (!any()) return message;
    auto changed = std::make_shared<mail::Message>(*message);
    mail::Envelope& envelope = changed->envelope;
    if (reverse_path) envelope.reverse_path = *reverse_path;
    for (const auto& [place, address] : recipients) {
        if (place < envelope.recipients.size()) envelope.recipients[place].address = address;
        envelope.smtputf8 = envelope.smtputf8 || address.needs_utf8();
    }
    if (reverse_path && reverse_path->needs_utf8()) envelope.smtputf8 = true;
    return changed;
}

bool Editing::removes(std::uint32_t place) const {
    const auto among = [place](const std::vector<std::uint32_t>& places) {
        return std::find(places.begin(), places.end(), place) != places.end();
    };
    return std::any_of(removed.begin(), removed.end(), [&](const auto& by) { return among(by.second); }) ||
           std::any_of(parts.begin(), parts.end(), [&](const Part& part) { return among(part.places); });
}

Editing editing_member(const object& answer, std::span<const std::uint32_t> recipients) {
    const value* edits = member(answer, "edits");
    if (edits == nullptr || !edits->is_object()) return {};
    return Reader(edits->get_object(), recipients).read();
}

}  // namespace sluice::plugin
