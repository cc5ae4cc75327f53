#include <algorithm>
#include <utility>

#include "spool/file_journal.h"

namespace sluice::spool {
Result<> FileJournal::recover(const std::function<Result<>(Found)>& on_segment, RecoveryReport& report) {
    std::vector<std::uint32_t> segments;
    TRY_VOID(take_stock(segments, report));
    std::vector<Opening> openings;
    std::vector<std::uint32_t> empty;
    if (!segments.empty() && segments.back() > segment_number_max) {
        return fail(
            Errc::corrupt, path(segment_name(segments.back())) + ": no journal comes to such a number, and behind the last one there is none: "
            "a file of something else, to be moved away"
        );
    }
    for (const std::uint32_t segment : segments) {
        next_segment_ = std::max(next_segment_, segment + 1);
        TRY(std::optional<Opening> opening, look_at(segment));
        if (opening) {
            openings.push_back(std::move(*opening));
        } else {
            empty.push_back(segment);
        }
    }
    for (std::size_t i = 0; i < openings.size(); ++i) {
        SegmentFile entry;
        TRY(std::string facts, recover_segment(openings, i, entry, report));
        const Found found{openings[i].segment, entry.bytes, std::move(facts)};
        const bool damaged = std::exchange(entry.damaged, false);
        {
            const std::lock_guard lock(mutex_);
            files_[found.segment] = std::move(entry);
        }
        if (damaged) {
            if (const auto kept = quarantine(found.segment); !kept)
                report.warnings.push_back(kept.error().detail);
        }
        TRY_VOID(on_segment(found));
    }
    for (const std::uint32_t segment : empty)
        TRY_VOID(discard_empty(segment, report));
    report.segments = openings.size();
    report.latest = std::max(report.latest, instant_from_ms(latest_ms_));
    report.last_id = std::max(report.last_id, MessageId{last_id_});
    return disk_.sync_directory(settings_.directory);
}

// Sorts the files of the directory by kind and makes the reserve if there is none.
Result<> FileJournal::take_stock(std::vector<std::uint32_t>& segments, RecoveryReport& report) {
    TRY(const std::vector<std::string> names, disk_.list(settings_.directory));
    for (const std::string& name : names) {
        if (const auto segment = parse_segment_name(name)) {
            segments.push_back(*segment);
        } else if (name.starts_with("spare-") || name == "reserve.seg") {
            const auto file = disk_.open(path(name), OpenMode::read);
            if (!file) {
                report.warnings.push_back("not used: " + file.error().detail);
                continue;
            }
            TRY(const std::uint64_t bytes, (*file)->size());
            const bool reserve = name == "reserve.seg";
            if (reserve && bytes == settings_.reserve_bytes) {
                reserve_bytes_ = bytes;
            } else if (!reserve && bytes == settings_.segment_bytes &&
                       spares_.size() < settings_.spares_max) {
                spares_.push_back(name);
            } else {
                discard(name, report);
            }
        } else if (name == "reserve.tmp") {
            discard(name, report);
        }
    }
    if (reserve_bytes_ == 0 && settings_.reserve_bytes > 0) {
        if (const auto made = make_reserve(); !made) {
            report.warnings.push_back("no reserve for a full disk: " + made.error().detail);
        }
    }
    return {};
}

// A segment in which nothing stands was never begun, unless those around it say that batches are missing between
// them. Of the newest one nobody can say it; what has a header that nobody can read is kept for people all the same.
Result<> FileJournal::discard_empty(std::uint32_t segment, RecoveryReport& report) {
    const std::string name = segment_name(segment);
    const auto before = segment > 0 ? files_.find(segment - 1) : files_.end();
    const auto after = files_.find(segment + 1);
    TRY(const std::shared_ptr<File> file, disk_.open(path(name), OpenMode::read));
    bool keep = !read_segment_header(*file).has_value();
    const bool between = before != files_.end() && after != files_.end();
    if (between && before->second.next_sequence < after->second.first_sequence) {
        const std::uint64_t lost = after->second.first_sequence - before->second.next_sequence;
        report.corrupt_batches += lost;
        report.warnings.push_back(
            name + ": empty, but it held " + std::to_string(lost) + " batches from sequence " +
            std::to_string(before->second.next_sequence)
        );
        keep = true;
    } else {
        report.warnings.push_back(name + (keep ? ": unreadable, without a batch, removed" : ": never begun, removed"));
    }
    if (keep) {
        TRY_VOID(disk_.make_directory(path("quarantine")));
        TRY_VOID(disk_.link(path(name), path("quarantine/" + name)));
        TRY_VOID(disk_.sync_directory(path("quarantine")));
    }
    discard(name, report);
    return {};
}

void FileJournal::discard(std::string_view name, RecoveryReport& report) {
    if (const auto gone = disk_.unlink(path(name)); !gone) {
        report.warnings.push_back("cannot remove an unused file: " + gone.error().detail);
    }
}

// Nothing for a file that was prepared but never begun: after a crash between its creation and its header, or
// between the renaming of a spare and its new header. Nothing in it counts.
Result<std::optional<FileJournal::Opening>> FileJournal::look_at(std::uint32_t segment) {
    using Looked = std::optional<Opening>;
    Opening opening;
    opening.segment = segment;
    opening.name = segment_name(segment);
    TRY(opening.file, disk_.open(path(opening.name), OpenMode::write));
    TRY(opening.bytes, opening.file->size());

    auto header = read_segment_header(*opening.file);
    if (!header && header.error().code != Errc::corrupt) {
        return fail(header.error().code, opening.name + ": " + header.error().detail);
    }
    if (header && *header) {
        if ((*header)->segment != segment) return Looked();
        opening.header = **header;
        epoch_ = std::max(epoch_, (*header)->epoch + 1);
        sequence_ = std::max(sequence_, (*header)->first_sequence);
        latest_ms_ = std::max(latest_ms_, (*header)->latest_ms);
        last_id_ = std::max(last_id_, (*header)->last_id);
        return Looked(std::move(opening));
    }
    // No header, or one that a crash left unfinished. With no batch behind it the file was never used; anything else is
    // damage.
    opening.header_damaged = true;
    ScanPlan plan;
    plan.segment = segment;
    TRY(const Scan scan, scan_segment(*opening.file, plan));
    if (scan.batches == 0 && scan.corrupt_batches == 0) return Looked();
    return Looked(std::move(opening));
}

ScanPlan FileJournal::plan_for(const std::vector<Opening>& openings, std::size_t at) const {
    ScanPlan plan;
    plan.name = openings[at].name;
    plan.segment = openings[at].segment;
    plan.header = openings[at].header;
    plan.tail = at + 1 == openings.size();
    if (!plan.tail && openings[at + 1].header) {
        plan.sequence_end = openings[at + 1].header->first_sequence;
        plan.complete = openings[at + 1].segment == openings[at].segment + 1;
    }
    return plan;
}

Result<std::string> FileJournal::recover_segment(
    const std::vector<Opening>& openings, std::size_t at, SegmentFile& entry, RecoveryReport& report
) {
    const Opening& opening = openings[at];
    entry.file = opening.file;
    entry.bytes = opening.bytes;
    if (opening.header) {
        entry.nonce = opening.header->nonce;
        entry.first_sequence = opening.header->first_sequence;
    } else {
        report.warnings.push_back(opening.name + ": damaged segment header at offset 0");
    }
    ScanPlan plan = plan_for(openings, at);
    TRY(const std::optional<Trailer> trailer, read_trailer(*opening.file, opening.segment));
    if (trailer && (!opening.header || trailer->nonce == entry.nonce)) {
        entry.nonce = trailer->nonce;
        entry.first_sequence = trailer->first_sequence;
        auto index = read_index(*opening.file, *trailer);
        if (index) {
            entry.indexed = true;
            epoch_ = std::max(epoch_, trailer->epoch + 1);
            entry.next_sequence = trailer->next_sequence;
            sequence_ = std::max(sequence_, trailer->next_sequence);
            return index;
        }
        if (index.error().code != Errc::corrupt) return index;
        if (!plan.tail)
            report.warnings.push_back(opening.name + ": " + index.error().detail + "; reading every batch");
        plan.sequence_end = trailer->next_sequence;
        plan.complete = true;
        plan.tail = false;
    }
    return scan_and_seal(opening, plan, entry, report);
}

Result<std::string> FileJournal::scan_and_seal(
    const Opening& opening, const ScanPlan& plan, SegmentFile& entry, RecoveryReport& report
) {
    auto scanned = scan_segment(*opening.file, plan);
    if (!scanned) return fail(scanned.error().code, opening.name + ": " + scanned.error().detail);
    Scan& scan = *scanned;
    entry.nonce = scan.nonce;
    entry.first_sequence = scan.first_sequence;
    entry.next_sequence = scan.next_sequence;
    sequence_ = std::max(sequence_, scan.next_sequence);
    report.torn_bytes += scan.torn_bytes;
    report.corrupt_batches += scan.corrupt_batches;
    report.warnings.insert(report.warnings.end(), scan.problems.begin(), scan.problems.end());

    // A damaged segment stays as it is, for people; it will be read batch by batch until nothing in it
    // matters.
    entry.damaged = scan.corrupt_batches > 0 || opening.header_damaged;
    if (entry.damaged) return std::move(scan.facts);

    // What a killed process had written may still be in the cache alone. It must be on the disk before an index tells of
    // it, or the next segment goes on from its sequence: after a power cut it would be damage otherwise.
    if (const auto synced = opening.file->sync(); !synced) return fail(synced.error());
    Trailer trailer;
    trailer.epoch = opening.header ? opening.header->epoch : epoch_;
    trailer.segment = opening.segment;
    trailer.nonce = scan.nonce;
    trailer.first_sequence = scan.first_sequence;
    trailer.next_sequence = scan.next_sequence;
    trailer.index_offset = scan.end;
    const std::uint64_t bytes = round_up(scan.end + scan.facts.size(), sector_bytes) + sector_bytes;
    if (const auto sealed = write_index(*opening.file, trailer, scan.facts, bytes); sealed) {
        entry.indexed = true;
        entry.bytes = bytes;
    } else {
        report.warnings.push_back(opening.name + ": cannot write its index: " + sealed.error().detail);
    }
    return std::move(scan.facts);
}

}  // namespace sluice::spool
