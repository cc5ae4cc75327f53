#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "control/backend.h"
#include "daemon/import_folder.h"
#include "daemon/import_marks.h"
#include "daemon/imported.h"
#include "event/events.h"
#include "event/log.h"
#include "plugin/images.h"
#include "queue/core.h"
#include "spool/id_source.h"
#include "spool/spool.h"

namespace sluice::daemon {

// Where imported messages go. Borrowed.
struct ImportTarget {
    spool::Spool& spool;
    spool::IdSource& ids;
    const Clock& clock;
    plugin::Images& images;
    event::Recorder& events;
    std::function<void(std::vector<queue::Event>&)> admit;           // durable items, for the core; leaves it empty
    std::function<std::optional<std::string>()> refusal;             // why nothing more may come in now
    std::function<config::SettingsPtr()> settings;
};

// Takes over a Haraka's queue directory, some files at a time: reads them, makes them durable together, queues them, removes the files,
// and forgets their marks (ImportMarks says why that order loses and repeats nothing). Memory: what is under way. Without a target it only reads.
// Single-threaded but for committed() and cancel(); run() blocks, so it has a thread of its own.
class QueueImport final : public spool::CommitListener {
public:
    using OnProgress = std::function<void(const control::Import&)>;

    // `target` is null for a dry run.
    QueueImport(control::ImportRequest request, ImportTarget* target, ImportMarks& marks, event::Log* log, OnProgress on_progress);

    // Until everything is done, something is in the way for good, or cancel().
    control::Import run();
    // Thread-safe.
    void cancel();

    void committed(std::span<spool::Committed> commits) override;

private:
    // A file whose message is on its way to the disk.
    struct UnderWay {
        std::string file, mark;
        FileStamp stamp;
        Imported imported;
        bool mended = false;
        Result<> result;
    };
    struct Removal {
        std::string file, mark;
        FileStamp stamp;
    };
    using Names = std::vector<std::string>;

    Result<> carry_out();
    Result<> survey();
    Result<> one_pass();
    Result<> import_all(Names names);
    Result<Names> import_some(const Names& names);
    void take(const std::string& file);
    void take_file(const std::string& file, const haraka::FileName& name, ReadFile read);
    void start(UnderWay under_way, haraka::QueueFile parsed, const haraka::FileName& name);
    void settle(Names& again);
    void queue_durable(Names& again);
    Result<> remove_files();
    void leave(const std::string& file, std::uint64_t offset, const std::string& reason);
    bool wait_for_room();
    bool pause();
    bool cancelled() const;
    void tell();

    const control::ImportRequest request_;
    ImportTarget* const target_;
    ImportMarks& marks_;
    event::Log* const log_;
    const OnProgress on_progress_;
    control::Import report_;
    std::optional<ImportFolder> folder_;
    std::set<std::string> left_;  // names that are not looked at again
    std::vector<UnderWay> under_way_;
    std::uint64_t under_way_bytes_ = 0;
    std::vector<Removal> removals_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::pair<std::uint64_t, Result<>>> results_;  // of those that are committed, by ticket
    std::size_t uncommitted_ = 0;
    bool cancelled_ = false;
};

// A dry run where no engine runs.
control::Import read_queue(const std::string& directory);
// Why a queue directory should not be taken over now: a Haraka works on it, as far as we may see other people's processes.
std::optional<std::string> haraka_at_work(const std::string& directory);

}  // namespace sluice::daemon
