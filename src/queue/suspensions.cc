#include "queue/suspensions.h"

#include <algorithm>
#include <array>
#include <utility>

namespace sluice::queue {
namespace {

// What values match is forgotten when so many are known: that is rare, and finding it again is cheap.
constexpr std::size_t known_max = 100'000;

using policy::Field;

bool depends_on_candidate(const policy::Match& match) { return match.fields().depends_on_candidate(); }

bool names_values(const policy::Test& test) {
    const auto is_one = [](const policy::Pattern& p) {
        return p.kind == policy::Pattern::Kind::literal || (p.kind == policy::Pattern::Kind::network && p.network.is_address());
    };
    return !test.patterns.empty() && test.groups.empty() && std::all_of(test.patterns.begin(), test.patterns.end(), is_one);
}

const policy::Test& test_of(const policy::Match& match, Field field) {
    return *std::find_if(match.all.begin(), match.all.end(), [&](const policy::Test& test) { return test.field == field; });
}

}  // namespace

Suspensions::~Suspensions() {
    for (Index at = 0; at < gates_.end(); ++at) {
        if (gates_.contains(at) && !gates_[at].ended) leave(at);
    }
}

Index Suspensions::add(SuspensionPtr what, policy::Match match, Origin origin, Instant now) {
    const Index at = gates_.add();
    Gate& gate = gates_[at];
    gate.what = std::move(what);
    gate.match = std::move(match);
    gate.origin = origin;
    gate.is_late = depends_on_candidate(gate.match);
    if (origin != Origin::file) ids_[gate.what->id] = at;
    if (gate.what->per_mille < everybody) ++parts_[gate.what->per_mille];
    enter(at);
    look_again(at, now);
    return at;
}

void Suspensions::number(Index at, policy::Match match) {
    leave(at);
    gates_[at].match = std::move(match);
    enter(at);
}

void Suspensions::end(Index at) {
    Gate& gate = gates_[at];
    ASSERT(!gate.ended);
    set_in_force(gate, false);
    leave(at);
    gate.ended = true;
    if (gate.origin != Origin::file) ids_.erase(gate.what->id);
    if (gate.what->per_mille < everybody && --parts_[gate.what->per_mille] == 0) parts_.erase(gate.what->per_mille);
}

void Suspensions::remove(Index at) {
    ASSERT(gates_[at].ended && gates_[at].waiting.count == 0 && !gates_[at].timer.is_set());
    gates_.remove(at);
}

bool Suspensions::look_again(Index at, Instant now) {
    Gate& gate = gates_[at];
    const bool before = gate.in_force;
    set_in_force(gate, !gate.ended && gate.what->is_in_force(now));
    return before && !gate.in_force;
}

void Suspensions::set_in_force(Gate& gate, bool in_force) {
    if (std::exchange(gate.in_force, in_force) == in_force) return;
    const std::uint32_t step = in_force ? 1U : ~0U;
    table_of(gate).in_force += step;
    if (gate.what->new_connections_only) for_new_connections_ += step;
}

Index Suspensions::find(const std::string& id) const {
    const auto found = ids_.find(id);
    return found == ids_.end() ? none : found->second;
}

Index Suspensions::like(const policy::Suspension& suspension) const {
    for (const auto& [id, at] : ids_) {
        if (gates_[at].origin == Origin::run_time && policy::says_the_same(*gates_[at].what, suspension)) return at;
    }
    return none;
}

std::uint32_t Suspensions::part_of(std::uint64_t hash) const {
    const auto found = parts_.upper_bound(policy::Suspension::part_of(hash));
    return found == parts_.end() ? everybody : found->first;
}

// ---- which ones may match --------------------------------------------------------------------------------------

// The field by whose values a suspension is found: the one that tells deliveries apart best.
std::optional<Field> Suspensions::naming_field(const policy::Match& match) {
    constexpr std::array order{Field::remoteip,     Field::remotemx,    Field::recipientdomain, Field::jobid,   Field::senderdomain,
                               Field::tenantid,     Field::transportid, Field::grouping,        Field::localip};
    for (const Field field : order) {
        const auto names_it = [&](const policy::Test& test) { return test.field == field && names_values(test); };
        if (std::any_of(match.all.begin(), match.all.end(), names_it)) return field;
    }
    return std::nullopt;
}

void Suspensions::enter(Index at) {
    Table& table = table_of(gates_[at]);
    const policy::Match& match = gates_[at].match;
    const std::optional<Field> field = naming_field(match);
    if (field) {
        for (const policy::Pattern& pattern : test_of(match, *field).patterns) {
            const policy::Value value = number_of(names_.intern(pattern.text));
            List& list = table.named[{*field, value}];
            if (!list.empty() && list.back() == at) names_.drop(NameId{value});  // named twice
            else list.push_back(at);
        }
    } else {
        forget_known(table);
        table.others.push_back(at);
    }
    count(table, match, field, true);
}

void Suspensions::leave(Index at) {
    Table& table = table_of(gates_[at]);
    const policy::Match& match = gates_[at].match;
    const std::optional<Field> field = naming_field(match);
    if (field) {
        for (const policy::Pattern& pattern : test_of(match, *field).patterns) {
            NameId name{};
            if (!names_.find(pattern.text, name)) continue;
            const auto found = table.named.find({*field, number_of(name)});
            if (found == table.named.end()) continue;
            const auto place = std::find(found->second.begin(), found->second.end(), at);
            if (place == found->second.end()) continue;  // named twice
            found->second.erase(place);
            if (found->second.empty()) table.named.erase(found);
            names_.drop(name);
        }
    } else {
        forget_known(table);
        table.others.erase(std::find(table.others.begin(), table.others.end(), at));
    }
    count(table, match, field, false);
}

void Suspensions::count(Table& table, const policy::Match& match, std::optional<Field> named, bool comes) {
    const std::uint32_t step = comes ? 1U : ~0U;
    const policy::FieldSet fields = match.fields();
    if (named) table.named_by[policy::number_of(*named)] += step;
    table.used = {};
    table.named_fields.clear();
    table.other_fields.clear();
    for (std::size_t i = 0; i < policy::field_max; ++i) {
        const auto field = static_cast<Field>(i);
        if (fields.has(field)) {
            table.used_by[i] += step;
            if (!named) table.others_by[i] += step;
        }
        if (table.used_by[i] > 0) table.used.add(field);
        if (table.named_by[i] > 0) table.named_fields.push_back(field);
        if (table.others_by[i] > 0) table.other_fields.push_back(field);
    }
}

void Suspensions::forget_known(Table& table) {
    for (const auto& [values, list] : table.known) {
        for (const policy::Value value : values) {
            if (policy::is_text(value)) names_.drop(NameId{value});
        }
    }
    table.known.clear();
}

const Suspensions::List& Suspensions::others_for(Table& table, const policy::FieldValues& values) {
    Values key;
    policy::FieldSet fields;
    for (const Field field : table.other_fields) {
        key.push_back(values[field]);
        fields.add(field);
    }
    const auto found = table.known.find(key);
    if (found != table.known.end()) return found->second;
    if (table.known.size() == known_max) forget_known(table);
    for (const policy::Value value : key) {
        if (policy::is_text(value)) names_.hold(NameId{value});
    }
    const policy::FieldTexts texts = texts_of(values, fields);
    List matching;
    for (const Index at : table.others) {
        if (gates_[at].match.holds(texts)) matching.push_back(at);
    }
    return table.known.emplace(std::move(key), std::move(matching)).first->second;
}

policy::FieldTexts Suspensions::texts_of(const policy::FieldValues& values, policy::FieldSet fields) const {
    policy::FieldTexts texts;
    for (std::size_t i = 0; i < policy::field_max; ++i) {
        const auto field = static_cast<Field>(i);
        if (fields.has(field) && policy::is_text(values[field])) texts.set(field, names_.text(NameId{values[field]}));
    }
    return texts;
}

// ---- questions -------------------------------------------------------------------------------------------------

Suspensions::Answer Suspensions::ask(const Delivery& delivery, bool late) {
    Table& table = late ? late_ : early_;
    Answer answer;
    if (table.in_force == 0) return answer;
    if (!table.others.empty()) {
        for (const Index at : others_for(table, delivery.values)) answer = stricter(at, delivery, answer);
    }
    if (table.named_fields.empty()) return answer;
    const policy::FieldTexts texts = texts_of(delivery.values, table.used);
    for (const Field field : table.named_fields) {
        const auto found = table.named.find({field, delivery.values[field]});
        if (found == table.named.end()) continue;
        for (const Index at : found->second) {
            if (gates_[at].match.holds(texts)) answer = stricter(at, delivery, answer);
        }
    }
    return answer;
}

// One that stops the whole lane says more than one that stops the message.
Suspensions::Answer Suspensions::stricter(Index at, const Delivery& delivery, Answer than) const {
    const Gate& gate = gates_[at];
    const policy::Suspension& what = *gate.what;
    if (than.whole_lane || !gate.in_force || (what.new_connections_only && !delivery.new_connection)) return than;
    if (delivery.part <= what.per_mille) return {at, true};
    return what.takes(delivery.hash) ? Answer{at, false} : than;
}

}  // namespace sluice::queue
