#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/container/inlined_vector.h>

#include <cstdint>
#include <vector>

#include "policy/delivery.h"
#include "queue/names.h"
#include "queue/route.h"
#include "queue/sources.h"

namespace sluice::queue {

// delivery.yaml as decisions need it: conditions are evaluated once for every combination of the values that they ask for. Core-owned.
class Deliveries {
public:
    // Settings are referred to by their place in the file.
    using Place = std::uint32_t;

    explicit Deliveries(Names& names) : names_(names) { configure(nullptr); }
    ~Deliveries();
    Deliveries(const Deliveries&) = delete;
    Deliveries& operator=(const Deliveries&) = delete;

    // `file` may be null: everything is as the settings of the instance say.
    void configure(policy::DeliveryFilePtr file);

    // Some condition asks for something; else there is only place 0.
    bool has_conditions() const { return !used_.empty(); }
    // The candidates of one route may have different settings.
    bool by_candidate() const { return by_candidate_; }
    bool uses_grouping() const { return uses_grouping_; }
    bool choose_families() const { return choose_families_; }
    bool set_lifetimes() const { return set_lifetimes_; }

    // Of a delivery; values that are not known yet meet no pattern.
    Place of(const policy::FieldValues& values);
    const policy::DeliverySettings& operator[](Place place) const { return *rows_[place].settings; }
    // To be kept beyond the next configure(); null where nothing differs from the settings of the instance.
    policy::DeliverySettingsPtr share(Place place) const;
    // What sessions opened under these settings are like, as a name: those with the same one can stand in for each other.
    NameId manner(Place place) const { return rows_[place].manner; }

private:
    using Key = absl::InlinedVector<policy::Value, 6>;  // of the used fields, in the order of their numbers
    struct Row {
        const policy::DeliverySettings* settings = nullptr;
        NameId manner = Names::empty;
        bool differs = false;
    };
    Place evaluate(const policy::FieldValues& values) const;
    void forget();

    Names& names_;
    policy::DeliveryFilePtr file_;
    std::vector<Row> rows_;
    std::vector<policy::Field> used_;
    bool by_candidate_ = false, uses_grouping_ = false, choose_families_ = false, set_lifetimes_ = false;
    absl::flat_hash_map<Key, Place> known_;  // every name in here is held
};

// Whether an address of this family may be used under that strategy, and how far it stands behind the other family.
bool permits(policy::FamilyChoice choice, Family family);
std::uint32_t handicap(policy::FamilyChoice choice, Family family);

}  // namespace sluice::queue
