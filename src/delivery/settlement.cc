#include "delivery/settlement.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/text.h"
#include "base/working_on.h"
#include "delivery/courier.h"
#include "delivery/observing.h"
#include "delivery/retry.h"
#include "queue/remote.h"

namespace sluice::delivery {
namespace {

using Places = std::vector<std::size_t>;

// Long enough for the operator to notice, short enough for a port shortage to pass.
constexpr Duration source_rest{10'000};

std::vector<std::uint32_t> recipients_at(const Attempted& attempted, const Places& places) {
    std::vector<std::uint32_t> out;
    out.reserve(places.size());
    for (const std::size_t place : places) out.push_back(attempted.recipients[place]);
    return out;
}

bool same_answer(const Verdict& a, const Verdict& b) {
    return a.stage == b.stage && a.code == b.code && a.error == b.error && a.status == b.status && a.text == b.text;
}

// Calls `say` with every run of places that got the same answer, as the start of a fact about them.
template <class Say>
void each_answer(const Attempted& attempted, const Places& places, Fate fate, Instant now, Say say) {
    for (std::size_t i = 0; i < places.size();) {
        const Verdict& verdict = *attempted.verdicts[places[i]];
        std::vector<std::uint32_t> recipients;
        for (; i < places.size() && same_answer(verdict, *attempted.verdicts[places[i]]); ++i) {
            recipients.push_back(attempted.recipients[places[i]]);
        }
        const std::string reply = verdict.reply_text();
        const std::string status = status_for(verdict, fate);
        const event::ItemFact fact{
            .message = *attempted.message,
            .item = attempted.work.item,
            .recipients = recipients,
            .attempts = static_cast<std::uint16_t>(attempted.work.attempts + 1),
            .link = attempted.link,
            .stage = facts_of(verdict.stage).name,
            .reply = reply,
            .status = status,
            .since_arrival = now - attempted.work.arrival,
            .attempt_took = attempted.took};
        say(fact);
    }
}

std::string seconds(Duration duration) {
    const auto ms = duration.count();
    std::string fraction = std::to_string(ms % 1000);
    fraction.insert(0, 3 - fraction.size(), '0');
    return std::to_string(ms / 1000) + "." + fraction;
}

}  // namespace

// Places by what becomes of them.
struct Settlement::Sorted {
    Places delivered, failed, deferred, expired, duplicated, dropped;
    Places recorded;                // of the delivered ones; both ascend
    std::optional<Fate> again;      // next_candidate or fresh_session: the attempt goes on elsewhere
    bool refused_for_good = false;  // with next_candidate
    bool source_at_fault = false;
    Instant next;                   // of the deferred ones
    bool tell_delay = false;        // delivery.yaml says so at this step
    std::string dropped_by;         // the plugin
    std::string silenced_by;        // the plugin; empty: failures are notified

