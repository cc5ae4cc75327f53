#include "haraka/queue_file.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "base/text.h"
#include "haraka/file_name.h"
#include "mail/address.h"
#include "mail/header.h"

// Whatever the bytes: a fault is within the file and says why; what is taken can be routed and sent, line by line.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);

    const haraka::FileName name = haraka::parse_file_name(text.substr(0, 300));
    ASSERT(name.kind == haraka::NameKind::queued || name.identity.empty());
    ASSERT(name.arrival_ms >= 0 && name.next_attempt_ms >= 0 && name.pid >= 0);

    const auto file = haraka::parse_queue_file(text);
    if (!file) {
        ASSERT(file.error().offset <= size && !file.error().reason.empty());
        return 0;
    }
    ASSERT(!file->recipients.empty() && !file->domain.empty());
    ASSERT(mail::normalise_domain(file->domain).value_or("") == file->domain);
    for (const haraka::QueuedRecipient& recipient : file->recipients) {
        const std::string path = recipient.address.text();
        ASSERT(!recipient.address.is_null() && path.find_first_of("\r\n") == std::string::npos && is_valid_utf8(path));
    }
    ASSERT(mail::is_clean_text(file->content));
    ASSERT(file->queue_time_ms >= 0);
    return 0;
}
