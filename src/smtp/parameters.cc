#include "smtp/parameters.h"

#include <algorithm>
#include <vector>

#include "base/text.h"

namespace sluice::smtp {
namespace {

constexpr std::size_t envid_octets_max = 100;  // RFC 3461 §4.4
constexpr std::size_t orcpt_octets_max = 500;  // RFC 3461 §4.2

struct Parameter {
    std::string_view keyword;
    std::string_view value;
    bool has_value = false;
};

Reply bad_value(std::string_view keyword) {
    return {501, "5.5.4", "Bad value for parameter " + to_upper(keyword)};
}

std::vector<Parameter> parameters_of(std::string_view text) {
    std::vector<Parameter> parameters;
    for (const std::string_view word : split(text, ' ')) {
        if (word.empty()) continue;
        const std::size_t equals = word.find('=');
        const bool has_value = equals != std::string_view::npos;
        parameters.push_back(
            {word.substr(0, equals), has_value ? word.substr(equals + 1) : std::string_view(), has_value}
        );
    }
    return parameters;
}

std::optional<Reply> check_repetition(const std::vector<Parameter>& parameters) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        for (std::size_t k = 0; k < i; ++k) {
            if (!iequals(parameters[i].keyword, parameters[k].keyword)) continue;
            return Reply(501, "5.5.4", "Parameter " + to_upper(parameters[i].keyword) + " is given twice");
        }
        // More than any set of extensions defines; also keeps the comparison above short.
        if (i >= 32) return Reply(501, "5.5.4", "Too many parameters");
    }
    return std::nullopt;
}

bool has_control(std::string_view text) {
    return std::any_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7F; });
}

// RFC 1870 §3: up to 20 digits. A number beyond 64 bits is a size all the same, just too large (SZ-3).
std::optional<Reply> read_size(const Parameter& parameter, const Extensions& offered, MailFrom& mail) {
    const std::string_view digits = parameter.value;
    if (digits.empty() || digits.size() > 20 || !std::all_of(digits.begin(), digits.end(), is_digit)) {
        return bad_value("SIZE");
    }
    mail.size = parse_number<std::uint64_t>(digits);
    if (!mail.size || (offered.size_max > 0 && *mail.size > offered.size_max)) {
        return Reply(552, "5.3.4", "Message is larger than this server accepts");
    }
    return std::nullopt;
}

std::optional<Reply> read_body(const Parameter& parameter, const Extensions& offered, MailFrom& mail) {
    if (iequals(parameter.value, "7BIT")) {
        mail.body = mail::BodyType::seven_bit;
    } else if (iequals(parameter.value, "8BITMIME")) {
        mail.body = mail::BodyType::eight_bit_mime;
    } else if (iequals(parameter.value, "BINARYMIME") && offered.binarymime) {
        mail.body = mail::BodyType::binary_mime;
    } else {
        return bad_value("BODY");
    }
    return std::nullopt;
}

std::optional<Reply> read_ret(const Parameter& parameter, MailFrom& mail) {
    if (iequals(parameter.value, "FULL")) {
        mail.ret = mail::Return::full;
    } else if (iequals(parameter.value, "HDRS")) {
        mail.ret = mail::Return::headers;
    } else {
        return bad_value("RET");
    }
    return std::nullopt;
}

std::optional<Reply> read_envid(const Parameter& parameter, MailFrom& mail) {
    const auto decoded = mail::decode_xtext(parameter.value);
    const bool good = decoded && !decoded->empty() && parameter.value.size() <= envid_octets_max &&
                      is_ascii(*decoded) && !has_control(*decoded);
    if (!good) return bad_value("ENVID");
    mail.envid = parameter.value;
    return std::nullopt;
}

// RFC 4954 §5: "<>" or an address in xtext.
std::optional<Reply> read_auth(const Parameter& parameter, MailFrom& mail) {
    if (parameter.value == "<>") {
        mail.auth.emplace();
        return std::nullopt;
    }
    auto decoded = mail::decode_xtext(parameter.value);
    if (!decoded || decoded->empty() || has_control(*decoded) || !is_valid_utf8(*decoded))
        return bad_value("AUTH");
    mail.auth = std::move(*decoded);
    return std::nullopt;
}

// RFC 6710 §3: one digit with an optional minus, and no minus zero.
std::optional<Reply> read_mt_priority(const Parameter& parameter, MailFrom& mail) {
    const std::string_view value = parameter.value;
    const bool negative = value.starts_with('-');
    const std::string_view digit = value.substr(negative ? 1 : 0);
    if (digit.size() != 1 || !is_digit(digit.front()) || (negative && digit == "0")) return bad_value("MT-PRIORITY");
    const int number = digit.front() - '0';
    mail.mt_priority = static_cast<std::int8_t>(negative ? -number : number);
    return std::nullopt;
}

