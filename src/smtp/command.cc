#include "smtp/command.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "mail/domain.h"
#include "smtp/parameters.h"

namespace sluice::smtp {
namespace {

using Parsed = tl::expected<Command, Refusal>;

constexpr std::array<std::string_view, 15> verb_names = {"HELO", "EHLO", "LHLO", "MAIL",     "RCPT",
                                                         "DATA", "BDAT", "RSET", "NOOP",     "VRFY",
                                                         "EXPN", "HELP", "QUIT", "STARTTLS", "AUTH"};

Verb verb_of(std::string_view word) {
    for (std::size_t i = 0; i < verb_names.size(); ++i) {
        if (iequals(word, verb_names[i])) return static_cast<Verb>(i);
    }
    return Verb::unknown;
}

tl::unexpected<Refusal> refuse(Verb verb, int code, std::string_view enhanced, std::string text) {
    return tl::unexpected<Refusal>(Refusal{Reply(code, enhanced, std::move(text)), verb, false});
}
tl::unexpected<Refusal> refuse(Verb verb, Reply reply) {
    return tl::unexpected<Refusal>(Refusal{std::move(reply), verb, false});
}

std::string_view trim_blanks(std::string_view text) {
    while (!text.empty() && is_space(text.front()))
        text.remove_prefix(1);
    while (!text.empty() && is_space(text.back()))
        text.remove_suffix(1);
    return text;
}

// The client's name decides nothing, so any printable word passes; only a malformed literal is refused
// (S5321-18). Older clients send names with underscores, which is no reason to lose their mail.
Parsed parse_hello(Verb verb, std::string_view argument) {
    if (argument.empty())
        return refuse(verb, 501, "5.5.4", std::string(name_of(verb)) + " needs a domain or address literal");
    const bool printable_word = std::all_of(argument.begin(), argument.end(), [](char c) {
        return c > ' ' || static_cast<unsigned char>(c) >= 0x80;
    });
    const bool utf8 = is_valid_utf8(argument);
    const bool bad_literal = argument.front() == '[' && !mail::canonical_literal(argument);
    if (!printable_word || !utf8 || bad_literal || argument.size() > 255 ||
        argument.find('\x7F') != std::string_view::npos) {
        return refuse(verb, 501, "5.5.4", "Malformed domain or address literal");
    }
    return Command{verb, Hello{std::string(argument)}};
}

// "FROM:" or "TO:", then a path. One blank after the colon is no standard, but common; it is forgiven.
std::optional<std::string_view> after_keyword(std::string_view argument, std::string_view keyword) {
    if (!istarts_with(argument, keyword)) return std::nullopt;
    argument.remove_prefix(keyword.size());
    if (argument.starts_with(' ')) argument.remove_prefix(1);
    return argument;
}

// Where the path ends: after the '>' that is neither quoted nor escaped; without brackets, at a blank.
std::size_t path_size(std::string_view text) {
    if (!text.starts_with('<')) return std::min(text.find(' '), text.size());
    bool quoted = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (quoted && text[i] == '\\') {
            ++i;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && text[i] == '>') {
            return i + 1;
        }
    }
    return text.size();
}

struct PathAndRest {
    std::string_view path;
    std::string_view parameters;
};

std::optional<PathAndRest> cut_path(std::string_view text) {
    const std::size_t size = path_size(text);
    const std::string_view rest = text.substr(size);
    if (!rest.empty() && rest.front() != ' ') return std::nullopt;
    return PathAndRest{text.substr(0, size), trim_blanks(rest)};
}

tl::expected<mail::Address, Reply> read_path(
    std::string_view path, const mail::PathSyntax& syntax, bool sender
) {
    if (!syntax.allow_utf8 && !is_ascii(path) && is_valid_utf8(path)) {
        return tl::unexpected<Reply>(Reply(553, "5.6.7", "Non-ASCII address needs SMTPUTF8"));
    }
    auto address = mail::parse_path(path, syntax);
    if (!address)
        return tl::unexpected<Reply>(Reply(501, sender ? "5.1.7" : "5.1.3", address.error().detail));
    return std::move(*address);
}

Parsed parse_mail(std::string_view argument, const CommandSyntax& syntax) {
    const auto text = after_keyword(argument, "FROM:");
    const auto cut = text ? cut_path(*text) : std::nullopt;
    if (!cut) return refuse(Verb::mail, 501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]");
    MailFrom mail;
    // The parameters say how the address may look, so they come first.
    if (auto bad = read_mail_parameters(cut->parameters, syntax.offered, mail))
        return refuse(Verb::mail, std::move(*bad));
    mail::PathSyntax path;
    path.allow_null = true;
    path.allow_utf8 = mail.smtputf8;
    auto address = read_path(cut->path, path, true);
    if (!address) return refuse(Verb::mail, std::move(address.error()));
    mail.reverse_path = std::move(*address);
    return Command{Verb::mail, std::move(mail)};
}

Parsed parse_rcpt(std::string_view argument, const CommandSyntax& syntax) {
    const auto text = after_keyword(argument, "TO:");
    const auto cut = text ? cut_path(*text) : std::nullopt;
    if (!cut) return refuse(Verb::rcpt, 501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]");
    RcptTo rcpt;
    mail::PathSyntax path;
    path.allow_utf8 = syntax.smtputf8;
    path.allow_postmaster = true;
    auto address = read_path(cut->path, path, false);
    if (!address) return refuse(Verb::rcpt, std::move(address.error()));
    rcpt.recipient.address = std::move(*address);
    if (auto bad = read_rcpt_parameters(cut->parameters, syntax, rcpt.recipient))
        return refuse(Verb::rcpt, std::move(*bad));
    return Command{Verb::rcpt, std::move(rcpt)};
}

// When the size cannot be told, neither can the end of the chunk (BD-4). That holds for BDAT that was not
// offered, too.
Parsed parse_bdat(std::string_view argument, const CommandSyntax& syntax) {
    const auto lost = [](int code, std::string_view enhanced, std::string text) {
        return tl::unexpected<Refusal>(Refusal{Reply(code, enhanced, std::move(text)), Verb::bdat, true});
    };
    const std::size_t blank = std::min(argument.find(' '), argument.size());
    const std::string_view digits = argument.substr(0, blank);
    const std::string_view rest = trim_blanks(argument.substr(blank));
    if (digits.empty() || !std::all_of(digits.begin(), digits.end(), is_digit)) {
        return lost(501, "5.5.4", "Syntax: BDAT size [LAST]");
    }
    const auto size = parse_number<std::uint64_t>(digits);
    const std::uint64_t limit = syntax.offered != nullptr ? syntax.offered->size_max : 0;
    if (!size || (limit > 0 && *size > limit))
        return lost(552, "5.3.4", "Chunk is larger than this server accepts");
    if (!rest.empty() && !iequals(rest, "LAST")) return lost(501, "5.5.4", "Syntax: BDAT size [LAST]");
    return Command{Verb::bdat, Bdat{*size, !rest.empty()}};
}

Parsed parse_auth(std::string_view argument) {
    const std::size_t blank = std::min(argument.find(' '), argument.size());
    const std::string_view mechanism = argument.substr(0, blank);
    const std::string_view initial = trim_blanks(argument.substr(blank));
    const auto is_mechanism_char = [](char c) { return is_alnum(c) || c == '-' || c == '_'; };
    const bool named = !mechanism.empty() && mechanism.size() <= 20 &&  // RFC 4422 §3.1
                       std::all_of(mechanism.begin(), mechanism.end(), is_mechanism_char);
    if (!named) return refuse(Verb::auth, 501, "5.5.4", "Syntax: AUTH mechanism [initial-response]");
    Auth auth{to_upper(mechanism), std::nullopt};
    if (!initial.empty()) {
        if (initial != "=" && !base64_decode(initial))
            return refuse(Verb::auth, 501, "5.5.2", "Invalid base64");
        auth.initial = initial == "=" ? std::string() : std::string(initial);
    }
    return Command{Verb::auth, std::move(auth)};
}

Parsed parse_bare(Verb verb, std::string_view argument) {
    if (argument.empty()) return Command{verb, {}};
    return refuse(verb, 501, "5.5.4", std::string(name_of(verb)) + " takes no argument");
}

}  // namespace

