// Filters and counts: what operators ask of the whole queue.

#include <algorithm>
#include <array>

#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

using Kind = Column::Kind;

// A group costs a hundred times what an item does, so a slice in which every item is a group of its own ends early.
constexpr std::size_t groups_at_once = 4'000;

constexpr std::array<const char*, 4> state_names{"scheduled", "ready", "sending", "held"};

// Without branches: this is done for every item.
template <class Ends, class Value>
std::size_t interval_of(const Ends& ends, Value value) {
    std::size_t interval = 0;
    for (const auto& end : ends) interval += value >= end ? 1 : 0;
    return interval;
}

// Times of the next try include their end: what is due has none left.
std::size_t next_interval(Duration left) {
    std::size_t interval = 0;
    for (const Duration end : next_ends) interval += left > end ? 1 : 0;
    return interval;
}

std::string size_where(std::size_t interval) {
    std::string where = interval == 0 ? "" : "size>=" + std::to_string(size_ends[interval - 1]);
    if (interval < size_ends.size()) where += (where.empty() ? "size<" : " size<") + std::to_string(size_ends[interval]);
    return where;
}

}  // namespace

std::string age_where(std::size_t interval) {
    std::string where = interval == 0 ? "" : "age>=" + duration_text(age_ends[interval - 1]);
    if (interval < age_ends.size()) where += (where.empty() ? "age<" : " age<") + duration_text(age_ends[interval]);
    return where;
}

std::string next_where(std::size_t interval) {
    std::string where = interval == 0 ? "" : "next>" + duration_text(next_ends[interval - 1]);
    if (interval < next_ends.size()) where += (where.empty() ? "next<=" : " next<=") + duration_text(next_ends[interval]);
    return where;
}

void Group::add(const Group& other) {
    items += other.items;
    recipients += other.recipients;
    octets += other.octets;
    oldest = std::min(oldest, other.oldest);
    for (std::size_t i = 0; i < states.size(); ++i) states[i] += other.states[i];
    for (std::size_t i = 0; i < ages.size(); ++i) ages[i] += other.ages[i];
    for (std::size_t i = 0; i < nexts.size(); ++i) nexts[i] += other.nexts[i];
}

// ---- what is known of an item ----------------------------------------------------------------------------------

// Fields that do not depend on a candidate.
NameId Core::Impl::value_of(const Item& item, policy::Field field) const {
    const Profile& profile = profiles_[item.profile];
    switch (field) {
        case policy::Field::tenantid: return profile.name.tenant;
        case policy::Field::jobid: return profile.name.job;
        case policy::Field::transportid: return profile.name.transport;
        case policy::Field::senderdomain: return profile.name.sender;
        case policy::Field::recipientdomain: return destinations_[item.destination].name;
        case policy::Field::priority: return priority_names_[item.priority];
        default: break;
    }
    policy::FieldValues values;
    profiles_.fill(values, item.profile);
    return values[field] == policy::unknown ? Names::empty : NameId{values[field]};
}

Index Core::Impl::path_of(const Item& item) const {
    const bool on_session = item.state() == ItemState::sending && item.where != none;
    if (on_session) return sessions_[item.where].path;
    return is_under_way(item) ? progress_[item.progress].path : destinations_[item.destination].path;
}

// The lane in which it is, or would be; its route is known.
Lane Core::Impl::lane_for(const Item& item) const {
    Lane lane;
    const bool in_lane = item.state() == ItemState::ready && item.where != none && item.where != consult_line;
    lane.name = in_lane && is_sorted(lanes_[item.where]) ? lanes_[item.where].name : lane_key(item, path_of(item));
    return lane;
}

// The suspensions in force whose end the item's lane waits for.
BucketList Core::Impl::gates_of(const Item& item) const {
    BucketList gates;
    if (item.state() != ItemState::ready || item.where == none || item.where == consult_line) return gates;
    for (const Index waiter : lanes_[item.where].waiters) {
        const Spot spot = waiters_[waiter].bucket;
        if (is_gate(spot) && suspensions_[gate_of(spot)].in_force) gates.push_back(gate_of(spot));
    }
    return gates;
}

