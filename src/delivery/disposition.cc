#include "delivery/disposition.h"

#include "base/assert.h"
#include "mail/mime.h"

namespace sluice::delivery {
namespace {

// The host failed before it judged the message: others may do better, and only if all refuse for good is it final
// (RFC 5321 §5.1).
Ruling host_failed(bool for_good, const Standing& standing) {
    Ruling ruling;
    ruling.session_spent = true;
    if (standing.decided_some) return ruling;
    if (standing.more_hosts) {
        ruling.fate = Fate::next_candidate;
        ruling.host_refused_for_good = for_good;
    } else if (for_good && standing.permanent_so_far) {
        ruling.fate = Fate::failed;
    }
    return ruling;
}

Ruling link_failed(const Verdict& verdict, const Standing& standing) {
    const bool stale = standing.reused_untouched && verdict.error == Errc::link_closed;
    if (facts_of(verdict.stage).may_duplicate) {
        // Sending it to another host now would make the duplicate certain (Haraka's A3). Only a pooled connection that
        // ended without a word, when the whole transaction went out in one flight, was in all likelihood dead before.
        return {.fate = stale ? Fate::fresh_session : Fate::deferred, .possible_duplicate = true, .session_spent = true};
    }
    if (standing.reused_untouched) return {.fate = Fate::fresh_session, .session_spent = true};
    return host_failed(false, standing);
}

Ruling rule_reply(const Verdict& verdict, const Standing& standing) {
    const Stage stage = verdict.stage;
    const int code = verdict.code;
    if (code < 300) {
        // A positive reply decides only after the content (RFC 5321 §4.2.5).
        ASSERT(code >= 200 && stage == Stage::dot);
        return {.fate = Fate::delivered};
    }
    ASSERT(code >= 400);
    if (code == 421) {
        if (stage == Stage::mail && standing.reused_untouched) return {.fate = Fate::fresh_session, .session_spent = true};
        if (stage <= Stage::mail) return host_failed(false, standing);
        return {.fate = Fate::deferred, .session_spent = true};
    }
    switch (stage) {
        case Stage::greeting:
        case Stage::helo: return host_failed(code >= 500, standing);
        // Only mandatory TLS gets here, and a host without TLS may be repaired.
        case Stage::starttls:
        case Stage::tls: return host_failed(false, standing);
        // Wrong credentials are ours to mend: neither bounce the mail nor try the login everywhere (AU-9).
        case Stage::auth:
            if (code < 500) return host_failed(false, standing);
            return {.fate = Fate::deferred, .session_spent = true};
        case Stage::route:
        case Stage::load:
        case Stage::connect:
        case Stage::mail:
        case Stage::rcpt:
        case Stage::data:
        case Stage::body:
        case Stage::dot:
        case Stage::quit: return {.fate = code >= 500 ? Fate::failed : Fate::deferred};
    }
    UNREACHABLE();
}

Ruling rule_error(const Verdict& verdict, const Standing& standing) {
    switch (verdict.error) {  // no default: -Wswitch asks about every new Errc here
        case Errc::timed_out:
            // Before any connection it is the queue's own deadline that passed.
            if (verdict.stage == Stage::route) return {.fate = Fate::expired};
            return link_failed(verdict, standing);
        case Errc::link_closed:
        case Errc::refused:
        case Errc::unreachable:
        case Errc::bad_reply:
        case Errc::tls_failed: return link_failed(verdict, standing);
        case Errc::cancelled: {
            Ruling ruling = link_failed(verdict, standing);
            ruling.fate = Fate::fresh_session;
            return ruling;
        }
        case Errc::address_in_use:
        case Errc::bad_source:
        case Errc::out_of_resources:
            return {.fate = Fate::fresh_session, .source_at_fault = true, .session_spent = true};
        case Errc::auth_unavailable: return {.fate = Fate::deferred, .session_spent = true};
        // The host lacks what the message needs; another one may have it (RFC 6531 §3.2).
        case Errc::unsupported: {
            Ruling ruling = host_failed(true, standing);
            ruling.session_spent = false;
            return ruling;
        }
        case Errc::too_large:
        case Errc::dns_no_domain:
        case Errc::dns_no_data:
        case Errc::null_mx:
        case Errc::mail_loop:
        case Errc::corrupt: return {.fate = Fate::failed};
        // An address may still appear in DNS; a message that is gone will not come back.
        case Errc::not_found: return {.fate = verdict.stage == Stage::load ? Fate::failed : Fate::deferred};
        case Errc::dns_temporary:
        case Errc::bad_input:
        case Errc::config:
        case Errc::disk_failed:
        case Errc::disk_full:
        case Errc::locked: return {.fate = Fate::deferred};
    }
    UNREACHABLE();
}

// Subject and detail for a reply without an enhanced code.
const char* derived_detail(int code, Stage stage) {
    switch (code) {
        case 421:
        case 521: return "3.2";
        case 450: return stage == Stage::rcpt ? "2.0" : "0.0";
        case 452: return stage == Stage::rcpt ? "5.3" : "3.1";
        case 535: return "7.8";
        case 550: return stage == Stage::rcpt ? "1.0" : "0.0";
        case 552: return stage == Stage::rcpt ? "2.2" : "3.4";
        case 556: return "1.10";
        default: return "0.0";
    }
}

const char* error_detail(Errc error, Stage stage) {
    switch (error) {
        case Errc::timed_out:
            if (stage == Stage::route) return "4.7";
            return stage == Stage::connect ? "4.1" : "4.2";
        case Errc::refused:
        case Errc::unreachable: return "4.1";
        case Errc::link_closed:
        case Errc::cancelled: return "4.2";
        case Errc::tls_failed: return "7.5";
        case Errc::bad_reply: return "5.0";
        case Errc::address_in_use:
        case Errc::bad_source:
        case Errc::out_of_resources: return "3.0";
        case Errc::auth_unavailable: return "7.0";
        case Errc::unsupported: return "6.3";
        case Errc::too_large: return "3.4";
        case Errc::dns_temporary: return "4.3";
        case Errc::dns_no_domain:
        case Errc::dns_no_data: return "1.2";
        case Errc::null_mx: return "1.10";
        case Errc::mail_loop: return "4.6";
        case Errc::not_found: return stage == Stage::load ? "3.0" : "4.4";
        case Errc::bad_input:
        case Errc::config: return "3.5";
        case Errc::disk_failed:
        case Errc::disk_full:
        case Errc::locked:
        case Errc::corrupt: return "3.0";
    }
    UNREACHABLE();
}

char class_of(Fate fate) {
    switch (fate) {
        case Fate::delivered: return '2';
        case Fate::failed: return '5';
        case Fate::deferred:
        case Fate::expired:
        case Fate::next_candidate:
        case Fate::fresh_session: return '4';
    }
    UNREACHABLE();
}

}  // namespace

std::string kept(std::string reply_text) {
    return reply_text.size() <= reply_text_max ? std::move(reply_text) : mail::one_line(reply_text, reply_text_max);
}

std::string Verdict::reply_text() const {
    std::string out;
    if (code == 0) {
        out = name_of(error);
        if (!text.empty()) out.append(": ").append(text);
        return out;
    }
    out = std::to_string(code);
    if (!status.empty()) out.append(" ").append(status);
    if (!text.empty()) out.append(" ").append(text);
    return out;
}

Ruling rule(const Verdict& verdict, const Standing& standing) {
    return verdict.code != 0 ? rule_reply(verdict, standing) : rule_error(verdict, standing);
}

std::string status_for(const Verdict& verdict, Fate fate) {
    if (fate == Fate::expired) return "4.4.7";
    std::string status(1, class_of(fate));
    if (verdict.status.size() > 2) return status.append(verdict.status, 1);
    status += '.';
    return status.append(
        verdict.code != 0 ? derived_detail(verdict.code, verdict.stage) : error_detail(verdict.error, verdict.stage));
}

}  // namespace sluice::delivery
