#include "queue/profiles.h"

#include <algorithm>

namespace sluice::queue {
namespace {

bool contains(const std::vector<NameId>& names, NameId name) { return std::find(names.begin(), names.end(), name) != names.end(); }

}  // namespace

Profiles::~Profiles() {
    for (const NameId name : others_) names_.drop(name);
}

Profile::Key Profiles::name(const Texts& texts) {
    Profile::Key key{intern(texts.tenant), intern(texts.job), intern(texts.transport), intern(texts.sender), {}};
    key.marks.reserve(texts.marks.size());
    for (const mail::Mark& mark : texts.marks) {
        if (!mark.value.empty()) key.marks.push_back({intern(mark.field), intern(mark.value)});
    }
    return key;
}

void Profiles::drop_names(const Profile::Key& key) const {
    for (const NameId name : {key.tenant, key.job, key.transport, key.sender}) names_.drop(name);
    for (const NamedMark& mark : key.marks) {
        names_.drop(mark.field);
        names_.drop(mark.value);
    }
}

// The names in `key` become the profile's.
Index Profiles::add(Profile::Key key) const {
    Profile row;
    row.name = std::move(key);
    const Index at = rows_.add(std::move(row));
    settle(at);
    return at;
}

void Profiles::drop(Index at) const {
    if (--rows_[at].holders > 0) return;
    const Index lane = rows_[at].lane;
    const Profile::Key key = rows_[at].name;
    rows_.remove(at);
    drop_names(key);
    if (lane != at) drop(lane);
}

Profile::Key Profiles::reduced(const Profile::Key& key) const {
    Profile::Key rest;
    rest.tenant = key.tenant;
    rest.transport = key.transport;
    if (told_apart_.has(policy::Field::jobid)) rest.job = key.job;
    if (told_apart_.has(policy::Field::senderdomain)) rest.sender = key.sender;
    for (const NamedMark& mark : key.marks) {
        if (contains(marks_told_apart_, mark.field)) rest.marks.push_back(mark);
    }
    return rest;
}

// Finds or makes what of a profile is told apart.
void Profiles::settle_anew(Index at) const {
    rows_[at].settled = fields_known_;
    number_marks(rows_[at]);
    const Index before = rows_[at].lane;
    Profile::Key key = reduced(rows_[at].name);
    Index lane = key == rows_[at].name ? at : rows_.find(key);
    if (lane == before && lane != none) return;
    if (lane == none) {
        for (const NameId name : {key.tenant, key.job, key.transport, key.sender}) names_.hold(name);
        for (const NamedMark& mark : key.marks) {
            names_.hold(mark.field);
            names_.hold(mark.value);
        }
        lane = add(std::move(key));
        rows_[lane].pool = rows_[at].pool;
    }
    if (lane != at) hold(lane);
    rows_[at].lane = lane;
    if (before != none && before != at) drop(before);
}

void Profiles::number_marks(Profile& profile) const {
    profile.others.assign(others_.size(), number_of(Names::empty));
    for (std::size_t i = 0; i < others_.size(); ++i) {
        for (const NamedMark& mark : profile.name.marks) {
            if (mark.field == others_[i]) profile.others[i] = number_of(mark.value);
        }
    }
}

bool Profiles::set_fields(policy::FieldSet told_apart, const policy::FieldTable& fields) {
    const std::vector<NameId> others_before = std::exchange(others_, {});
    const std::vector<NameId> marks_before = std::exchange(marks_told_apart_, {});
    for (std::size_t number = policy::named_field_count; number < fields.size(); ++number) {
        const auto field = static_cast<policy::Field>(number);
        others_.push_back(names_.intern(fields.name_of(field)));
        if (told_apart.has(field)) marks_told_apart_.push_back(others_.back());
    }
    bool more = !std::all_of(marks_told_apart_.begin(), marks_told_apart_.end(), [&](NameId name) { return contains(marks_before, name); });
    for (const policy::Field field : {policy::Field::jobid, policy::Field::senderdomain}) {
        more = more || (told_apart.has(field) && !told_apart_.has(field));
    }
    told_apart_ = told_apart;
    for (const NameId name : others_before) names_.drop(name);
    return more;
}

void Profiles::fill(policy::FieldValues& values, Index at) const {
    settle(at);
    const Profile& profile = rows_[at];
    values[policy::Field::tenantid] = number_of(profile.name.tenant);
    values[policy::Field::jobid] = number_of(profile.name.job);
    values[policy::Field::transportid] = number_of(profile.name.transport);
    values[policy::Field::senderdomain] = number_of(profile.name.sender);
    for (std::size_t i = 0; i < profile.others.size(); ++i) {
        values[static_cast<policy::Field>(policy::named_field_count + i)] = profile.others[i];
    }
}

void Profiles::audit(std::vector<std::uint32_t> holders) const {
    for (Index at = 0; at < rows_.end(); ++at) {
        if (!rows_.contains(at)) continue;
        ASSERT(rows_.contains(rows_[at].lane) && may_share(at, rows_[at].lane) && rows_[at].pool == rows_[rows_[at].lane].pool);
        if (rows_[at].lane != at) ++holders[rows_[at].lane];
    }
    for (Index at = 0; at < rows_.end(); ++at) ASSERT(!rows_.contains(at) || (rows_[at].holders == holders[at] && holders[at] > 0));
}

}  // namespace sluice::queue
