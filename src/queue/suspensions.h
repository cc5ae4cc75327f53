#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/inlined_vector.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "policy/suspension.h"
#include "queue/names.h"
#include "queue/slab.h"
#include "queue/timer_wheel.h"
#include "queue/waiters.h"

namespace sluice::queue {

using SuspensionPtr = std::shared_ptr<const policy::Suspension>;

// Where a suspension comes from.
enum class Origin : std::uint8_t { file, run_time, start };

// A suspension, and the lanes that wait for its end. One that was changed or removed stays, as one that `ended`, until its lanes went on.
struct Gate {
    SuspensionPtr what;
    policy::Match match;        // what->match, in the core's numbers of fields
    Origin origin = Origin::run_time;
    bool is_late = false;       // it asks for a candidate
    bool in_force = false;
    bool ended = false;
    Waiters::Round waiting;
    TimerNode timer;            // it may begin or end to be in force, or lanes may go on
};

// Which deliveries are suspended at present. A question costs a look-up for each field by which suspensions name single values, and one for
// all others together; however many suspensions there are, and nothing while none is in force. Core-owned.
class Suspensions {
public:
    explicit Suspensions(Names& names) : names_(names) {}
    ~Suspensions();
    Suspensions(const Suspensions&) = delete;
    Suspensions& operator=(const Suspensions&) = delete;

    Index add(SuspensionPtr what, policy::Match match, Origin origin, Instant now);
    // The core numbers fields anew.
    void number(Index gate, policy::Match match);
    // It stops nothing from now on.
    void end(Index gate);
    // An ended one that nobody waits for goes.
    void remove(Index gate);
    // Time has come to `now`; true when it was in force and is not any more.
    bool look_again(Index gate, Instant now);

    // The one with this id that was added at run time or by the start, or none.
    Index find(const std::string& id) const;
    // Another one of run time that says the same, or none.
    Index like(const policy::Suspension& suspension) const;

    // Some suspension of that kind is in force.
    bool any() const { return early_.in_force + late_.in_force > 0; }
    bool any_late() const { return late_.in_force > 0; }
    bool any_for_new_connections() const { return for_new_connections_ > 0; }
    bool use(policy::Field field) const { return early_.used.has(field) || late_.used.has(field); }

    // A delivery that may be stopped.
    struct Delivery {
        const policy::FieldValues& values;
        std::uint32_t part;         // of its lane: see part_of()
        std::uint64_t hash;         // of its message
        bool new_connection;        // it needs one
    };
    struct Answer {
        Index gate = none;          // that stops it; none: nothing does
        bool whole_lane = false;    // and everything behind it as well
    };
    // Asks the suspensions that need no candidate, or those that need one.
    Answer ask(const Delivery& delivery, bool late);

    // Messages of one lane need not all be stopped by a suspension that takes a percentage. Those that are gather in a lane of their own, whose part says
    // that all of them are taken by whatever takes so many of a thousand; `everybody` says nothing.
    static constexpr std::uint32_t everybody = 1'000;
    std::uint32_t part_of(std::uint64_t hash) const;

    Gate& operator[](Index gate) { return gates_[gate]; }
    const Gate& operator[](Index gate) const { return gates_[gate]; }
    bool contains(Index gate) const { return gates_.contains(gate); }
    Index end() const { return gates_.end(); }
    std::size_t size() const { return gates_.size(); }

private:
    using List = absl::InlinedVector<Index, 2>;
    using Values = absl::InlinedVector<policy::Value, 6>;
    // Early or late ones.
    struct Table {
        std::uint32_t in_force = 0;
        std::array<std::uint32_t, policy::field_max> named_by{}, others_by{}, used_by{};  // how many, by field
        policy::FieldSet used;                         // by any of them
        absl::flat_hash_map<std::pair<policy::Field, policy::Value>, List> named;  // those that name single values of a field
        std::vector<policy::Field> named_fields;       // by which they are found
        List others;
        std::vector<policy::Field> other_fields;       // that these ask for
        absl::flat_hash_map<Values, List> known;       // which of the others match values; names are held
    };

    Table& table_of(const Gate& gate) { return gate.is_late ? late_ : early_; }
    static std::optional<policy::Field> naming_field(const policy::Match& match);
    void enter(Index gate);
    void leave(Index gate);
    void set_in_force(Gate& gate, bool in_force);
    static void count(Table& table, const policy::Match& match, std::optional<policy::Field> named, bool comes);
    void forget_known(Table& table);
    const List& others_for(Table& table, const policy::FieldValues& values);
    Answer stricter(Index gate, const Delivery& delivery, Answer than) const;
    policy::FieldTexts texts_of(const policy::FieldValues& values, policy::FieldSet fields) const;

    Names& names_;
    Slab<Gate> gates_;
    std::map<std::string, Index> ids_;  // of run time and start
    Table early_, late_;
    std::uint32_t for_new_connections_ = 0;        // in force
    std::map<std::uint32_t, std::uint32_t> parts_; // how many take so many of a thousand
};

}  // namespace sluice::queue
