#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::mail {

// Text as quoted-printable (RFC 2045 §6.7): CRLF stays a line end, everything else fits in 76 printable
// columns.
std::string quoted_printable(std::string_view text);

// A header value with encoded-words (RFC 2047) if it needs them: pure printable ASCII comes back as it is.
// `text` is one line of valid UTF-8.
std::string encoded_words(std::string_view text);

// "Name: value" CRLF, folded at blanks so that lines stay near 76 octets; a word longer than 900 octets is
// cut by force, since a line over 998 is refused by strict receivers. `value` is one line.
std::string folded_field(std::string_view name, std::string_view value);

// One line of at most `octets_max` octets from any octets: line ends, controls and NUL become single blanks,
// what is not valid UTF-8 becomes '?'. Cut with "..." between characters.
std::string one_line(std::string_view text, std::size_t octets_max);

// utf-8-addr-xtext of RFC 6533 §3: characters outside printable ASCII, and '\', '+', '=' as \x{HEX}.
std::string embedded_unicode(std::string_view utf8);
// The same for running text: only what is not ASCII is replaced.
std::string embedded_non_ascii(std::string_view utf8);

// For text inside HTML: & < > " ' as entities.
std::string html_escaped(std::string_view text);

// CRLF text from a file with any line ends.
std::string with_crlf(std::string_view text);

}  // namespace sluice::mail