std::optional<Reply> read_flag(const Parameter& parameter, bool& flag) {
    if (parameter.has_value)
        return Reply(501, "5.5.4", "Parameter " + to_upper(parameter.keyword) + " takes no value");
    flag = true;
    return std::nullopt;
}

std::optional<Reply> read_notify(const Parameter& parameter, mail::Recipient& recipient) {
    std::uint8_t bits = 0;
    for (const std::string_view word : split(parameter.value, ',')) {
        std::uint8_t bit = 0;
        if (iequals(word, "NEVER")) bit = mail::notify_never;
        if (iequals(word, "SUCCESS")) bit = mail::notify_success;
        if (iequals(word, "FAILURE")) bit = mail::notify_failure;
        if (iequals(word, "DELAY")) bit = mail::notify_delay;
        if (bit == 0) return bad_value("NOTIFY");
        bits |= bit;
    }
    // NEVER stands alone (RFC 3461 §4.1).
    if ((bits & mail::notify_never) != 0 && bits != mail::notify_never) return bad_value("NOTIFY");
    recipient.notify = bits;
    return std::nullopt;
}

// "rfc822;" and xtext; or "utf-8;" and an address in which SMTPUTF8 also allows UTF-8 as it is (RFC 6533 §3).
bool is_original_recipient(std::string_view text, bool smtputf8) {
    const std::size_t semicolon = text.find(';');
    if (semicolon == std::string_view::npos || semicolon == 0 || text.size() > orcpt_octets_max) return false;
    const std::string_view type = text.substr(0, semicolon);
    if (!std::all_of(type.begin(), type.end(), [](char c) { return is_alnum(c) || c == '-'; })) return false;
    const std::string_view address = text.substr(semicolon + 1);
    if (address.empty()) return false;
    if (is_ascii(address)) {
        const auto decoded = mail::decode_xtext(address);
        return decoded && !has_control(*decoded) && is_valid_utf8(*decoded);
    }
    const auto is_unitext = [](char c) {
        return static_cast<unsigned char>(c) >= 0x80 || (c > ' ' && c < 0x7F);
    };
    return smtputf8 && iequals(type, "utf-8") && is_valid_utf8(address) &&
           std::all_of(address.begin(), address.end(), is_unitext);
}

Reply unknown(const Parameter& parameter) {
    return {555, "5.5.4", "Parameter " + to_upper(parameter.keyword.substr(0, 40)) + " is not known here"};
}

std::optional<Reply> read_mail_parameter(const Parameter& one, const Extensions& offered, MailFrom& mail) {
    const auto is = [&one](std::string_view keyword) { return iequals(one.keyword, keyword); };
    if (is("SIZE") && offered.size) return read_size(one, offered, mail);
    if (is("BODY") && (offered.eight_bit_mime || offered.binarymime)) return read_body(one, offered, mail);
    if (is("SMTPUTF8") && offered.smtputf8) return read_flag(one, mail.smtputf8);
    if (is("RET") && offered.dsn) return read_ret(one, mail);
    if (is("ENVID") && offered.dsn) return read_envid(one, mail);
    if (is("AUTH") && !offered.auth.empty()) return read_auth(one, mail);
    if (is("REQUIRETLS") && offered.requiretls) return read_flag(one, mail.requiretls);
    if (is("MT-PRIORITY") && offered.mt_priority) return read_mt_priority(one, mail);
    return unknown(one);
}

}  // namespace

std::optional<Reply> read_mail_parameters(std::string_view text, const Extensions* offered, MailFrom& mail) {
    const Extensions none;
    const auto parameters = parameters_of(text);
    if (auto bad = check_repetition(parameters)) return bad;
    for (const Parameter& parameter : parameters) {
        if (auto bad = read_mail_parameter(parameter, offered != nullptr ? *offered : none, mail)) return bad;
    }
    return std::nullopt;
}

std::optional<Reply> read_rcpt_parameters(
    std::string_view text, const CommandSyntax& syntax, mail::Recipient& recipient
) {
    const auto parameters = parameters_of(text);
    if (auto bad = check_repetition(parameters)) return bad;
    const bool dsn = syntax.offered != nullptr && syntax.offered->dsn;
    for (const Parameter& parameter : parameters) {
        if (iequals(parameter.keyword, "NOTIFY") && dsn) {
            if (auto bad = read_notify(parameter, recipient)) return bad;
        } else if (iequals(parameter.keyword, "ORCPT") && dsn) {
            if (!is_original_recipient(parameter.value, syntax.smtputf8)) return bad_value("ORCPT");
            recipient.orcpt = parameter.value;
        } else {
            return unknown(parameter);
        }
    }
    return std::nullopt;
}

}  // namespace sluice::smtp
