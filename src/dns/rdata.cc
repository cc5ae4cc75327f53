#include "dns/rdata.h"

#include <array>

#include "base/text.h"

namespace sluice::dns {
namespace {

constexpr std::size_t name_octets_max = 255;  // RFC 1035 §3.1
constexpr std::size_t label_octets_max = 63;
constexpr std::size_t message_header_octets = 12;
constexpr std::uint16_t type_ns = 2;
constexpr std::uint16_t type_cname = 5;
constexpr std::uint16_t type_soa = 6;

std::uint8_t octet_at(std::string_view bytes, std::size_t at) {
    return static_cast<std::uint8_t>(bytes[at]);
}

std::uint16_t word_at(std::string_view bytes, std::size_t at) {
    return static_cast<std::uint16_t>(octet_at(bytes, at) << 8 | octet_at(bytes, at + 1));
}

void append_label_octet(std::string& out, char c) {
    const auto octet = static_cast<std::uint8_t>(c);
    if (c == '.' || c == '\\') {
        out += '\\';
        out += c;
    } else if (octet <= ' ' || octet >= 0x7F) {
        out += '\\';
        out += static_cast<char>('0' + octet / 100);
        out += static_cast<char>('0' + octet / 10 % 10);
        out += static_cast<char>('0' + octet % 10);
    } else {
        out += ascii_lower(c);
    }
}

// How many characters the escape at the front of `text` takes; 0 when it is none.
std::size_t escape_length(std::string_view text) {
    if (text.size() < 2) return 0;
    if (!is_digit(text[1])) return 2;
    const auto octet = text.size() < 4 ? std::nullopt : parse_number<std::uint8_t>(text.substr(1, 3));
    return octet ? 4 : 0;
}

// A name that fills `wire` to its last octet; empty for the root.
Result<std::string> parse_whole_name(std::string_view wire) {
    if (wire.size() > name_octets_max) return fail(Errc::bad_input, "name is longer than 255 octets");
    std::string name;
    std::size_t at = 0;
    while (at < wire.size()) {
        const std::size_t length = octet_at(wire, at++);
        if (length == 0) {
            if (at != wire.size()) return fail(Errc::bad_input, "octets after the end of the name");
            return name;
        }
        if (length > label_octets_max)
            return fail(Errc::bad_input, "label is a pointer or longer than 63 octets");
        if (length > wire.size() - at) return fail(Errc::bad_input, "label goes beyond the record");
        if (!name.empty()) name += '.';
        for (const char c : wire.substr(at, length))
            append_label_octet(name, c);
        at += length;
    }
    return fail(Errc::bad_input, "name has no end");
}

// The place after a possibly compressed name. Pointers end a name and are not followed, so there are no
// loops.
Result<std::size_t> skip_name(std::string_view message, std::size_t at) {
    constexpr std::uint8_t pointer_bits = 0xC0;
    while (at < message.size()) {
        const std::uint8_t length = octet_at(message, at);
        if ((length & pointer_bits) == pointer_bits) {
            if (message.size() - at < 2) break;
            return at + 2;
        }
        if (length > label_octets_max) return fail(Errc::bad_input, "label of an unknown kind");
        at += std::size_t{1} + length;
        if (length == 0) return at;
    }
    return fail(Errc::bad_input, "message ends inside a name");
}

struct RecordPlace {
    std::uint16_t type;
    std::size_t end;
};

Result<RecordPlace> skip_record(std::string_view message, std::size_t at) {
    constexpr std::size_t fixed_octets = 10;  // type, class, TTL, length
    TRY(at, skip_name(message, at));
    if (at > message.size() || message.size() - at < fixed_octets) {
        return fail(Errc::bad_input, "message ends inside a record");
    }
    const std::size_t length = word_at(message, at + 8);
    const std::size_t begin = at + fixed_octets;
    if (length > message.size() - begin) return fail(Errc::bad_input, "record goes beyond the message");
    return RecordPlace{word_at(message, at), begin + length};
}

// The place after header and questions.
Result<std::size_t> skip_questions(std::string_view message) {
    constexpr std::size_t fixed_octets = 4;  // type, class
    if (message.size() < message_header_octets) return fail(Errc::bad_input, "message is too short");
    std::size_t at = message_header_octets;
    for (std::size_t left = word_at(message, 4); left > 0; --left) {
        TRY(at, skip_name(message, at));
        if (at > message.size() || message.size() - at < fixed_octets) {
            return fail(Errc::bad_input, "message ends inside a question");
        }
        at += fixed_octets;
    }
    return at;
}

}  // namespace

Result<MxRecord> parse_mx(std::string_view rdata) {
    if (rdata.size() < 3) return fail(Errc::bad_input, "MX record is too short");
    TRY(std::string host, parse_whole_name(rdata.substr(2)));
    return MxRecord{word_at(rdata, 0), std::move(host)};
}

Result<net::IpAddress> parse_a(std::string_view rdata) {
    if (rdata.size() != 4) return fail(Errc::bad_input, "A record does not have 4 octets");
    return net::IpAddress::v4(std::uint32_t{word_at(rdata, 0)} << 16 | word_at(rdata, 2));
}

Result<net::IpAddress> parse_aaaa(std::string_view rdata) {
    std::array<std::uint8_t, 16> bytes{};
    if (rdata.size() != bytes.size()) return fail(Errc::bad_input, "AAAA record does not have 16 octets");
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = octet_at(rdata, i);
    return net::IpAddress::v6(bytes);
}

bool is_presentable_name(std::string_view text) {
    std::size_t octets = 1;  // the root's
    std::size_t label = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] <= ' ' || text[at] >= 0x7F) return false;
        if (text[at] == '.') {
            if (label == 0) return false;
            octets += 1 + label;
            label = 0;
            continue;
        }
        if (text[at] == '\\') {
            const std::size_t taken = escape_length(text.substr(at));
            if (taken == 0) return false;
            at += taken - 1;
        }
        if (++label > label_octets_max) return false;
    }
    return label > 0 && octets + 1 + label <= name_octets_max;
}

Result<std::size_t> count_aliases(std::string_view message) {
    TRY(std::size_t at, skip_questions(message));
    std::size_t aliases = 0;
    for (std::size_t left = word_at(message, 6); left > 0; --left) {
        TRY(const RecordPlace record, skip_record(message, at));
        if (record.type == type_cname) ++aliases;
        at = record.end;
    }
    return aliases;
}

Result<bool> is_referral(std::string_view message) {
    TRY(std::size_t at, skip_questions(message));
    for (std::size_t left = word_at(message, 6); left > 0; --left) {
        TRY(const RecordPlace record, skip_record(message, at));
        at = record.end;
    }
    bool names_servers = false;
    for (std::size_t left = word_at(message, 8); left > 0; --left) {
        TRY(const RecordPlace record, skip_record(message, at));
        if (record.type == type_soa) return false;
        if (record.type == type_ns) names_servers = true;
        at = record.end;
    }
    return names_servers;
}

}  // namespace sluice::dns
