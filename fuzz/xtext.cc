// What decodes encodes back to something of the same meaning; whatever is encoded decodes to itself.

#include "base/assert.h"
#include "mail/address.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    ASSERT(mail::decode_xtext(mail::encode_xtext(text)).value() == text);
    if (const auto decoded = mail::decode_xtext(text)) {
        ASSERT(mail::decode_xtext(mail::encode_xtext(*decoded)).value() == *decoded);
    }
    return 0;
}
