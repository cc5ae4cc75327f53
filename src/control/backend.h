#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "control/memory.h"
#include "plugin/hosts.h"
#include "policy/dynamic.h"
#include "policy/suspension.h"
#include "queue/core.h"
#include "queue/views.h"
#include "spool/spool.h"

namespace sluice::control {

// What an item looks like from outside. Value.
struct ItemDetail {
    ItemId id;
    std::string state;  // "scheduled", "ready", "sending", "held"
    std::string domain, tenant, job, transport, sender;
    std::vector<std::string> recipients;  // still undecided
    std::int64_t arrival_ms = 0, next_ms = 0;  // by the wall clock
    std::uint32_t attempts = 0, size = 0;
    std::uint8_t priority = 4;
    std::int64_t lifetime_s = 0;  // its own; 0: none
    std::string subject;  // show only
    std::string headers;  // show only: the header section
    std::string problem;  // why the message cannot be read; then only what the queue knows is here
    std::string reply;    // what the last attempt came to
    std::string via;      // the next hop that an operator chose
};

// Which items; empty fields match all. Value.
struct ItemFilter {
    std::string domain, sender, recipient, state;
    std::string where;  // as queue::Filter reads it
    std::size_t limit = 100;
    std::string cursor;  // of the page before; empty: from the beginning
};

// Some of the items, by id. A cursor says that there may be more; a page may be short then, even empty.
struct ItemPage {
    std::vector<ItemDetail> items;
    std::string cursor;
};

struct DomainCount {
    std::string domain;
    std::string via;  // of mail with a next hop of its own
    std::uint64_t scheduled = 0, ready = 0, sending = 0, held = 0, sessions = 0;
};

struct EngineStatus {
    std::string version, me, directory;
    std::int64_t uptime_ms = 0;
    std::vector<std::string> listeners;
    std::uint64_t connections_in = 0;
    queue::Stats queue;
    spool::Status spool;
    bool accepting = true;
    std::string why_not;
    std::uint64_t resident_bytes = 0;
    std::vector<std::string> warnings;  // configuration problems of the last load
};

struct InjectRequest {
    std::string from;
    std::vector<std::string> to;
    std::string message;          // RFC 5322, LF or CRLF line ends
    std::string idempotency_key;  // empty: none
    std::string client;           // for events: "http", "cli"
    std::string tenant, job, transport;
    std::optional<std::uint8_t> priority;
    std::string lifetime;         // seconds, or "15m", "3d"; empty: none of its own
    std::string notes;            // JSON object, or empty
};
struct InjectReply {
    MessageId id;
    bool repeated = false;  // the key was seen before: nothing was queued now
};

struct ReloadReport {
    bool applied = false;                    // the files were free of errors
    std::vector<std::string> problems;       // one sentence each, with file and line
    std::vector<std::string> needs_restart;  // settings for which the files say other than what is in force
};

enum class Command { flush, hold, release, remove, bounce, change };
// As the API calls it: "flush", ..., "delete", ...
const char* name_of(Command command);
std::optional<Command> command_of(std::string_view name);

// ---- questions about the whole queue ---------------------------------------------------------------------------

// Engine time to the wall clock's, at the moment of an answer. Value.
struct WallTime {
    Instant now;
    std::int64_t now_ms = 0;
    std::int64_t ms(Instant at) const { return now_ms + (at - now).count(); }
};

struct SurveyRequest {
    std::string where;
    std::vector<std::string> by;
    std::size_t limit = 1'000;  // groups
};
// Groups by size, the largest first. Value.
struct SurveyReport {
    WallTime time;
    queue::Group total;
    std::vector<queue::Group> groups;
    std::uint64_t groups_more = 0;  // smaller ones that were left out
};

struct BucketFilter {
    std::string policy, part;  // its name; a part of the bucket's name. Empty: all
    bool waiting = false;      // only where somebody waits
    std::size_t limit = 100;
    std::string cursor;
};
struct BucketPage {
    WallTime time;
    std::vector<queue::BucketView> buckets;
    std::string cursor;
};

// An answer to "why": one of `bucket` and `place` is there. Value.
struct Explained {
    WallTime time;
    std::optional<queue::BucketView> bucket;
    std::optional<queue::Explanation> place;
    std::optional<ItemDetail> item;      // that `place` is of; otherwise it is a domain's
    std::vector<Instant> tries;          // of the item: when it would be tried again, should every attempt fail
    Instant expires;                     // of the item
};

// ---- commands for many -----------------------------------------------------------------------------------------

struct BulkRequest {
    Command command = Command::flush;
    std::string where;
    std::string reason;         // bounce: what the sender is told
    queue::ItemChanges changes; // change
};
// A command that is being carried out on all items that a filter selects. Value.
struct Job {
    enum class State { running, done, cancelled, failed };
    std::uint64_t id = 0;
    Command command = Command::flush;
    std::string where;
    State state = State::running;
    std::uint64_t matched = 0;  // when it began
    std::uint64_t done = 0;     // durable
    std::int64_t started_ms = 0, ended_ms = 0;
    std::string problem;        // failed: why
};

// ---- other engines' queues -------------------------------------------------------------------------------------

struct ImportRequest {
    std::string directory;  // of a Haraka's queue
    bool dry_run = false;   // only reads
    bool force = false;     // also when a Haraka seems to work on it
};
// A file that was not imported, and why. Value.
struct LeftFile {
    std::string name;
    std::uint64_t offset = 0;  // where it stops making sense
    std::string reason;
};
// A queue that is taken over file by file. Value.
struct Import {
    enum class State { running, waiting, done, cancelled, failed };
    std::string directory;
    bool dry_run = false;
    State state = State::running;
    std::uint64_t found = 0;     // queue files, when it began
    std::uint64_t imported = 0;  // durable here, and their files gone; or with dry_run: could be
    std::uint64_t repeated = 0;  // imported by an earlier run that could not remove the file: removed now
    std::uint64_t mended = 0;    // of the imported ones: had line ends that cannot be sent
    std::uint64_t octets = 0;
    std::uint64_t temporary = 0; // files that were never finished, and are not looked at
    std::uint64_t left = 0;
    std::vector<LeftFile> left_files;  // the first ones
    std::int64_t started_ms = 0, ended_ms = 0;
    std::string problem;         // failed: why; waiting: for what
};

// A condition that was added at run time.
struct ConditionDetail {
    policy::DynamicCondition what;
    std::int64_t since_ms = 0;                // by the wall clock
    std::optional<std::int64_t> expires_ms;
    bool idle = false;                        // no policy of the file counts what it is about
    std::uint64_t buckets = 0;                // that obey it
};
// A suspension, of the file or added at run time.
struct SuspensionDetail {
    policy::Suspension what;
    std::int64_t since_ms = 0;
    std::optional<std::int64_t> expires_ms;
    bool of_file = false;
    bool in_force = false;
    std::uint64_t lanes = 0;                  // groups of messages that wait for its end
};
// Of a long list only the first ones.
template <class Detail>
struct PolicyList {
    std::vector<Detail> entries;
    std::uint64_t total = 0;
};
struct PolicyReply {
    std::string id;        // empty: nothing was done, because only that was asked for
    bool updated = false;  // there was one with this id, or one that said the same
    std::optional<queue::Reach> reach;  // what it would be about, when only that was asked for
};
struct PolicyRemoval {
    std::string id, author, reason;
};


// What the API can ask of the engine. Called on the control shard.
class Backend {
public:
    virtual ~Backend() = default;
    virtual Task<EngineStatus> status() = 0;
    virtual Task<std::vector<DomainCount>> domains() = 0;
    // bad_input: the cursor is none of this run of the engine.
    virtual Task<Result<ItemPage>> list(ItemFilter filter) = 0;
    virtual Task<Result<ItemDetail>> show(ItemId id) = 0;
    // Carries out the command on one item, on a domain, or on everything (both empty); returns how many items it concerned.
    virtual Task<Result<std::uint64_t>> command(Command command, queue::Selection which) = 0;
    // bad_input of these: "NAME: sentence".
    virtual Task<Result<SurveyReport>> survey(SurveyRequest request) = 0;
    virtual Task<Result<BucketPage>> buckets(BucketFilter filter) = 0;
    // `what`: an item, a message, a domain, or a bucket's name. not_found: it is none that is known.
    virtual Task<Result<std::vector<Explained>>> explain(std::string what) = 0;
    // How many items a command would concern.
    virtual Task<Result<std::uint64_t>> count(BulkRequest request) = 0;
    // Begins a command for all that the filter selects.
    virtual Task<Result<Job>> start(BulkRequest request) = 0;
    virtual std::vector<Job> jobs() = 0;
    // What is done stays done.
    virtual Result<Job> cancel(std::uint64_t job) = 0;
    // Begins to take over a queue; at most one at a time.
    virtual Result<Import> import_queue(ImportRequest request) = 0;
    // The one that is running, or the last one.
    virtual std::optional<Import> last_import() = 0;
    // not_found: none is running. What is imported stays so.
    virtual Result<Import> cancel_import() = 0;
    virtual Task<Result<InjectReply>> inject(InjectRequest request) = 0;
    // Conditions and suspensions of run time, as JSON says them. What was done is durable when they return; with `dry_run` nothing is done.
    virtual Task<Result<PolicyReply>> set_condition(std::string json, bool dry_run) = 0;
    virtual Task<Result<PolicyReply>> set_suspension(std::string json, bool dry_run) = 0;
    // not_found: nothing has this id; bad_input: the file has it.
    virtual Task<Result<>> remove_condition(PolicyRemoval removal) = 0;
    virtual Task<Result<>> remove_suspension(PolicyRemoval removal) = 0;
    virtual Task<PolicyList<ConditionDetail>> conditions() = 0;
    virtual Task<PolicyList<SuspensionDetail>> suspensions() = 0;
    // Reads the configuration again; nothing is applied when a file has an error.
    virtual Task<ReloadReport> reload() = 0;
    virtual Task<std::string> metrics() = 0;
    virtual plugin::Hosts::View plugins() = 0;
    // Loads all plugins again; returns when they are in service, or are not.
    virtual Task<plugin::Reloaded> reload_plugins() = 0;
    virtual Memory& memory() = 0;
};

}  // namespace sluice::control
