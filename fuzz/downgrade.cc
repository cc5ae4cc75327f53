// Any message for a host of 7 bits: what comes out is 7-bit clean text, or nothing does; what was that already stays.

#include "delivery/downgrade.h"

#include "base/assert.h"
#include "base/text.h"
#include "mail/header.h"
#include "mail/mime.h"

namespace {

using namespace sluice;

void check_words(std::string_view input) {
    const std::string printable = mail::quoted_printable(input);
    ASSERT(is_ascii(printable) && printable.size() <= 5 * input.size() + 8);
    const std::string line = mail::one_line(input, 200);
    ASSERT(line.size() <= 200 && line.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos);
    const std::string field = mail::folded_field("X-Field", mail::encoded_words(line));
    ASSERT(is_ascii(field) && field.ends_with("\r\n") && mail::scan_content(field).line_max <= 998);
    // One field, however it is folded.
    mail::HeaderReader reader(field);
    const auto only = reader.next();
    ASSERT(only && only->name == "X-Field" && !reader.next());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    const std::string content = mail::clean_text(input);
    if (const auto plain = delivery::to_seven_bit(content)) {
        ASSERT(is_ascii(*plain));
        ASSERT(plain->empty() || mail::is_clean_text(*plain));
        ASSERT(delivery::to_seven_bit(*plain) == plain);
    }
    check_words(input);
    return 0;
}
