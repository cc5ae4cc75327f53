// Any octets are either refused or mean a name that DNS can be asked for; counting aliases ends.

#include "base/assert.h"
#include "dns/rdata.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    if (const auto mx = dns::parse_mx(text)) {
        ASSERT(mx->host.empty() || dns::is_presentable_name(mx->host));
    }
    ASSERT(dns::parse_a(text).has_value() == (size == 4));
    ASSERT(dns::parse_aaaa(text).has_value() == (size == 16));
    if (const auto aliases = dns::count_aliases(text)) {
        ASSERT(*aliases <= size);
    }
    (void)dns::is_referral(text);
    (void)dns::is_presentable_name(text);
    return 0;
}
