// Every accepted address survives parse(text()) and never brings control octets or a second line with it.

#include "mail/address.h"

#include "base/assert.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    mail::PathSyntax syntax;
    syntax.allow_null = true;
    syntax.allow_postmaster = true;
    if (const auto address = mail::parse_path(text, syntax)) {
        const std::string again = address->text();
        for (const char c : again)
            ASSERT((c < 0 || c >= ' ') && c != 0x7F);
        const auto twice = mail::parse_path("<" + again + ">", syntax);
        ASSERT(twice && *twice == *address);
        const std::string domain = address->routing_domain();
        ASSERT(domain.empty() || mail::normalise_domain(domain).value() == domain);
        ASSERT(
            mail::parse_path("<" + address->ascii_domain_text() + ">", syntax) || address->domain.size() > 60
        );
    }
    if (const auto name = mail::normalise_domain(text))
        ASSERT(mail::normalise_domain(*name).value() == *name);
    return 0;
}
