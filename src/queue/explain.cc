// Why things stand where they do: from what decisions are made of, by the functions that make them.

#include <algorithm>
#include <utility>

#include "base/nearest.h"
#include "base/text.h"
#include "queue/core_impl.h"

namespace sluice::queue {
namespace {

// Longer lanes are not walked to the end to say where in them an item is.
constexpr std::uint32_t walked_max = 100'000;
constexpr const char* settings_file = "outbound.ini";

std::string policy_text(const policy::Policy& policy, std::size_t place) {
    return policy.name.empty() ? "policy " + std::to_string(place + 1) : policy.name;
}

tl::unexpected<Error> refuse(std::string sentence, const std::string& suggestion = {}) {
    std::string detail = "bucket: " + std::move(sentence);
    if (!suggestion.empty()) detail += " (did you mean `" + suggestion + "`?)";
    return fail(Errc::bad_input, std::move(detail));
}

// " of ops: too many complaints"
std::string said_by(const std::string& author, const std::string& reason) {
    return (author.empty() ? "" : " of " + author) + (reason.empty() ? "" : ": " + reason);
}

}  // namespace

std::string BucketView::name() const {
    std::string out = policy + "[";
    for (std::size_t i = 0; i < values.size(); ++i) out += (i == 0 ? "" : ", ") + values[i].first + "=" + values[i].second;
    return out + "]";
}

const policy::FieldTable& Core::Impl::fields() const {
    static const policy::FieldTable plain;
    return buckets_.table().set == nullptr ? plain : buckets_.table().set->fields;
}

// ---- buckets ---------------------------------------------------------------------------------------------------

std::string Core::Impl::value_text(const policy::Policy& policy, std::size_t place, policy::Value value) const {
    if (value == policy::unknown) return "?";
    if (!policy::is_text(value)) return policy.group_text(place, value - policy::first_group_value);
    return std::string(names_.text(NameId{value}));
}

// What said these limits.
std::string Core::Impl::limits_from(const policy::BucketKey& key, const Buckets::Choice& choice) const {
    const PolicyTable& table = buckets_.table();
    const policy::Limits& limits = *choice.limits;
    if (choice.condition != none) {
        const policy::DynamicCondition& condition = *buckets_.conditions()[choice.condition].what;
        return "condition " + condition.id + " (" + policy::name_of(condition.kind) + ")" + said_by(condition.author, condition.reason);
    }
    if (key.policy >= table.of_file) return settings_file;
    const policy::Policy& policy = *table.policies[key.policy];
    for (const policy::Condition& condition : policy.conditions) {
        if (&condition.limits == &limits) return "policy.yaml line " + std::to_string(condition.line);
    }
    if (policy.fallback && &*policy.fallback == &limits) return "the default of the policy in policy.yaml line " + std::to_string(policy.line);
    return "no condition";
}

BucketView Core::Impl::view(const policy::BucketKey& key) const {
    const PolicyTable& table = buckets_.table();
    const policy::Policy& policy = *table.policies[key.policy];
    const Buckets::Choice choice = buckets_.choose(key);
    BucketView view;
    view.policy = policy_text(policy, key.policy);
    view.place = key.policy;
    view.line = key.policy < table.of_file ? policy.line : 0;
    view.skipped = key.values[0] == policy::skipped;
    view.limits = *choice.limits;
    view.limits_from = view.skipped ? "`stop` of a policy before" : limits_from(key, choice);
    for (std::size_t i = 0; i < policy.fields.size() && !view.skipped; ++i) {
        view.values.emplace_back(fields().name_of(policy.fields[i]), value_text(policy, i, key.values[i]));
    }
    const Index at = buckets_.find(key);
    if (at == none) return view;
    const Bucket& bucket = buckets_[at];
    view.live = true;
    view.limits = buckets_.limits(at);
    if (bucket.adapting != nullptr) view.limits_from += ", adapted";
    view.used = bucket.used;
    view.closing = bucket.closing;
    for (Index slot = bucket.idle.head; slot != none; slot = slots_[slot].idle.next) ++view.idle;
    view.waiting_lanes = bucket.waiting.count;
    // An idle session is used again, or yields its slot at once.
    view.refusal = buckets_.refusal(at, buckets_.has_idle(at), true, now_);
    if (const Instant opens = buckets_.opens(at, now_); opens > now_) view.opens = opens;
    return view;
}

std::optional<Core::Place> Core::Impl::each_bucket_from(
    Place from, std::uint32_t places_max, const std::function<bool(const BucketView&)>& visit) const {
    Index at = from;
    for (std::uint32_t looked = 0; at < buckets_.end() && looked < places_max; ++looked) {
        const Index here = at++;
        if (buckets_.contains(here) && !buckets_.is_retired(here) && !visit(view(buckets_[here].name))) break;
    }
    return at < buckets_.end() ? std::optional(at) : std::nullopt;
}

// "gsuite[localip=192.0.2.1, remotemx=#gsuite]", as BucketView::name() writes it.
Result<BucketView> Core::Impl::bucket(std::string_view name) const {
    const std::size_t open = name.find('[');
    if (open == std::string_view::npos || !name.ends_with(']')) return refuse("a name like `policy[field=value, ...]` is expected");
    const std::string_view wanted = trim(name.substr(0, open));
    const std::vector<policy::PolicyPtr>& policies = buckets_.table().policies;
    std::vector<std::string> known;
    for (std::size_t place = 0; place < policies.size(); ++place) known.push_back(policy_text(*policies[place], place));
    const auto found = std::find(known.begin(), known.end(), wanted);
    if (found == known.end()) return refuse("no policy is called `" + printable(wanted) + "`", nearest(wanted, known));
    const auto place = static_cast<std::uint32_t>(found - known.begin());
    const policy::Policy& policy = *policies[place];

    policy::BucketKey key(place);
    std::string_view rest = name.substr(open + 1, name.size() - open - 2);
    for (std::size_t i = 0; i < policy.fields.size(); ++i) {
        const std::string field = fields().name_of(policy.fields[i]);
        rest = trim(rest);
        if (!rest.starts_with(field + "=")) return refuse("`" + field + "=...` is expected in `" + printable(name) + "`");
        rest.remove_prefix(field.size() + 1);
        // Values may hold commas: this one ends where the next field begins.
        const std::string next = i + 1 < policy.fields.size() ? ", " + fields().name_of(policy.fields[i + 1]) + "=" : "";
        const std::size_t end = next.empty() ? rest.size() : rest.find(next);
        const std::string_view value = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : std::min(rest.size(), end + (next.empty() ? 0 : 1)));
        NameId text{};
        if (policy.roll_ups[i] != nullptr && value.starts_with('#')) {
            const std::vector<policy::Group>& groups = policy.roll_ups[i]->groups;
            const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one.name == value.substr(1); });
            if (group == groups.end()) return refuse("the policy has no group `" + printable(value) + "`");
            key.values[i] = policy::first_group_value + static_cast<policy::Value>(group - groups.begin());
        } else if (names_.find(policy::normal(policy::type_of(policy.fields[i]), value), text)) {
            key.values[i] = number_of(text);
        } else {
            return fail(Errc::not_found, "nothing counts for `" + printable(name) + "`");
        }
    }
    if (!trim(rest).empty()) return refuse("`" + printable(rest) + "` is too much in `" + printable(name) + "`");
    return view(key);
}

