#include "mail/mime.h"

#include <algorithm>
#include <cstdint>

#include "base/text.h"

namespace sluice::mail {
namespace {

constexpr std::string_view hex_upper = "0123456789ABCDEF";

void append_hex_octet(std::string& out, char c) {
    const auto octet = static_cast<unsigned char>(c);
    out.push_back('=');
    out.push_back(hex_upper[octet >> 4]);
    out.push_back(hex_upper[octet & 15]);
}

bool is_control(char c) {
    return (c >= 0 && c < ' ') || c == 0x7F;
}

// Octets of the character that starts with `first`, in valid UTF-8.
std::size_t character_size(char first) {
    const auto octet = static_cast<unsigned char>(first);
    if (octet < 0x80) return 1;
    if (octet < 0xE0) return 2;
    return octet < 0xF0 ? 3 : 4;
}

std::uint32_t code_point(std::string_view character) {
    if (character.size() == 1) return static_cast<unsigned char>(character[0]);
    std::uint32_t value = static_cast<unsigned char>(character[0]) & (0xFFU >> (character.size() + 1));
    for (const char c : character.substr(1))
        value = value << 6 | (static_cast<unsigned char>(c) & 0x3FU);
    return value;
}

// Where to break `value` so that the line keeps `room` octets if it can, and 900 in any case.
std::size_t fold_at(std::string_view value, std::size_t room) {
    constexpr std::size_t hard_max = 900;
    if (value.size() <= room) return value.size();
    std::size_t blank = value.rfind(' ', room);
    if (blank == 0 || blank == std::string_view::npos) blank = value.find(' ', 1);
    blank = std::min(blank, value.size());
    if (blank <= hard_max) return blank;
    std::size_t cut = hard_max;
    while ((static_cast<unsigned char>(value[cut]) & 0xC0) == 0x80)
        --cut;
    return cut;
}

std::string embed(std::string_view utf8, bool (*stays)(char)) {
    std::string out;
    for (std::size_t i = 0; i < utf8.size();) {
        const std::size_t size = std::min(character_size(utf8[i]), utf8.size() - i);
        if (stays(utf8[i])) {
            out.push_back(utf8[i]);
        } else {
            std::string digits;
            for (std::uint32_t value = code_point(utf8.substr(i, size)); value != 0 || digits.size() < 2;
                 value >>= 4) {
                digits.insert(digits.begin(), hex_upper[value & 15]);
            }
            out.append("\\x{").append(digits).append("}");
        }
        i += size;
    }
    return out;
}

}  // namespace

std::string quoted_printable(std::string_view text) {
    constexpr std::size_t columns_max = 76;
    std::string out;
    std::size_t column = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text.substr(i, 2) == "\r\n") {
            out.append("\r\n");
            column = 0;
            ++i;
            continue;
        }
        const char c = text[i];
        const bool ends_line = i + 1 == text.size() || text.substr(i + 1, 2) == "\r\n";
        const bool plain = (c > ' ' && c <= '~' && c != '=') || (is_space(c) && !ends_line);
        const std::size_t width = plain ? 1 : 3;
        if (column + width >= columns_max) {
            out.append("=\r\n");
            column = 0;
        }
        if (plain) {
            out.push_back(c);
        } else {
            append_hex_octet(out, c);
        }
        column += width;
    }
    return out;
}

std::string encoded_words(std::string_view text) {
    constexpr std::size_t octets_per_word = 45;  // 60 in base64, and the word stays under 75
    if (is_ascii(text)) return std::string(text);
    std::string out;
    while (!text.empty()) {
        std::size_t take = 0;
        while (take < text.size() && take + character_size(text[take]) <= octets_per_word)
            take += character_size(text[take]);
        if (!out.empty()) out.push_back(' ');
        out += "=?utf-8?B?" + base64_encode(text.substr(0, take)) + "?=";
        text.remove_prefix(take);
    }
    return out;
}

std::string folded_field(std::string_view name, std::string_view value) {
    constexpr std::size_t columns = 76;
    std::string out(name);
    out.append(": ");
    std::size_t room = columns > out.size() ? columns - out.size() : 1;
    for (bool first = true; first || !value.empty(); first = false) {
        if (!first) out.append("\r\n ");
        const std::size_t cut = fold_at(value, room);
        out.append(value.substr(0, cut));
        value.remove_prefix(cut);
        // The blank at the break comes back as the one that starts the next line.
        while (value.starts_with(' '))
            value.remove_prefix(1);
        room = columns - 1;
    }
    return out.append("\r\n");
}

std::string one_line(std::string_view text, std::size_t octets_max) {
    const bool utf8 = is_valid_utf8(text);
    std::string out;
    for (char c : text) {
        if (is_control(c)) c = ' ';
        if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
        out.push_back(!utf8 && static_cast<unsigned char>(c) >= 0x80 ? '?' : c);
    }
    if (out.ends_with(' ')) out.pop_back();
    if (out.size() <= octets_max) return out;
    std::size_t cut = octets_max > 3 ? octets_max - 3 : 0;
    while (cut > 0 && (static_cast<unsigned char>(out[cut]) & 0xC0) == 0x80)
        --cut;
    return out.substr(0, cut) + "...";
}

std::string embedded_unicode(std::string_view utf8) {
    return embed(utf8, [](char c) { return c > ' ' && c <= '~' && c != '\\' && c != '+' && c != '='; });
}

std::string embedded_non_ascii(std::string_view utf8) {
    return embed(utf8, [](char c) { return c >= ' ' && c <= '~'; });
}

std::string html_escaped(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char c : text) {
        switch (c) {
            case '&':
                out.append("&amp;");
                break;
            case '<':
                out.append("&lt;");
                break;
            case '>':
                out.append("&gt;");
                break;
            case '"':
                out.append("&quot;");
                break;
            case '\'':
                out.append("&#39;");
                break;
            default:
                out.push_back(c);
        }
    }
    return out;
}

std::string with_crlf(std::string_view text) {
    std::string out;
    out.reserve(text.size() + text.size() / 32);
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
        if (text[i] == '\n' || text[i] == '\r') {
            out.append("\r\n");
        } else {
            out.push_back(text[i] == '\0' ? ' ' : text[i]);
        }
    }
    if (!out.empty() && !out.ends_with("\r\n")) out.append("\r\n");
    return out;
}

}  // namespace sluice::mail