    bool decided_all() const { return deferred.empty(); }
};

Instant given_up_at(const queue::Work& work, const mail::Message& message, const config::Settings& settings,
                    const policy::DeliverySettings* how) {
    const Instant end = work.arrival + lifetime_of(settings.outbound, how);
    const std::chrono::seconds own = message.lifetime;
    return own.count() == 0 ? end : std::min(end, work.arrival + Duration(own));
}

Settlement::Settlement(const Surroundings& surroundings, std::uint64_t seed)
    : spool_(surroundings.spool),
      core_(surroundings.core),
      hooks_(surroundings.hooks),
      events_(surroundings.events),
      log_(surroundings.log),
      clock_(surroundings.clock),
      random_(seed),
      bounces_(surroundings.ids),
      dsn_admission_(surroundings.shard.executor(), surroundings.core) {}

namespace {

bool goes_on(Fate fate) { return fate == Fate::next_candidate || fate == Fate::fresh_session; }

// Something was said about the message, and not only about the host.
bool any_decided(const Attempted& attempted) {
    Standing standing = attempted.standing;
    standing.more_hosts = true;
    const auto decided = [&](const auto& verdict) { return !goes_on(rule(*verdict, standing).fate); };
    return std::any_of(attempted.verdicts.begin(), attempted.verdicts.end(), decided);
}

}  // namespace

Settlement::Sorted Settlement::sort(const Attempted& attempted, const config::Settings& settings, Instant now) {
    Sorted sorted;
    Standing standing = attempted.standing;
    standing.decided_some = any_decided(attempted);
    for (std::size_t place = 0; place < attempted.verdicts.size(); ++place) {
        const Verdict& verdict = *attempted.verdicts[place];
        const Ruling ruling = treated(rule(verdict, standing), verdict, attempted, settings.policies.get());
        sorted.source_at_fault = sorted.source_at_fault || ruling.source_at_fault;
        if (ruling.possible_duplicate) sorted.duplicated.push_back(place);
        switch (ruling.fate) {
            case Fate::delivered: sorted.delivered.push_back(place); break;
            case Fate::failed: sorted.failed.push_back(place); break;
            case Fate::expired: sorted.expired.push_back(place); break;
            case Fate::deferred: sorted.deferred.push_back(place); break;
            case Fate::next_candidate:
            case Fate::fresh_session:
                // What another host is to be asked about cannot be kept apart from what is decided: it waits.
                if (standing.decided_some || !attempted.may_go_on) {
                    sorted.deferred.push_back(place);
                } else {
                    sorted.again = ruling.fate;
                    sorted.refused_for_good = ruling.host_refused_for_good;
                }
        }
    }
    if (sorted.deferred.empty()) return sorted;
    const Instant end = given_up_at(attempted.work, *attempted.message, settings, attempted.how);
    const auto next =
        next_attempt(settings.outbound, attempted.how, attempted.work.attempts, attempted.work.arrival, now, random_);
    if (next && now < end) {
        sorted.next = std::min(next->when, end);
        sorted.tell_delay = next->notify;
    } else {
        sorted.expired.insert(sorted.expired.end(), sorted.deferred.begin(), sorted.deferred.end());
        sorted.deferred.clear();
    }
    return sorted;
}

std::optional<Bounce> Settlement::notify(
    const Attempted& attempted, const Sorted& sorted, const config::Settings& settings, Instant now) {
    const auto& outbound = settings.outbound;
    Bounces::About about;
    about.original = attempted.message;
    about.remote_mta = attempted.link.mx_host;
    about.relayed_blind = !attempted.next_hop_has_dsn;
    about.final_hop = attempted.link.lmtp;
    about.tell_delay = sorted.tell_delay;
    about.delay_is_due = sorted.tell_delay || (outbound.delay_dsn_after > Duration::zero() && !attempted.work.delay_notified &&
                                               now - attempted.work.arrival >= outbound.delay_dsn_after);
    about.now = now;
    about.given_up_at = given_up_at(attempted.work, *attempted.message, settings, attempted.how);
    const bool nothing_to_tell = sorted.failed.empty() && sorted.expired.empty() &&
                                 (sorted.deferred.empty() || !about.delay_is_due) &&
                                 (sorted.delivered.empty() || !about.relayed_blind);
    if (nothing_to_tell || attempted.message->envelope.reverse_path.is_null()) return std::nullopt;

    std::vector<Told> told;
    const auto add = [&](const Places& places, Fate fate) {
        for (const std::size_t place : places) {
            told.push_back({attempted.recipients[place], &*attempted.verdicts[place], fate});
        }
    };
    if (sorted.silenced_by.empty()) {
        add(sorted.failed, Fate::failed);
        add(sorted.expired, Fate::expired);
    }
    add(sorted.deferred, Fate::deferred);
    add(sorted.delivered, Fate::delivered);
    return bounces_.compose(about, told, settings);
}

spool::Batch Settlement::record(
    const Attempted& attempted, const Sorted& sorted, Instant now, bool delay_told) const {
    spool::Batch batch;
    const auto add = [&](spool::Outcome outcome, const Places& places, const std::string& by = {}) {
        if (places.empty()) return;
        batch.emplace_back(
            spool::OutcomeRecord{attempted.work.item, outcome, recipients_at(attempted, places), now, by});
    };
    Places delivered = sorted.delivered;
    std::erase_if(delivered, [&](std::size_t place) { return std::ranges::binary_search(sorted.recorded, place); });
    add(spool::Outcome::delivered, delivered);
    add(spool::Outcome::bounced, sorted.failed);
    add(spool::Outcome::expired, sorted.expired);
    add(spool::Outcome::removed, sorted.dropped, "plugin " + sorted.dropped_by);
    if (!sorted.deferred.empty()) {
        spool::ScheduleRecord schedule;
        schedule.item = attempted.work.item;
        schedule.attempts = static_cast<std::uint16_t>(attempted.work.attempts + 1);
        schedule.next = sorted.next;
        schedule.delay_notified = attempted.work.delay_notified || delay_told;
        schedule.last_reply = attempted.verdicts[sorted.deferred.front()]->reply_text();
        batch.emplace_back(std::move(schedule));
    }
    if (hooks_ != nullptr) hooks_->record(attempted.work.item, sorted.decided_all(), batch);
    return batch;
}

Prospect Settlement::foresee(const Attempted& attempted, const config::Settings& settings, Instant now) {
    Sorted sorted = sort(attempted, settings, now);
    Prospect prospect;
    prospect.goes_on = sorted.again.has_value();
    prospect.delivered = std::move(sorted.delivered);
    prospect.deferred = std::move(sorted.deferred);
    prospect.failed = std::move(sorted.failed);
    prospect.failed.insert(prospect.failed.end(), sorted.expired.begin(), sorted.expired.end());
    prospect.next = sorted.next;
    return prospect;
}

std::vector<std::size_t> Settlement::record_early(const Attempted& attempted, std::vector<std::size_t> delivered, Instant now) {
    std::erase_if(delivered, [&](std::size_t place) {
        return (attempted.message->envelope.recipients[attempted.recipients[place]].notify & mail::notify_success) != 0;
    });
    if (delivered.empty()) return delivered;
    spool::Batch batch;
    batch.emplace_back(
        spool::OutcomeRecord{attempted.work.item, spool::Outcome::delivered, recipients_at(attempted, delivered), now, {}});
    spool_.append(std::move(batch), nullptr, 0);
    return delivered;
}

std::optional<Bounce> Settlement::draft(const Attempted& attempted, const config::Settings& settings, const Wishes& wishes) {
    const Instant now = wishes.asked_at.value_or(clock_.now());
    Sorted sorted = sort(attempted, settings, now);
    grant(wishes, sorted);
    return notify(attempted, sorted, settings, now);
}

void Settlement::grant(const Wishes& wishes, Sorted& sorted) {
    if (wishes.next) sorted.next = *wishes.next;
    if (wishes.silenced_by) sorted.silenced_by = *wishes.silenced_by;
    sorted.recorded = wishes.recorded;
    sorted.dropped_by = wishes.dropped_by;
    for (const std::size_t place : wishes.dropped) {
        if (std::erase(sorted.deferred, place) > 0) sorted.dropped.push_back(place);
    }
}

queue::AttemptEnded Settlement::settle(
    const Attempted& attempted, const config::Settings& settings, Wishes wishes) {
    using Ended = queue::AttemptEnded::Verdict;
    const WorkingOn working(attempted.message->id);
    const Instant now = wishes.asked_at.value_or(clock_.now());
    Sorted sorted = sort(attempted, settings, now);
    grant(wishes, sorted);
    queue::AttemptEnded ended;
    ended.item = attempted.work.item;
    if (sorted.source_at_fault) {
        ended.source_unusable = source_rest;
        warn_of_source(attempted, now);
    }
    tell_duplicates(attempted, sorted, now);
    ended.delivered = !sorted.delivered.empty();
    // A pooled connection that had ended without a word says nothing of its host.
    const bool was_stale = sorted.again == Fate::fresh_session && attempted.verdicts.front()->code == 0;
    if (settings.policies != nullptr && settings.policies->watches_failures() && !was_stale) observe(attempted, ended.failures);
    if (sorted.again) {
        ended.verdict = *sorted.again == Fate::fresh_session ? Ended::fresh_session : Ended::next_candidate;
        ended.permanent = sorted.refused_for_good;
        return ended;
    }

    std::optional<Bounce> bounce = std::move(wishes.notification);
    if (!bounce) bounce = notify(attempted, sorted, settings, now);
    const bool delay_told = bounce && bounce->tells_delay;
    spool::Batch batch = record(attempted, sorted, now, delay_told);
    if (bounce) {
        batch.emplace_back(spool::MessageRecord{bounce->message});
        const std::uint64_t ticket = dsn_admission_.expect(std::move(bounce->admit));
        spool_.append(std::move(batch), &dsn_admission_, ticket);
    } else {
        spool_.append(std::move(batch), nullptr, 0);
    }

    tell(attempted, sorted, bounce && bounce->tells_failure ? bounce->message->id : MessageId(), now);
    if (hooks_ != nullptr && sorted.decided_all()) hooks_->ended(attempted.work.item);
    ended.verdict = sorted.decided_all() ? Ended::done : Ended::deferred;
    ended.next = sorted.next;
    if (!sorted.deferred.empty()) ended.reply = attempted.verdicts[sorted.deferred.front()]->reply_text();
    ended.delay_notified = delay_told;
    const bool some_left = !sorted.decided_all() && sorted.deferred.size() < attempted.recipients.size();
    if (some_left) ended.pending = recipients_at(attempted, sorted.deferred);
    return ended;
}

queue::AttemptEnded Settlement::settle_lost(
    const queue::Work& work, const Error& error, const config::Settings& settings, const policy::DeliverySettings* how) {
    using Ended = queue::AttemptEnded::Verdict;
    const Instant now = clock_.now();
    queue::AttemptEnded ended;
    ended.item = work.item;
    if (error.code == Errc::not_found) {
        log_.warn("outbound", "an item without a message is dropped", {{"item", work.item.text()}});
        forget(work.item);
        return ended;
    }
    ended.verdict = Ended::deferred;
    const auto next = next_attempt(settings.outbound, how, work.attempts, work.arrival, now, random_);
    if (error.code == Errc::corrupt || !next) {
        // Whom it is from and to stood in the part that cannot be read, so nobody can be told: a person has to look.
        log_.error(
            "outbound", "the message of an item cannot be read: the item is held",
            {{"item", work.item.text()}, {"reason", error.text()}});
        core_.push(queue::Hold{queue::Selection{work.item, {}}});
        ended.next = now;
        return ended;
    }
    log_.warn(
        "outbound", "the message of an item cannot be read now", {{"item", work.item.text()}, {"reason", error.text()}});
    ended.next = next->when;
    ended.reply = error.text();
    spool::Batch batch;
    batch.emplace_back(spool::ScheduleRecord{
        work.item, static_cast<std::uint16_t>(work.attempts + 1), next->when, work.delay_notified, error.text()});
    spool_.append(std::move(batch), nullptr, 0);
    return ended;
}

// What plugins noted on an item that has left the queue without an outcome.
void Settlement::forget(ItemId item) {
    if (hooks_ == nullptr) return;
    spool::Batch batch;
    hooks_->record(item, true, batch);
    if (!batch.empty()) spool_.append(std::move(batch), nullptr, 0);
    hooks_->ended(item);
}

queue::AttemptEnded Settlement::postpone(const queue::Work& work, Instant next, const std::string& why) {
    spool::Batch batch;
    batch.emplace_back(spool::ScheduleRecord{work.item, work.attempts, next, work.delay_notified, why});
    if (hooks_ != nullptr) hooks_->record(work.item, false, batch);
    spool_.append(std::move(batch), nullptr, 0);
    queue::AttemptEnded ended;
    ended.item = work.item;
    ended.verdict = queue::AttemptEnded::Verdict::deferred;
    ended.next = next;
    ended.pending = work.pending;
    ended.counts = false;
    return ended;
}

// Every item meets the same fault, so one line stands for all of a while.
void Settlement::warn_of_source(const Attempted& attempted, Instant now) {
    if (now < source_warned_until_) return;
    source_warned_until_ = now + source_rest;
    log_.warn(
        "outbound", "a local address cannot be used for a while, or descriptors or ports ran out",
        {{"item", attempted.work.item.text()}, {"reason", printable(attempted.verdicts.front()->reply_text())}});
}

void Settlement::tell_duplicates(const Attempted& attempted, const Sorted& sorted, Instant now) {
    each_answer(attempted, sorted.duplicated, Fate::deferred, now, [&](const event::ItemFact& fact) {
        events_.record(event::PossibleDuplicate{fact});
        log_.warn(
            "outbound", "link lost after the final dot: the next attempt may be a duplicate",
            {{"item", fact.item.text()}, {"host", fact.link.mx_host}, {"reason", printable(fact.reply)}});
    });
}

void Settlement::tell(const Attempted& attempted, const Sorted& sorted, MessageId dsn, Instant now) {
    const auto deferred_count = static_cast<std::uint32_t>(sorted.deferred.size());
    const auto bounced_count = static_cast<std::uint32_t>(sorted.failed.size() + sorted.expired.size());
    each_answer(attempted, sorted.delivered, Fate::delivered, now, [&](const event::ItemFact& fact) {
        events_.record(event::Delivered{fact, deferred_count, bounced_count});
    });
    each_answer(attempted, sorted.failed, Fate::failed, now, [&](const event::ItemFact& fact) {
        events_.record(event::Bounced{fact, dsn});
    });
    each_answer(attempted, sorted.expired, Fate::expired, now, [&](const event::ItemFact& fact) {
        events_.record(event::Expired{fact, dsn});
    });
    each_answer(attempted, sorted.deferred, Fate::deferred, now, [&](const event::ItemFact& fact) {
        events_.record(event::Deferred{fact, clock_.wall_ms(sorted.next)});
    });
    each_answer(attempted, sorted.dropped, Fate::deferred, now, [&](const event::ItemFact& fact) {
        event::Removed removed{fact};
        const std::string by = "plugin " + sorted.dropped_by;
        removed.by = by;
        events_.record(removed);
    });
    if (!sorted.delivered.empty() && hooks_ != nullptr && hooks_->wants(Hook::delivered)) {
        hooks_->delivered(Hearing{attempted, sorted.delivered, Duration(0), now - attempted.work.arrival});
    }
    if (!sorted.delivered.empty() && log_.enabled(event::Level::notice)) log_delivered(attempted, sorted, now);
    if (sorted.delivered.size() < attempted.verdicts.size()) log_failures(attempted, sorted, dsn, now);
}

// The line that Haraka's users scrape.
void Settlement::log_delivered(const Attempted& attempted, const Sorted& sorted, Instant now) const {
    const event::Link& link = attempted.link;
    const std::string file = attempted.work.item.text();
    const std::string counts = std::to_string(sorted.delivered.size()) + "/" + std::to_string(sorted.deferred.size()) +
                               "/" + std::to_string(sorted.failed.size() + sorted.expired.size());
    log_.write(
        event::Level::notice, file, "outbound", "delivered",
        {{"file", std::string_view(file)},
         {"domain", attempted.domain},
         {"host", link.mx_host},
         {"ip", queue::address_of(link.remote)},
         {"port", queue::port_of(link.remote)},
         {"mode", link.lmtp ? "LMTP" : "SMTP"},
         {"tls", link.tls_version.empty() ? "N" : "Y"},
         {"auth", link.authenticated ? "Y" : "N"},
         {"response", printable(attempted.verdicts[sorted.delivered.front()]->text)},
         {"delay", seconds(now - attempted.work.arrival)},
         {"fails", attempted.work.attempts},
         {"rcpts", counts}});
}

void Settlement::log_failures(const Attempted& attempted, const Sorted& sorted, MessageId dsn, Instant now) const {
    const std::string file = attempted.work.item.text();
    const auto reason = [&](const Places& places) {
        return printable(attempted.verdicts[places.front()]->reply_text());
    };
    const auto line = [&](event::Level level, const std::string& sentence, const Places& places) {
        if (places.empty() || !log_.enabled(level)) return;
        log_.write(
            level, file, "outbound", sentence + ": " + reason(places),
            {{"domain", attempted.domain}, {"host", attempted.link.mx_host}, {"rcpts", places.size()}});
    };
    line(event::Level::info, "bouncing mail", sorted.failed);
    line(event::Level::info, "bouncing mail: Too many failures", sorted.expired);
    const auto wait = sorted.next - now;
    line(event::Level::info, "Temp failing " + file + " for " + std::to_string(wait.count() / 1000) + " seconds",
         sorted.deferred);
    const bool bounced = !sorted.failed.empty() || !sorted.expired.empty();
    if (!sorted.silenced_by.empty() && bounced) {
        log_.info("outbound", "a plugin wants no notification", {{"file", file}, {"plugin", sorted.silenced_by}});
    }
    if (!sorted.dropped.empty()) {
        log_.info("outbound", "a plugin drops deferred mail", {{"file", file}, {"plugin", sorted.dropped_by}});
    }
    if (bounced && dsn == MessageId() && attempted.message->envelope.reverse_path.is_null()) {
        log_.notice("outbound", "double bounce: the undeliverable message has a null sender", {{"file", file}});
    }
}

}  // namespace sluice::delivery
