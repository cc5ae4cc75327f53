#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "queue/core.h"
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
};

// Which items; empty fields match all. Value.
struct ItemFilter {
    std::string domain, sender, recipient, state;
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
    bool applied = false;
    std::vector<std::string> problems;  // one sentence each, with file and line
};

enum class Command { flush, hold, release, remove };

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
    virtual Task<Result<InjectReply>> inject(InjectRequest request) = 0;
    // Reads the configuration again; nothing is applied when a file has an error.
    virtual Task<ReloadReport> reload() = 0;
    virtual Task<std::string> metrics() = 0;
};

}  // namespace sluice::control