// ---- destinations ----------------------------------------------------------------------------------------------

CandidateView Core::Impl::view(const Lane& lane, const Path& path, std::uint32_t candidate, NameId local) const {
    const Path::Hop& hop = path.hops[candidate];
    CandidateView view;
    view.mx = names_.text(hop.mx_host);
    view.remote = names_.text(hop.address);
    view.localip = names_.text(local);
    view.level = hop.level;
    view.avoided_until = paths_.avoided_until(hop, now_);
    for (const policy::BucketKey& key : buckets_.keys_of(values_of(lane, path, candidate, local))) {
        view.buckets.push_back(this->view(key));
        if (view.buckets.back().refusal != Refusal::none && !view.blocking) view.blocking = view.buckets.size() - 1;
    }
    return view;
}

// When time alone lets something start over it.
void Core::Impl::find_opening(CandidateView& view) const {
    bool needs_others = view.halt && !view.halt->until;
    Instant opens = now_;
    if (view.halt && view.halt->until) opens = std::max(opens, *view.halt->until);
    for (const BucketView& bucket : view.buckets) {
        needs_others = needs_others || bucket.refusal == Refusal::slots;
        if (bucket.opens) opens = std::max(opens, *bucket.opens);
    }
    if (!needs_others) view.opens = opens;
}

