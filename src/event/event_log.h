#pragma once

#include <atomic>

#include "event/events.h"
#include "event/line_writer.h"

namespace sluice::event {

// Writes every fact as one JSON object a line (DIR/log/events.jsonl; fields in docs/reference/events.md) and passes it on
// to the metrics. Formatting happens on the caller's thread into a buffer of that thread. Thread-safe.
class EventLog final : public Recorder {
public:
    // `writer` may be null: only passed on.
    EventLog(LineWriter* writer, Recorder& next);

    void record(const Accepted& fact) override;
    void record(const Refused& fact) override;
    void record(const Delivered& fact) override;
    void record(const Deferred& fact) override;
    void record(const Bounced& fact) override;
    void record(const Expired& fact) override;
    void record(const Removed& fact) override;
    void record(const PossibleDuplicate& fact) override;
    void record(const PolicyChanged& fact) override;
    void record_reaction(const Reaction& fact) override;

private:
    LineWriter* writer_;
    Recorder& next_;
};

}  // namespace sluice::event
