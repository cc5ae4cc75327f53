// Scans over whole contents: what they contain, and how to make them clean.

#include <algorithm>
#include <bit>
#include <cstring>

#include "mail/header.h"
#include "mail/octet_masks.h"

namespace sluice::mail {
namespace {

// Follows the lines of a content through its blocks of 64 octets.
class ContentScan {
public:
    // `used`: how many octets of the block count; the others are not CR, LF, '.', or above 127.
    void block(const OctetMasks& masks, std::size_t at, std::size_t used) {
        const std::uint64_t after_cr = masks.cr << 1 | last_was_cr_;
        const std::uint64_t after_lf = masks.lf << 1 | last_was_lf_;
        // A CR as the last octet is followed by something that is not known yet, unless the content ends
        // here.
        const std::uint64_t known = used == OctetMasks::width ? ~0ULL : (1ULL << used) - 1;
        bare_eol_ |= ((after_cr ^ masks.lf) & known) != 0;
        leading_dot_ |= (after_lf & masks.dot) != 0;
        high_ |= masks.high != 0;
        if (masks.lf != 0) lines(masks, at, after_cr);
        if (!header_done_) high_header_ |= masks.high != 0;
        last_was_cr_ = masks.cr >> (used - 1) & 1;
        last_was_lf_ = masks.lf >> (used - 1) & 1;
    }

    ContentTraits finish(std::size_t size) {
        ContentTraits traits;
        if (size > line_start_) note_length(size - line_start_ - last_was_cr_);
        traits.has_8bit = high_;
        traits.has_8bit_header = high_header_;
        traits.has_leading_dot = leading_dot_;
        traits.has_bare_eol = bare_eol_ || last_was_cr_ != 0;
        traits.header_size = static_cast<std::uint32_t>(header_done_ ? header_size_ : size);
        traits.line_max = static_cast<std::uint32_t>(line_max_);
        return traits;
    }

private:
    void lines(const OctetMasks& masks, std::size_t at, std::uint64_t after_cr) {
        for (std::uint64_t lf = masks.lf; lf != 0; lf &= lf - 1) {
            const auto bit = static_cast<unsigned>(std::countr_zero(lf));
            const std::size_t length = at + bit - line_start_ - (after_cr >> bit & 1);
            note_length(length);
            line_start_ = at + bit + 1;
            if (length == 0 && !header_done_) end_header(masks, bit);
        }
    }
    void end_header(const OctetMasks& masks, unsigned bit) {
        header_done_ = true;
        header_size_ = line_start_;
        high_header_ |= (masks.high & ((1ULL << bit) - 1)) != 0;
    }
    void note_length(std::size_t length) { line_max_ = std::max(line_max_, length); }

    std::uint64_t last_was_cr_ = 0;
    std::uint64_t last_was_lf_ = 1;  // the content starts at the start of a line
    std::size_t line_start_ = 0;
    std::size_t line_max_ = 0;
    std::size_t header_size_ = 0;
    bool header_done_ = false;
    bool bare_eol_ = false;
    bool leading_dot_ = false;
    bool high_ = false;
    bool high_header_ = false;
};

}  // namespace

ContentTraits scan_content(std::string_view content) {
    ContentScan scan;
    std::size_t at = 0;
    for (; content.size() - at >= OctetMasks::width; at += OctetMasks::width) {
        scan.block(octet_masks(content.data() + at), at, OctetMasks::width);
    }
    if (const std::size_t left = content.size() - at; left > 0) {
        char padded[OctetMasks::width];
        std::memset(padded, ' ', sizeof padded);
        std::memcpy(padded, content.data() + at, left);
        scan.block(octet_masks(padded), at, left);
    }
    return scan.finish(content.size());
}

ContentTraits with_trace(const ContentTraits& content, std::string_view trace) {
    const ContentTraits above = scan_content(trace);
    ContentTraits both = content;
    both.has_8bit |= above.has_8bit;
    both.has_8bit_header |= above.has_8bit;
    both.has_leading_dot |= above.has_leading_dot;
    both.has_bare_eol |= above.has_bare_eol;
    both.line_max = std::max(both.line_max, above.line_max);
    return both;
}

bool is_clean_text(std::string_view content) {
    if (content.empty()) return true;
    if (!content.ends_with("\r\n")) return false;
    return std::memchr(content.data(), '\0', content.size()) == nullptr &&
           !scan_content(content).has_bare_eol;
}

std::string clean_text(std::string_view content) {
    std::string out;
    out.reserve(content.size() + content.size() / 32 + 2);
    for (std::size_t at = 0; at < content.size();) {
        const std::size_t stop =
            std::min(content.find_first_of(std::string_view("\r\n\0", 3), at), content.size());
        out.append(content, at, stop - at);
        at = stop;
        if (at == content.size()) break;
        const bool pair = content[at] == '\r' && at + 1 < content.size() && content[at + 1] == '\n';
        if (pair || content[at] == '\n') {
            out.append("\r\n");
        } else {
            out.push_back(' ');
        }
        at += pair ? 2 : 1;
    }
    if (!out.empty() && !out.ends_with("\r\n")) out.append("\r\n");
    return out;
}

}  // namespace sluice::mail
