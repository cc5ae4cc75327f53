#include "daemon/imported.h"

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <limits>
#include <memory>
#include <utility>

#include "mail/header.h"
#include "reception/assignment.h"
#include "reception/composition.h"

namespace sluice::daemon {
namespace {

// What a file name says of times is anybody's guess: it moves mail by so much at most.
constexpr Duration past_max = std::chrono::hours(24 * 3650);
constexpr Duration future_max = std::chrono::hours(24 * 366);

// The instant of a date, bounded. 0: now.
Instant instant_of(std::int64_t wall_ms, const Clock& clock) {
    const Instant now = clock.now();
    if (wall_ms <= 0) return now;
    const std::int64_t now_ms = clock.wall_ms(now);
    const std::int64_t earliest = now_ms - past_max.count();
    return now + Duration(std::clamp(wall_ms, earliest, now_ms + future_max.count()) - now_ms);
}

// As plugin-host/lib/items.js makes them.
std::string image_of(const haraka::QueueFile& file) {
    boost::json::object image, noted;
    for (std::size_t place = 0; place < file.recipients.size(); ++place) {
        const std::string& text = file.recipients[place].noted;
        if (text.empty()) continue;
        boost::json::error_code error;
        boost::json::parse_options options;
        options.max_depth = 256;
        boost::json::value value = boost::json::parse(text, error, {}, options);
        if (!error) noted[std::to_string(place)] = std::move(value);
    }
    if (!noted.empty()) image["rcpt"] = std::move(noted);
    if (file.force_tls) image["force_tls"] = true;
    return image.empty() ? std::string() : boost::json::serialize(image);
}

mail::Envelope envelope_of(haraka::QueueFile& file) {
    mail::Envelope envelope;
    envelope.reverse_path = std::move(file.reverse_path);
    envelope.smtputf8 = envelope.reverse_path.local_needs_utf8();
    for (haraka::QueuedRecipient& queued : file.recipients) {
        mail::Recipient recipient;
        recipient.address = std::move(queued.address);
        envelope.smtputf8 = envelope.smtputf8 || recipient.address.local_needs_utf8();
        envelope.recipients.push_back(std::move(recipient));
    }
    return envelope;
}

}  // namespace

Imported imported_from(
    const haraka::FileName& name, haraka::QueueFile file, MessageId id, const config::Settings& settings, const Clock& clock) {
    Imported imported;
    imported.image = image_of(file);
    imported.attempts = static_cast<std::uint16_t>(std::min<std::uint32_t>(name.attempts, std::numeric_limits<std::uint16_t>::max()));
    imported.due = std::max(instant_of(name.next_attempt_ms, clock), clock.now());

    auto message = std::make_shared<mail::Message>();
    message->id = id;
    message->arrival = std::min(instant_of(file.queue_time_ms > 0 ? file.queue_time_ms : name.arrival_ms, clock), clock.now());
    message->origin = file.uuid.empty() ? "haraka" : "haraka " + file.uuid;
    message->items.push_back({std::move(file.domain), {}});
    for (std::uint32_t place = 0; place < file.recipients.size(); ++place) message->items.front().recipients.push_back(place);

    reception::Parts parts;
    parts.envelope = envelope_of(file);
    parts.content = std::move(file.content);
    parts.notes = std::move(file.notes);
    reception::Bearer bearer;
    bearer.submits = true;
    reception::assign_fields(*message, parts, bearer, settings);
    message->envelope = std::move(parts.envelope);
    message->traits = mail::scan_content(parts.content);
    message->content = std::move(parts.content);
    message->notes = std::move(parts.notes);
    imported.message = std::move(message);
    return imported;
}

}  // namespace sluice::daemon
