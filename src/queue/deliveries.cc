#include "queue/deliveries.h"

#include <algorithm>
#include <utility>

namespace sluice::queue {
namespace {

// Combinations are forgotten when so many are known, rather than one by one: that is rare, and finding them again is cheap.
constexpr std::size_t combinations_known_max = 200'000;

}  // namespace

Deliveries::~Deliveries() {
    forget();
    for (const Row& row : rows_) names_.drop(row.manner);
}

void Deliveries::configure(policy::DeliveryFilePtr file) {
    static const policy::DeliveryFile nothing;
    forget();
    for (const Row& row : std::exchange(rows_, {})) names_.drop(row.manner);
    file_ = std::move(file);
    const policy::DeliveryFile& now = file_ != nullptr ? *file_ : nothing;
    choose_families_ = set_lifetimes_ = false;
    for (std::size_t place = 0; place < now.places(); ++place) {
        const policy::DeliverySettings& settings = now.at(place);
        rows_.push_back({&settings, names_.intern(settings.session_text()), settings.any()});
        choose_families_ = choose_families_ || settings.family;
        set_lifetimes_ = set_lifetimes_ || settings.lifetime;
    }
    used_.clear();
    const policy::FieldSet used = now.used_fields();
    for (std::size_t number = 0; number < policy::field_max; ++number) {
        if (used.has(static_cast<policy::Field>(number))) used_.push_back(static_cast<policy::Field>(number));
    }
    by_candidate_ = used.depends_on_candidate();
    uses_grouping_ = used.has(policy::Field::grouping);
}

Deliveries::Place Deliveries::of(const policy::FieldValues& values) {
    if (used_.empty()) return evaluate(values);
    Key key;
    for (const policy::Field field : used_) key.push_back(values[field]);
    const auto found = known_.find(key);
    if (found != known_.end()) return found->second;
    if (known_.size() == combinations_known_max) forget();
    const Place place = evaluate(values);
    for (const policy::Value value : key) {
        if (value != policy::unknown) names_.hold(NameId{value});
    }
    known_.emplace(std::move(key), place);
    return place;
}

Deliveries::Place Deliveries::evaluate(const policy::FieldValues& values) const {
    if (file_ == nullptr) return 0;
    policy::FieldTexts texts;
    for (const policy::Field field : used_) {
        if (values[field] != policy::unknown) texts.set(field, names_.text(NameId{values[field]}));
    }
    return static_cast<Place>(file_->place_of(texts));
}

policy::DeliverySettingsPtr Deliveries::share(Place place) const {
    if (!rows_[place].differs) return nullptr;
    return {file_, rows_[place].settings};
}

void Deliveries::forget() {
    for (const auto& [key, place] : known_) {
        for (const policy::Value value : key) {
            if (value != policy::unknown) names_.drop(NameId{value});
        }
    }
    known_.clear();
}

bool permits(policy::FamilyChoice choice, Family family) {
    if (choice == policy::FamilyChoice::ipv4) return family != Family::ipv6;
    return choice != policy::FamilyChoice::ipv6 || family != Family::ipv4;
}

std::uint32_t handicap(policy::FamilyChoice choice, Family family) {
    if (choice == policy::FamilyChoice::prefer_ipv4) return family == Family::ipv6 ? 1 : 0;
    return choice == policy::FamilyChoice::prefer_ipv6 && family == Family::ipv4 ? 1 : 0;
}

}  // namespace sluice::queue
