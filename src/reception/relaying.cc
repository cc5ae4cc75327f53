#include "reception/relaying.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/text.h"

namespace sluice::reception {
namespace {

// "v%victim@here", "victim!v@here", "\"v@victim\"@here": some host behind us might send these on (RFC 5321 §3.6.1).
bool names_another_destination(std::string_view local) {
    return local.find_first_of("@%!") != std::string_view::npos;
}

}  // namespace

std::optional<smtp::Reply> refuse_recipient(const Rules& rules, bool relaying, const mail::Address& recipient) {
    if (relaying) return std::nullopt;
    if (rules.settings->relay.dest_domains && !names_another_destination(recipient.local)) {
        const auto rule = rules.destinations.find(recipient.routing_domain());
        if (rule != rules.destinations.end() && rule->second != "deny") return std::nullopt;
    }
    if (rules.settings->relay.all) return std::nullopt;
    return smtp::Reply(550, "5.7.1", "I cannot deliver mail for <" + recipient.text() + ">: relaying denied");
}

std::string organisational_domain(std::string_view domain) {
    static constexpr std::array<std::string_view, 10> registers{
        "ac", "co", "com", "edu", "gov", "ltd", "net", "ne", "or", "org"};
    std::string lower = to_lower(domain);
    const std::vector<std::string_view> labels = split(lower, '.');
    if (labels.size() <= 2) return lower;
    const std::string_view second = labels[labels.size() - 2];
    const bool below_register =
        labels.back().size() == 2 && std::find(registers.begin(), registers.end(), second) != registers.end();
    const std::size_t keep = below_register ? 3 : 2;
    std::string result;
    for (std::size_t i = labels.size() - keep; i < labels.size(); ++i) {
        if (!result.empty()) result += '.';
        result += labels[i];
    }
    return result;
}

bool owns_sender(const config::Settings& settings, std::string_view login, const mail::Address& reverse_path) {
    if (reverse_path.is_null()) return true;
    if (settings.connection.constrain_sender_addresses) return iequals(login, reverse_path.text());
    if (!settings.auth.constrain_sender) return true;
    const std::size_t at = login.rfind('@');
    if (at == std::string_view::npos) return true;
    const mail::Address of_login{std::string(login.substr(0, at)), std::string(login.substr(at + 1))};
    return organisational_domain(of_login.routing_domain()) == organisational_domain(reverse_path.routing_domain());
}

}  // namespace sluice::reception
