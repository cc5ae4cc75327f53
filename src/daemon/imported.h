#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "config/settings.h"
#include "haraka/file_name.h"
#include "haraka/queue_file.h"
#include "mail/message.h"

namespace sluice::daemon {

// A message of one item that another engine had accepted, with how far it was. Value.
struct Imported {
    mail::MessagePtr message;
    std::uint16_t attempts = 0;  // failed ones
    Instant due;                 // of the next one; not before now
    std::string image;           // for the plugin host, as plugin::Images keeps it; may be empty
};

// The message goes out octet by octet as Haraka would have sent it: no field is added, none is removed. It gets its policy fields as
// mail of a client that may relay does.
Imported imported_from(
    const haraka::FileName& name, haraka::QueueFile file, MessageId id, const config::Settings& settings, const Clock& clock);

}  // namespace sluice::daemon
