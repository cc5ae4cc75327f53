#include "spool/file_journal.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdio>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/text.h"

namespace sluice::spool {
namespace {

constexpr std::string_view segment_suffix = ".seg";
constexpr std::string_view reserve_name = "reserve.seg";
constexpr std::uint64_t zero_bytes_at_once = 1 << 20;
constexpr std::uint64_t small_segment_bytes = 1 << 20;

// Unpredictable, so that nobody can put batches of ours inside a message; never 0, which means unknown.
std::uint64_t fresh_nonce() {
    std::uint64_t nonce = 0;
    while (nonce == 0) {
        ASSERT(::getrandom(&nonce, sizeof nonce, 0) == static_cast<ssize_t>(sizeof nonce));
    }
    return nonce;
}

}  // namespace

std::string segment_name(std::uint32_t segment) {
    char name[32];
    const int length = std::snprintf(name, sizeof name, "%010u.seg", segment);
    return std::string(name, static_cast<std::size_t>(length));
}

std::optional<std::uint32_t> parse_segment_name(std::string_view name) {
    constexpr std::size_t digits = 10;
    if (name.size() != digits + segment_suffix.size() || !name.ends_with(segment_suffix)) return std::nullopt;
    return parse_number<std::uint32_t>(name.substr(0, digits));
}

void FileJournal::set_floor(Instant latest, MessageId last_id) {
    latest_ms_ = std::max(latest_ms_, to_ms(latest));
    last_id_ = std::max(last_id_, last_id.value);
}

// ---- writing
// ---------------------------------------------------------------------------------------------------

bool FileJournal::fits(const OpenHead& head, const Room& room) const {
    const std::uint64_t batch = round_up(batch_header_bytes + room.records, sector_bytes);
    const std::uint64_t index = head.index.size() + room.index + 2 * sector_bytes;
    return head.offset + batch + index <= head.capacity;
}

Result<Head> FileJournal::prepare(const Room& room) {
    if (on_reserve() && !room.from_reserve) {
        // Messages wait until there is a real segment again; the reserve stays open for outcomes meanwhile.
        return fail(Errc::disk_full, "the disk is full; only outcomes are recorded");
    }
    if (!head_ || !fits(*head_, room)) {
        // The reserve stays open for smaller groups until something can follow it.
        if (head_ && !head_->reserve) seal_head(false);
        const std::uint64_t needed = room.records + room.index + 6 * sector_bytes;
        TRY(OpenHead next, open_segment(round_up(needed, sector_bytes), room.from_reserve));
        if (head_) seal_head(false);
        take_head(std::move(next));
    }
    Head head;
    head.segment = head_->segment;
    head.epoch = epoch_;
    head.sequence = sequence_;
    head.nonce = head_->nonce;
    head.offset = head_->offset;
    return head;
}

Result<> FileJournal::append(Group& group) {
    ASSERT(head_ && head_->offset == group.head().offset && head_->segment == group.head().segment);
    auto written = head_->file->write(group.pieces(), head_->offset);
    if (written && settings_.sync) written = head_->file->sync();
    if (!written) {
        abandon_head();
        return fail(std::move(written).error());
    }
    head_->offset += group.bytes();
    head_->index.append(group.facts());
    ++sequence_;
    return {};
}

// After a failed write or sync nobody knows what the disk holds beyond the last batch that succeeded. The
// segment keeps what it promised and is never written again; the next one starts with the sequence that
// failed, which ends it.
void FileJournal::abandon_head() {
    const std::lock_guard lock(mutex_);
    files_.at(head_->segment).indexed = false;
    head_.reset();
}

// Writes the index behind the batches. Failing to is no loss: the segment is read batch by batch then.
void FileJournal::seal_head(bool truncate) {
    Trailer trailer;
    trailer.epoch = epoch_;
    trailer.segment = head_->segment;
    trailer.nonce = head_->nonce;
    trailer.first_sequence = head_->first_sequence;
    trailer.next_sequence = sequence_;
    trailer.index_offset = head_->offset;
    const std::uint64_t least = round_up(head_->offset + head_->index.size(), sector_bytes) + sector_bytes;
    const std::uint64_t bytes = truncate ? least : std::max(head_->capacity, least);
    const bool sealed = write_index(*head_->file, trailer, head_->index, bytes).has_value();

    const std::lock_guard lock(mutex_);
    SegmentFile& entry = files_.at(head_->segment);
    entry.indexed = sealed;
    entry.bytes = sealed ? bytes : entry.bytes;
    head_.reset();
}

// The trailer is found at the end of the file, so it counts only once the file has its final length.
Result<> FileJournal::write_index(
    File& file, const Trailer& trailer, const std::string& index, std::uint64_t file_bytes
) {
    Trailer complete = trailer;
    complete.index_length = index.size();
    complete.index_crc = crc32c(index);
    TRY_VOID(write_all(file, index, trailer.index_offset));
    TRY(const std::uint64_t before, file.size());
    if (before != file_bytes) TRY_VOID(file.resize(file_bytes));
    TRY_VOID(write_all(file, encode_trailer(complete), file_bytes - sector_bytes));
    return file.sync();
}

// ---- opening
// ---------------------------------------------------------------------------------------------------

Result<FileJournal::OpenHead> FileJournal::open_segment(std::uint64_t needed, bool from_reserve) {
    OpenHead head;
    head.segment = next_segment_++;  // never used again, even if this fails
    head.reserve = from_reserve;
    TRY(head.file, take_file(head.segment, needed, head.reserve));
    TRY(head.capacity, head.file->size());
    head.nonce = fresh_nonce();
    head.first_sequence = sequence_;
    if (auto begun = begin_segment(head); !begun) {
        // Left behind, it would be an unused file, which recovery removes.
        static_cast<void>(disk_.unlink(path(segment_name(head.segment))));
        return fail(std::move(begun).error());
    }
    return head;
}

void FileJournal::take_head(OpenHead head) {
    const std::lock_guard lock(mutex_);
    SegmentFile& entry = files_[head.segment];
    entry.file = head.file;
    entry.nonce = head.nonce;
    entry.first_sequence = head.first_sequence;
    entry.bytes = head.capacity;
    head_ = std::move(head);
}

// A spare first, then a new file; the reserve only when the disk is full, `reserve` allows it and it is large enough. Tells in
// `reserve` whether it came to that.
Result<std::shared_ptr<File>> FileJournal::take_file(
    std::uint32_t segment, std::uint64_t needed, bool& reserve
) {
    const bool may_use_reserve = reserve;
    reserve = false;
    const std::string target = path(segment_name(segment));
    if (needed <= settings_.segment_bytes && !spares_.empty()) {
        std::string spare;
        {
            const std::lock_guard lock(mutex_);
            spare = std::move(spares_.back());
            spares_.pop_back();
        }
        if (disk_.rename(path(spare), target)) {
            if (auto file = disk_.open(target, OpenMode::write)) return file;
        }
    }
    std::uint64_t capacity = std::max(settings_.segment_bytes, needed);
    auto created = create_file(segment, capacity);
    // A small or nearly full disk may still take a smaller segment.
    while (!created && created.error().code == Errc::disk_full &&
           capacity / 2 >= std::max(needed, small_segment_bytes)) {
        capacity = round_up(capacity / 2, sector_bytes);
        created = create_file(segment, capacity);
    }
    if (created || created.error().code != Errc::disk_full || !may_use_reserve || needed > reserve_bytes_)
        return created;

    TRY_VOID(disk_.rename(path(reserve_name), target));
    {
        const std::lock_guard lock(mutex_);
        reserve_bytes_ = 0;
    }
    reserve = true;
    return disk_.open(target, OpenMode::write);
}

Result<std::shared_ptr<File>> FileJournal::create_file(std::uint32_t segment, std::uint64_t capacity) {
    const std::string target = path(segment_name(segment));
    TRY(std::shared_ptr<File> file, disk_.open(target, OpenMode::create));
    if (auto allocated = file->allocate(capacity); !allocated) {
        static_cast<void>(disk_.unlink(target));
        return fail(std::move(allocated).error());
    }
    return file;
}

// Writing the header is also the probe: a disk that cannot do this gets no messages.
Result<> FileJournal::begin_segment(OpenHead& head) {
    SegmentHeader header;
    header.epoch = epoch_;
    header.segment = head.segment;
    header.first_sequence = head.first_sequence;
    header.nonce = head.nonce;
    header.capacity = head.capacity;
    header.latest_ms = latest_ms_;
    header.last_id = last_id_;
    TRY_VOID(write_all(*head.file, encode_header(header), 0));
    TRY_VOID(head.file->sync());
    return disk_.sync_directory(settings_.directory);
}

// Zeroes are written, not only allocated: the reserve must not need even a block of the file system's own
// later.
Result<> FileJournal::make_reserve() {
    const std::string building = path("reserve.tmp");
    static_cast<void>(disk_.unlink(building));
    TRY(const std::shared_ptr<File> file, disk_.open(building, OpenMode::create));
    const std::string zeroes(zero_bytes_at_once, '\0');
    Result<> made = file->allocate(settings_.reserve_bytes);
    for (std::uint64_t at = 0; made && at < settings_.reserve_bytes; at += zeroes.size()) {
        const std::uint64_t length = std::min<std::uint64_t>(zeroes.size(), settings_.reserve_bytes - at);
        made = write_all(*file, std::string_view(zeroes).substr(0, length), at);
    }
    if (made) made = file->sync();
    if (made) made = disk_.rename(building, path(reserve_name));
    if (!made) {
        static_cast<void>(disk_.unlink(building));
        return made;
    }
    TRY_VOID(disk_.sync_directory(settings_.directory));
    const std::lock_guard lock(mutex_);
    reserve_bytes_ = settings_.reserve_bytes;
    return {};
}

void FileJournal::restore_reserve(std::uint64_t free_bytes, std::uint64_t wanted_free) {
    const std::uint64_t needed = wanted_free + settings_.reserve_bytes;
    const bool room = free_bytes >= needed;
    // Without room for a segment beside it the next reserve would be the current segment again at once, and so on.
    const bool room_beside = free_bytes >= needed + std::min(settings_.segment_bytes, small_segment_bytes);
    if (on_reserve() && (spare_bytes() > 0 || room_beside)) seal_head(true);
    if (!on_reserve() && reserve_bytes_ == 0 && settings_.reserve_bytes > 0 && room) {
        static_cast<void>(make_reserve());  // asked again later
    }
}

// ---- reading
// ---------------------------------------------------------------------------------------------------

Result<std::string> FileJournal::read(std::uint32_t segment, std::uint64_t offset, std::uint32_t length)
    const {
    std::shared_ptr<File> file;
    std::uint64_t nonce = 0;
    {
        const std::lock_guard lock(mutex_);
        const auto found = files_.find(segment);
        if (found == files_.end())
            return fail(Errc::not_found, "segment " + std::to_string(segment) + " is gone");
        file = found->second.file;
        nonce = found->second.nonce;
    }
    auto record = read_record(*file, nonce, offset, length);
    if (record) return record;
    return fail(
        record.error().code == Errc::corrupt ? Errc::corrupt : Errc::disk_failed,
        segment_name(segment) + " at offset " + std::to_string(offset) + ": " + record.error().detail
    );
}

Result<std::string> FileJournal::facts(std::uint32_t segment) {
    if (head_ && head_->segment == segment) return head_->index;
    SegmentFile entry;
    std::optional<std::uint64_t> next_sequence;
    {
        const std::lock_guard lock(mutex_);
        const auto found = files_.find(segment);
        if (found == files_.end())
            return fail(Errc::not_found, "segment " + std::to_string(segment) + " is gone");
        entry = found->second;
        if (const auto next = std::next(found); next != files_.end())
            next_sequence = next->second.first_sequence;
    }
    TRY(const std::optional<Trailer> trailer, read_trailer(*entry.file, segment));
    if (trailer && trailer->nonce == entry.nonce) {
        if (auto index = read_index(*entry.file, *trailer)) return index;
    }
    ScanPlan plan;
    plan.name = segment_name(segment);
    plan.segment = segment;
    plan.header = SegmentHeader{};
    plan.header->nonce = entry.nonce;
    plan.header->first_sequence = entry.first_sequence;
    plan.sequence_end = next_sequence.value_or(sequence_);
    TRY(Scan scan, scan_segment(*entry.file, plan));
    return std::move(scan.facts);
}

// ---- giving back
// -------------------------------------------------------------------------------------------------

bool FileJournal::droppable(std::uint32_t segment) const {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(segment);
    if (found == files_.end() || found == files_.begin()) return found != files_.end();
    const auto before = std::prev(found);
    return before->second.indexed;
}

// Its entry stays until the directory is synced: a crash may bring the segment back, so it counts as existing.
Result<> FileJournal::drop(std::uint32_t segment) {
    ASSERT(!head_ || head_->segment != segment);
    TRY(const std::string spare, take_name(segment));
    TRY_VOID(disk_.sync_directory(settings_.directory));
    const std::lock_guard lock(mutex_);
    files_.erase(segment);
    if (!spare.empty()) spares_.push_back(spare);
    return {};
}

// Takes the name of a segment away, unless an earlier attempt did. Gives the name as which its file is kept, if it is.
Result<std::string> FileJournal::take_name(std::uint32_t segment) {
    const std::string name = segment_name(segment);
    std::string spare;
    {
        const std::lock_guard lock(mutex_);
        const SegmentFile& entry = files_.at(segment);
        if (entry.dropped_to) return *entry.dropped_to;
        const bool keep = entry.bytes == settings_.segment_bytes && entry.indexed && !entry.damaged &&
                          spares_.size() < settings_.spares_max;
        if (keep) spare = "spare-" + name;
    }
    TRY_VOID(spare.empty() ? disk_.unlink(path(name)) : disk_.rename(path(name), path(spare)));
    const std::lock_guard lock(mutex_);
    files_.at(segment).dropped_to = spare;
    return spare;
}

Result<> FileJournal::quarantine(std::uint32_t segment) {
    {
        const std::lock_guard lock(mutex_);
        const auto found = files_.find(segment);
        if (found == files_.end() || found->second.damaged || found->second.dropped_to) return {};
        found->second.damaged = true;
    }
    const std::string name = segment_name(segment);
    TRY_VOID(disk_.make_directory(path("quarantine")));
    TRY_VOID(disk_.link(path(name), path("quarantine/" + name)));
    TRY_VOID(disk_.sync_directory(path("quarantine")));
    return disk_.sync_directory(settings_.directory);
}

void FileJournal::close() {
    if (head_) seal_head(true);
}

// ---- counters
// ----------------------------------------------------------------------------------------------------

std::vector<std::uint32_t> FileJournal::unsound() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::uint32_t> found;
    for (const auto& [segment, entry] : files_) {
        if (!entry.indexed && (!head_ || head_->segment != segment)) found.push_back(segment);
    }
    return found;
}

std::uint64_t FileJournal::file_bytes(std::uint32_t segment) const {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(segment);
    return found == files_.end() ? 0 : found->second.bytes;
}

std::uint64_t FileJournal::disk_bytes() const {
    const std::lock_guard lock(mutex_);
    std::uint64_t bytes = reserve_bytes_ + spares_.size() * settings_.segment_bytes;
    for (const auto& [segment, entry] : files_)
        bytes += entry.bytes;
    return bytes;
}

std::uint64_t FileJournal::spare_bytes() const {
    const std::lock_guard lock(mutex_);
    return spares_.size() * settings_.segment_bytes;
}

std::uint64_t FileJournal::head_left() const {
    if (!head_ || head_->reserve) return 0;
    return head_->capacity - std::min(head_->capacity, head_->offset + head_->index.size());
}

std::uint64_t FileJournal::reserve_left() const {
    if (!on_reserve()) return reserve_bytes_;
    return head_->capacity - std::min(head_->capacity, head_->offset + head_->index.size());
}

}  // namespace sluice::spool
