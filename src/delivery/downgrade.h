#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::delivery {

// The same message in 7 bits, for a next hop without 8BITMIME (RFC 6152 §3): text parts in quoted-printable, others in
// base64, boundaries and everything that is ASCII already as they were. Content without MIME becomes text of an unknown
// 8-bit charset (RFC 1428).
//
// Nothing when that cannot be done faithfully: 8-bit octets in header fields, in signed or encrypted parts (RFC 1847),
// or in parts that claim to be encoded already; parts nested more than 30 deep.
// `content` is CRLF text. Signatures over the whole message (DKIM) do not survive: the operator chose that.
std::optional<std::string> to_seven_bit(std::string_view content);

}  // namespace sluice::delivery