// The candidate it is being sent to, or else one that would be tried first; nothing while the route is not known.
std::optional<std::uint32_t> Core::Impl::first_candidate(Index at) const {
    const Item& item = items_[at];
    const Index path = path_of(item);
    if (path == none) return std::nullopt;
    if (item.state() == ItemState::sending && item.where != none) {
        const Session& session = sessions_[item.where];
        return session.pool != none || session.group.empty() ? session.candidate : session.group.front();
    }
    const std::vector<Path::Hop>& hops = paths_[path].hops;
    std::uint32_t best = 0;
    for (std::uint32_t hop = 1; hop < hops.size(); ++hop) {
        if (hops[hop].level < hops[best].level) best = hop;
    }
    return best;
}

// Where it is sent from, or would be if nothing spoke against it.
NameId Core::Impl::local_of(const Item& item, const Lane& lane, const Path& path, std::uint32_t candidate) const {
    const Family family = path.hops[candidate].family;
    if (item.state() == ItemState::sending && item.where != none) return sessions_[item.where].local(family).address;
    return preferred_local(lane, path, pool_for(lane, path, candidate), family).address;
}

// ---- filters ---------------------------------------------------------------------------------------------------

// A filter, bound to the state of the core for a moment: what patterns say of a text is found out once.
class Core::Impl::Sieve {
public:
    Sieve(const Impl& core, const Filter& filter) : core_(core) {
        for (const Filter::Term& term : filter.terms()) {
            if (term.column.is_in_message()) continue;
            terms_.push_back(Bound{&term, {}});
            if (term.column.kind != Kind::state) continue;
            for (std::size_t state = 0; state < state_names.size(); ++state) terms_.back().states[state] = term.holds(state_names[state]);
        }
    }

    bool passes(Index at) {
        const auto holds = [&](Bound& term) { return this->holds(term, at); };
        return std::all_of(terms_.begin(), terms_.end(), holds);
    }

private:
    struct Bound {
        const Filter::Term* term;
        std::array<bool, 4> states{};
        absl::flat_hash_map<std::uint32_t, bool> known{};  // by number of the text
    };

    bool holds(Bound& bound, Index at) {
        const Item& item = core_.items_[at];
        const Filter::Term& term = *bound.term;
        switch (term.column.kind) {
            case Kind::state: return bound.states[static_cast<unsigned>(item.state())];
            case Kind::age: return term.holds(std::int64_t{(core_.now_ - item.arrival).count()});
            case Kind::next: return holds_of_next(term, item);
            case Kind::attempts: return term.holds(std::int64_t{item.attempts});
            case Kind::attempt: return term.holds(std::int64_t{item.attempts} + 1);
            case Kind::size: return term.holds(std::int64_t{item.size});
            case Kind::priority: return term.holds(std::int64_t{item.priority});
            case Kind::recipients: return term.holds(std::int64_t{item.recipient_count});
            case Kind::reply:
            case Kind::reply_code: return holds_of_reply(bound, at);
            case Kind::via: return holds_of_name(bound, core_.destinations_[item.destination].via);
            case Kind::suspension: return holds_of_suspension(term, item);
            case Kind::id: return term.holds(item.key().text()) || (!term.negated && term.holds(item.key().message.text()));
            case Kind::field: return holds_of_field(bound, at);
            case Kind::sender:
            case Kind::recipient:
            case Kind::subject: return true;
        }
        UNREACHABLE();
    }

    bool holds_of_next(const Filter::Term& term, const Item& item) const {
        if (item.state() == ItemState::held) return term.negated;
        return term.holds(std::int64_t{std::max(item.due - core_.now_, Duration{0}).count()});
    }

    // It waits for the end of such a one; with `!=`, of none of these.
    bool holds_of_suspension(const Filter::Term& term, const Item& item) const {
        const BucketList gates = core_.gates_of(item);
        if (gates.empty()) return term.holds(std::string_view());
        const auto holds = [&](Index gate) { return term.holds(core_.suspensions_[gate].what->id) != term.negated; };
        return std::any_of(gates.begin(), gates.end(), holds) != term.negated;
    }

    bool holds_of_reply(Bound& bound, Index at) {
        const NameId reply = core_.replies_.name(at);
        const auto [known, is_new] = bound.known.try_emplace(number_of(reply));
        if (!is_new) return known->second;
        const std::string_view text = core_.replies_.text(reply);
        return known->second = bound.term->holds(bound.term->column.kind == Kind::reply ? text : reply_code(text));
    }

