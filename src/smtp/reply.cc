#include "smtp/reply.h"

#include <algorithm>
#include <charconv>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::smtp {
namespace {

constexpr std::size_t line_octets_max = 512;  // RFC 5321 §4.5.3.1.5, with CRLF

// One to three digits from the front of `text`.
std::optional<std::uint16_t> take_number(std::string_view& text) {
    std::uint16_t value = 0;
    std::size_t digits = 0;
    while (digits < text.size() && digits < 4 && is_digit(text[digits])) {
        value = static_cast<std::uint16_t>(value * 10 + (text[digits] - '0'));
        ++digits;
    }
    if (digits == 0 || digits > 3) return std::nullopt;
    text.remove_prefix(digits);
    return value;
}

bool take_dot(std::string_view& text) {
    if (!text.starts_with('.')) return false;
    text.remove_prefix(1);
    return true;
}

std::string_view without_code(std::string_view line, const EnhancedCode& code) {
    const auto own = EnhancedCode::parse_prefix(line);
    if (!own || *own != code) return line;
    line.remove_prefix(std::min(line.find(' '), line.size()));
    return line.empty() ? line : line.substr(1);
}

void append_printable(std::string& out, std::string_view text) {
    for (const char c : text)
        out.push_back((c >= 0 && c < ' ') || c == 0x7F ? '?' : c);
}

// How much of `text` fits into `room`, broken at a blank if there is one.
std::size_t wrap_at(std::string_view text, std::size_t room) {
    if (text.size() <= room) return text.size();
    const std::size_t blank = text.rfind(' ', room);
    if (blank != std::string_view::npos && blank > 0) return blank;
    std::size_t cut = room;
    while (cut > 1 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80)
        --cut;  // not inside a character
    return cut;
}

std::vector<std::string_view> wrapped(const std::vector<std::string>& lines, std::size_t room) {
    std::vector<std::string_view> out;
    for (std::string_view line : lines) {
        do {
            const std::size_t cut = wrap_at(line, room);
            out.push_back(line.substr(0, cut));
            line.remove_prefix(cut);
            if (line.starts_with(' ')) line.remove_prefix(1);
        } while (!line.empty());
    }
    if (out.empty()) out.emplace_back();
    return out;
}

}  // namespace

std::string EnhancedCode::text() const {
    return std::to_string(klass) + "." + std::to_string(subject) + "." + std::to_string(detail);
}

std::optional<EnhancedCode> EnhancedCode::parse_prefix(std::string_view text) {
    const auto klass = take_number(text);
    if (!klass || (*klass != 2 && *klass != 4 && *klass != 5) || !take_dot(text)) return std::nullopt;
    const auto subject = take_number(text);
    if (!subject || !take_dot(text)) return std::nullopt;
    const auto detail = take_number(text);
    if (!detail || (!text.empty() && !is_space(text.front()))) return std::nullopt;
    return EnhancedCode{static_cast<std::uint8_t>(*klass), *subject, *detail};
}

Reply::Reply(int code_, std::string_view enhanced_, std::string text)
    : code(code_), enhanced(EnhancedCode::parse_prefix(enhanced_)) {
    lines.push_back(std::move(text));
}

std::string Reply::text() const {
    std::string out;
    for (const std::string& line : lines) {
        if (!out.empty() && !line.empty()) out.push_back(' ');
        out += line;
    }
    return out;
}

std::string Reply::full_text() const {
    std::string out = std::to_string(code);
    if (enhanced) out += " " + enhanced->text();
    const std::string words = text();
    if (!words.empty()) out += " " + words;
    return out;
}

void append(std::string& out, const Reply& reply) {
    const std::string code = std::to_string(reply.code);
    const std::string enhanced = reply.enhanced ? reply.enhanced->text() + " " : std::string();
    const std::size_t room = line_octets_max - code.size() - 1 - enhanced.size() - 2;
    const auto lines = wrapped(reply.lines, room);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        out.append(code).push_back(i + 1 < lines.size() ? '-' : ' ');
        out.append(enhanced);
        append_printable(out, lines[i]);
        out.append("\r\n");
    }
}

std::string format(const Reply& reply) {
    std::string out;
    append(out, reply);
    return out;
}

Result<std::optional<Reply>> ReplyParser::feed(std::string_view& bytes) {
    while (!bytes.empty()) {
        const std::size_t lf = bytes.find('\n');
        const std::size_t count = lf == std::string_view::npos ? bytes.size() : lf + 1;
        octets_ += count;
        if (octets_ > octets_max) return fail(Errc::bad_reply, "reply is longer than 64 KiB");
        const std::string_view piece = bytes.substr(0, count);
        bytes.remove_prefix(count);
        if (lf == std::string_view::npos || !line_.empty()) line_.append(piece);
        if (lf == std::string_view::npos) break;

        std::string_view line = line_.empty() ? piece : std::string_view(line_);
        line.remove_suffix(1);
        if (line.ends_with('\r')) line.remove_suffix(1);
        TRY(const bool last, take_line(line));
        line_.clear();
        if (!last) continue;
        std::optional<Reply> complete(std::move(reply_));
        reset();
        return complete;
    }
    return std::optional<Reply>();
}

// One line: three digits, then ' ' or nothing (last) or '-' (more follow), then text.
Result<bool> ReplyParser::take_line(std::string_view line) {
    if (line.size() < 3 || !std::all_of(line.begin(), line.begin() + 3, is_digit)) {
        return fail(
            Errc::bad_reply, "expected a three-digit code, got \"" + printable(line.substr(0, 80)) + "\""
        );
    }
    const int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
    if (code < 200 || code > 599) return fail(Errc::bad_reply, "reply code outside 200-599");
    const char separator = line.size() == 3 ? ' ' : line[3];
    if (separator != ' ' && separator != '-')
        return fail(Errc::bad_reply, "expected ' ' or '-' after the reply code");
    if (!reply_.lines.empty() && reply_.code != code)
        return fail(Errc::bad_reply, "codes differ within one reply");
    if (reply_.lines.size() == lines_max) return fail(Errc::bad_reply, "reply has more than 100 lines");

    std::string_view text = line.substr(std::min<std::size_t>(line.size(), 4));
    reply_.code = code;
    if (reply_.lines.empty()) reply_.enhanced = EnhancedCode::parse_prefix(text);
    if (reply_.enhanced) text = without_code(text, *reply_.enhanced);
    reply_.lines.emplace_back(text);
    return separator == ' ';
}

void ReplyParser::reset() {
    line_.clear();
    reply_ = Reply();
    octets_ = 0;
}

}  // namespace sluice::smtp
