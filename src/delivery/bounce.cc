#include "delivery/bounce.h"

#include <unistd.h>

#include "base/assert.h"
#include "delivery/admission.h"
#include "mail/header.h"

namespace sluice::delivery {
namespace {

std::string joined(const std::vector<std::string>& lines) {
    std::string out;
    for (const std::string& line : lines) out.append(line).append("\r\n");
    return out;
}

std::optional<mail::DsnAction> action_for(const Bounces::About& about, Fate fate) {
    switch (fate) {
        case Fate::failed:
        case Fate::expired: return mail::DsnAction::failed;
        case Fate::deferred: return about.delay_is_due ? std::optional(mail::DsnAction::delayed) : std::nullopt;
        case Fate::delivered:
            if (!about.relayed_blind) return std::nullopt;
            return about.final_hop ? mail::DsnAction::delivered : mail::DsnAction::relayed;
        case Fate::next_candidate:
        case Fate::fresh_session: return std::nullopt;
    }
    UNREACHABLE();
}

mail::RecipientReport report_on(
    const Bounces::About& about, const Told& told, mail::DsnAction action, std::int64_t wall_ms) {
    mail::RecipientReport report;
    report.recipient = about.original->envelope.recipients[told.recipient];
    report.action = action;
    report.status = status_for(*told.verdict, told.fate);
    report.last_attempt_ms = wall_ms;
    if (told.verdict->code != 0) {
        report.remote_mta = about.remote_mta;
        report.diagnostic = told.verdict->reply_text();
    } else {
        report.reason = told.verdict->text;
    }
    if (told.fate == Fate::expired) report.reason = "Delivery was tried for too long. " + report.reason;
    if (action == mail::DsnAction::delayed) {
        report.will_retry_until_ms = wall_ms + (about.given_up_at - about.now).count();
    }
    return report;
}

mail::MessagePtr message_of(mail::Dsn dsn, MessageId id, const mail::Message& original, Instant now) {
    auto message = std::make_shared<mail::Message>();
    message->id = id;
    message->arrival = now;
    message->items = mail::split_items(dsn.envelope.recipients, false);
    message->envelope = std::move(dsn.envelope);
    message->content = std::move(dsn.content);
    message->traits = mail::scan_content(message->content);
    message->tenant = original.tenant;
    message->job = original.job;
    message->transport = original.transport;
    message->marks = original.marks;
    message->priority = original.priority;
    message->origin = "dsn";
    return message;
}

}  // namespace

void Bounce::become(mail::MessagePtr changed) {
    message = std::move(changed);
    ASSERT(message->items.size() == 1);
    admit = admission(message, 0);
}

std::optional<Bounce> Bounces::compose(const About& about, const std::vector<Told>& told, const config::Settings& settings) {
    const mail::Envelope& envelope = about.original->envelope;
    mail::DsnRequest request;
    request.wall_ms = wall_clock_ms();
    Bounce bounce;
    for (const Told& one : told) {
        const auto action = action_for(about, one.fate);
        if (!action || !mail::deserves_dsn(envelope, envelope.recipients[one.recipient], *action, about.tell_delay)) continue;
        request.reports.push_back(report_on(about, one, *action, request.wall_ms));
        bounce.tells_failure = bounce.tells_failure || *action == mail::DsnAction::failed;
        bounce.tells_delay = bounce.tells_delay || *action == mail::DsnAction::delayed;
    }
    if (request.reports.empty()) return std::nullopt;

    request.original = about.original;
    request.arrival_wall_ms = request.wall_ms - (about.now - about.original->arrival).count();
    request.reporting_mta = settings.me;
    request.id = ids_.next();
    request.full_size_max = settings.outbound.dsn_full_bytes_max;
    request.templates.text = joined(settings.bounce.text);
    request.templates.html = joined(settings.bounce.html);
    request.templates.image = joined(settings.bounce.image);
    request.pid = std::to_string(::getpid());
    bounce.become(message_of(mail::compose_dsn(request), request.id, *about.original, about.now));
    return bounce;
}

}  // namespace sluice::delivery
