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

// A part that is no text comes back octet by octet, wherever its multipart ends.
void check_part(const std::string& body) {
    constexpr std::string_view boundary = "0123456789-boundary";
    if (body.find(boundary) != std::string::npos || (is_ascii(body) && mail::scan_content(body).line_max <= 998)) return;
    const std::string header = "Content-Type: application/x\r\n";
    const std::string encoding = "Content-Transfer-Encoding: base64\r\n\r\n";
    const std::string delimiter = "\r\n--" + std::string(boundary);
    const auto plain = delivery::to_seven_bit(
        "Content-Type: multipart/mixed; boundary=" + std::string(boundary) + "\r\n" + delimiter + "\r\n" + header + "\r\n" + body +
        delimiter + "--\r\n");
    ASSERT(plain && plain->ends_with(delimiter + "--\r\n"));
    const std::size_t begin = plain->find(header + encoding) + header.size() + encoding.size();
    std::string encoded = plain->substr(begin, plain->rfind(delimiter) - begin);
    std::erase_if(encoded, [](char c) { return c == '\r' || c == '\n'; });
    ASSERT(base64_decode(encoded) == body);
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
    check_part(content);
    check_words(input);
    return 0;
}
