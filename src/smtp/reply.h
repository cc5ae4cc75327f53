#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::smtp {

// RFC 3463: class.subject.detail, e.g. 5.7.26. Value.
struct EnhancedCode {
    std::uint8_t klass = 0;  // 2, 4 or 5
    std::uint16_t subject = 0;
    std::uint16_t detail = 0;

    friend bool operator==(const EnhancedCode&, const EnhancedCode&) = default;
    std::string text() const;
    // The code at the start of `text`, which must end there or before a blank; subject and detail have one to
    // three digits. Nothing for anything else: "5.7", "5..1" and "5.7.1000" are words like others.
    static std::optional<EnhancedCode> parse_prefix(std::string_view text);
};

// One reply to a command, from a peer or of our own. Value.
struct Reply {
    int code = 0;  // 200 to 599
    std::optional<EnhancedCode> enhanced;
    std::vector<std::string> lines;  // without codes; one or more, possibly empty

    Reply() = default;
    // A reply of one line; the enhanced code is "x.y.z" or empty.
    Reply(int code_, std::string_view enhanced_, std::string text);

    bool positive() const { return code / 100 == 2; }
    bool intermediate() const { return code / 100 == 3; }
    bool transient() const { return code / 100 == 4; }
    bool permanent() const { return code / 100 == 5; }
    // "550 4.2.1": the code decides, the contradiction is worth a log line (ES-2).
    bool contradicts_itself() const { return enhanced && enhanced->klass != code / 100; }
    // The lines with a blank between them.
    std::string text() const;
    // "550 5.1.1 No such user here": for logs, events and diagnostics; control characters as they came.
    std::string full_text() const;

    friend bool operator==(const Reply&, const Reply&) = default;
};

// Bytes for the wire: each line at most 512 octets with its CRLF (longer text is wrapped at blanks), each
// with the enhanced code (RFC 2034 §4); what is no printable text comes out as '?', so text cannot start a
// new line.
std::string format(const Reply& reply);
// The same, appended to `out`.
void append(std::string& out, const Reply& reply);

// Reads the replies of a peer from bytes in any portions. Not thread-safe.
//
// Accepts what peers send: a bare code without text, bare LF as line end, octets above 127 in text.
// Refuses with bad_reply (close the connection, try again later): lines that do not start with three digits
// and a blank, '-' or nothing; codes outside 200 to 599; different codes within one reply; more than 100
// lines or 64 KiB.
class ReplyParser {
public:
    static constexpr std::size_t lines_max = 100;
    static constexpr std::size_t octets_max = 64 * 1024;

    // Takes octets from the front of `bytes` up to the end of a reply. Gives that reply, or nothing when more
    // octets are needed (then `bytes` is empty). After an error only reset() helps.
    Result<std::optional<Reply>> feed(std::string_view& bytes);
    // True when the last octet seen ended a reply: surplus now would be an answer nobody asked for.
    bool idle() const { return line_.empty() && reply_.lines.empty(); }
    void reset();

private:
    Result<bool> take_line(std::string_view line);

    std::string line_;  // begun, not ended yet
    Reply reply_;       // the lines so far
    std::size_t octets_ = 0;
};

}  // namespace sluice::smtp