Halt Core::Impl::view_of_gate(Index gate) const {
    const policy::Suspension& suspension = *suspensions_[gate].what;
    Halt halt;
    halt.id = suspension.id;
    halt.from = suspension.line > 0 ? "suspend.yaml line " + std::to_string(suspension.line)
                                    : "set" + said_by(suspension.author, suspension.reason);
    halt.until = suspension.next_change(now_);
    halt.new_connections_only = suspension.new_connections_only;
    return halt;
}

// What suspensions say to a new connection for the item.
std::optional<Halt> Core::Impl::halt_of(
    const Item& item, const Lane& lane, const Path& path, std::uint32_t candidate, NameId local) const {
    if (!suspensions_.any()) return std::nullopt;
    // What is found out of values on the way is kept, which nobody notices.
    Suspensions& suspensions = const_cast<Suspensions&>(suspensions_);
    const std::uint64_t hash = policy::leak_hash(item.message);
    const policy::FieldValues early = values_of(lane);
    Suspensions::Answer answer = suspensions.ask({early, lane.name.part, hash, true}, false);
    if (answer.gate == none && suspensions_.any_late()) {
        const policy::FieldValues late = values_of(lane, path, candidate, local);
        answer = suspensions.ask({late, lane.name.part, hash, true}, true);
    }
    return answer.gate == none ? std::nullopt : std::optional(view_of_gate(answer.gate));
}

void Core::Impl::explain_destination(Index at, Explanation& explanation) const {
    const Destination& destination = destinations_[at];
    explanation.domain = names_.text(destination.name);
    explanation.via = names_.text(destination.via);
    explanation.disabled = options_.disabled;
    for (std::size_t state = 0; state < explanation.states.size(); ++state) explanation.states[state] = destination.count[state];
    explanation.sessions = destination.sessions;
    explanation.route_known = destination.path != none;
    explanation.route_asked = destination.resolving;
    if (destination.path != none) explanation.route_expires = paths_[destination.path].route->expires;
}

void Core::Impl::explain_lanes(Index at, Explanation& explanation) const {
    for (Index lane = destinations_[at].lanes.head; lane != none; lane = lanes_[lane].sibling.next) {
        const Lane& row = lanes_[lane];
        if (row.length == 0) continue;
        if (explanation.lanes.size() == lanes_shown_max) {
            ++explanation.lanes_more;
            continue;
        }
        LaneView view{std::string(names_.text(profiles_[row.name.profile].name.tenant)), row.name.priority, row.length, {}};
        for (const Index waiter : row.waiters) {
            const Spot spot = waiters_[waiter].bucket;
            if (!is_gate(spot) && buckets_.is_retired(spot)) continue;  // it will be looked at before long
            view.waits_at.push_back(is_gate(spot) ? "the suspension " + suspensions_[gate_of(spot)].what->id : this->view(buckets_[spot].name).name());
        }
        explanation.lanes.push_back(std::move(view));
    }
}

