#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::haraka {

// What stands in a queue directory, by its name.
enum class NameKind : std::uint8_t {
    queued,     // a message for one destination
    temporary,  // still being written, or left over from that: nobody was promised anything
    corrupt,    // put aside by Haraka, which could not read it
    unknown,    // none of Haraka's
};

// The name of a queue file; only those that are `queued` have the other members. Value.
//
//   ARRIVAL_NEXT_ATTEMPTS_PID_UID_COUNTER_HOST     since 2.8.14
//   NEXT_ATTEMPTS_PID_UNIQUE.HOST                  before
struct FileName {
    NameKind kind = NameKind::unknown;
    std::int64_t arrival_ms = 0;       // 0: an old name, which does not say
    std::int64_t next_attempt_ms = 0;  // 0: at once, also where Haraka wrote NaN
    std::uint32_t attempts = 0;        // failed ones
    std::int64_t pid = 0;              // of the process that had it
    std::string host;                  // on which that process ran, as it calls itself
    // What stays the same while Haraka renames the file; of an old name all of it, for there nothing does.
    std::string identity;
};

FileName parse_file_name(std::string_view name);

}  // namespace sluice::haraka
