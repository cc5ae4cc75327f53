// The input is cut at NUL into the texts that a notification is made of; whatever they are, the result is
// clean ASCII text with exactly the fields and parts it should have.

#include "mail/dsn.h"

#include <array>

#include "base/assert.h"
#include "base/text.h"
#include "mail/header.h"

namespace {

using namespace sluice;

mail::DsnRequest request_from(std::array<std::string, 8> texts) {
    auto original = std::make_shared<mail::Message>();
    original->envelope.reverse_path = *mail::parse_address("sender@origin.test");
    original->envelope.ret = mail::Return::full;
    original->envelope.envid = texts[0];
    original->content = texts[1];
    original->traits = mail::scan_content(original->content);
    mail::RecipientReport report;
    report.recipient.address = *mail::parse_address("user@dest.test");
    report.recipient.orcpt = texts[2];
    report.diagnostic = texts[3];
    report.remote_mta = report.reason = report.status = texts[4];
    mail::DsnRequest request;
    request.original = std::move(original);
    request.reports.push_back(std::move(report));
    request.reporting_mta = texts[5];
    request.full_size_max = 1000;
    request.templates.text = texts[6];
    request.templates.html = texts[7];
    return request;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    std::array<std::string, 8> texts;
    const auto pieces = split(input, '\0');
    for (std::size_t i = 0; i < pieces.size(); ++i)
        texts[i % texts.size()] = pieces[i];
    const mail::DsnRequest request = request_from(texts);
    const mail::Dsn dsn = mail::compose_dsn(request);
    ASSERT(mail::is_clean_text(dsn.content));
    const mail::ContentTraits traits = mail::scan_content(dsn.content);
    ASSERT(!traits.has_8bit_header && traits.line_max <= 998);
    ASSERT(is_ascii(dsn.content) || request.original->traits.has_8bit);
    ASSERT(mail::count_fields(dsn.content, "MIME-Version") == 1);
    ASSERT(mail::count_fields(dsn.content, "Content-Type") == 1);
    return 0;
}