// Every candidate of the item's route from every address that it may be called from, as they would be tried now.
void Core::Impl::explain_candidates(Index at, Explanation& explanation) const {
    const Item& item = items_[at];
    if (path_of(item) == none) return;
    const Path& path = paths_[path_of(item)];
    const Lane lane = lane_for(item);
    std::vector<std::uint32_t> group;
    const bool on_session = item.state() == ItemState::sending && item.where != none;
    if (on_session) {
        group.push_back(*first_candidate(at));
    } else if (item.state() != ItemState::sending) {
        Plan plan;
        // What is found out of values on the way is kept, which nobody notices.
        const_cast<Impl&>(*this).choose_group(at, lane, plan, group);
    }
    const auto locals_of = [&](std::uint32_t candidate) {
        const Family family = path.hops[candidate].family;
        if (on_session && family != path.hops[group.front()].family) return std::vector<Local>();
        if (on_session) return std::vector<Local>{sessions_[item.where].local(family)};
        Departure departure;
        list_departure(lane, path, pool_for(lane, path, candidate), departure);
        return departure.of(family);
    };
    const Progress* const progress = is_under_way(item) ? &progress_[item.progress] : nullptr;
    for (std::uint32_t candidate = 0; candidate < path.hops.size(); ++candidate) {
        const bool in_turn = std::find(group.begin(), group.end(), candidate) != group.end();
        for (const Local& local : locals_of(candidate)) {
            if (explanation.candidates.size() == candidates_shown_max) {
                ++explanation.candidates_more;
                continue;
            }
            CandidateView view = this->view(lane, path, candidate, local.address);
            view.in_turn = in_turn;
            view.tried = progress != nullptr && candidate < progress->tried.size() && progress->tried[candidate];
            view.halt = halt_of(item, lane, path, candidate, local.address);
            find_opening(view);
            view.local_avoided = sources_.is_avoided(local.address, now_);
            explanation.candidates.push_back(std::move(view));
        }
    }
}

// When it can start as far as that is known: not before it is due, nor before time allows on some candidate.
void Core::Impl::explain_start(Index at, Explanation& explanation) const {
    const Item& item = items_[at];
    if (item.state() == ItemState::ready && item.where != none && item.where != consult_line) {
        for (Index other = lanes_[item.where].items.head; other != at && explanation.ahead < walked_max; other = items_[other].place.next) {
            ++explanation.ahead;
        }
    }
    if (item.state() == ItemState::sending && item.where != none) {
        const Session& session = sessions_[item.where];
        explanation.on = names_.text(paths_[session.path].hops[*first_candidate(at)].address);
    }
    if (item.state() == ItemState::sending || item.state() == ItemState::held || options_.disabled) return;
    std::optional<Instant> opens;
    for (const CandidateView& candidate : explanation.candidates) {
        if (candidate.in_turn && candidate.opens) opens = std::min(opens.value_or(Instant::max()), *candidate.opens);
    }
    if (opens) explanation.earliest = std::max({*opens, item.due, now_});
    else if (explanation.candidates.empty()) explanation.earliest = std::max(item.due, now_);
}

std::optional<Explanation> Core::Impl::explain(ItemId id) const {
    const Index at = items_.find(id);
    if (at == none) return std::nullopt;
    Explanation explanation;
    explanation.is_item = true;
    explanation.how = deliveries_.share(const_cast<Impl&>(*this).how_to(items_[at]));  // what is found out on the way is kept, which nobody notices
    explain_destination(items_[at].destination, explanation);
    explain_candidates(at, explanation);
    explain_start(at, explanation);
    return explanation;
}

std::optional<Explanation> Core::Impl::explain(std::string_view domain) const {
    const Index at = find_destination(domain);
    if (at == none) return std::nullopt;
    Explanation explanation;
    explain_destination(at, explanation);
    explain_lanes(at, explanation);
    // As for the first of those that wait, or else for any item.
    const Index lane = destinations_[at].lanes.head;
    const Index item = lane != none && lanes_[lane].items.head != none ? lanes_[lane].items.head : destinations_[at].items.head;
    if (item != none) explain_candidates(item, explanation);
    return explanation;
}

}  // namespace sluice::queue
