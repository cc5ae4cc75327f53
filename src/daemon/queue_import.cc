#include "daemon/queue_import.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <utility>

#include "base/text.h"
#include "base/working_on.h"
#include "daemon/running_haraka.h"
#include "delivery/admission.h"
#include "haraka/queue_file.h"

namespace sluice::daemon {
namespace {

// One sync carries so much.
constexpr std::size_t files_at_once = 256;
constexpr std::uint64_t bytes_at_once = 16ull << 20;
constexpr std::uint64_t file_bytes_max = 512ull << 20;  // mended line ends may double it, and the spool takes 1 GiB
constexpr std::size_t left_files_max = 1'000;         // told by name
constexpr std::size_t left_lines_max = 100;           // of them in the log
constexpr auto between_tries = std::chrono::seconds(1);

// What stands in a queue directory of ours besides.
bool is_ours(std::string_view name) {
    constexpr std::array names{"lock", "clock", "crashes", "reserve.tmp"};
    return name.ends_with(".seg") || std::find(names.begin(), names.end(), name) != names.end();
}

// The process that a file name of this host names as its owner.
void note_owner(const haraka::FileName& name, const std::string& host, std::set<std::int64_t>& owners) {
    if (name.kind == haraka::NameKind::queued && name.host == host) owners.insert(name.pid);
}

std::optional<std::string> haraka_at_work(const std::string& directory, const std::set<std::int64_t>& owners) {
    const auto id = running_haraka(directory, owners);
    if (!id) return std::nullopt;
    return "Haraka (process " + std::to_string(*id) + ") works on " + directory +
           ": its mail would be sent twice. Stop it first; `--force` when it is something else";
}

}  // namespace

QueueImport::QueueImport(
    control::ImportRequest request, ImportTarget* target, ImportMarks& marks, event::Log* log, OnProgress on_progress)
    : request_(std::move(request)), target_(target), marks_(marks), log_(log), on_progress_(std::move(on_progress)) {
    report_.directory = request_.directory;
    report_.dry_run = target_ == nullptr;
    report_.started_ms = wall_clock_ms();
}

control::Import QueueImport::run() {
    using State = control::Import::State;
    const Result<> outcome = carry_out();
    report_.state = !outcome ? State::failed : cancelled() ? State::cancelled : State::done;
    report_.problem = outcome ? "" : outcome.error().detail;
    report_.ended_ms = wall_clock_ms();
    tell();
    return report_;
}

void QueueImport::cancel() {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
}

bool QueueImport::cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
}

Result<> QueueImport::carry_out() {
    TRY(ImportFolder folder, ImportFolder::open(request_.directory, target_ != nullptr));
    folder_.emplace(std::move(folder));
    TRY_VOID(survey());
    if (log_ != nullptr && report_.found > 0) {
        log_->info("import", "a Haraka's queue is imported", {{"directory", request_.directory}, {"files", report_.found}});
    }
    // Files that come or go while a directory is listed may be missed: again, until a whole pass finds nothing new.
    std::uint64_t before = 0;
    do {
        before = report_.imported + report_.repeated;
        TRY_VOID(one_pass());
    } while (target_ != nullptr && !cancelled() && before != report_.imported + report_.repeated);
    return {};
}

// Counts, and looks who else is here.
Result<> QueueImport::survey() {
    namespace fs = std::filesystem;
    std::set<std::int64_t> owners;
    const std::string host = haraka_host_name();
    TRY_VOID(folder_->each_name([&](const std::string& file) {
        const haraka::FileName name = haraka::parse_file_name(file);
        if (name.kind == haraka::NameKind::temporary) ++report_.temporary;
        if (name.kind == haraka::NameKind::queued) ++report_.found;
        note_owner(name, host, owners);
        return !cancelled();
    }));
    std::error_code error;
    const std::string queue = request_.directory + "/queue";
    if (report_.found == 0 && fs::is_directory(request_.directory + "/config", error) && fs::is_directory(queue, error)) {
        return fail(Errc::bad_input, request_.directory + " is an instance directory (did you mean `" + queue + "`?)");
    }
    tell();
    if (target_ == nullptr || request_.force || report_.found == 0) return {};
    const auto at_work = haraka_at_work(request_.directory, owners);
    return at_work ? Result<>(fail(Errc::locked, *at_work)) : Result<>();
}

