// Header fields and contents of any octets: fields add up, removal removes, cleaning cleans.

#include "mail/header.h"

#include "base/assert.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    const std::string text(reinterpret_cast<const char*>(bytes), size);
    const mail::ContentTraits traits = mail::scan_content(text);
    ASSERT(traits.header_size == mail::header_section_size(text));

    std::size_t sum = 0;
    mail::HeaderReader reader(text);
    while (const auto field = reader.next()) {
        sum += field->raw.size();
        ASSERT(mail::unfolded(field->value).find_first_of("\r\n") == std::string::npos);
    }
    ASSERT(sum <= traits.header_size);

    std::string content = text;
    mail::remove_fields(content, "a");
    ASSERT(mail::count_fields(content, "a") == 0);
    const std::string clean = mail::clean_text(text);
    ASSERT(mail::is_clean_text(clean));
    ASSERT(mail::clean_text(clean) == clean);
    ASSERT(mail::is_clean_text(text) == (clean == text));

    mail::ReceivedTrace trace;
    trace.helo = trace.rdns = trace.by = trace.id = trace.tls = text;
    trace.client_ip = "192.0.2.1";
    const std::string received = mail::format_received(trace);
    ASSERT(mail::is_clean_text(received) && mail::count_fields(received, "Received") == 1);
    ASSERT(mail::header_section_size(received) == received.size());
    ASSERT(mail::scan_content(received).line_max <= 998);
    return 0;
}
