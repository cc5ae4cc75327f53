#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mail/dsn.h"

namespace sluice::mail {

// The words for people in a notification: its header fields, its text, and its HTML if there is a template.
struct DsnWords {
    std::vector<std::pair<std::string, std::string>> fields;  // name, value on one line (may hold UTF-8)
    std::string text;                                         // CRLF, UTF-8
    std::string html;                                         // CRLF, UTF-8; or empty
};

// Fills the templates (or the built-in one). `sender` is the address as the To field shows it.
// `full_dropped`: the whole message was asked for but is too large, which the text says.
DsnWords dsn_words(const DsnRequest& request, std::string_view sender, bool full_dropped);

}  // namespace sluice::mail
