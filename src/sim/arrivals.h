#pragma once

#include <cstdint>
#include <vector>

#include "base/random.h"
#include "sim/agenda.h"
#include "sim/traffic.h"

namespace sluice::sim {

// The mail of a traffic, one message after the other, by time. The same seed gives the same mail. One thread.
class Arrivals {
public:
    Arrivals(const Traffic& traffic, std::uint64_t seed);

    // Instant::max() when everything has come.
    Instant next() const;
    Arrival take();

private:
    // Each message of a source has an equal part of its curve, and comes at a random moment of it.
    struct Flow {
        const Source* source = nullptr;
        Random random{0};
        std::uint32_t tenant = 0;
        std::uint64_t sent = 0;
        std::size_t minute = 0;        // since the beginning
        double passed = 0, total = 0;  // of the curve: up to that minute, and in all
        std::vector<double> domains;   // sums of the parts
    };
    void plan(std::size_t flow);
    Arrival make(Flow& flow);

    const Traffic& traffic_;
    std::vector<Flow> flows_;
    Agenda<std::size_t> agenda_;
    std::size_t recorded_ = 0;
    Duration at_{0};
};

}  // namespace sluice::sim
