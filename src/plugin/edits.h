#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mail/message.h"

namespace sluice::plugin {

// What plugins made of an item's envelope, by way of its todo. Value.
struct Edit {
    std::optional<mail::Address> reverse_path;
    std::map<std::uint32_t, mail::Address> recipients;  // by place in the envelope

    bool any() const { return reverse_path.has_value() || !recipients.empty(); }
    void add(const Edit& later);
    // For the journal. parse() takes what format() gave; what it does not know is left out.
    std::string format() const;
    static Edit parse(std::string_view text);
    // The message with this envelope; itself when nothing is changed.
    mail::MessagePtr applied(const mail::MessagePtr& message) const;
};
inline constexpr std::size_t edit_bytes_max = 4u << 20;
inline constexpr std::size_t added_max = 1'000;  // recipients that one answer may add

// Recipients that are to have an item of their own. Value.
struct Part {
    std::vector<std::uint32_t> places;
    Edit edit;          // what is different for them, by place in the envelope as it is
    std::string image;  // of the notes, as Images keeps it; or empty
    std::string by;     // the plugin
};

// What one answer of plugins changes. Value.
struct Editing {
    Edit edit;
    std::map<std::string, std::vector<std::uint32_t>> removed;  // places by plugin
    std::vector<mail::Address> added;
    std::string added_by;
    std::vector<Part> parts;
    std::vector<std::string> problems;  // what is no address, or nothing that may be changed; a sentence each

    bool any() const { return edit.any() || !removed.empty() || !added.empty() || !parts.empty(); }
    // From this item; to another one, perhaps.
    bool removes(std::uint32_t place) const;
};

// The member `edits` of an answer about these recipients, places in the envelope.
Editing editing_member(const boost::json::object& answer, std::span<const std::uint32_t> recipients);

}  // namespace sluice::plugin
