#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spool/facts.h"
#include "spool/format.h"
#include "spool/spool.h"

namespace sluice::spool {

// Where the next group goes in the stream.
struct Head {
    std::uint32_t segment = 0;
    std::uint64_t epoch = 0;
    std::uint64_t sequence = 0;
    std::uint64_t nonce = 0;
    std::uint64_t offset = 0;
};

// One batch of the journal while it is gathered: everything that one write and one sync make durable.
// Contents of messages are not copied, only pointed to: whoever adds a record keeps it alive until the write
// is over. Used again and again by the writer, so that its memory is allocated once. Single-threaded.
class Group {
public:
    void begin(const Head& head);
    bool empty() const { return records_ == 0; }

    // `message_segment`: for outcomes, the segment in which their message stands.
    void add(const Record& record, std::uint64_t message_segment);
    // A record as it stands in an older segment. `body` must outlive the write.
    void add_copy(RecordType type, std::string_view body);
    void add_decided(MessageId message, const std::vector<std::uint32_t>& recipients);

    // The batch in pieces, padded to the sector. Valid until the next call of anything.
    std::span<const iovec> pieces();
    std::uint64_t bytes() const { return round_up(length_ + batch_header_bytes, sector_bytes); }
    const Head& head() const { return head_; }
    // What the batch adds to the index of its segment.
    const std::string& facts() const { return facts_; }

private:
    // A stretch of arena_, or of somebody else's memory when `outside` is set.
    struct Stretch {
        const char* outside;
        std::size_t at;
        std::size_t size;
    };
    std::size_t open_record();
    void close_record(RecordType type, std::size_t start, std::string_view outside);
    void point_to(std::string_view outside);

    Head head_;
    std::string arena_;
    std::size_t arena_cut_ = 0;  // arena_ up to here is in stretches_
    std::vector<Stretch> stretches_;
    std::vector<iovec> pieces_;
    std::string facts_;
    std::uint64_t length_ = 0;
    std::uint32_t records_ = 0;
    std::uint32_t records_crc_ = 0;
};

}  // namespace sluice::spool
