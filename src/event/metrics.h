#pragma once

#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>

#include "event/events.h"

namespace sluice::event {

using Labels = std::map<std::string, std::string>;

// What the engine counts, in Prometheus' terms. The names stand in docs/reference/metrics.md. Thread-safe.
class Metrics final : public Recorder {
public:
    Metrics();

    void record(const Accepted& fact) override;
    void record(const Refused& fact) override;
    void record(const Delivered& fact) override;
    void record(const Deferred& fact) override;
    void record(const Bounced& fact) override;
    void record(const Expired& fact) override;
    void record(const Removed& fact) override;
    void record(const PossibleDuplicate& fact) override;
    void record(const PolicyChanged&) override {}

    // Gauges are set by the caller just before text() is taken.
    void set(std::string_view name, std::string_view help, double value, const Labels& labels = {});
    // A counter that somebody else keeps, likewise.
    void total(std::string_view name, std::string_view help, double value, const Labels& labels = {});
    // The exposition format 0.0.4.
    std::string text() const;

private:
    prometheus::Counter& counter(const char* name, const char* help);

    prometheus::Registry registry_;
    prometheus::Family<prometheus::Counter>& refused_family_;
    prometheus::Counter &accepted_messages_, &accepted_recipients_, &accepted_bytes_, &delivered_, &deferred_, &bounced_,
        &expired_, &removed_, &possible_duplicates_, &dsns_, &refused_temporary_, &refused_permanent_;
    prometheus::Histogram& delivery_seconds_;
};

}  // namespace sluice::event
