#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "spool/disk.h"
#include "spool/file_journal.h"
#include "spool/ledger.h"
#include "spool/reclaimer.h"
#include "spool/record_codec.h"
#include "spool/spool.h"

namespace sluice::spool {

// What tests turn; the defaults are what the program runs with.
struct Tuning {
    Duration disk_check{250};                      // between looks at the free space
    Duration retry_after{200};                     // after the disk refused, before it is asked again
    std::uint64_t group_bytes_max = 16ull << 20;   // one sync carries about this much at most
    std::uint64_t rewrite_bytes_max = 1ull << 20;  // of which this much is reclaiming
    std::size_t spares_max = 3;
    bool own_thread = true;  // false: whoever opened the spool calls turn() in its place
};

// The spool on a journal of files. Thread-safe as Spool promises.
//
// One thread writes (or, in the simulator, whoever calls turn()). It takes all batches that wait, makes one group of them, writes and syncs it, enters it
// in the ledger and completes the tickets; batches that arrive meanwhile make the next group.
class JournalSpool final : public Spool {
public:
    // Borrows the disk. See Spool::open().
    static Result<std::unique_ptr<Spool>> open(
        Disk& disk, const Options& options, const Tuning& tuning,
        const std::function<void(const RecoveredItem&)>& on_item, RecoveryReport& report
    );

    JournalSpool(Disk& disk, const Options& options, const Tuning& tuning);
    ~JournalSpool() override;

    void append(Batch batch, CommitListener* listener, std::uint64_t ticket) override;
    Result<mail::MessagePtr> load(MessageId id) override;
    Status status() const override;
    Pulse pulse() const override;
    bool accepting() const override;
    void close() override;

    // Without a thread of its own: what the writer's thread would do now, whether it would do it at once, and how long it
    // would sleep otherwise (max(): until something comes).
    void turn();
    bool work_waits() const;
    Duration idle_time() const;

private:
    struct Waiting {
        Batch batch;
        CommitListener* listener = nullptr;
        std::uint64_t ticket = 0;
        Weight weight;
        bool has_message = false;

        bool somebody_repeats() const { return listener != nullptr && listener->repeats(); }
    };
    using Chunk = std::vector<Waiting>;

    Result<> recover(const std::function<void(const RecoveredItem&)>& on_item, RecoveryReport& report);
    // The writer's thread.
    void run();
    void wait_for_work();
    bool take_work();
    void work_off();
    void write_work();
    std::size_t next_chunk(std::size_t from);
    void put_off(std::size_t from, const Error& error);
    void write_what_is_carried();
    void name_recipients(Waiting& waiting);
    Result<std::vector<std::uint32_t>> undecided(const ItemId& item);
    Result<> write_chunk();
    std::uint64_t group_limit() const;
    Result<> write_group();
    Room room_of_chunk() const;
    Room with_rewriting(Room room);
    Result<Head> prepare(const Room& room);
    void gather(const Head& head);
    std::uint64_t segment_of(const Record& record, const Head& head) const;
    void enter(std::uint32_t segment);
    void complete_chunk(const Result<>& result);
    void refuse_messages(const Error& error);
    void tell_listeners();
    void note_failure(const Error& error);
    void look_at_disk();
    void reclaim();
    void note_problem(std::string sentence);
    void quarantine_damaged();
    void publish_status();

    Disk& disk_;
    const Options options_;
    const Tuning tuning_;
    SystemClock clock_;
    std::unique_ptr<DirectoryLock> lock_;
    std::shared_ptr<const void> disk_owner_;
    friend class Spool;

    // Between appenders and the writer.
    mutable std::mutex waiting_mutex_;
    std::condition_variable wake_;
    std::vector<Waiting> waiting_;
    std::vector<std::uint32_t> damaged_;  // segments in which load() met damage
    bool writer_sleeps_ = false;
    bool stopping_ = false;
    bool closed_ = false;
    std::atomic<std::uint64_t> waiting_bytes_{0};

    // Between load() and the writer. Only the writer changes the ledger, so it reads without the lock.
    mutable std::mutex ledger_mutex_;
    Ledger ledger_;

    // The writer's own.
    FileJournal journal_;
    Reclaimer reclaimer_;
    Group group_;
    std::vector<Waiting> work_;
    Chunk chunk_;
    Chunk carried_;  // nobody waits for them, so nobody would repeat them: tried again
    bool cramped_ = false;  // there was no room for a group, and what was carried since is not all written
    std::vector<std::pair<CommitListener*, std::vector<Committed>>> completions_;
    std::uint32_t head_segment_ = 0;
    Instant next_disk_check_;
    Instant retry_at_;
    Instant reclaim_at_;  // after the disk refused to give space back; before, it is not asked again
    Error last_failure_{Errc::disk_failed, ""};
    bool failing_ = false;
    Status counts_;

    std::atomic<std::uint64_t> steps_{0};
    std::atomic<bool> disk_accepts_{true};
    mutable std::mutex status_mutex_;
    Status published_;

    std::thread writer_;
};

}  // namespace sluice::spool