    bool holds_of_name(Bound& bound, NameId name) {
        const auto [known, is_new] = bound.known.try_emplace(number_of(name));
        if (is_new) known->second = bound.term->holds(core_.names_.text(name));
        return known->second;
    }

    // Of a field that depends on the candidate: some candidate has such a value; with `!=`, none has.
    bool holds_of_field(Bound& bound, Index at) {
        const Item& item = core_.items_[at];
        const policy::Field field = bound.term->column.field;
        if (!policy::FieldSet{field}.depends_on_candidate()) return holds_of_name(bound, core_.value_of(item, field));
        const bool negated = bound.term->negated;
        if (core_.path_of(item) == none) return negated;
        const Path& path = core_.paths_[core_.path_of(item)];
        const Lane lane = core_.lane_for(item);
        const bool is_sending = item.state() == ItemState::sending && item.where != none;
        for (std::uint32_t hop = 0; hop < path.hops.size(); ++hop) {
            if (is_sending && hop != core_.first_candidate(at)) continue;
            const policy::Value value = core_.values_of(lane, path, hop, core_.local_of(item, lane, path, hop))[field];
            if (value == policy::unknown) continue;
            if (holds_of_name(bound, NameId{value}) != negated) return !negated;
        }
        return negated;
    }

    const Impl& core_;
    std::vector<Bound> terms_;
};

std::optional<Core::Place> Core::Impl::select(
    const Filter& filter, Place from, std::uint32_t places_max, const std::function<bool(const ItemView&)>& visit) const {
    Sieve sieve(*this, filter);
    Index at = from;
    for (std::uint32_t looked = 0; at < items_.end() && looked < places_max; ++looked) {
        const Index here = at++;
        if (items_.contains(here) && sieve.passes(here) && !visit(view(here))) break;
    }
    return at < items_.end() ? std::optional(at) : std::nullopt;
}

// ---- counts ----------------------------------------------------------------------------------------------------

// Adds items up by the values of some columns. Values are numbers meanwhile, and become texts when everything is counted.
class Core::Impl::Counting {
public:
    Counting(const Impl& core, const Survey& survey) : core_(core), by_(survey.by), sieve_(core, survey.filter) {
        ASSERT(by_.size() <= survey_columns_max);
    }

    void take(Index at) {
        if (!sieve_.passes(at)) return;
        Key key{};
        for (std::size_t i = 0; i < by_.size(); ++i) key[i] = value_of(by_[i], at);
        if (rows_.empty() || key != last_key_) {
            last_ = places_.try_emplace(key, rows_.size()).first->second;
            if (last_ == rows_.size()) rows_.emplace_back();
            last_key_ = key;
        }
        count(core_.items_[at], rows_[last_]);
    }

    std::size_t groups() const { return rows_.size(); }

    void finish(std::vector<Group>& into) {
        for (auto& [key, place] : places_) {
            Group& group = rows_[place];
            for (std::size_t i = 0; i < by_.size(); ++i) name(by_[i], key[i], group);
            into.push_back(std::move(group));
        }
    }

private:
    using Key = std::array<std::uint32_t, survey_columns_max>;

    void count(const Item& item, Group& group) const {
        ++group.items;
        group.recipients += item.recipient_count;
        group.octets += item.size;
        ++group.states[static_cast<unsigned>(item.state())];
        group.oldest = std::min(group.oldest, item.arrival);
        ++group.ages[interval_of(age_ends, core_.now_ - item.arrival)];
        if (item.state() != ItemState::held) ++group.nexts[next_interval(item.due - core_.now_)];
    }

