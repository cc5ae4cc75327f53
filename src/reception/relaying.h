#pragma once

#include <optional>

#include "mail/address.h"
#include "reception/rules.h"
#include "smtp/reply.h"

namespace sluice::reception {

// Whether mail for this recipient is taken from a client, and if not, the reply that says so.
// `relaying`: the client authenticated or its address is in relay_acl_allow; nothing else ever permits relaying, least
// of all what the client says about itself. For anybody else only domains listed in relay_dest_domains.ini are taken,
// compared whole, and no local part that could name another destination (conformance 2.4).
std::optional<smtp::Reply> refuse_recipient(const Rules& rules, bool relaying, const mail::Address& recipient);

// Whether an authenticated client may use this reverse-path (SU-3). With constrain_sender the organisational domains
// of login and path must agree; with constrain_sender_exact the path is the login itself. A login without a domain is
// bound only by the exact rule, and the null path is always free (RFC 8098 §2.1 asks clients to use it).
bool owns_sender(const config::Settings& settings, std::string_view login, const mail::Address& reverse_path);

// The registered part of a domain as far as names tell: the last two labels, or three below a two-letter domain whose
// second level is a register ("co.uk").
std::string organisational_domain(std::string_view domain);

}  // namespace sluice::reception
