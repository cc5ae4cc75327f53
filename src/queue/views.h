#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "policy/limits.h"
#include "queue/core.h"
#include "queue/filter.h"

namespace sluice::queue {

// ---- the shape of the queue ------------------------------------------------------------------------------------

// Intervals by which ages and times of the next try are counted; the last one has no end.
inline constexpr std::array<Duration, 9> age_ends{
    Duration{60'000},     Duration{300'000},    Duration{900'000},     Duration{3'600'000},  Duration{14'400'000},
    Duration{43'200'000}, Duration{86'400'000}, Duration{172'800'000}, Duration{432'000'000}};
inline constexpr std::array<Duration, 8> next_ends{Duration{0},          Duration{60'000},     Duration{300'000},    Duration{900'000},
                                                   Duration{3'600'000},  Duration{14'400'000}, Duration{43'200'000}, Duration{86'400'000}};
inline constexpr std::array<std::uint64_t, 6> size_ends{4'096, 16'384, 65'536, 262'144, 1'048'576, 10'485'760};
// The interval's name, as a filter writes it: "age<1m", "age>=1m age<5m", "next<=0s", "next>0s next<=1m".
std::string age_where(std::size_t interval);
std::string next_where(std::size_t interval);

// What is to be counted. Value.
struct Survey {
    Filter filter;
    std::vector<Column> by;  // at most survey_columns_max; none: all together
};
inline constexpr std::size_t survey_columns_max = 4;

// Items with the same values of the columns. Value.
struct Group {
    std::vector<std::string> key;    // for people
    std::vector<std::string> where;  // the same as terms of a filter; empty where no filter says it
    std::uint64_t items = 0, recipients = 0, octets = 0;
    std::array<std::uint64_t, 4> states{};  // by ItemState
    Instant oldest = Instant::max();
    std::array<std::uint64_t, age_ends.size() + 1> ages{};
    std::array<std::uint64_t, next_ends.size() + 1> nexts{};  // held ones have no next try

    void add(const Group& other);
};

// ---- buckets ---------------------------------------------------------------------------------------------------

// Why a bucket lets nothing start.
enum class Refusal : std::uint8_t { none, slots, rate, connect_interval };

// A counter as it stands. Value.
struct BucketView {
    std::string policy;  // its name, or "policy N"
    std::uint32_t place = 0;
    int line = 0;        // in the policy file; 0: a limit of the settings
    std::vector<std::pair<std::string, std::string>> values;  // field and value, in the order of the policy's fields
    policy::Limits limits;
    std::string limits_from;  // "policy.yaml line 12", "condition 7 (back_off) of ops: too many complaints", "outbound.ini"
    bool skipped = false;     // mail that a policy before said `stop` for: not limited
    bool live = false;        // false: nothing counts there now
    std::uint32_t used = 0, idle = 0, closing = 0;
    std::uint32_t waiting_lanes = 0;
    Refusal refusal = Refusal::none;  // to a message that finds no idle session of use
    std::optional<Instant> opens;     // when time allows what it does not allow now

    std::string name() const;  // "gsuite[localip=192.0.2.1, remotemx=#gsuite]"
};

// ---- explanations ----------------------------------------------------------------------------------------------

// A suspension that is in force.
struct Halt {
    std::string id;
    std::string from;              // "suspend.yaml line 3", "set by ops: complaints"
    std::optional<Instant> until;  // when that may change; nothing: until somebody removes it
    bool new_connections_only = false;
    friend bool operator==(const Halt&, const Halt&) = default;
};

struct CandidateView {
    std::string mx, remote, localip;
    std::uint32_t level = 0;
    std::optional<Instant> avoided_until;  // could not be reached
    bool tried = false;                    // in this attempt
    bool local_avoided = false;            // the local address did not work
    bool in_turn = false;                  // among those that would be used now
    std::optional<Halt> halt;              // nothing may start over it
    std::vector<BucketView> buckets;       // all that an attempt over it counts for
    std::optional<std::size_t> blocking;   // the first of them that refuses
    std::optional<Instant> opens;          // blocked by time only: not before this
};

// Ready items that wait together.
struct LaneView {
    std::string tenant;
    std::uint8_t priority = 0;
    std::uint32_t length = 0;
    std::vector<std::string> waits_at;  // names of buckets; suspensions
};

// Where an item or a domain stands, and why. From the same data and by the same functions as decisions. Value.
struct Explanation {
    std::string domain;
    std::string via;               // the next hop that an operator chose; empty: as configured
    bool disabled = false;         // nothing starts at all
    std::array<std::uint64_t, 4> states{};  // of the domain's items
    std::uint32_t sessions = 0;
    bool route_known = false, route_asked = false;
    std::optional<Instant> route_expires;
    std::vector<CandidateView> candidates;  // with each address they may be called from; at most candidates_shown_max
    std::uint32_t candidates_more = 0;
    std::vector<LaneView> lanes;   // at most lanes_shown_max, of a domain
    std::uint32_t lanes_more = 0;
    // Of an item.
    bool is_item = false;
    policy::DeliverySettingsPtr how;  // of delivery.yaml; null: as the settings of the instance say
    std::uint32_t ahead = 0;       // in its lane
    std::string on;                // sending: the remote; empty while it is decided without an attempt
    std::optional<Instant> earliest;  // a start is possible; nothing when that depends on others
};
inline constexpr std::size_t lanes_shown_max = 20;
inline constexpr std::size_t candidates_shown_max = 100;

}  // namespace sluice::queue
