#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// ASCII only, whatever the locale: protocol text never depends on it.
inline char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
inline char ascii_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_alpha(char c) { return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z'; }
inline bool is_alnum(char c) { return is_digit(c) || is_alpha(c); }
inline bool is_space(char c) { return c == ' ' || c == '\t'; }

std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
bool iequals(std::string_view a, std::string_view b);
bool istarts_with(std::string_view text, std::string_view prefix);
// Without leading and trailing spaces, tabs, CR and LF.
std::string_view trim(std::string_view text);
// All pieces between separators, empty ones included; one piece for an empty text.
std::vector<std::string_view> split(std::string_view text, char separator);
bool is_ascii(std::string_view text);
bool is_valid_utf8(std::string_view text);
// The same text with U+FFFD in place of every octet that is not valid UTF-8.
std::string with_valid_utf8(std::string text);

// The whole text as a number in range, or nothing: no sign for unsigned types, no blanks, no rest.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end || text.empty()) return std::nullopt;
    return value;
}

std::string base64_encode(std::string_view bytes);
// Strict RFC 4648 with padding; nothing for anything else.
std::optional<std::string> base64_decode(std::string_view text);
std::string hex_encode(std::string_view bytes);

// Appends `text` as the inside of a JSON string: quotes, backslashes and control characters escaped, bytes that
// are not valid UTF-8 replaced by U+FFFD. One record stays one line.
void append_json_escaped(std::string& out, std::string_view text);

// Printable form for logs: control characters and DEL as \xNN, so no terminal or line structure can be attacked.
std::string printable(std::string_view text);

}  // namespace sluice