Result<> QueueImport::one_pass() {
    Names names;
    Result<> outcome;
    TRY_VOID(folder_->each_name([&](const std::string& file) {
        if (left_.contains(file)) return true;
        names.push_back(file);
        if (names.size() < files_at_once) return true;
        outcome = import_all(std::exchange(names, {}));
        return outcome.has_value() && !cancelled();
    }));
    TRY_VOID(outcome);
    return cancelled() ? Result<>() : import_all(std::move(names));
}

// Again and again while the disk refuses.
Result<> QueueImport::import_all(Names names) {
    while (!names.empty() && wait_for_room()) {
        TRY(names, import_some(names));
        if (!names.empty() && !pause()) break;
    }
    return {};
}

// Gives the files that the disk did not take.
Result<QueueImport::Names> QueueImport::import_some(const Names& names) {
    Names again;
    for (const std::string& file : names) {
        if (cancelled()) break;
        take(file);
        if (under_way_bytes_ >= bytes_at_once) settle(again);
    }
    settle(again);
    TRY_VOID(remove_files());
    tell();
    return again;
}

void QueueImport::take(const std::string& file) {
    const haraka::FileName name = haraka::parse_file_name(file);
    switch (name.kind) {
        case haraka::NameKind::temporary: return;
        case haraka::NameKind::corrupt: return leave(file, 0, "Haraka put it aside: it could not read it");
        case haraka::NameKind::unknown:
            if (!is_ours(file)) leave(file, 0, "not the name of a queue file");
            return;
        case haraka::NameKind::queued: break;
    }
    Result<ReadFile> read = folder_->read(file, file_bytes_max);
    if (read) return take_file(file, name, std::move(*read));
    if (read.error().code == Errc::not_found) return leave(file, 0, "it went away: does a Haraka work here?");
    leave(file, 0, read.error().detail);
}

void QueueImport::take_file(const std::string& file, const haraka::FileName& name, ReadFile read) {
    UnderWay under_way;
    under_way.file = file;
    under_way.stamp = read.stamp;
    under_way.mark = ImportMarks::name_of(name, read.bytes);
    if (marks_.contains(under_way.mark)) {
        ++report_.repeated;
        if (target_ != nullptr) removals_.push_back({file, std::move(under_way.mark), read.stamp});
        return;
    }
    auto parsed = haraka::parse_queue_file(read.bytes);
    if (!parsed) return leave(file, parsed.error().offset, parsed.error().reason);
    if (target_ != nullptr) return start(std::move(under_way), std::move(*parsed), name);
    ++report_.imported;
    report_.mended += parsed->mended ? 1 : 0;
    report_.octets += parsed->content.size();
    left_.insert(file);
}

void QueueImport::start(UnderWay under_way, haraka::QueueFile parsed, const haraka::FileName& name) {
    under_way.mended = parsed.mended;
    const MessageId id = target_->ids.next();
    const WorkingOn working(id);
    under_way.imported = imported_from(name, std::move(parsed), id, *target_->settings(), target_->clock);
    const Imported& imported = under_way.imported;
    const ItemId item{id, 0};
    spool::Batch batch;
    batch.emplace_back(spool::MessageRecord{imported.message});
    if (imported.attempts > 0 || imported.due > target_->clock.now()) {
        batch.emplace_back(spool::ScheduleRecord{item, imported.attempts, imported.due, false, {}});
    }
    if (!imported.image.empty()) {
        target_->images.set(item, imported.image);
        target_->images.record(item, false, batch);
    }
    marks_.add(under_way.mark, id, folder_->path() + "/" + under_way.file, batch);
    under_way_bytes_ += imported.message->size();
    under_way_.push_back(std::move(under_way));
    {
        const std::lock_guard lock(mutex_);
        ++uncommitted_;
    }
    target_->spool.append(std::move(batch), this, under_way_.size() - 1);
}

void QueueImport::committed(std::span<spool::Committed> commits) {
    const std::lock_guard lock(mutex_);
    for (spool::Committed& commit : commits) {
        results_.emplace_back(commit.ticket, std::move(commit.result));
    }
    uncommitted_ -= commits.size();
    changed_.notify_all();
}