std::string_view name_of(Verb verb) {
    return verb == Verb::unknown ? "UNKNOWN" : verb_names[static_cast<std::size_t>(verb)];
}

tl::expected<Command, Refusal> parse_command(std::string_view line, const CommandSyntax& syntax) {
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
        return refuse(Verb::unknown, 500, "5.5.2", "Command contains a stray line end or NUL");
    }
    const std::size_t blank = std::min(line.find_first_of(" \t"), line.size());
    const Verb verb = verb_of(line.substr(0, blank));
    const std::string_view argument = trim_blanks(line.substr(blank));
    switch (verb) {
        case Verb::helo:
        case Verb::ehlo:
        case Verb::lhlo:
            return parse_hello(verb, argument);
        case Verb::mail:
            return parse_mail(argument, syntax);
        case Verb::rcpt:
            return parse_rcpt(argument, syntax);
        case Verb::bdat:
            return parse_bdat(argument, syntax);
        case Verb::auth:
            return parse_auth(argument);
        case Verb::data:
        case Verb::rset:
        case Verb::quit:
        case Verb::starttls:
            return parse_bare(verb, argument);
        case Verb::vrfy:
        case Verb::expn:
            if (argument.empty())
                return refuse(verb, 501, "5.5.4", std::string(name_of(verb)) + " needs an argument");
            return Command{verb, Words{std::string(argument)}};
        case Verb::noop:
        case Verb::help:
            return Command{verb, Words{std::string(argument)}};
        case Verb::unknown:
            return Command{verb, Words{std::string(line)}};
    }
    return refuse(Verb::unknown, 500, "5.5.2", "Command not understood");
}

}  // namespace sluice::smtp
