#include "delivery/outbound_session.h"

#include <algorithm>
#include <iterator>

#include "async/blocking.h"
#include "base/assert.h"
#include "base/text.h"
#include "delivery/hearing.h"
#include "delivery/observing.h"
#include "delivery/settlement.h"
#include "delivery/tls_policy.h"

namespace sluice::delivery {
namespace {

constexpr std::uint16_t smtp_port = 25;
// A host may be repaired.
constexpr Duration bad_pipelining_remembered{24 * 3'600'000};

bool all_decided(const Verdicts& verdicts) {
    return std::all_of(verdicts.begin(), verdicts.end(), [](const auto& verdict) { return verdict.has_value(); });
}

void decide_rest(Verdicts& verdicts, const Verdict& verdict) {
    for (auto& place : verdicts) {
        if (!place) place = verdict;
    }
}

TlsPolicy::Demand demand_of(const queue::Deliver& deliver) { return deliver.how != nullptr ? deliver.how->tls : std::nullopt; }

Verdict broken_off_verdict(Stage stage) {
    return Verdict{stage, 0, Errc::cancelled, {}, "the attempt was broken off"};
}

}  // namespace

std::vector<std::uint32_t> undecided(const queue::Work& work, const mail::Message& message) {
    if (!work.pending.empty()) return work.pending;
    ASSERT(work.item.index < message.items.size());
    return message.items[work.item.index].recipients;
}

Task<Result<mail::MessagePtr>> load(const Surroundings& surroundings, const queue::Work& work) {
    Result<mail::MessagePtr> message = work.message;
    if (!work.message) {
        const auto read = [&spool = surroundings.spool, id = work.item.message] { return spool.load(id); };
        message = co_await async::blocking(surroundings.disk_pool, surroundings.shard.executor(), read);
    }
    if (message && surroundings.hooks != nullptr) message = surroundings.hooks->edited(work.item, std::move(*message));
    co_return message;
}

// What came of opening a session.
struct OutboundSession::Opening {
    std::optional<Verdict> failure;  // of the last host tried; nothing: open
    bool permanent = true;           // every host tried here refused for good
    std::vector<std::uint32_t> unhealthy;
    std::vector<std::uint32_t> overtaken;  // silent when others answered
    std::vector<queue::Failed> failures;  // of the hosts left behind
};

OutboundSession::OutboundSession(SessionOwner& owner, const Surroundings& surroundings, queue::SessionId id)
    : owner_(owner),
      surroundings_(surroundings),
      id_(id),
      name_(std::to_string(id)),
      news_(surroundings.shard.executor()),
      race_(surroundings.shard.executor(), surroundings.network) {}

void OutboundSession::give(queue::Deliver deliver) {
    ASSERT(!next_);
    next_ = std::move(deliver);
    news_.set();
}

void OutboundSession::ask_to_close() {
    close_asked_ = true;
    news_.set();
}

void OutboundSession::break_off() {
    broken_off_ = true;
    close_asked_ = true;
    race_.cancel();
    if (client_) client_->abort();
    news_.set();
}

Task<> OutboundSession::run() {
    bool stays = true;
    while (stays) {
        while (!next_ && !close_asked_) co_await news_.wait();
        if (!next_) break;
        queue::Deliver deliver = std::move(*next_);
        next_.reset();
        stays = co_await attempt(std::move(deliver));
        // The limit of the last answer does not count while nothing is asked.
        if (stays) client_->stream().set_deadline(net::Stream::TimePoint::max());
    }
    if (client_) co_await client_->quit();
}

// True when the session stays open for another item.
Task<bool> OutboundSession::attempt(queue::Deliver deliver) {
    const auto began = std::chrono::steady_clock::now();
    Opening opening;
    auto message = co_await load(surroundings_, deliver.work);
    if (!message) {
        queue::AttemptEnded ended = owner_.settlement().settle_lost(deliver.work, message.error(), *owner_.settings(), deliver.how.get());
        ended.session = id_;
        ended.reusable = !deliver.open && !close_asked_;
        const bool stays = ended.reusable;
        surroundings_.core.push(std::move(ended));
        co_return stays;
    }
    recipients_ = undecided(deliver.work, **message);
    verdicts_.assign(recipients_.size(), std::nullopt);
    if (broken_off_) {
        opening.failure = broken_off_verdict(Stage::connect);
    } else if (deliver.open) {
        co_await open(deliver, opening);
    } else if (client_->stream().idle_link_is_dead()) {
        opening.failure = Verdict{Stage::mail, 0, Errc::link_closed, {}, "the pooled connection had been closed"};
        client_->forget();
    } else if (!owner_.tls().may_carry(tls_state_, *deliver.route, candidate_, demand_of(deliver), surroundings_.clock.now())) {
        opening.failure = Verdict{Stage::mail, 0, Errc::link_closed, {}, "the pooled connection has another TLS policy"};
        client_->pass_over();
        close_asked_ = true;
    }
    if (!opening.failure) co_await deliver_all(deliver, **message, opening);
    if (opening.failure) decide_rest(verdicts_, *opening.failure);
    const auto took = std::chrono::steady_clock::now() - began;
    const Attempted attempted = attempted_with(deliver, *message, opening, took);
    const config::SettingsPtr settings = owner_.settings();  // others may come while plugins think
    Wishes wishes;
    if (must_hear(surroundings_.hooks, attempted)) {
        wishes = co_await hear(*surroundings_.hooks, owner_.settlement(), attempted, *settings, surroundings_.clock);
    }
    queue::AttemptEnded ended = owner_.settlement().settle(attempted, *settings, std::move(wishes));
    co_return report(std::move(ended), opening);
}

// As many connections as the peer's MAILMAX makes necessary, and a new one where its PIPELINING does not work or it falls out of step
// between transactions: one, nearly always. Each decides somebody, so this ends.
Task<> OutboundSession::deliver_all(const queue::Deliver& deliver, const mail::Message& message, Opening& opening) {
    co_await client_->deliver(message, recipients_, verdicts_);
    note_pipelining();
    while (!all_decided(verdicts_) && !opening.failure) {
        co_await client_->quit();
        client_.reset();
        co_await open_host(deliver, opening);
        if (opening.failure) co_return;
        co_await client_->deliver(message, recipients_, verdicts_);
        note_pipelining();
    }
}

void OutboundSession::note_pipelining() {
    if (!client_->pipelining_failed()) return;
    owner_.bad_pipeliners().remember(candidate_.remote, surroundings_.clock.now(), bad_pipelining_remembered);
}

// Tries the candidates until one is ready for mail: those that cannot be reached, and those that turn us away, are
// left behind (A11).
Task<> OutboundSession::open(const queue::Deliver& deliver, Opening& opening) {
    std::vector<std::uint32_t> candidates = deliver.candidates;
    const auto leave_behind = [&](std::uint32_t candidate, const Verdict& verdict) {
        opening.unhealthy.push_back(candidate);
        if (auto seen = observation_of(verdict); seen && watches_failures()) opening.failures.push_back({candidate, std::move(*seen)});
        std::erase(candidates, candidate);
    };
    while (!candidates.empty()) {
        std::vector<net::ConnectOptions> runners;
        runners.reserve(candidates.size());
        for (const std::uint32_t candidate : candidates) {
            runners.push_back(connect_options(deliver, deliver.route->candidates[candidate]));
        }
        RaceResult race = co_await race_.run(std::move(runners));
        const std::vector<std::uint32_t> raced = candidates;
        for (const std::size_t index : race.unreachable) {
            leave_behind(raced[index], Verdict::of_error(Stage::connect, race.error));
            opening.permanent = false;
        }
        if (!race.winner) {
            opening.failure = Verdict::of_error(Stage::connect, race.error);
            opening.permanent = false;
            co_return;
        }
        const std::uint32_t winner = raced[race.winner_index];
        candidate_ = deliver.route->candidates[winner];
        for (const std::size_t index : race.overtaken) opening.overtaken.push_back(raced[index]);
        std::erase(opening.overtaken, winner);
        opening.failure.reset();
        co_await greet(deliver, opening, std::move(race.winner), false);
        if (!opening.failure) {
            surroundings_.core.push(queue::SessionOpened{id_, winner});
            co_return;
        }
        const Ruling ruling = rule(*opening.failure, Standing{.more_hosts = true});
        if (ruling.fate != Fate::next_candidate) co_return;
        opening.permanent = opening.permanent && ruling.host_refused_for_good;
        leave_behind(winner, *opening.failure);
    }
}

// The same host once more.
Task<> OutboundSession::open_host(const queue::Deliver& deliver, Opening& opening) {
    if (broken_off_) {
        opening.failure = broken_off_verdict(Stage::connect);
        co_return;
    }
    std::vector<net::ConnectOptions> runners;
    runners.push_back(connect_options(deliver, candidate_));
    RaceResult race = co_await race_.run(std::move(runners));
    if (!race.winner) {
        opening.failure = Verdict::of_error(Stage::connect, race.error);
        co_return;
    }
    co_await greet(deliver, opening, std::move(race.winner), false);
}

// Greeting to AUTH on a new connection. A host whose opportunistic TLS is broken gets a second connection in clear.
Task<> OutboundSession::greet(
    const queue::Deliver& deliver, Opening& opening, net::StreamPtr stream, bool in_clear) {
    if (broken_off_) {
        opening.failure = broken_off_verdict(Stage::connect);
        co_return;
    }
    SessionTerms terms = terms_for(deliver, in_clear);
    if (is_demanded(terms.tls) && !terms.tls_context) {
        opening.failure = Verdict{Stage::tls, 0, Errc::tls_failed, {}, "outbound TLS is not configured properly"};
        co_return;
    }
    local_ = stream->local().text();
    tls_state_ = owner_.tls().state_of(terms.tls);
    client_ = std::make_unique<ClientSession>(
        std::move(stream), std::move(terms), owner_.settings(), surroundings_.log, name_);
    opening.failure = co_await client_->open();
    if (!opening.failure) co_return;

    const bool tls_is_broken = client_->tls_is_broken();
    warn_about(deliver, *opening.failure);
    co_await client_->quit();
    client_.reset();
    if (!tls_is_broken || in_clear || broken_off_) co_return;

    owner_.tls().remember_broken(candidate_, surroundings_.clock.now());
    std::vector<net::ConnectOptions> runners;
    runners.push_back(connect_options(deliver, candidate_));
    RaceResult race = co_await race_.run(std::move(runners));
    if (!race.winner) {
        opening.failure = Verdict::of_error(Stage::connect, race.error);
        co_return;
    }
    opening.failure.reset();
    co_await greet(deliver, opening, std::move(race.winner), true);
}

net::ConnectOptions OutboundSession::connect_options(
    const queue::Deliver& deliver, const queue::Candidate& candidate) const {
    net::ConnectOptions options(net::Endpoint::parse(candidate.remote, smtp_port).value_or(net::Endpoint()));
    options.timeout = StageTimeouts(owner_.settings()->outbound, deliver.how.get(), false)[Stage::connect];
    if (!options.remote.path.empty()) return options;
    const std::string& bind = options.remote.address.is_v4() ? deliver.bind : deliver.bind6;
    if (!bind.empty()) options.bind = net::IpAddress::parse(bind);
    return options;
}

// What the route says comes first, then the name of the address that we call from, then our own.
const std::string& OutboundSession::helo_name(const queue::Deliver& deliver) const {
    if (!deliver.route->transport.helo.empty()) return deliver.route->transport.helo;
    const bool is_socket = candidate_.remote.starts_with('/');
    const std::string& of_address = candidate_.remote.starts_with('[') ? deliver.helo6 : deliver.helo;
    return is_socket || of_address.empty() ? owner_.settings()->me : of_address;
}

SessionTerms OutboundSession::terms_for(const queue::Deliver& deliver, bool in_clear) const {
    const queue::Transport& transport = deliver.route->transport;
    SessionTerms terms;
    terms.lmtp = transport.lmtp;
    terms.helo_name = helo_name(deliver);
    terms.tls = in_clear ? TlsMode::off
                         : owner_.tls().mode_for(*deliver.route, candidate_, demand_of(deliver), surroundings_.clock.now());
    terms.tls_context = owner_.tls().context_for(terms.tls);
    if (!candidate_.remote.starts_with('/')) terms.tls_name = candidate_.mx_host;
    terms.how = deliver.how;
    terms.pipelining = !owner_.bad_pipeliners().has(candidate_.remote, surroundings_.clock.now());
    terms.credentials = {transport.auth_user, transport.auth_password, transport.auth_type};
    return terms;
}

void OutboundSession::warn_about(const queue::Deliver& deliver, const Verdict& verdict) const {
    const std::string reason = printable(verdict.reply_text());
    if (verdict.stage == Stage::auth) {
        surroundings_.log.warn(
            "outbound", "authentication towards a route failed, its mail waits",
            {{"route", deliver.route->key}, {"host", candidate_.mx_host}, {"reason", reason}});
    } else if (verdict.stage == Stage::tls || verdict.error == Errc::tls_failed) {
        surroundings_.log.info(
            "outbound", "TLS with a host failed", {{"host", candidate_.mx_host}, {"remote", candidate_.remote},
                                                   {"reason", reason}});
    }
}

bool OutboundSession::watches_failures() const {
    const auto& policies = owner_.settings()->policies;
    return policies != nullptr && policies->watches_failures();
}

event::Link OutboundSession::link() const {
    event::Link link;
    link.mx_host = candidate_.mx_host;
    link.remote = candidate_.remote;
    link.local = local_;
    if (!client_) return link;
    if (const net::TlsSession* tls = client_->tls()) {
        link.tls_version = tls->version;
        link.tls_cipher = tls->cipher;
        link.tls_verified = tls->verified;
    }
    link.authenticated = client_->authenticated();
    link.lmtp = client_->lmtp();
    link.message_number = client_->message_count();
    return link;
}

Attempted OutboundSession::attempted_with(
    const queue::Deliver& deliver, const mail::MessagePtr& message, const Opening& opening,
    std::chrono::steady_clock::duration took) {
    Standing standing;
    standing.more_hosts = !deliver.last_resort;
    standing.permanent_so_far = deliver.permanent_so_far && opening.permanent;
    standing.reused_untouched = !deliver.open && client_ && client_->untouched();
    return Attempted{
        .work = deliver.work,
        .message = message,
        .domain = deliver.route->key,
        .recipients = recipients_,
        .verdicts = verdicts_,
        .standing = standing,
        .link = link(),
        .how = deliver.how.get(),
        .next_hop_has_dsn = client_ && client_->extensions().dsn,
        .took = std::chrono::duration_cast<Duration>(took)};
}

// Tells the core of the attempt; true when the session stays open.
bool OutboundSession::report(queue::AttemptEnded ended, Opening& opening) {
    // What all hosts said while the session was opened is known one by one; the verdicts repeat the last of it.
    const bool is_known = opening.failure && !opening.failures.empty();
    if (is_known) ended.failures.clear();
    std::move(opening.failures.begin(), opening.failures.end(), std::back_inserter(ended.failures));
    ended.session = id_;
    ended.permanent = ended.permanent && opening.permanent;
    ended.unhealthy = std::move(opening.unhealthy);
    // Who was overtaken was not tried to the end: that is remembered, but closes nothing to an item that still looks for a host.
    const bool over = ended.verdict == queue::AttemptEnded::Verdict::done || ended.verdict == queue::AttemptEnded::Verdict::deferred;
    if (over) ended.unhealthy.insert(ended.unhealthy.end(), opening.overtaken.begin(), opening.overtaken.end());
    ended.reusable = client_ && client_->usable() && !close_asked_;
    const bool stays = ended.reusable;
    surroundings_.core.push(std::move(ended));
    return stays;
}

}  // namespace sluice::delivery
