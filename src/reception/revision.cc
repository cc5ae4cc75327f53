#include "reception/revision.h"

#include <algorithm>
#include <utility>

#include "mail/header.h"

namespace sluice::reception {
namespace {

void revise_content(mail::Message& message, Answer& answer) {
    std::string octets = mail::is_clean_text(answer.octets) ? std::move(answer.octets) : mail::clean_text(answer.octets);
    std::string content = std::exchange(message.trace, {}) + message.content;
    if (answer.changed == Answer::Changed::header) {
        content.replace(0, mail::header_section_size(content), octets);
    } else {
        content = std::move(octets);
    }
    message.content = std::move(content);
    message.traits = mail::scan_content(message.content);
}

Result<> revise_recipients(mail::Envelope& envelope, const std::vector<std::string>& texts, const mail::PathSyntax& syntax) {
    const std::vector<mail::Recipient> before = std::exchange(envelope.recipients, {});
    for (const std::string& text : texts) {
        mail::Recipient recipient;
        TRY(recipient.address, mail::parse_path(text, syntax));
        const auto same = [&](const mail::Recipient& one) { return one.address == recipient.address; };
        if (std::any_of(envelope.recipients.begin(), envelope.recipients.end(), same)) continue;
        const auto known = std::find_if(before.begin(), before.end(), same);
        if (known != before.end()) recipient = *known;
        envelope.recipients.push_back(std::move(recipient));
    }
    if (envelope.recipients.empty()) return fail(Errc::bad_input, "plugins left no recipient");
    return {};
}

}  // namespace

Result<> revise_envelope(
    mail::Envelope& envelope, const std::optional<std::string>& mail_from, const std::optional<std::vector<std::string>>& rcpt_to) {
    mail::PathSyntax syntax;
    syntax.allow_utf8 = envelope.smtputf8;
    if (rcpt_to) TRY_VOID(revise_recipients(envelope, *rcpt_to, syntax));
    syntax.allow_null = true;
    if (mail_from) {
        TRY(envelope.reverse_path, mail::parse_path(*mail_from, syntax));
    }
    return {};
}

Result<mail::MessagePtr> revise(const mail::Message& message, Answer answer, bool always_split) {
    auto revised = std::make_shared<mail::Message>(message);
    if (answer.changed != Answer::Changed::nothing) revise_content(*revised, answer);
    if (!answer.notes.empty()) revised->notes = std::move(answer.notes);
    TRY_VOID(revise_envelope(revised->envelope, answer.mail_from, answer.rcpt_to));
    if (answer.rcpt_to) revised->items = mail::split_items(revised->envelope.recipients, always_split);
    return mail::MessagePtr(std::move(revised));
}

}  // namespace sluice::reception
