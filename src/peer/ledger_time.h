#pragma once

#include <chrono>
#include <cstdint>

namespace sluice::peer {

// The time in a ledger's lines: of one clock for all processes of a machine, so that a load's and a sink's can be compared.
inline std::int64_t steady_us(std::chrono::steady_clock::time_point when) {
    return std::chrono::duration_cast<std::chrono::microseconds>(when.time_since_epoch()).count();
}

}  // namespace sluice::peer
