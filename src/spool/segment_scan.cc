#include "spool/segment_scan.h"

#include <algorithm>

#include "base/crc32c.h"
#include "spool/record_codec.h"

namespace sluice::spool {
namespace {

constexpr std::uint64_t search_bytes = 1 << 20;

bool is_zero(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c == '\0'; });
}

Result<std::string> read_text(const File& file, std::uint64_t offset, std::uint64_t length) {
    std::string text(length, '\0');
    TRY(const std::size_t got, file.read(std::span(text.data(), text.size()), offset));
    text.resize(got);
    return text;
}

// One pass over a segment.
class Scanner {
public:
    Scanner(const File& file, const ScanPlan& plan, const RecordVisitor& visit)
        : file_(file), plan_(plan), visit_(visit) {}

    Result<Scan> run() {
        TRY(size_, file_.size());
        TRY_VOID(find_start());
        while (at_ + batch_header_bytes <= size_ && !past_end(expected_)) {
            TRY(const bool good, take_batch());
            if (good) continue;
            TRY(const bool more, step_over_damage());
            if (!more) break;
        }
        scan_.next_sequence = expected_;
        note_missing();
        return std::move(scan_);
    }

private:
    bool past_end(std::uint64_t sequence) const {
        return plan_.sequence_end && sequence >= *plan_.sequence_end;
    }

    // Whether a header that matches its checksum is one of this life of this file.
    bool is_ours(const BatchHeader& header) const {
        return header.segment == plan_.segment && header.nonce == scan_.nonce;
    }

    // The segment header says what the batches must look like; when it is damaged, the first batch does.
    Result<> find_start() {
        if (plan_.header) {
            scan_.nonce = plan_.header->nonce;
            expected_ = plan_.header->first_sequence;
        } else {
            TRY(const std::string sector, read_text(file_, at_, batch_header_bytes));
            if (const auto header = decode_batch_header(sector); header && header->segment == plan_.segment) {
                scan_.nonce = header->nonce;
                expected_ = header->sequence;
            }
        }
        scan_.first_sequence = expected_;
        return {};
    }

    // Takes the batch at at_ if it is whole and the one expected.
    Result<bool> take_batch() {
        TRY(const std::string sector, read_text(file_, at_, batch_header_bytes));
        const auto header = decode_batch_header(sector);
        if (!header && header.error().code == Errc::unsupported) return fail(header.error());
        seen_ = header && is_ours(*header) ? std::optional(*header) : std::nullopt;
        nearly_ours_ = looks_like_ours(sector);
        if (!seen_ || seen_->sequence != expected_ || seen_->length > size_ - at_ - batch_header_bytes)
            return false;

        TRY(const std::string records, read_text(file_, at_ + batch_header_bytes, seen_->length));
        const std::size_t facts_before = scan_.facts.size();
        TRY(const Walk walk, walk_records(records, true));
        if (walk.records != seen_->records || walk.bytes != seen_->length || walk.crc != seen_->records_crc) {
            scan_.facts.resize(facts_before);
            return false;
        }
        if (visit_) TRY_VOID(visit_records(facts_before, records));
        ++scan_.batches;
        ++expected_;
        at_ += round_up(batch_header_bytes + seen_->length, sector_bytes);
        scan_.end = at_;
        return true;
    }

    struct Walk {
        std::uint64_t bytes = 0;
        std::uint32_t records = 0;
        std::uint32_t crc = 0;
        std::uint32_t damaged = 0;
    };
    // Collects the facts of the records in `bytes`, as far as their headers can be followed. `strict` stops
    // at the first damaged body; otherwise it is stepped over.
    Result<Walk> walk_records(std::string_view bytes, bool strict) {
        Walk walk;
        while (bytes.size() - walk.bytes >= record_header_bytes) {
            const std::string_view rest = bytes.substr(walk.bytes);
            const auto header = decode_record_header(rest, scan_.nonce);
            if (!header && header.error().code == Errc::unsupported) return fail(header.error());
            if (!header || header->length > rest.size() - record_header_bytes) break;
            const std::string_view body = rest.substr(record_header_bytes, header->length);
            if (crc32c(body) == header->body_crc) {
                TRY_VOID(keep(*header, at_ + batch_header_bytes + walk.bytes, body));
            } else if (strict) {
                break;
            } else {
                ++walk.damaged;
            }
            walk.crc = crc32c(rest.substr(0, record_header_bytes), walk.crc);
            ++walk.records;
            walk.bytes = std::min<std::uint64_t>(walk.bytes + record_bytes(header->length), bytes.size());
        }
        return walk;
    }

