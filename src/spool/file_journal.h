#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "spool/disk.h"
#include "spool/format.h"
#include "spool/journal.h"
#include "spool/segment_scan.h"
#include "spool/spool.h"

namespace sluice::spool {

// "0000000042.seg"; nothing for other names.
std::string segment_name(std::uint32_t segment);
std::optional<std::uint32_t> parse_segment_name(std::string_view name);

// The journal as files of one directory:
//
//   0000000042.seg        segments, by number
//   spare-0000000007.seg  segments that are done, kept to be written again: overwriting blocks that were
//   written
//                         before costs a third less per sync than filling fresh ones, which the file system
//                         must log
//   reserve.seg           room for outcomes on a full disk
//   quarantine/           second names of damaged segments
//   lock                  held by the instance that runs
//
// Thread: the writer's, except read() and the counters. Borrows the disk.
class FileJournal final : public Journal {
public:
    struct Settings {
        std::string directory;
        std::uint64_t segment_bytes = 128ull << 20;
        std::uint64_t reserve_bytes = 16ull << 20;
        std::size_t spares_max = 3;
        bool sync = true;
    };
    // One segment as recovery finds it.
    struct Found {
        std::uint32_t segment = 0;
        std::uint64_t file_bytes = 0;
        std::string facts;
    };

    FileJournal(Disk& disk, Settings settings) : disk_(disk), settings_(std::move(settings)) {}

    // Reads the indexes of all segments and the batches of those that have none, oldest first; gives the
    // latter an index. Fills the counts of segments and damage and the warnings of `report`, and raises
    // `latest` and `last_id` to what segment headers say. Killed half-way and started again, it finds the
    // same.
    Result<> recover(const std::function<Result<>(Found)>& on_segment, RecoveryReport& report);

    // What the next segment's header says in case all older ones are gone.
    void set_floor(Instant latest, MessageId last_id);

    Result<Head> prepare(const Room& room) override;
    Result<> append(Group& group) override;
    Result<std::string> facts(std::uint32_t segment) override;
    Result<std::string> read(std::uint32_t segment, std::uint64_t offset, std::uint32_t length)
        const override;
    Result<> drop(std::uint32_t segment) override;
    bool droppable(std::uint32_t segment) const override;
    Result<> quarantine(std::uint32_t segment) override;
    void close() override;

    // Segments that could not be given an index: their last batches are only kept out by the segment behind
    // them.
    std::vector<std::uint32_t> unsound() const;
    std::uint64_t file_bytes(std::uint32_t segment) const;
    // Files of the journal, spares and reserve included. Any thread.
    std::uint64_t disk_bytes() const;
    // What may still be written without asking the file system for room. Any thread.
    std::uint64_t spare_bytes() const;
    // Writing goes to the reserve: the disk is full.
    bool on_reserve() const { return head_ && head_->reserve; }
    bool has_head() const { return head_.has_value(); }
    // Room in the current segment for anything; in the reserve, for outcomes.
    std::uint64_t head_left() const;
    std::uint64_t reserve_left() const;
    // Tries to leave the reserve, and to fill it up again afterwards.
    void restore_reserve(std::uint64_t free_bytes, std::uint64_t wanted_free);

private:
    struct SegmentFile {
        std::shared_ptr<File> file;
        std::uint64_t nonce = 0;
        std::uint64_t first_sequence = 0;
        std::uint64_t next_sequence = 0;  // as recovery found it
        std::uint64_t bytes = 0;
        bool indexed = false;
        bool damaged = false;
        // Its name is gone, or now that of a spare, but the directory is not synced since.
        std::optional<std::string> dropped_to;
    };
    struct OpenHead {
        std::uint32_t segment = 0;
        std::uint64_t nonce = 0;
        std::uint64_t first_sequence = 0;
        std::uint64_t offset = sector_bytes;
        std::uint64_t capacity = 0;
        bool reserve = false;
        std::shared_ptr<File> file;
        std::string index;
    };
    struct Opening {  // one segment while recover() looks at it
        std::uint32_t segment = 0;
        std::string name;
        std::shared_ptr<File> file;
        std::optional<SegmentHeader> header;
        bool header_damaged = false;
        std::uint64_t bytes = 0;
    };

    std::string path(std::string_view name) const { return settings_.directory + "/" + std::string(name); }
    Result<> take_stock(std::vector<std::uint32_t>& segments, RecoveryReport& report);
    Result<std::optional<Opening>> look_at(std::uint32_t segment);
    ScanPlan plan_for(const std::vector<Opening>& openings, std::size_t at) const;
    Result<std::string> recover_segment(
        const std::vector<Opening>& openings, std::size_t at, SegmentFile& entry, RecoveryReport& report
    );
    Result<std::string> scan_and_seal(
        const Opening& opening, const ScanPlan& plan, SegmentFile& entry, RecoveryReport& report
    );
    Result<> discard_empty(std::uint32_t segment, RecoveryReport& report);
    void discard(std::string_view name, RecoveryReport& report);

    Result<> write_index(
        File& file, const Trailer& trailer, const std::string& index, std::uint64_t file_bytes
    );
    void seal_head(bool truncate);
    void abandon_head();
    bool fits(const OpenHead& head, const Room& room) const;
    Result<OpenHead> open_segment(std::uint64_t needed, bool from_reserve);
    void take_head(OpenHead head);
    Result<std::shared_ptr<File>> take_file(std::uint32_t segment, std::uint64_t needed, bool& reserve);
    Result<std::shared_ptr<File>> create_file(std::uint32_t segment, std::uint64_t capacity);
    Result<> begin_segment(OpenHead& head);
    Result<> make_reserve();
    Result<std::string> take_name(std::uint32_t segment);

    Disk& disk_;
    Settings settings_;
    std::optional<OpenHead> head_;
    std::uint64_t epoch_ = 1;
    std::uint64_t sequence_ = 1;
    std::uint32_t next_segment_ = 1;
    std::int64_t latest_ms_ = 0;
    std::uint64_t last_id_ = 0;

    mutable std::mutex mutex_;  // over the rest, for read() and the counters
    std::map<std::uint32_t, SegmentFile> files_;
    std::vector<std::string> spares_;
    std::uint64_t reserve_bytes_ = 0;  // of reserve.seg; 0: there is none
};

}  // namespace sluice::spool
