#include "spool/format.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "spool/codec.h"

namespace sluice::spool {
namespace {

constexpr std::uint64_t segment_magic = 0x4745534543554C53;  // "SLUCESEG"
constexpr std::uint64_t trailer_magic = 0x58444E4943554C53;  // "SLUCINDX"
constexpr std::uint32_t batch_magic = 0x54424C53;            // "SLBT"

// Closes a structure: zeroes up to `size` less the checksum, then the checksum of all before it.
void close_with_crc(std::string& out, std::size_t start, std::size_t size) {
    ASSERT(out.size() - start + 4 <= size);
    out.resize(start + size - 4, '\0');
    Encoder(out).u32(crc32c(std::string_view(out).substr(start)));
}

bool crc_matches(std::string_view bytes) {
    const std::size_t covered = bytes.size() - 4;
    return Decoder(bytes.substr(covered)).u32() == crc32c(bytes.substr(0, covered));
}

Result<> check(
    std::string_view what, bool long_enough, bool magic, std::uint32_t version, std::string_view bytes
) {
    if (!long_enough || !magic || !crc_matches(bytes)) {
        return fail(Errc::corrupt, std::string(what) + " does not match its checksum");
    }
    if (version > format_version) {
        return fail(
            Errc::unsupported, std::string(what) + " is of format version " + std::to_string(version) +
                                   "; this program knows up to " + std::to_string(format_version)
        );
    }
    return {};
}

std::uint32_t record_seed(std::uint64_t nonce) {
    return static_cast<std::uint32_t>(nonce ^ nonce >> 32);
}

}  // namespace

std::string encode_header(const SegmentHeader& header) {
    std::string out;
    Encoder encode(out);
    encode.u64(segment_magic);
    encode.u32(format_version);
    encode.u32(0);
    encode.u64(header.epoch);
    encode.u64(header.segment);
    encode.u64(header.first_sequence);
    encode.u64(header.nonce);
    encode.u64(header.capacity);
    encode.u64(static_cast<std::uint64_t>(header.latest_ms));
    encode.u64(header.last_id);
    close_with_crc(out, 0, sector_bytes);
    return out;
}

Result<SegmentHeader> decode_header(std::string_view sector) {
    Decoder decode(sector);
    const bool magic = decode.u64() == segment_magic;
    const std::uint32_t version = decode.u32();
    TRY_VOID(check("segment header", sector.size() == sector_bytes, magic, version, sector));
    decode.u32();
    SegmentHeader header;
    header.epoch = decode.u64();
    header.segment = decode.u64();
    header.first_sequence = decode.u64();
    header.nonce = decode.u64();
    header.capacity = decode.u64();
    header.latest_ms = static_cast<std::int64_t>(decode.u64());
    header.last_id = decode.u64();
    return header;
}

std::string encode_trailer(const Trailer& trailer) {
    std::string out;
    Encoder encode(out);
    encode.u64(trailer_magic);
    encode.u32(format_version);
    encode.u32(trailer.index_crc);
    encode.u64(trailer.epoch);
    encode.u64(trailer.segment);
    encode.u64(trailer.nonce);
    encode.u64(trailer.first_sequence);
    encode.u64(trailer.next_sequence);
    encode.u64(trailer.index_offset);
    encode.u64(trailer.index_length);
    close_with_crc(out, 0, sector_bytes);
    return out;
}

Result<Trailer> decode_trailer(std::string_view sector) {
    Decoder decode(sector);
    const bool magic = decode.u64() == trailer_magic;
    const std::uint32_t version = decode.u32();
    TRY_VOID(check("segment trailer", sector.size() == sector_bytes, magic, version, sector));
    Trailer trailer;
    trailer.index_crc = decode.u32();
    trailer.epoch = decode.u64();
    trailer.segment = decode.u64();
    trailer.nonce = decode.u64();
    trailer.first_sequence = decode.u64();
    trailer.next_sequence = decode.u64();
    trailer.index_offset = decode.u64();
    trailer.index_length = decode.u64();
    return trailer;
}

void append_batch_header(std::string& out, const BatchHeader& header) {
    const std::size_t start = out.size();
    Encoder encode(out);
    encode.u32(batch_magic);
    encode.u32(format_version);
    encode.u64(header.epoch);
    encode.u64(header.sequence);
    encode.u64(header.segment);
    encode.u64(header.nonce);
    encode.u32(header.length);
    encode.u32(header.records);
    encode.u32(header.records_crc);
    close_with_crc(out, start, batch_header_bytes);
}

Result<BatchHeader> decode_batch_header(std::string_view bytes) {
    bytes = bytes.substr(0, batch_header_bytes);
    Decoder decode(bytes);
    const bool magic = decode.u32() == batch_magic;
    const std::uint32_t version = decode.u32();
    TRY_VOID(check("batch header", bytes.size() == batch_header_bytes, magic, version, bytes));
    BatchHeader header;
    header.epoch = decode.u64();
    header.sequence = decode.u64();
    header.segment = decode.u64();
    header.nonce = decode.u64();
    header.length = decode.u32();
    header.records = decode.u32();
    header.records_crc = decode.u32();
    return header;
}

void put_record_header(char* at, const RecordHeader& header, std::uint64_t nonce) {
    const auto put = [&](std::size_t place, std::uint32_t value) {
        for (std::size_t i = 0; i < 4; ++i)
            at[place + i] = static_cast<char>(value >> 8 * i);
    };
    put(0, static_cast<std::uint32_t>(header.type));
    put(4, header.length);
    put(8, header.body_crc);
    put(12, crc32c(std::string_view(at, 12), record_seed(nonce)));
}

Result<RecordHeader> decode_record_header(std::string_view bytes, std::uint64_t nonce) {
    bytes = bytes.substr(0, record_header_bytes);
    Decoder decode(bytes);
    const std::uint32_t type = decode.u32();
    RecordHeader header;
    header.length = decode.u32();
    header.body_crc = decode.u32();
    const std::uint32_t crc = decode.u32();
    if (!decode.ok() || crc != crc32c(bytes.substr(0, 12), record_seed(nonce))) {
        return fail(Errc::corrupt, "record header does not match its checksum");
    }
    if (type < 1 || type > static_cast<std::uint32_t>(RecordType::decided)) {
        return fail(Errc::unsupported, "record type " + std::to_string(type) + " is unknown to this program");
    }
    header.type = static_cast<RecordType>(type);
    return header;
}

}  // namespace sluice::spool
