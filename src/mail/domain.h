#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::mail {

// The canonical text of an address literal of RFC 5321 §4.1.3, "[192.0.2.1]" or "[IPv6:2001:db8::1]" (lower
// case, shortest form); nothing when the text is not one. IPv6 needs its tag, and other tags are not known.
std::optional<std::string> canonical_literal(std::string_view text);

// What RFC 5321 §4.1.2 calls Domain: letters, digits and hyphens in labels of 1 to 63, no trailing dot.
bool is_domain_syntax(std::string_view text);

}  // namespace sluice::mail