// Waits for the disk, then queues what is durable. The files that it did not take are added to `again`.
void QueueImport::settle(Names& again) {
    std::vector<std::pair<std::uint64_t, Result<>>> results;
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return uncommitted_ == 0; });
        results.swap(results_);
    }
    for (auto& [ticket, result] : results) under_way_[ticket].result = std::move(result);
    queue_durable(again);
    under_way_.clear();
    under_way_bytes_ = 0;
}

void QueueImport::queue_durable(Names& again) {
    std::vector<queue::Event> events;
    for (UnderWay& one : under_way_) {
        const mail::MessagePtr& message = one.imported.message;
        if (!one.result) {
            spool::Batch nothing;
            target_->images.record(ItemId{message->id, 0}, true, nothing);
            marks_.forget(one.mark);
            report_.problem = one.result.error().detail;
            again.push_back(one.file);
            continue;
        }
        queue::Admit admit = delivery::admission(message, 0);
        admit.due = one.imported.due;
        admit.attempts = one.imported.attempts;
        admit.fresh = nullptr;  // a whole queue does not fit into memory
        events.emplace_back(std::move(admit));
        target_->events.record(event::Accepted{.message = *message, .client = message->origin});
        ++report_.imported;
        report_.mended += one.mended ? 1 : 0;
        report_.octets += message->size();
        removals_.push_back({std::move(one.file), std::move(one.mark), one.stamp});
    }
    if (!events.empty()) target_->admit(events);
}

// Those whose messages are durable.
Result<> QueueImport::remove_files() {
    spool::Batch erasures;
    for (const Removal& removal : removals_) {
        const Result<> removed = folder_->remove(removal.file, removal.stamp);
        if (removed) {
            marks_.erase(removal.mark, erasures);
        } else if (removed.error().code == Errc::not_found) {
            // The mark stays: perhaps it has another name now.
            leave(removal.file, 0, "it went away while it was imported: does a Haraka work here?");
        } else {
            leave(removal.file, 0, "imported, but still there: " + removed.error().detail);
        }
    }
    removals_.clear();
    if (erasures.empty()) return {};
    TRY_VOID(folder_->sync());
    target_->spool.append(std::move(erasures), nullptr, 0);
    return {};
}

void QueueImport::leave(const std::string& file, std::uint64_t offset, const std::string& reason) {
    if (!left_.insert(file).second) return;
    ++report_.left;
    if (report_.left_files.size() < left_files_max) report_.left_files.push_back({file, offset, printable(reason)});
    if (log_ == nullptr || report_.left > left_lines_max) return;
    log_->warn("import", "a queue file is left where it is", {{"file", file}, {"offset", offset}, {"reason", printable(reason)}});
}

// False when the import was cancelled meanwhile.
bool QueueImport::wait_for_room() {
    while (target_ != nullptr && !cancelled()) {
        const auto refusal = target_->refusal();
        if (!refusal) break;
        report_.problem = *refusal;
        if (!pause()) break;
    }
    if (report_.state == control::Import::State::waiting) {
        report_.state = control::Import::State::running;
        report_.problem.clear();
        tell();
    }
    return !cancelled();
}

bool QueueImport::pause() {
    report_.state = control::Import::State::waiting;
    tell();
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, between_tries, [this] { return cancelled_; });
}

void QueueImport::tell() {
    if (on_progress_) on_progress_(report_);
}

std::optional<std::string> haraka_at_work(const std::string& directory) {
    const Result<ImportFolder> folder = ImportFolder::open(directory, false);
    if (!folder) return std::nullopt;
    std::set<std::int64_t> owners;
    const std::string host = haraka_host_name();
    const Result<> listed = folder->each_name([&](const std::string& file) {
        note_owner(haraka::parse_file_name(file), host, owners);
        return true;
    });
    return listed ? haraka_at_work(directory, owners) : std::nullopt;
}

control::Import read_queue(const std::string& directory) {
    control::ImportRequest request;
    request.directory = directory;
    request.dry_run = true;
    ImportMarks none;
    return QueueImport(std::move(request), nullptr, none, nullptr, {}).run();
}

}  // namespace sluice::daemon