    std::uint32_t value_of(const Column& column, Index at) const {
        const Item& item = core_.items_[at];
        switch (column.kind) {
            case Kind::state: return static_cast<std::uint32_t>(item.state());
            case Kind::age: return static_cast<std::uint32_t>(interval_of(age_ends, core_.now_ - item.arrival));
            case Kind::next:
                return item.state() == ItemState::held ? policy::unknown : static_cast<std::uint32_t>(next_interval(item.due - core_.now_));
            case Kind::attempts: return item.attempts;
            case Kind::attempt: return item.attempts + 1U;
            case Kind::size: return static_cast<std::uint32_t>(interval_of(size_ends, item.size));
            case Kind::priority: return item.priority;
            case Kind::recipients: return item.recipient_count;
            case Kind::reply: return number_of(core_.replies_.name(at));
            case Kind::reply_code: return code_of(core_.replies_.name(at));
            case Kind::via: return number_of(core_.destinations_[item.destination].via);
            case Kind::suspension: {
                const BucketList gates = core_.gates_of(item);
                return gates.empty() ? none : gates.front();
            }
            case Kind::field: return value_of(column.field, at);
            case Kind::id:
            case Kind::sender:
            case Kind::recipient:
            case Kind::subject: UNREACHABLE();  // refused before
        }
        UNREACHABLE();
    }

    std::uint32_t value_of(policy::Field field, Index at) const {
        const Item& item = core_.items_[at];
        if (!policy::FieldSet{field}.depends_on_candidate()) return number_of(core_.value_of(item, field));
        const auto candidate = core_.first_candidate(at);
        if (!candidate) return policy::unknown;
        const Path& path = core_.paths_[core_.path_of(item)];
        const Lane lane = core_.lane_for(item);
        return core_.values_of(lane, path, *candidate, core_.local_of(item, lane, path, *candidate))[field];
    }

    // Replies with the same codes share the number of the first of them.
    std::uint32_t code_of(NameId reply) const {
        const auto known = code_by_reply_.find(reply);
        if (known != code_by_reply_.end()) return known->second;
        const std::string code(reply_code(core_.replies_.text(reply)));
        return code_by_reply_[reply] = codes_.try_emplace(code, number_of(reply)).first->second;
    }

    void name(const Column& column, std::uint32_t value, Group& group) const {
        std::string text, where;
        const std::string column_name = column.name(core_.fields());
        const auto equals = [&](std::string_view what) { return column_name + "=" + quoted(what); };
        switch (column.kind) {
            case Kind::state: where = equals(text = state_names[value]); break;
            case Kind::age: text = where = age_where(value); break;
            case Kind::next: text = where = value == policy::unknown ? "" : next_where(value); break;
            case Kind::size: text = where = size_where(value); break;
            case Kind::attempts:
            case Kind::attempt:
            case Kind::priority:
            case Kind::recipients: where = column_name + "=" + (text = std::to_string(value)); break;
            case Kind::suspension: where = equals(text = value == none ? "" : core_.suspensions_[value].what->id); break;
            case Kind::reply: where = equals(text = core_.replies_.text(NameId{value})); break;
            case Kind::reply_code: where = equals(text = reply_code(core_.replies_.text(NameId{value}))); break;
            default:
                if (value == policy::unknown) break;
                where = equals(text = core_.names_.text(NameId{value}));
        }
        group.key.push_back(std::move(text));
        group.where.push_back(std::move(where));
    }

    const Impl& core_;
    const std::vector<Column>& by_;
    Sieve sieve_;
    absl::flat_hash_map<Key, std::size_t> places_;
    std::vector<Group> rows_;
    Key last_key_{};
    std::size_t last_ = 0;
    mutable absl::flat_hash_map<std::string, std::uint32_t> codes_;
    mutable absl::flat_hash_map<NameId, std::uint32_t> code_by_reply_;
};

std::optional<Core::Place> Core::Impl::survey(
    const Survey& survey, Place from, std::uint32_t places_max, std::vector<Group>& into) const {
    Counting counting(*this, survey);
    const Index end = items_.end() - from > places_max ? from + places_max : items_.end();
    Index at = from;
    for (; at < end && counting.groups() < groups_at_once; ++at) {
        if (items_.contains(at)) counting.take(at);
    }
    counting.finish(into);
    return at < items_.end() ? std::optional(at) : std::nullopt;
}

void Core::Impl::survey(const Survey& survey, const std::vector<ItemId>& items, std::vector<Group>& into) const {
    Counting counting(*this, survey);
    for (const ItemId id : items) {
        const Index at = items_.find(id);
        if (at != none) counting.take(at);
    }
    counting.finish(into);
}

}  // namespace sluice::queue
