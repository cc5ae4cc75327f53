#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mail/octet_masks.h"
#include "smtp/reply.h"

namespace sluice::smtp {

// What to do with a bare CR, bare LF or NUL in a message.
enum class BareEol : std::uint8_t {
    refuse,     // the message is refused: the safe default against smuggling
    normalise,  // a bare LF becomes CRLF, a bare CR and a NUL become a space, as mail::clean_text()
};

struct DataLimits {
    std::uint64_t size_max = 0;  // octets of decoded content; 0: no limit
    std::uint32_t line_max = 0;  // octets of a line without CRLF; 0: no limit
    BareEol bare_eol = BareEol::refuse;
};

// Why content was not taken. The first reason found stays.
enum class DataFault : std::uint8_t { none, too_large, line_too_long, bare_eol, nul };
// The reply for the end of the data. After bare_eol and nul the session should also be closed.
Reply reply_for(DataFault fault);

// Takes the octets after 354 apart: removes the stuffed dots and finds CRLF.CRLF, the only end there is,
// whatever the policy and whatever went wrong before. Memory: nothing is kept after a fault. Not thread-safe.
class DataDecoder {
public:
    explicit DataDecoder(const DataLimits& limits) : limits_(limits) {}

    // Consumes octets from the front of `bytes` and appends what they mean to `out`; stops after the end of
    // data, what follows stays in `bytes`. `out` is always the same string while one message is read; after a
    // fault it is emptied.
    void feed(std::string_view& bytes, std::string& out);
    bool done() const { return state_ == State::ended; }
    DataFault fault() const { return fault_; }
    // Octets read so far, terminator and stuffing included.
    std::uint64_t wire_octets() const { return wire_octets_; }

private:
    enum class State : std::uint8_t {
        line_start,   // after CRLF, or at the very start
        soft_start,   // after a bare LF: a line starts, but data cannot end here
        inside,       // in a line
        cr,           // after CR in a line
        dot,          // after CRLF "."
        dot_cr,       // after CRLF "." CR
        soft_dot,     // after a bare LF and "."
        soft_dot_cr,  // after a bare LF, "." and CR
        ended,
    };

    bool clean_block(const mail::OctetMasks& masks);
    std::size_t clean_run(std::string_view bytes);
    void octet(char c, std::string& out);
    void start_line(char c, std::string& out);
    void after_cr(char c, std::string& out);
    void after_dot(char c, std::string& out);
    void text(char c, std::string& out);
    void end_line(State next, std::string& out);
    void take(std::string_view octets, std::string& out);
    void found(DataFault fault, std::string& out);

    DataLimits limits_;
    State state_ = State::line_start;
    DataFault fault_ = DataFault::none;
    std::uint64_t column_ = 0;  // octets of the current line so far
    std::uint64_t wire_octets_ = 0;
};

// Counts the octets of BDAT chunks, which stand in the stream verbatim (RFC 3030 §2). Not thread-safe.
class ChunkReader {
public:
    explicit ChunkReader(std::uint64_t size_max) : size_max_(size_max) {}

    // A BDAT command was read; the chunk before it must be complete.
    void begin(std::uint64_t size, bool last);
    // Consumes octets of the chunk from `bytes` and appends them to `out`, or drops them after a fault or
    // discard().
    void feed(std::string_view& bytes, std::string& out);
    bool chunk_complete() const { return left_ == 0; }
    // The chunk with LAST is complete.
    bool done() const { return last_ && left_ == 0; }
    // From now on octets are counted only: BDAT without a transaction must not break the stream (BD-3).
    void discard(std::string& out);
    DataFault fault() const { return fault_; }

private:
    std::uint64_t size_max_;
    std::uint64_t left_ = 0;
    std::uint64_t total_ = 0;
    bool last_ = false;
    bool discard_ = false;
    DataFault fault_ = DataFault::none;
};

// The policy of `limits` applied to content that came by BDAT or HTTP: refuse, or make it clean text in
// place. `binary`: BODY=BINARYMIME, where every octet is meant as it stands (RFC 3030 §3).
DataFault settle_content(std::string& content, const DataLimits& limits, bool binary);

// Appends the pieces that carry `content` in DATA, dots stuffed; without leading dots that is `content`
// itself, not copied. `content` starts at the start of a line. The pieces borrow from it and from static
// text.
void append_stuffed(std::vector<std::string_view>& pieces, std::string_view content, bool has_leading_dot);
// CRLF "." CRLF, less the CRLF that the content ends in (RFC 5321 §4.1.1.4); the content may be empty.
std::string_view data_terminator(std::string_view content);

}  // namespace sluice::smtp
