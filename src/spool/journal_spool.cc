#include "spool/journal_spool.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>

#include "base/assert.h"
#include "base/working_on.h"
#include "spool/recovery.h"

namespace sluice::spool {
namespace {

// Where there is little room, a group takes about this much at least.
constexpr std::uint64_t small_group_bytes = 4096;

// A message may move while it is read; more often than this it does not.
constexpr int load_attempts = 4;

FileJournal::Settings journal_settings(const Options& options, const Tuning& tuning) {
    FileJournal::Settings settings;
    settings.directory = options.directory;
    settings.segment_bytes = round_up(options.segment_bytes, sector_bytes);
    settings.reserve_bytes = round_up(options.reserve_bytes, sector_bytes);
    settings.spares_max = tuning.spares_max;
    settings.sync = options.sync;
    return settings;
}

}  // namespace

Result<std::unique_ptr<Spool>> Spool::open(
    const Options& options, const std::function<void(const RecoveredItem&)>& on_item, RecoveryReport& report
) {
    std::shared_ptr<Disk> disk = make_system_disk();
    TRY(std::unique_ptr<Spool> spool, JournalSpool::open(*disk, options, Tuning(), on_item, report));
    static_cast<JournalSpool&>(*spool).disk_owner_ = std::move(disk);
    return spool;
}

Result<std::unique_ptr<Spool>> JournalSpool::open(
    Disk& disk, const Options& options, const Tuning& tuning,
    const std::function<void(const RecoveredItem&)>& on_item, RecoveryReport& report
) {
    auto spool = std::make_unique<JournalSpool>(disk, options, tuning);
    TRY_VOID(spool->recover(on_item, report));
    if (tuning.own_thread) spool->writer_ = std::thread(&JournalSpool::run, spool.get());
    return spool;
}

JournalSpool::JournalSpool(Disk& disk, const Options& options, const Tuning& tuning)
    : disk_(disk),
      options_(options),
      tuning_(tuning),
      journal_(disk, journal_settings(options, tuning)),
      reclaimer_(journal_, ledger_, ledger_mutex_, round_up(options.segment_bytes, sector_bytes)) {}

JournalSpool::~JournalSpool() {
    close();
}

Result<> JournalSpool::recover(
    const std::function<void(const RecoveredItem&)>& on_item, RecoveryReport& report
) {
    TRY_VOID(disk_.make_directory(options_.directory));
    TRY(lock_, disk_.lock(options_.directory + "/lock"));
    Recovery recovery(ledger_, report);
    TRY_VOID(
        journal_.recover([&](FileJournal::Found found) { return recovery.take(std::move(found)); }, report)
    );
    recovery.tell(on_item);

    journal_.set_floor(report.latest, report.last_id);
    Room room;
    room.from_reserve = true;
    if (const auto head = prepare(room); !head) {
        // Not fatal: what is queued can be delivered, and the writer asks the disk again and again.
        report.warnings.push_back("no new segment can be written: " + head.error().detail);
    }
    look_at_disk();
    reclaim();
    publish_status();
    return {};
}

// ---- any thread
// --------------------------------------------------------------------------------------------------

void JournalSpool::append(Batch batch, CommitListener* listener, std::uint64_t ticket) {
    Waiting waiting{std::move(batch), listener, ticket, {}, false};
    for (const Record& record : waiting.batch) {
        waiting.weight += weigh(record);
        waiting.has_message |= std::holds_alternative<MessageRecord>(record);
    }
    waiting_bytes_.fetch_add(waiting.weight.record, std::memory_order_relaxed);
    bool wake = false;
    {
        const std::lock_guard lock(waiting_mutex_);
        ASSERT(!stopping_);
        waiting_.push_back(std::move(waiting));
        wake = std::exchange(writer_sleeps_, false);
    }
    if (wake) wake_.notify_one();
}

Result<mail::MessagePtr> JournalSpool::load(MessageId id) {
    const WorkingOn working(id);
    Error last(Errc::not_found, "");
    Place before;
    for (int attempt = 0; attempt < load_attempts; ++attempt) {
        std::optional<Place> place;
        {
            const std::lock_guard lock(ledger_mutex_);
            place = ledger_.find(id);
        }
        if (!place) return fail(Errc::not_found, "message " + id.text() + " is decided or was never here");
        // Not moved since the last attempt: then that one met what is really there.
        if (*place == before) break;
        before = *place;
        auto record = journal_.read(place->segment, place->offset, place->length);
        if (record) {
            TRY(mail::MessagePtr message, decode_message(*record));
            if (message->id == id) return message;
            last = Error(Errc::corrupt, "another message stands where " + id.text() + " should");
        } else {
            last = std::move(record).error();
        }
        if (last.code == Errc::disk_failed) return fail(std::move(last));
    }
    if (last.code == Errc::corrupt) {
        const std::lock_guard lock(waiting_mutex_);
        damaged_.push_back(before.segment);
        wake_.notify_one();
    }
    return fail(std::move(last));
}

bool JournalSpool::accepting() const {
    return disk_accepts_.load(std::memory_order_relaxed) &&
           waiting_bytes_.load(std::memory_order_relaxed) < options_.queued_bytes_max;
}

Status JournalSpool::status() const {
    Status status;
    {
        const std::lock_guard lock(status_mutex_);
        status = published_;
    }
    {
        const std::lock_guard lock(ledger_mutex_);
        status.live_bytes = ledger_.live_bytes();
        status.live_messages = ledger_.live_messages();
    }
    status.waiting_bytes = waiting_bytes_.load(std::memory_order_relaxed);
    status.accepting = accepting();
    if (status.waiting_bytes >= options_.queued_bytes_max) {
        status.why_not = "the disk does not keep up: too much waits for its sync";
    }
    if (!status.accepting && status.why_not.empty()) status.why_not = "the disk refused the last write";
    return status;
}

Pulse JournalSpool::pulse() const {
    const DiskCalls& calls = disk_.calls();
    Pulse pulse;
    pulse.steps = steps_.load(std::memory_order_relaxed) + calls.ended;
    pulse.at_disk = calls.under_way > 0;
    const std::lock_guard lock(waiting_mutex_);
    pulse.idle = writer_sleeps_ && waiting_.empty();
    return pulse;
}

void JournalSpool::close() {
    if (!std::exchange(closed_, true)) {
        {
            const std::lock_guard lock(waiting_mutex_);
            stopping_ = true;
        }
        wake_.notify_one();
        if (writer_.joinable()) writer_.join();
        while (take_work()) work_off();  // without a thread
        write_what_is_carried();
    }
    journal_.close();
    lock_.reset();
}

// ---- the writer
// --------------------------------------------------------------------------------------------------

void JournalSpool::run() {
    pthread_setname_np(pthread_self(), "sluice-spool");
    wait_for_work();
    while (take_work()) {
        work_off();
        wait_for_work();
    }
}

void JournalSpool::turn() {
    if (take_work()) work_off();
}

bool JournalSpool::work_waits() const {
    const std::lock_guard lock(waiting_mutex_);
    return !waiting_.empty() || !damaged_.empty();
}

void JournalSpool::work_off() {
    steps_.fetch_add(1, std::memory_order_relaxed);
    look_at_disk();
    write_work();
    if (!carried_.empty()) {
        write_work();  // a new segment, or a smaller group, may well work
    } else if (reclaimer_.busy()) {
        static_cast<void>(write_chunk());
    }
    quarantine_damaged();  // before its segment may go
    reclaim();
    publish_status();
}

// How long the writer may sleep when nothing waits: forever, unless the disk is to be asked again.
Duration JournalSpool::idle_time() const {
    if (reclaimer_.busy() && !failing_) return Duration(0);
    if (failing_ || !carried_.empty() || reclaim_at_ != Instant()) return tuning_.retry_after;
    return disk_accepts_.load(std::memory_order_relaxed) ? Duration::max() : tuning_.disk_check;
}

void JournalSpool::wait_for_work() {
    const Duration idle = idle_time();
    std::unique_lock lock(waiting_mutex_);
    const auto ready = [&] { return !waiting_.empty() || stopping_ || !damaged_.empty(); };
    if (!ready() && idle > Duration(0)) {
        writer_sleeps_ = true;
        const auto woken = [&] { return !writer_sleeps_ || ready(); };
        if (idle == Duration::max()) {
            wake_.wait(lock, woken);
        } else {
            wake_.wait_for(lock, idle, woken);
        }
        writer_sleeps_ = false;
    }
}

// Takes everything that waits. False when the spool closes and nothing is left.
bool JournalSpool::take_work() {
    const std::lock_guard lock(waiting_mutex_);
    work_.swap(waiting_);
    return !work_.empty() || !stopping_;
}

// Writes what is in work_, behind what failed before: of an item's schedules and holds the last one counts. So
// nothing is written any more in this round once something has to wait for the next.
void JournalSpool::write_work() {
    if (!carried_.empty()) {
        std::move(work_.begin(), work_.end(), std::back_inserter(carried_));
        work_ = std::exchange(carried_, {});
    }
    for (std::size_t from = 0; from < work_.size();) {
        from = next_chunk(from);
        if (const auto written = write_chunk(); !written) {
            put_off(from, written.error());
            break;
        }
    }
    work_.clear();
    if (carried_.empty()) cramped_ = false;
}

// While there is little room, groups fit into what there is, index included; a small one asks for more.
std::uint64_t JournalSpool::group_limit() const {
    if (!cramped_) return tuning_.group_bytes_max;
    const std::uint64_t left = journal_.on_reserve() ? journal_.reserve_left() : journal_.head_left();
    return std::min(std::max(left / 4, small_group_bytes), tuning_.group_bytes_max);
}

// Moves the batches of the next group from work_ to chunk_. Gives where those begin that are left.
std::size_t JournalSpool::next_chunk(std::size_t from) {
    const std::uint64_t limit = group_limit();
    std::uint64_t bytes = 0;
    while (from < work_.size() && (bytes == 0 || bytes + work_[from].weight.record <= limit)) {
        name_recipients(work_[from]);
        bytes += work_[from].weight.record;
        chunk_.push_back(std::move(work_[from++]));
    }
    return from;
}

// What is left of work_ is not tried now: who waits is told so, the rest is carried.
void JournalSpool::put_off(std::size_t from, const Error& error) {
    std::move(work_.begin() + static_cast<std::ptrdiff_t>(from), work_.end(), std::back_inserter(chunk_));
    complete_chunk(fail(error));
}

// One last try for what nobody waits for; a second one with what the first taught of the room.
void JournalSpool::write_what_is_carried() {
    for (int tries = 0; tries < 2 && !carried_.empty(); ++tries) {
        retry_at_ = {};
        write_work();
    }
    if (carried_.empty()) return;
    note_problem(
        std::to_string(carried_.size()) +
        " batches could not be written before the journal was closed: what they record is done again after the next start"
    );
}

// In the journal outcomes have a list of recipients.
void JournalSpool::name_recipients(Waiting& waiting) {
    const auto names_nobody = [](const Record& record) {
        const auto* outcome = std::get_if<OutcomeRecord>(&record);
        return outcome != nullptr && outcome->recipients.empty();
    };
    if (std::none_of(waiting.batch.begin(), waiting.batch.end(), names_nobody)) return;
    waiting_bytes_.fetch_sub(waiting.weight.record, std::memory_order_relaxed);
    for (Record& record : waiting.batch) {
        if (!names_nobody(record)) continue;
        auto& outcome = std::get<OutcomeRecord>(record);
        auto recipients = undecided(outcome.item);
        if (recipients) outcome.recipients = std::move(*recipients);
        else note_problem("the outcome of " + outcome.item.text() + " is not recorded: " + recipients.error().detail);
    }
    std::erase_if(waiting.batch, names_nobody);
    waiting.weight = {};
    for (const Record& record : waiting.batch)
        waiting.weight += weigh(record);
    waiting_bytes_.fetch_add(waiting.weight.record, std::memory_order_relaxed);
}

// As the index says, which has a checksum of its own: the message itself may be damaged.
Result<std::vector<std::uint32_t>> JournalSpool::undecided(const ItemId& item) {
    std::vector<std::uint32_t> recipients;
    const auto place = ledger_.find(item.message);
    if (!place) return recipients;
    TRY(const std::string facts, journal_.facts(place->segment));
    FactReader reader(facts);
    while (const auto fact = reader.next()) {
        if (fact->type != RecordType::message || fact->offset != place->offset) continue;
        MessageSummary summary;
        TRY_VOID(decode_summary(fact->body, summary));
        if (item.index >= summary.items.size()) break;
        ledger_.pending(item.message, summary.items[item.index].recipients, recipients);
        return recipients;
    }
    return fail(Errc::corrupt, "the index of " + segment_name(place->segment) + " does not know it");
}

Result<> JournalSpool::write_chunk() {
    Result<> written = write_group();
    const auto has_message = [](const Waiting& waiting) { return waiting.has_message; };
    if (!written && written.error().code == Errc::disk_full &&
        std::any_of(chunk_.begin(), chunk_.end(), has_message)) {
        // Messages are refused; what is known about delivered ones goes to the reserve.
        refuse_messages(written.error());
        written = write_group();
    }
    if (!written && written.error().code == Errc::disk_full) {
        // A small group found no room in the reserve: it is used up.
        if (cramped_ && journal_.on_reserve()) note_failure(written.error());
        cramped_ = true;
    }
    complete_chunk(written);
    return written;
}

// Makes chunk_ durable, together with what reclaiming has to write again.
Result<> JournalSpool::write_group() {
    const Room own = room_of_chunk();
    const Room room = with_rewriting(own);
    if (room.records == 0) {
        reclaimer_.written();
        return {};
    }
    auto head = prepare(room);
    if (!head && head.error().code == Errc::disk_full && reclaimer_.gathered()) {
        // What is new may still find room, in the reserve above all.
        reclaimer_.give_up();
        head = prepare(own);
    }
    if (!head) {
        reclaimer_.not_written();
        return fail(std::move(head).error());
    }
    gather(*head);
    if (group_.empty()) return {};
    const std::uint64_t bytes = group_.bytes();
    if (auto appended = journal_.append(group_); !appended) {
        ++counts_.sync_failures;
        reclaimer_.not_written();
        note_failure(appended.error());
        retry_at_ = {};  // a new segment may well work
        return appended;
    }
    ++counts_.syncs;
    counts_.appended_bytes += bytes;
    enter(head->segment);
    reclaimer_.written();
    return {};
}

Room JournalSpool::room_of_chunk() const {
    Room room;
    room.from_reserve = true;
    for (const Waiting& waiting : chunk_) {
        room.records += waiting.weight.record;
        room.index += waiting.weight.index;
        if (waiting.has_message) room.from_reserve = false;
    }
    return room;
}

// Rewriting never opens the reserve: that is for what is new. Once it is open, gather() knows what may go there.
Room JournalSpool::with_rewriting(Room room) {
    if (journal_.on_reserve() && !room.from_reserve) return room;  // refused, whatever comes with it
    if (room.records > tuning_.group_bytes_max) return room;       // a large message, and the next may be as large
    const Weight rewritten = reclaimer_.gather(tuning_.rewrite_bytes_max);
    if (!reclaimer_.gathered()) return room;
    room.records += rewritten.record;
    room.index += rewritten.index;
    room.from_reserve &= journal_.on_reserve();
    return room;
}

Result<Head> JournalSpool::prepare(const Room& room) {
    // A full disk still has the reserve; a broken one is left alone for a while.
    const bool reserve_may_help = room.from_reserve && last_failure_.code == Errc::disk_full;
    if (failing_ && !reserve_may_help && clock_.now() < retry_at_) return fail(last_failure_);
    journal_.set_floor(ledger_.latest(), ledger_.last_id());
    auto head = journal_.prepare(room);
    if (!head) {
        if (!journal_.has_head()) note_failure(head.error());
        return head;
    }
    if (head->segment != head_segment_) {
        head_segment_ = head->segment;
        const std::lock_guard lock(ledger_mutex_);
        ledger_.add_segment(head->segment, journal_.file_bytes(head->segment));
    }
    failing_ = false;
    return head;
}

void JournalSpool::note_failure(const Error& error) {
    if (!failing_) options_.on_problem("the journal cannot be written: " + error.detail);
    failing_ = true;
    last_failure_ = error;
    retry_at_ = clock_.now() + tuning_.retry_after;
    disk_accepts_.store(false, std::memory_order_relaxed);
    next_disk_check_ = {};
}

void JournalSpool::gather(const Head& head) {
    group_.begin(head);
    reclaimer_.add_to(group_);
    for (const Waiting& waiting : chunk_) {
        for (const Record& record : waiting.batch)
            group_.add(record, segment_of(record, head));
    }
}

// Outcomes name the segment of their message: its own one, if it is in this very group.
std::uint64_t JournalSpool::segment_of(const Record& record, const Head& head) const {
    const auto* outcome = std::get_if<OutcomeRecord>(&record);
    if (outcome == nullptr) return 0;
    const auto place = ledger_.find(outcome->item.message);
    return place ? place->segment : head.segment;
}

// The group is durable: now it counts.
void JournalSpool::enter(std::uint32_t segment) {
    const std::lock_guard lock(ledger_mutex_);
    FactReader reader(group_.facts());
    while (const auto fact = reader.next()) {
        const auto applied = ledger_.apply(segment, *fact);
        ASSERT(applied.has_value());  // we wrote it
    }
    ASSERT(reader.ok());
}

// Batches with messages that somebody waits for fail now; the others stay in chunk_ or wait for better times.
void JournalSpool::refuse_messages(const Error& error) {
    Chunk rest;
    for (Waiting& waiting : chunk_) {
        if (!waiting.has_message) {
            rest.push_back(std::move(waiting));
        } else if (!waiting.somebody_repeats()) {
            carried_.push_back(std::move(waiting));
        } else {
            waiting_bytes_.fetch_sub(waiting.weight.record, std::memory_order_relaxed);
            Committed refused{waiting.ticket, fail(error)};
            waiting.listener->committed(std::span(&refused, 1));
        }
    }
    chunk_ = std::move(rest);
}

void JournalSpool::complete_chunk(const Result<>& result) {
    for (Waiting& waiting : chunk_) {
        if (!result && !waiting.somebody_repeats()) {
            carried_.push_back(std::move(waiting));
            continue;
        }
        waiting_bytes_.fetch_sub(waiting.weight.record, std::memory_order_relaxed);
        if (waiting.listener == nullptr) continue;
        auto entry = std::find_if(completions_.begin(), completions_.end(), [&](const auto& known) {
            return known.first == waiting.listener;
        });
        if (entry == completions_.end()) {
            entry = completions_.emplace(completions_.end(), waiting.listener, std::vector<Committed>());
        }
        entry->second.push_back(Committed{waiting.ticket, result});
    }
    chunk_.clear();
    tell_listeners();
}

void JournalSpool::tell_listeners() {
    for (auto& [listener, commits] : completions_) {
        if (!commits.empty()) listener->committed(commits);
    }
    completions_.clear();
}

// A few times a second at most: is there room, and does the disk work?
void JournalSpool::look_at_disk() {
    const Instant now = clock_.now();
    if (now < next_disk_check_) return;
    next_disk_check_ = now + tuning_.disk_check;
    const std::uint64_t free = disk_.free_bytes(options_.directory).value_or(0);
    journal_.restore_reserve(free, options_.free_bytes_min);
    Room room;
    room.from_reserve = true;
    if (!journal_.has_head()) static_cast<void>(prepare(room));
    const std::uint64_t usable = free + journal_.spare_bytes() + journal_.head_left();
    std::string why_not;
    if (failing_)
        why_not = "the spool cannot be written: " + last_failure_.detail;
    else if (journal_.on_reserve())
        why_not = "the disk is full; only outcomes are recorded";
    else if (usable < options_.free_bytes_min)
        why_not = "only " + std::to_string(free) + " bytes of disk are free";
    else if (options_.reserve_bytes > 0 && journal_.reserve_left() == 0)
        why_not = "there is no room for the reserve, in which outcomes are recorded when the disk is full";
    if (!why_not.empty() && counts_.why_not.empty() && !failing_) options_.on_problem(why_not);
    disk_accepts_.store(why_not.empty(), std::memory_order_relaxed);
    counts_.free_disk_bytes = free;
    counts_.why_not = std::move(why_not);
}

void JournalSpool::reclaim() {
    if (head_segment_ == 0 || clock_.now() < reclaim_at_) return;
    const auto looked = reclaimer_.look(head_segment_);
    // One failure is told once, however often it is met.
    if (!looked && reclaim_at_ == Instant()) note_problem(looked.error().detail);
    reclaim_at_ = looked ? Instant() : clock_.now() + tuning_.retry_after;
    for (std::string& problem : reclaimer_.take_problems())
        note_problem(std::move(problem));
}

void JournalSpool::note_problem(std::string sentence) {
    ++counts_.problems;
    options_.on_problem(sentence);
    counts_.last_problem = std::move(sentence);
}

void JournalSpool::quarantine_damaged() {
    std::vector<std::uint32_t> damaged;
    {
        const std::lock_guard lock(waiting_mutex_);
        damaged.swap(damaged_);
    }
    for (const std::uint32_t segment : damaged) {
        note_problem(segment_name(segment) + " holds a damaged record of an undecided message");
        if (const auto kept = journal_.quarantine(segment); !kept) note_problem(kept.error().detail);
    }
}

void JournalSpool::publish_status() {
    counts_.segments = ledger_.segments().size();
    counts_.disk_bytes = journal_.disk_bytes();
    counts_.reclaimed_bytes = reclaimer_.reclaimed_bytes();
    counts_.rewritten_bytes = reclaimer_.rewritten_bytes();
    const std::lock_guard lock(status_mutex_);
    published_ = counts_;
}

}  // namespace sluice::spool
