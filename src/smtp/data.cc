#include "smtp/data.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "mail/header.h"

namespace sluice::smtp {

using mail::OctetMasks;

Reply reply_for(DataFault fault) {
    switch (fault) {
        case DataFault::too_large:
            return {552, "5.3.4", "Message is larger than this server accepts"};
        case DataFault::line_too_long:
            return {554, "5.6.0", "Message contains a line that is too long"};
        case DataFault::bare_eol:
            return {554, "5.5.2", "Message contains a bare CR or LF; lines end in CRLF only"};
        case DataFault::nul:
            return {554, "5.5.2", "Message contains a NUL octet"};
        case DataFault::none:
            break;
    }
    UNREACHABLE();
}

void DataDecoder::feed(std::string_view& bytes, std::string& out) {
    const std::size_t given = bytes.size();
    while (!bytes.empty() && state_ != State::ended) {
        const bool owes_cr = state_ == State::cr;
        if (const std::size_t clean = clean_run(bytes); clean > 0) {
            // A CR is held back until its LF is seen, here as in the slow way.
            if (owes_cr) take("\r", out);
            take(bytes.substr(0, state_ == State::cr ? clean - 1 : clean), out);
            bytes.remove_prefix(clean);
            continue;
        }
        // Something in the next block asks for a closer look (or it is the last one): octet by octet.
        const std::size_t slow = std::min(bytes.size(), OctetMasks::width);
        std::size_t used = 0;
        while (used < slow && state_ != State::ended)
            octet(bytes[used++], out);
        bytes.remove_prefix(used);
    }
    wire_octets_ += given - bytes.size();
}

// How many octets at the front, in whole blocks, mean themselves: no stuffed dot, no stray line end, no NUL,
// no line over the limit. Follows state and column through them.
std::size_t DataDecoder::clean_run(std::string_view bytes) {
    if (state_ != State::inside && state_ != State::cr && state_ != State::line_start) return 0;
    std::size_t run = 0;
    while (bytes.size() - run >= OctetMasks::width && clean_block(mail::octet_masks(bytes.data() + run))) {
        run += OctetMasks::width;
    }
    return run;
}

bool DataDecoder::clean_block(const OctetMasks& masks) {
    const std::uint64_t after_cr = masks.cr << 1 | (state_ == State::cr ? 1U : 0U);
    const std::uint64_t after_lf = masks.lf << 1 | (state_ == State::line_start ? 1U : 0U);
    if (after_cr != masks.lf || masks.nul != 0 || (after_lf & masks.dot) != 0) return false;
    // Lines that begin and end in the block are shorter than any limit; the one it begins in may not be.
    const auto first = static_cast<unsigned>(std::countr_zero(masks.lf));
    const std::uint64_t reached = column_ + (masks.lf == 0 ? OctetMasks::width : first);
    const bool limited = limits_.line_max != 0 && fault_ == DataFault::none;
    if (limited && (limits_.line_max < OctetMasks::width || reached > limits_.line_max)) return false;
    column_ = masks.lf == 0 ? reached : static_cast<unsigned>(std::countl_zero(masks.lf));
    const bool ends_in_lf = masks.lf >> 63 != 0;
    const bool ends_in_cr = masks.cr >> 63 != 0;
    if (ends_in_cr) --column_;
    state_ = ends_in_lf ? State::line_start : ends_in_cr ? State::cr : State::inside;
    return true;
}

void DataDecoder::octet(char c, std::string& out) {
    switch (state_) {
        case State::line_start:
        case State::soft_start:
            return start_line(c, out);
        case State::inside:
            return text(c, out);
        case State::cr:
            return after_cr(c, out);
        case State::dot:
        case State::soft_dot:
        case State::dot_cr:
        case State::soft_dot_cr:
            return after_dot(c, out);
        case State::ended:
            break;
    }
    UNREACHABLE();
}

void DataDecoder::start_line(char c, std::string& out) {
    if (c != '.') return text(c, out);
    state_ = state_ == State::line_start ? State::dot : State::soft_dot;
}

// An octet of a line. A CR waits: what it means depends on the next octet.
void DataDecoder::text(char c, std::string& out) {
    if (c == '\r') {
        state_ = State::cr;
        return;
    }
    if (c == '\n') {
        found(DataFault::bare_eol, out);
        return end_line(State::soft_start, out);
    }
    if (c == '\0') {
        found(DataFault::nul, out);
        c = ' ';
    }
    state_ = State::inside;
    take(std::string_view(&c, 1), out);
    if (++column_ > limits_.line_max && limits_.line_max != 0) found(DataFault::line_too_long, out);
}

void DataDecoder::after_cr(char c, std::string& out) {
    if (c == '\n') return end_line(State::line_start, out);
    found(DataFault::bare_eol, out);
    text(' ', out);
    text(c, out);
}

// The line starts with a dot. Alone before CRLF, and after CRLF, it ends the data; before anything else it is
// stuffing and goes. Alone on a line that some other system might take for the end of data, it stays in the
// content.
void DataDecoder::after_dot(char c, std::string& out) {
    const bool cr_seen = state_ == State::dot_cr || state_ == State::soft_dot_cr;
    const bool hard = state_ == State::dot || state_ == State::dot_cr;
    if (!cr_seen && c == '\r') {
        state_ = hard ? State::dot_cr : State::soft_dot_cr;
        return;
    }
    if (hard && cr_seen && c == '\n') {
        state_ = State::ended;
        return;
    }
    if (cr_seen || c == '\n') text('.', out);
    state_ = cr_seen ? State::cr : State::inside;
    octet(c, out);
}

void DataDecoder::end_line(State next, std::string& out) {
    take("\r\n", out);
    column_ = 0;
    state_ = next;
}

void DataDecoder::take(std::string_view octets, std::string& out) {
    if (fault_ != DataFault::none) return;
    if (limits_.size_max != 0 && out.size() + octets.size() > limits_.size_max) {
        return found(DataFault::too_large, out);
    }
    out.append(octets);
}

// Notes why the message cannot be taken. What we normalise is no fault.
void DataDecoder::found(DataFault fault, std::string& out) {
    const bool about_eol = fault == DataFault::bare_eol || fault == DataFault::nul;
    if (about_eol && limits_.bare_eol == BareEol::normalise) return;
    if (fault_ != DataFault::none) return;
    fault_ = fault;
    out.clear();
    out.shrink_to_fit();
}

void ChunkReader::begin(std::uint64_t size, bool last) {
    ASSERT(left_ == 0);
    left_ = size;
    last_ = last;
}

void ChunkReader::feed(std::string_view& bytes, std::string& out) {
    const std::size_t count = std::min<std::uint64_t>(bytes.size(), left_);
    const std::string_view octets = bytes.substr(0, count);
    bytes.remove_prefix(count);
    left_ -= count;
    if (discard_) return;
    if (size_max_ != 0 && total_ + count > size_max_) {
        fault_ = DataFault::too_large;
        return discard(out);
    }
    total_ += count;
    out.append(octets);
}

void ChunkReader::discard(std::string& out) {
    discard_ = true;
    out.clear();
    out.shrink_to_fit();
}

DataFault settle_content(std::string& content, const DataLimits& limits, bool binary) {
    if (limits.size_max != 0 && content.size() > limits.size_max) return DataFault::too_large;
    if (!binary) {
        const bool nul = content.find('\0') != std::string::npos;
        const bool bare_eol = mail::scan_content(content).has_bare_eol;
        if (limits.bare_eol == BareEol::refuse && bare_eol) return DataFault::bare_eol;
        if (limits.bare_eol == BareEol::refuse && nul) return DataFault::nul;
        if (nul || bare_eol) content = mail::clean_text(content);
    }
    if (!content.empty() && !content.ends_with("\r\n")) content.append("\r\n");
    const bool long_line = limits.line_max != 0 && mail::scan_content(content).line_max > limits.line_max;
    return long_line ? DataFault::line_too_long : DataFault::none;
}

void append_stuffed(std::vector<std::string_view>& pieces, std::string_view content, bool has_leading_dot) {
    if (content.empty()) return;
    if (has_leading_dot && content.front() == '.') pieces.push_back(".");
    while (has_leading_dot) {
        const std::size_t at = content.find("\n.");
        if (at == std::string_view::npos) break;
        pieces.push_back(content.substr(0, at + 2));  // the doubled dot starts the next piece
        content.remove_prefix(at + 1);
    }
    pieces.push_back(content);
}

std::string_view data_terminator(std::string_view content) {
    return content.empty() || content.ends_with("\r\n") ? ".\r\n" : "\r\n.\r\n";
}

}  // namespace sluice::smtp
