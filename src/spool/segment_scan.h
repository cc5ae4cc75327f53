#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "spool/disk.h"
#include "spool/facts.h"
#include "spool/format.h"

namespace sluice::spool {

// What is known about a segment before its batches are read.
struct ScanPlan {
    std::string name;           // for problems
    std::uint32_t segment = 0;  // from the file name
    std::optional<SegmentHeader> header;
    // Batches from this sequence on do not count: the next segment begins with it.
    std::optional<std::uint64_t> sequence_end;
    // The next segment follows directly, so that every batch before sequence_end must be here.
    bool complete = false;
    // Nothing follows: an unfinished batch at the end is what a crash leaves behind.
    bool tail = false;
};

struct Scan {
    std::string facts;
    std::uint64_t first_sequence = 0, next_sequence = 0;
    std::uint64_t nonce = 0;
    std::uint64_t end = sector_bytes;  // where the batches that count end
    std::uint64_t batches = 0;
    std::uint64_t torn_bytes = 0;
    std::uint64_t corrupt_batches = 0;
    std::vector<std::string> problems;  // one sentence each, with file and offset
};

// Told about each record that a scan finds whole; `body` lives for the call.
using RecordVisitor = std::function<void(const Fact& fact, std::string_view body)>;

// Reads all batches of a segment and verifies every checksum. A damaged batch in the middle is reported and
// those of its records that are whole are kept; an unfinished one at the very end of the journal is left out.
// Errors: disk_failed, and unsupported for a format of the future.
Result<Scan> scan_segment(const File& file, const ScanPlan& plan, const RecordVisitor& visit = {});

// The trailer at the end of a sealed segment; nothing when it was not sealed.
Result<std::optional<Trailer>> read_trailer(const File& file, std::uint32_t segment);
// The index that the trailer speaks of. Errors: corrupt, disk_failed.
Result<std::string> read_index(const File& file, const Trailer& trailer);

// Nothing when the sector is all zero. A header with another number belongs to an earlier life of the file.
Result<std::optional<SegmentHeader>> read_segment_header(const File& file);

// The body of one record, verified.
Result<std::string> read_record(
    const File& file, std::uint64_t nonce, std::uint64_t offset, std::uint32_t length
);

}  // namespace sluice::spool
