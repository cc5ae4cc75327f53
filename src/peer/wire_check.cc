#include "peer/wire_check.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/text.h"
#include "mail/octet_masks.h"

namespace sluice::peer {
namespace {

using mail::OctetMasks;

constexpr std::size_t kept_max = 20;
constexpr std::size_t shown_octets_max = 200;
constexpr std::size_t text_octets_max = 998;      // RFC 5322 §2.1.1, without CRLF
constexpr std::size_t command_bytes_max = 512;    // RFC 5321 §4.5.3.1.4, with CRLF
constexpr std::size_t response_bytes_max = 12'288;  // RFC 4954 §4

// A command, and the keyword without which it must not be used; empty: it belongs to every server.
struct Verb {
    std::string_view name, keyword;
    bool ends_a_group;  // RFC 2920 §3.1: nothing may follow before its reply
};
constexpr std::array<Verb, 15> verbs{{
    {"EHLO", "", true}, {"HELO", "", true}, {"LHLO", "", true}, {"MAIL", "", false}, {"RCPT", "", false},
    {"DATA", "", true}, {"RSET", "", false}, {"NOOP", "", true}, {"QUIT", "", true}, {"VRFY", "", true},
    {"HELP", "", true}, {"EXPN", "", true}, {"STARTTLS", "STARTTLS", true}, {"AUTH", "AUTH", true}, {"BDAT", "CHUNKING", false},
}};

// A parameter of MAIL or RCPT, its keyword, and by how much it lengthens the line that is permitted.
struct Parameter {
    std::string_view verb, name, keyword;
    std::size_t longer;
};
constexpr std::array<Parameter, 11> parameters{{
    {"MAIL", "SIZE", "SIZE", 26},           // RFC 1870 §3
    {"MAIL", "BODY", "8BITMIME", 17},       // RFC 6152 §2
    {"MAIL", "SMTPUTF8", "SMTPUTF8", 10},   // RFC 6531 §3.1
    {"MAIL", "AUTH", "AUTH", 500},          // RFC 4954 §5
    {"MAIL", "RET", "DSN", 9},              // RFC 3461 §4, as the three below
    {"MAIL", "ENVID", "DSN", 108},
    {"RCPT", "NOTIFY", "DSN", 29},
    {"RCPT", "ORCPT", "DSN", 507},
    {"MAIL", "REQUIRETLS", "REQUIRETLS", 11},
    {"MAIL", "MT-PRIORITY", "MT-PRIORITY", 15},
    {"RCPT", "RRVS", "RRVS", 33},
}};

std::string_view word_of(std::string_view text, char end) { return text.substr(0, text.find(end)); }

// The argument of "FROM:" or "TO:", without the line end.
std::string_view argument_of(std::string_view line) {
    const std::size_t colon = line.find(':');
    return colon == std::string_view::npos ? std::string_view() : trim(line.substr(colon + 1));
}

// Octets of "<...>" at the front, quoted parts skipped; 0 when there is no such thing.
std::size_t path_size(std::string_view argument) {
    if (!argument.starts_with('<')) return 0;
    bool quoted = false;
    for (std::size_t at = 1; at < argument.size(); ++at) {
        if (quoted && argument[at] == '\\') ++at;
        else if (argument[at] == '"') quoted = !quoted;
        else if (argument[at] == '>' && !quoted) return at + 1;
    }
    return 0;
}

}  // namespace

void WireReport::add(std::uint64_t connection, std::string_view what, std::string_view octets) {
    ++count_;
    const std::scoped_lock lock(mutex_);
    if (first_.size() >= kept_max) return;
    std::string line = "connection " + std::to_string(connection) + ": ";
    line += what;
    if (!octets.empty()) line += ": " + printable(octets.substr(0, shown_octets_max));
    first_.push_back(std::move(line));
}

std::vector<std::string> WireReport::first() const {
    const std::scoped_lock lock(mutex_);
    return first_;
}

void WireCheck::offered(const std::vector<std::string>& keywords) {
    greeted_ = true;
    offered_.clear();
    for (const std::string& keyword : keywords) offered_.push_back(to_upper(keyword));
}

void WireCheck::secured() {
    greeted_ = false;
    offered_.clear();
}

bool WireCheck::offers(std::string_view keyword) const {
    return std::any_of(offered_.begin(), offered_.end(), [&](const std::string& one) { return word_of(one, ' ') == keyword; });
}

bool WireCheck::offers_mechanism(std::string_view mechanism) const {
    for (const std::string& one : offered_) {
        if (word_of(one, ' ') != "AUTH") continue;
        const auto words = split(one, ' ');
        if (std::find(words.begin() + 1, words.end(), mechanism) != words.end()) return true;
    }
    return false;
}

void WireCheck::command(std::string_view line, std::size_t behind) {
    check_octets(line);
    const std::string_view text = trim(line);
    const std::string verb = to_upper(word_of(text, ' '));
    if (line.size() > line_bytes_max(verb)) complain("a command line that is too long", line);
    check_verb(verb, text, behind);
    if (verb == "MAIL") {
        utf8_ = binary_ = false;
        forget_content();
        check_path(verb, text);
    }
    if (verb == "RCPT") check_path(verb, text);
}

void WireCheck::check_octets(std::string_view line) {
    if (!line.ends_with("\r\n")) return complain("a command line without CR LF", line);
    constexpr std::string_view forbidden("\r\n\0", 3);
    if (line.substr(0, line.size() - 2).find_first_of(forbidden) != std::string_view::npos) {
        complain("CR, LF or NUL within a command line", line);
    }
}

std::size_t WireCheck::line_bytes_max(std::string_view verb) const {
    if (verb == "AUTH") return response_bytes_max;
    std::size_t bytes = command_bytes_max;
    for (const Parameter& one : parameters) {
        if (one.verb == verb && offers(one.keyword)) bytes += one.longer;
    }
    return bytes;
}

void WireCheck::check_verb(std::string_view name, std::string_view line, std::size_t behind) {
    const auto* const verb = std::find_if(verbs.begin(), verbs.end(), [&](const Verb& one) { return one.name == name; });
    if (verb == verbs.end()) return complain("no command, so perhaps content that was not announced", line);
    if (!verb->keyword.empty() && !offers(verb->keyword)) complain("a command that was not offered", line);
    const bool hello = name == "EHLO" || name == "HELO" || name == "LHLO";
    if (hello && lmtp_ != (name == "LHLO")) complain("the greeting of another protocol", line);
    if ((name == "MAIL" || name == "AUTH" || name == "BDAT") && !greeted_) complain("a command before EHLO", line);
    if (name == "AUTH" && !offers_mechanism(to_upper(word_of(trim(line.substr(4)), ' ')))) {
        complain("a mechanism that was not offered", word_of(trim(line.substr(4)), ' '));
    }
    if (behind == 0 || name == "BDAT") return;  // a chunk follows its command at once
    if (verb->ends_a_group) complain("octets behind a command that ends a group", line);
    else if (!offers("PIPELINING")) complain("a group of commands, but PIPELINING was not offered", line);
}

void WireCheck::check_path(std::string_view verb, std::string_view line) {
    const std::string_view argument = argument_of(line);
    const std::size_t size = path_size(argument);
    if (size == 0) return complain("no path in angle brackets", line);
    for (const std::string_view parameter : split(argument.substr(size), ' ')) {
        if (!parameter.empty()) check_parameter(verb, parameter);
    }
    const std::string_view path = argument.substr(0, size);
    const auto high = [](char c) { return static_cast<unsigned char>(c) > 127; };
    if (!utf8_ && std::any_of(path.begin(), path.end(), high)) complain("an address beyond ASCII without SMTPUTF8", line);
}

void WireCheck::check_parameter(std::string_view verb, std::string_view parameter) {
    const std::string name = to_upper(word_of(parameter, '='));
    const std::string value = name.size() < parameter.size() ? to_upper(parameter.substr(name.size() + 1)) : std::string();
    const auto known = [&](const Parameter& one) { return one.verb == verb && one.name == name; };
    const auto* const found = std::find_if(parameters.begin(), parameters.end(), known);
    if (found == parameters.end() || !offers(found->keyword)) return complain("a parameter that was not offered", parameter);
    utf8_ = utf8_ || name == "SMTPUTF8";
    binary_ = binary_ || (name == "BODY" && value == "BINARYMIME");
    if (binary_ && !offers("BINARYMIME")) complain("a parameter that was not offered", parameter);
}

void WireCheck::content(std::string_view octets, Framing framing) {
    if (binary_ && framing == Framing::chunk) return;  // RFC 3030 §3: any octets
    while (octets.size() >= OctetMasks::width) {
        block(octets.data(), OctetMasks::width, framing);
        octets.remove_prefix(OctetMasks::width);
    }
    if (octets.empty()) return;
    std::array<char, OctetMasks::width> rest;
    rest.fill(' ');
    std::memcpy(rest.data(), octets.data(), octets.size());
    block(rest.data(), static_cast<unsigned>(octets.size()), framing);
}

// The first `size` octets of a block of 64; the others are blanks.
void WireCheck::block(const char* octets, unsigned size, Framing framing) {
    const OctetMasks masks = mail::octet_masks(octets);
    const std::uint64_t valid = size == OctetMasks::width ? ~std::uint64_t{0} : (std::uint64_t{1} << size) - 1;
    const auto behind = [](std::uint64_t mask, bool before) { return mask << 1 | (before ? 1U : 0U); };
    const auto last = [size](std::uint64_t mask) { return (mask >> (size - 1) & 1) != 0; };

    // LF stands behind each CR and nowhere else.
    if (((masks.lf ^ behind(masks.cr, after_cr_)) & valid) != 0) complain("bare CR or bare LF in content", {octets, size});
    if ((masks.nul & valid) != 0) complain("NUL in content", {octets, size});
    const std::uint64_t leading = masks.dot & behind(masks.lf, line_starts_);
    if (framing == Framing::dots && (behind(leading, dot_starts_) & ~masks.dot & valid) != 0) {
        complain("a line whose leading dot is not doubled", {octets, size});
    }
    after_cr_ = last(masks.cr);
    line_starts_ = last(masks.lf);
    dot_starts_ = last(leading);

    unsigned start = 0;
    const auto note_line = [&](unsigned end) {
        if (line_octets_ == 0) line_is_stuffed_ = framing == Framing::dots && (leading >> start & 1) != 0;
        line_octets_ += end - start;
    };
    for (std::uint64_t ends = masks.lf & valid; ends != 0; ends &= ends - 1) {
        const auto end = static_cast<unsigned>(std::countr_zero(ends));
        note_line(end);
        // With its CR, and with the dot that the receiver removes.
        if (line_octets_ > text_octets_max + (line_is_stuffed_ ? 2 : 1)) complain("a line of more than 998 octets");
        line_octets_ = 0;
        start = end + 1;
    }
    if (start < size) note_line(size);
}

void WireCheck::end_of_content(Framing framing) {
    const bool any = binary_ && framing == Framing::chunk;
    if (!any && !line_starts_) complain("content whose last line has no CR LF");
    forget_content();
    utf8_ = binary_ = false;
}

void WireCheck::forget_content() {
    after_cr_ = dot_starts_ = line_is_stuffed_ = false;
    line_starts_ = true;
    line_octets_ = 0;
}

void WireCheck::ended(std::size_t behind) {
    if (behind > 0) complain("octets behind QUIT");
}

}  // namespace sluice::peer
