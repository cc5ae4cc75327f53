#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::config {

// A piece of a configuration file with the line it stands on (from 1). Value.
struct Value {
    std::string text;
    int line = 0;
    std::string name = {};  // of the entries of a whole section: the key
    friend bool operator==(const Value&, const Value&) = default;
};
using Values = std::vector<Value>;

// Haraka's plain file types. Lines end at LF, CR LF or CR; a byte order mark is skipped.

// Every line that is neither blank nor a comment (`;` or `#` first), trimmed.
Values parse_list(std::string_view text);
// The first such line; empty when there is none.
Values parse_value(std::string_view text);
// Every line as it is, comments and blanks kept, without its line end.
std::vector<std::string> parse_verbatim(std::string_view text);

// Cuts `text` at its line ends, as the functions above do; no empty line after the last end. Borrows from
// `text`.
std::vector<std::string_view> split_lines(std::string_view text);
std::vector<std::string_view> split_lines(std::string&& text) = delete;
bool is_blank_or_comment(std::string_view line);

}  // namespace sluice::config
