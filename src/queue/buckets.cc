#include "queue/buckets.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

namespace sluice::queue {
namespace {

// Values are forgotten when so many are known, rather than one by one: that is rare, and finding them again is cheap.
constexpr std::size_t values_known_max = 200'000;

bool may_stop(const policy::Policy& policy) {
    const auto stops = [](const policy::Condition& condition) { return condition.limits.stop; };
    return (policy.fallback && policy.fallback->stop) || std::any_of(policy.conditions.begin(), policy.conditions.end(), stops);
}

// Which buckets a delivery counts for depends on more than what the policies count.
bool depends_on_limits(const PolicyTable& table) {
    for (std::size_t i = 0; i < table.of_file; ++i) {
        if (may_stop(*table.policies[i]) || table.policies[i]->field_set.has(policy::Field::grouping)) return true;
    }
    return false;
}

bool may_redirect(const policy::Policy& policy) {
    const auto redirects = [](const policy::Condition& condition) { return !condition.limits.transport.empty(); };
    return (policy.fallback && !policy.fallback->transport.empty()) || std::any_of(policy.conditions.begin(), policy.conditions.end(), redirects);
}

// Places of policies by what they count, in order.
using Counting = std::map<std::string_view, std::vector<std::uint32_t>>;
Counting by_count(const std::vector<policy::PolicyPtr>& policies) {
    Counting counting;
    for (std::uint32_t place = 0; place < policies.size(); ++place) counting[policies[place]->counts].push_back(place);
    return counting;
}

}  // namespace

bool Buckets::can_stay(const PolicyTable& table) const {
    if (table.of_file != table_.of_file) return false;
    const auto same = [](const policy::PolicyPtr& a, const policy::PolicyPtr& b) { return a->counts == b->counts; };
    const std::vector<policy::PolicyPtr>& now = table_.policies;
    if (!std::equal(now.begin(), now.end(), table.policies.begin(), table.policies.end(), same)) return false;
    return table.set == table_.set || (!depends_on_limits(table) && !depends_on_limits(table_));
}

void Buckets::configure(PolicyTable table, Instant now) {
    forget_groups();
    forget_groupings();
    const bool stay = can_stay(table);
    PolicyTable before = std::exchange(table_, std::move(table));
    ++era_;
    configured_at_ = now;
    if (rows_.size() > 0) past_.push_back({before.policies, conditions_.all()});
    if (!stay) retire(std::move(before));
    conditions_.attach(table_.policies, table_.of_file, fields());
    find_late();
    for (Generation& generation : retired_) find_heirs(generation);
}

void Buckets::retire(PolicyTable before) {
    retired_before_ = era_;
    conditions_.forget_buckets();
    if (places_.size() > 0) retired_.push_back({std::move(before), era_, std::exchange(places_, Places<Bucket>(rows_)), {}, {}});
}

// The n-th policy that counted something is followed by the n-th that counts it now.
void Buckets::find_heirs(Generation& generation) const {
    generation.heirs.assign(generation.table.policies.size(), none);
    generation.ancestors.assign(table_.policies.size(), none);
    const Counting now = by_count(table_.policies);
    for (const auto& [counts, places] : by_count(generation.table.policies)) {
        const auto same = now.find(counts);
        for (std::size_t nth = 0; same != now.end() && nth < std::min(places.size(), same->second.size()); ++nth) {
            generation.heirs[places[nth]] = same->second[nth];
            generation.ancestors[same->second[nth]] = places[nth];
        }
    }
}

std::size_t Buckets::generation_of(Index retired) const {
    std::size_t at = 0;
    while (rows_[retired].era >= retired_[at].end) ++at;
    return at;
}

const policy::Policy& Buckets::policy_of(Index bucket) const {
    const PolicyTable& table = is_retired(bucket) ? retired_[generation_of(bucket)].table : table_;
    return *table.policies[rows_[bucket].name.policy];
}

bool Buckets::remembers(const Bucket& retired) const { return retired.state.remembers_until(*retired.limits) > configured_at_; }

// The latest of those that counted the same has what the ones before it knew.
void Buckets::inherit(Index at) {
    Bucket& heir = rows_[at];
    for (auto generation = retired_.rbegin(); generation != retired_.rend(); ++generation) {
        policy::BucketKey name = heir.name;
        name.policy = generation->ancestors[heir.name.policy];
        const Index ancestor = name.policy == none ? none : generation->places.find(name);
        if (ancestor == none) continue;
        Bucket& before = rows_[ancestor];
        if (!remembers(before)) return;
        heir.state = std::exchange(before.state, {});
        return heir.state.adopt(*before.limits, *heir.limits, configured_at_);
    }
}

Index Buckets::bequeath(Index retired) {
    policy::BucketKey name = rows_[retired].name;
    name.policy = retired_[generation_of(retired)].heirs[name.policy];
    if (name.policy == none || !remembers(rows_[retired]) || places_.find(name) != none) return none;
    const Index heir = hold(name);
    drop(heir);
    return heir;
}

void Buckets::forget_past() {
    if (retired_.empty()) past_.clear();
}

void Buckets::catch_up_late(Index bucket) const {
    if (!is_retired(bucket)) look_again(bucket, configured_at_);
}

bool Buckets::look_again(Index bucket, Instant now) const {
    Bucket& row = rows_[bucket];
    row.era = era_;
    const Choice choice = choose(row.name);
    if (row.adapting != nullptr || choice.limits->adaptive.any()) {
        const policy::Limits before = *row.limits;
        obey(row, choice);
        if (before == *row.limits) return false;
        row.state.adopt(before, *row.limits, now);
        return true;
    }
    const bool changes = choice.limits != row.limits && *choice.limits != *row.limits;
    if (changes) row.state.adopt(*row.limits, *choice.limits, now);
    obey(row, choice);
    return changes;
}

bool Buckets::is_settled(Index bucket) const {
    const Bucket& row = rows_[bucket];
    if (row.era != era_) return true;
    const Choice choice = choose(row.name);
    const bool same = row.adapting != nullptr ? row.adapting->base() == *choice.limits : choice.limits == row.limits;
    return same && choice.condition == row.condition && choice.stops == row.stops;
}

void Buckets::obey(Bucket& bucket, const Choice& choice) const {
    if (bucket.condition != none) --conditions_[bucket.condition].buckets;
    if (choice.condition != none) ++conditions_[choice.condition].buckets;
    bucket.limits = choice.limits;
    if (!choice.limits->adaptive.any()) {
        bucket.adapting.reset();
    } else {
        if (bucket.adapting == nullptr) bucket.adapting = std::make_unique<policy::Adapting>(*choice.limits);
        else if (bucket.adapting->base() != *choice.limits) bucket.adapting->obey(*choice.limits);
        bucket.limits = &bucket.adapting->limits();
    }
    bucket.adapts = bucket.adapting != nullptr;
    bucket.condition = choice.condition;
    bucket.stops = choice.stops;
}

bool Buckets::moved(Bucket& bucket, bool moved, Instant now) {
    if (moved) bucket.state.adopt(bucket.adapting->before(), *bucket.limits, now);
    return moved;
}

bool Buckets::learn_delivered(Index bucket, Instant now) {
    catch_up(bucket);
    Bucket& row = rows_[bucket];
    if (row.adapting == nullptr) return false;
    const bool was_full = row.waiting.count > 0 || !has_slot(bucket);
    return moved(row, row.adapting->delivered(was_full, now), now);
}

bool Buckets::learn_failed(Index bucket, policy::Failure failure, Instant now) {
    catch_up(bucket);
    Bucket& row = rows_[bucket];
    return row.adapting != nullptr && moved(row, row.adapting->failed(failure, now), now);
}

Index Buckets::set_condition(ConditionPtr condition) {
    const Index old = conditions_.find(condition->id);
    if (old != none) {
        conditions_.replace(old, std::move(condition), table_.policies, table_.of_file, fields());
        return old;
    }
    return conditions_.add(std::move(condition), table_.policies, table_.of_file, fields());
}

std::vector<Index> Buckets::concerned_by(const policy::DynamicCondition& condition) const {
    std::vector<Index> found;
    const auto end = table_.policies.begin() + static_cast<std::ptrdiff_t>(table_.of_file);
    const auto policy = std::find_if(table_.policies.begin(), end, [&](const policy::PolicyPtr& p) { return p->counts == condition.policy->counts; });
    if (policy == end) return found;
    policy::BucketKey key(static_cast<std::uint32_t>(policy - table_.policies.begin()));
    if (const auto values = policy::only_bucket_of(condition)) {
        for (std::size_t i = 0; i < values->size(); ++i) {
            NameId name{};
            const policy::BoundValue& value = (*values)[i];
            if (value.group == policy::Matcher::nothing && !names_.find(value.text, name)) return found;
            key.values[i] = value.group != policy::Matcher::nothing ? policy::first_group_value + value.group : number_of(name);
        }
        const Index bucket = places_.find(key);
        if (bucket != none) found.push_back(bucket);
        return found;
    }
    for (Index bucket = 0; bucket < rows_.end(); ++bucket) {
        if (!rows_.contains(bucket) || is_retired(bucket)) continue;
        const policy::BucketKey& name = rows_[bucket].name;
        if (name.policy == key.policy && name.values[0] != policy::skipped && condition.match.holds(texts_of(name))) found.push_back(bucket);
    }
    return found;
}

const policy::FieldTable& Buckets::fields() const {
    static const policy::FieldTable named;
    return table_.set != nullptr ? table_.set->fields : named;
}

// A policy is late when one of its values is, or when a late one before it may say `stop`.
void Buckets::find_late() {
    late_.clear();
    uses_grouping_ = false;
    bool stop_is_late = false;
    for (std::size_t i = 0; i < table_.policies.size(); ++i) {
        const policy::Policy& policy = *table_.policies[i];
        const bool late = policy.field_set.depends_on_candidate() || (stop_is_late && i < table_.of_file);
        late_.push_back(late);
        stop_is_late = stop_is_late || (late && may_stop(policy));
        uses_grouping_ = uses_grouping_ || policy.field_set.has(policy::Field::grouping);
    }
    const auto redirects = [](const policy::PolicyPtr& policy) { return may_redirect(*policy); };
    file_redirects_ = std::any_of(table_.policies.begin(), table_.policies.end(), redirects);
    depends_on_candidate_ = std::find(late_.begin(), late_.end(), true) != late_.end();
}

NameId Buckets::grouping_of(NameId mx, NameId ip, NameId domain) const {
    const Grouped key{mx, ip, domain};
    const auto found = groupings_.find(key);
    if (found != groupings_.end()) return found->second;
    if (groupings_.size() == values_known_max) forget_groupings();
    const std::string_view text =
        table_.set != nullptr ? table_.set->grouping.of(names_.text(mx), names_.text(ip), names_.text(domain)) : std::string_view();
    const NameId grouping = names_.intern(text);
    for (const NameId name : {mx, ip, domain}) names_.hold(name);
    groupings_.emplace(key, grouping);
    return grouping;
}

std::uint32_t Buckets::group_of(const policy::RollUp& roll_up, NameId value) const {
    const RolledUp key{&roll_up, value};
    const auto found = groups_.find(key);
    if (found != groups_.end()) return found->second;
    if (groups_.size() == values_known_max) forget_groups();
    const std::uint32_t group = roll_up.group_of(names_.text(value));
    groups_.emplace(RolledUp{&roll_up, names_.hold(value)}, group);
    return group;
}

void Buckets::forget_groups() const {
    for (const auto& [key, group] : groups_) names_.drop(key.second);
    groups_.clear();
}

void Buckets::forget_groupings() const {
    for (const auto& [key, grouping] : groupings_) {
        for (const NameId name : {std::get<0>(key), std::get<1>(key), std::get<2>(key), grouping}) names_.drop(name);
    }
    groupings_.clear();
}

policy::BucketKey Buckets::key_of(std::uint32_t place, const policy::FieldValues& values) const {
    const policy::Policy& policy = *table_.policies[place];
    policy::BucketKey key(place);
    for (std::size_t i = 0; i < policy.fields.size(); ++i) {
        policy::Value value = values[policy.fields[i]];
        if (policy.has_roll_ups && policy.roll_ups[i] != nullptr && value != policy::unknown) {
            const std::uint32_t group = group_of(*policy.roll_ups[i], NameId{value});
            if (group != policy::Matcher::nothing) value = policy::first_group_value + group;
        }
        key.values[i] = value;
    }
    return key;
}

// The policy's word is asked for in any case, because of `stop`.
Buckets::Choice Buckets::choose(const policy::BucketKey& key) const {
    Choice choice;
    if (key.values[0] == policy::skipped) return choice;
    const policy::Policy& policy = *table_.policies[key.policy];
    if (policy.conditions.empty() && conditions_.empty()) {
        if (policy.fallback) choice.limits = &*policy.fallback;
    } else {
        const policy::FieldTexts texts = texts_of(key);
        choice.limits = &policy.limits_of(texts);
        choice.condition = conditions_.applying(key, texts);
    }
    choice.stops = choice.limits->stop && key.policy < table_.of_file;
    if (choice.condition != none) choice.limits = &conditions_[choice.condition].what->limits;
    return choice;
}

policy::FieldTexts Buckets::texts_of(const policy::BucketKey& key) const {
    const policy::Policy& policy = *table_.policies[key.policy];
    policy::FieldTexts texts;
    for (std::size_t i = 0; i < policy.fields.size(); ++i) {
        const policy::Value value = key.values[i];
        if (value == policy::unknown) continue;
        if (policy::is_text(value)) texts.set(policy.fields[i], names_.text(NameId{value}));
        else texts.set(policy.fields[i], {}, value - policy::first_group_value);
    }
    return texts;
}

Index Buckets::hold(std::uint32_t policy, const policy::FieldValues& values) { return hold(key_of(policy, values)); }

Index Buckets::hold_skipped(std::uint32_t policy) { return hold(skipped_key(policy)); }

policy::BucketKey Buckets::skipped_key(std::uint32_t policy) {
    policy::BucketKey key(policy);
    key.values[0] = policy::skipped;
    return key;
}

std::vector<policy::BucketKey> Buckets::keys_of(const policy::FieldValues& values) const {
    std::vector<policy::BucketKey> keys;
    bool stopped = false;
    for (std::uint32_t policy = 0; policy < policies(); ++policy) {
        keys.push_back(stopped && may_be_skipped(policy) ? skipped_key(policy) : key_of(policy, values));
        stopped = stopped || choose(keys.back()).stops;
    }
    return keys;
}

std::string_view Buckets::transport_for(const policy::FieldValues& values) const {
    bool stopped = false;
    for (std::uint32_t policy = 0; policy < table_.of_file && !stopped; ++policy) {
        if (table_.policies[policy]->field_set.has(policy::Field::localip)) continue;
        const Choice choice = choose(key_of(policy, values));
        if (!choice.limits->transport.empty()) return choice.limits->transport;
        stopped = choice.stops;
    }
    return {};
}

Index Buckets::hold(const policy::BucketKey& key) {
    Index at = places_.find(key);
    if (at == none) {
        Bucket bucket;
        bucket.name = key;
        bucket.era = era_;
        obey(bucket, choose(key));
        for (const policy::Value value : key.values) {
            if (policy::is_text(value)) names_.hold(NameId{value});
        }
        at = rows_.add();
        rows_[at] = std::move(bucket);
        places_.insert(at);
        if (!retired_.empty()) inherit(at);
    }
    ++rows_[at].holders;
    return at;
}

bool Buckets::collect(Index bucket, Instant now) {
    if (rows_[bucket].in_turn || remembers_until(bucket) > now) return false;
    discard(bucket);
    return true;
}

void Buckets::discard(Index bucket) {
    const Bucket& row = rows_[bucket];
    ASSERT(row.holders == 0 && row.used == 0 && row.waiting.count == 0);
    const policy::BucketKey name = row.name;
    if (is_retired(bucket)) {
        retired_[generation_of(bucket)].places.erase(bucket);
        rows_.remove(bucket);
        std::erase_if(retired_, [](const Generation& generation) { return generation.places.size() == 0; });
    } else {
        if (row.condition != none) --conditions_[row.condition].buckets;
        places_.erase(bucket);
        rows_.remove(bucket);
    }
    for (const policy::Value value : name.values) {
        if (policy::is_text(value)) names_.drop(NameId{value});
    }
}

}  // namespace sluice::queue
