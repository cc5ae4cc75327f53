#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::spool {

// The fixed structures of a segment file; docs/design/journal-format.md is the reference. All are values.
//
//   segment header (512) | batch | batch | ... | index | trailer (512, the last of the file)
//
// Every batch starts at a multiple of `sector_bytes`, so that no sector is written twice: a torn or failed
// write can only damage what nobody was promised yet.
constexpr std::uint64_t sector_bytes = 512;
constexpr std::uint32_t format_version = 1;
constexpr std::size_t batch_header_bytes = 64;
constexpr std::size_t record_header_bytes = 16;
constexpr std::uint64_t batch_bytes_max = 2ull << 30;
// Above it no journal is opened. What a process uses up while it lives fits behind it.
constexpr std::uint32_t segment_number_max = 2'000'000'000;

constexpr std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

enum class RecordType : std::uint8_t {
    message = 1,
    outcome = 2,
    schedule = 3,
    hold = 4,
    policy = 5,
    decided = 6,  // written next to a copied message: the recipients that were decided before the copy
};

struct SegmentHeader {
    std::uint64_t epoch = 0;           // of the writer that created the segment; one more at every start
    std::uint64_t segment = 0;         // ascending, never reused
    std::uint64_t first_sequence = 0;  // of the first batch here; ends the validity of anything older
    std::uint64_t nonce = 0;           // random: tells this life of the file from earlier ones
    std::uint64_t capacity = 0;        // octets allocated
    std::int64_t latest_ms = 0;        // the latest instant known when the segment was opened
    std::uint64_t last_id = 0;         // the highest message id known then; both outlive older segments
};

struct BatchHeader {
    std::uint64_t epoch = 0;
    std::uint64_t sequence = 0;  // consecutive over the whole stream
    std::uint64_t segment = 0;
    std::uint64_t nonce = 0;
    std::uint32_t length = 0;  // of the records, without this header and without padding to the sector
    std::uint32_t records = 0;
    std::uint32_t records_crc = 0;  // over all record headers, each of which has the CRC of its body
};

struct RecordHeader {
    RecordType type = RecordType::message;
    std::uint32_t length = 0;  // of the body; zero octets follow up to a multiple of 8
    std::uint32_t body_crc = 0;
};

struct Trailer {
    std::uint64_t epoch = 0;
    std::uint64_t segment = 0;
    std::uint64_t nonce = 0;
    std::uint64_t first_sequence = 0;
    std::uint64_t next_sequence = 0;
    std::uint64_t index_offset = 0;  // where the batches end
    std::uint64_t index_length = 0;
    std::uint32_t index_crc = 0;
};

// Exactly one sector each.
std::string encode_header(const SegmentHeader& header);
std::string encode_trailer(const Trailer& trailer);
void append_batch_header(std::string& out, const BatchHeader& header);
// `nonce` seeds the checksum, so that a record of an earlier life of the file never passes for one of this.
void put_record_header(char* at, const RecordHeader& header, std::uint64_t nonce);

// Errors: corrupt (magic or checksum), unsupported (a newer format version).
Result<SegmentHeader> decode_header(std::string_view sector);
Result<Trailer> decode_trailer(std::string_view sector);
Result<BatchHeader> decode_batch_header(std::string_view bytes);
Result<RecordHeader> decode_record_header(std::string_view bytes, std::uint64_t nonce);

// A record takes this much of a batch.
constexpr std::uint64_t record_bytes(std::uint64_t body_length) {
    return record_header_bytes + round_up(body_length, 8);
}

}  // namespace sluice::spool