    Result<> keep(const RecordHeader& header, std::uint64_t offset, std::string_view body) {
        Fact fact{header.type, offset, header.length, body};
        if (header.type == RecordType::message) {
            TRY(fact.body, summary_of(body));
        }
        append_fact(scan_.facts, fact);
        return {};
    }

    Result<> visit_records(std::size_t facts_from, std::string_view records) {
        FactReader reader(std::string_view(scan_.facts).substr(facts_from));
        while (const auto fact = reader.next()) {
            const std::uint64_t start = fact->offset - at_ - batch_header_bytes + record_header_bytes;
            visit_(*fact, records.substr(start, fact->length));
        }
        return {};
    }

    // A header of which one field is damaged, or whose batch was never finished, still has others that are
    // right. The rest of an earlier life of the file has none.
    bool looks_like_ours(std::string_view sector) const {
        if (sector.size() < batch_header_bytes || scan_.nonce == 0) return false;
        std::string wanted;
        BatchHeader header;
        header.nonce = scan_.nonce;
        append_batch_header(wanted, header);
        constexpr std::size_t nonce_at = 32, segment_at = 24;
        const bool nonce = sector.substr(nonce_at, 8) == std::string_view(wanted).substr(nonce_at, 8);
        header.segment = plan_.segment;
        wanted.clear();
        append_batch_header(wanted, header);
        const bool segment = sector.substr(segment_at, 8) == std::string_view(wanted).substr(segment_at, 8);
        const bool magic = sector.substr(0, 8) == std::string_view(wanted).substr(0, 8);
        return nonce || (segment && magic);
    }

    // at_ holds no good batch. Moves to the next one that counts; false when there is none.
    Result<bool> step_over_damage() {
        TRY(const std::optional<std::uint64_t> found, find_batch_after(at_));
        if (!found) {
            if (plan_.tail && nearly_ours_)
                note_torn();
            else if (!plan_.tail && nearly_ours_)
                TRY_VOID(salvage(std::min(size_, at_ + torn_extent())));
            return false;
        }
        TRY_VOID(salvage(*found));
        at_ = *found;
        expected_ = found_.sequence;
        return true;
    }

    std::uint64_t torn_extent() const {
        return seen_ ? round_up(batch_header_bytes + seen_->length, sector_bytes) : sector_bytes;
    }

    void note_torn() {
        scan_.torn_bytes = std::min(torn_extent(), size_ - at_);
        scan_.problems.push_back(
            plan_.name + ": unfinished batch of " + std::to_string(scan_.torn_bytes) + " bytes at offset " +
            std::to_string(at_) + " left out, as after a crash"
        );
    }

    // Keeps the whole records between at_ and `end`, and reports what is lost.
    Result<> salvage(std::uint64_t end) {
        const std::uint64_t start = at_ + batch_header_bytes;
        std::uint64_t length = end > start ? end - start : 0;
        if (seen_) length = std::min<std::uint64_t>(length, seen_->length);
        length = std::min(length, batch_bytes_max);
        TRY(const std::string records, read_text(file_, start, length));
        const std::size_t facts_before = scan_.facts.size();
        TRY(const Walk walk, walk_records(records, false));
        if (visit_) TRY_VOID(visit_records(facts_before, records));
        const std::uint64_t lost = found_.sequence > expected_ ? found_.sequence - expected_ : 1;
        scan_.corrupt_batches += lost;
        scan_.end = std::max(scan_.end, end);
        scan_.problems.push_back(
            plan_.name + ": damaged batch at offset " + std::to_string(at_) + ", sequence " +
            std::to_string(expected_) + (lost > 1 ? " to " + std::to_string(expected_ + lost - 1) : "") +
            ": " + std::to_string(walk.records - walk.damaged) + " whole records kept, " +
            std::to_string(walk.damaged) + " damaged ones left out" +
            (seen_ && walk.records == seen_->records ? "" : ", the rest is unreadable")
        );
        expected_ += lost;
        return {};
    }

