#pragma once

#include <string>

#include "config/settings.h"
#include "mail/message.h"
#include "reception/composition.h"

namespace sluice::reception {

// Gives a message tenant, job, transport, priority and lifetime: what the sender says in so many words, or else what fields.yaml says of
// where they come from; and keeps the notes and header fields that policies ask for. Only clients that may relay are believed.
void assign_fields(mail::Message& message, const Parts& parts, const Bearer& bearer, const config::Settings& settings);

// Removes the header fields that are not to be sent on, whoever wrote them; true when there was one.
bool strip_fields(std::string& content, const config::Settings& settings);

// RFC 6710's -9 .. 9 as one of the eight priorities; 0 is the usual one, 4.
std::uint8_t priority_of(std::int8_t mt_priority);

}  // namespace sluice::reception
