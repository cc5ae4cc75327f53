#include "delivery/observing.h"

#include <algorithm>
#include <string>

#include "base/assert.h"
#include "delivery/settlement.h"
#include "queue/remote.h"
#include "spool/spool.h"

namespace sluice::delivery {
namespace {

std::optional<policy::Stage> stage_of(Stage stage) {
    switch (stage) {
        case Stage::connect: return policy::Stage::connect;
        case Stage::greeting: return policy::Stage::banner;
        case Stage::helo: return policy::Stage::ehlo;
        case Stage::starttls:
        case Stage::tls: return policy::Stage::tls;
        case Stage::auth: return policy::Stage::auth;
        case Stage::mail: return policy::Stage::mail;
        case Stage::rcpt: return policy::Stage::rcpt;
        case Stage::data:
        case Stage::body: return policy::Stage::data;
        case Stage::dot: return policy::Stage::dot;
        case Stage::route:
        case Stage::load:
        case Stage::quit: return std::nullopt;
    }
    UNREACHABLE();
}

bool is_fault_of_peer(Errc error) {
    switch (error) {
        case Errc::link_closed:
        case Errc::timed_out:
        case Errc::refused:
        case Errc::unreachable:
        case Errc::bad_reply:
        case Errc::tls_failed:
        case Errc::auth_unavailable: return true;
        default: return false;
    }
}

bool same(const policy::Observation& a, const policy::Observation& b) {
    return a.stage == b.stage && a.code == b.code && a.error == b.error && a.status == b.status && a.text == b.text;
}

// What is known of the attempt, in normal form. Borrows, also from `kept`.
policy::FieldTexts values_of(const Attempted& attempted, const policy::PolicySet& policies, std::vector<std::string>& kept) {
    policy::FieldTexts values;
    kept.reserve(policy::field_max);  // they must not move
    const auto set = [&](policy::Field field, std::string_view text) {
        kept.push_back(policy::normal(policy::type_of(field), text));
        values.set(field, kept.back());
    };
    set(policy::Field::tenantid, attempted.message->tenant);
    set(policy::Field::recipientdomain, attempted.domain);
    set(policy::Field::jobid, attempted.message->job);
    set(policy::Field::transportid, attempted.message->transport);
    set(policy::Field::senderdomain, spool::sender_domain(attempted.message->envelope));
    set(policy::Field::priority, std::to_string(attempted.message->priority));
    set(policy::Field::attempt, std::to_string(attempted.work.attempts + 1));
    for (const mail::Mark& mark : attempted.message->marks) {
        if (const auto field = policies.fields.find(mark.field); field && !values.known.has(*field)) set(*field, mark.value);
    }
    if (attempted.link.remote.empty()) return values;
    set(policy::Field::remotemx, attempted.link.mx_host);
    if (!attempted.link.remote.starts_with('/')) set(policy::Field::remoteip, queue::ip_of(attempted.link.remote));
    if (!attempted.link.local.empty()) set(policy::Field::localip, queue::ip_of(attempted.link.local));
    const auto text = [&](policy::Field field) { return values.text[policy::number_of(field)]; };
    set(policy::Field::grouping, policies.grouping.of(text(policy::Field::remotemx), text(policy::Field::remoteip),
                                                      text(policy::Field::recipientdomain)));
    return values;
}

}  // namespace

std::optional<policy::Observation> observation_of(const Verdict& verdict) {
    const std::optional<policy::Stage> stage = stage_of(verdict.stage);
    if (!stage || verdict.positive() || (verdict.code == 0 && !is_fault_of_peer(verdict.error))) return std::nullopt;
    policy::Observation seen;
    seen.stage = *stage;
    seen.code = verdict.code;
    seen.error = verdict.error;
    seen.status = verdict.status;
    seen.text = verdict.text.substr(0, policy::observed_text_max);
    seen.failure = policy::classify(seen);
    return seen;
}

void observe(const Attempted& attempted, std::vector<queue::Failed>& failures) {
    for (const auto& verdict : attempted.verdicts) {
        std::optional<policy::Observation> seen = observation_of(*verdict);
        if (!seen) continue;
        const auto known = [&](const queue::Failed& failed) { return same(failed.what, *seen); };
        if (std::none_of(failures.begin(), failures.end(), known)) failures.push_back({queue::Failed::connected, std::move(*seen)});
    }
}

Ruling treated(const Ruling& ruling, const Verdict& verdict, const Attempted& attempted, const policy::PolicySet* policies) {
    if (policies == nullptr || !policies->treats || verdict.positive()) return ruling;
    const std::optional<policy::Observation> seen = observation_of(verdict);
    if (!seen) return ruling;
    std::vector<std::string> kept;
    Ruling changed = ruling;
    switch (policy::treatment_of(policies->rules, *seen, values_of(attempted, *policies, kept))) {
        case policy::Treatment::usual: break;
        case policy::Treatment::deferral:
            if (changed.fate == Fate::failed) changed.fate = Fate::deferred;
            changed.host_refused_for_good = false;
            break;
        case policy::Treatment::bounce:
            // What may have arrived must not be reported as refused.
            if (!changed.possible_duplicate && (changed.fate == Fate::deferred || changed.fate == Fate::next_candidate)) changed.fate = Fate::failed;
            break;
    }
    return changed;
}

}  // namespace sluice::delivery