    // The first sector after `from` with the header of a batch that counts and comes later than the one
    // expected.
    Result<std::optional<std::uint64_t>> find_batch_after(std::uint64_t from) {
        std::uint64_t next = 0;
        for (std::uint64_t at = from + sector_bytes; at < size_; at = next) {
            TRY(const std::string stretch, read_text(file_, at, search_bytes));
            next = at + search_bytes;
            // A file may be terabytes of nothing.
            if (is_zero(stretch)) next = std::max(next, file_.next_data(next) / sector_bytes * sector_bytes);
            for (std::uint64_t i = 0; i + batch_header_bytes <= stretch.size(); i += sector_bytes) {
                const auto header = decode_batch_header(std::string_view(stretch).substr(i));
                if (!header || header->segment != plan_.segment) continue;
                if (scan_.nonce == 0) scan_.nonce = header->nonce;
                if (!is_ours(*header) || header->sequence <= expected_ || past_end(header->sequence))
                    continue;
                found_ = *header;
                return std::optional(at + i);
            }
        }
        found_ = BatchHeader{};
        return std::optional<std::uint64_t>();
    }

    // The end of the segment is gone, though the next segment says that there was more.
    void note_missing() {
        if (!plan_.complete || !plan_.sequence_end || expected_ >= *plan_.sequence_end) return;
        const std::uint64_t lost = *plan_.sequence_end - expected_;
        scan_.corrupt_batches += lost;
        scan_.problems.push_back(
            plan_.name + ": " + std::to_string(lost) + " batches missing from offset " + std::to_string(at_) +
            ", sequence " + std::to_string(expected_)
        );
    }

    const File& file_;
    const ScanPlan& plan_;
    const RecordVisitor& visit_;
    Scan scan_;
    std::uint64_t size_ = 0;
    std::uint64_t at_ = sector_bytes;
    std::uint64_t expected_ = 0;
    std::optional<BatchHeader> seen_;  // the header at at_, when it is one of ours
    bool nearly_ours_ = false;
    BatchHeader found_;
};

}  // namespace

Result<Scan> scan_segment(const File& file, const ScanPlan& plan, const RecordVisitor& visit) {
    return Scanner(file, plan, visit).run();
}

Result<std::optional<Trailer>> read_trailer(const File& file, std::uint32_t segment) {
    using Found = std::optional<Trailer>;
    TRY(const std::uint64_t size, file.size());
    if (size < 2 * sector_bytes) return Found();
    TRY(const std::string sector, read_text(file, size - sector_bytes, sector_bytes));
    const auto trailer = decode_trailer(sector);
    if (!trailer && trailer.error().code == Errc::unsupported) return fail(trailer.error());
    if (!trailer || trailer->segment != segment) return Found();
    return Found(*trailer);
}

Result<std::string> read_index(const File& file, const Trailer& trailer) {
    TRY(const std::uint64_t size, file.size());
    if (trailer.index_length > size || trailer.index_offset > size - trailer.index_length) {
        return fail(Errc::corrupt, "the trailer points outside the file");
    }
    TRY(std::string facts, read_text(file, trailer.index_offset, trailer.index_length));
    if (facts.size() != trailer.index_length || crc32c(facts) != trailer.index_crc) {
        return fail(Errc::corrupt, "the index does not match its checksum");
    }
    return facts;
}

Result<std::optional<SegmentHeader>> read_segment_header(const File& file) {
    using Found = std::optional<SegmentHeader>;
    TRY(const std::string sector, read_text(file, 0, sector_bytes));
    if (is_zero(sector)) return Found();
    TRY(const SegmentHeader header, decode_header(sector));
    return Found(header);
}

Result<std::string> read_record(
    const File& file, std::uint64_t nonce, std::uint64_t offset, std::uint32_t length
) {
    TRY(std::string text, read_text(file, offset, record_header_bytes + std::uint64_t{length}));
    TRY(const RecordHeader header, decode_record_header(text, nonce));
    if (header.length != length || text.size() != record_header_bytes + std::size_t{length} ||
        crc32c(std::string_view(text).substr(record_header_bytes)) != header.body_crc) {
        return fail(Errc::corrupt, "record does not match its checksum");
    }
    text.erase(0, record_header_bytes);
    return text;
}

}  // namespace sluice::spool
