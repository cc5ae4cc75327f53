#pragma once

#include <boost/json/object.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "delivery/hooks.h"
#include "dns/nexthop.h"

// Questions and answers as JSON; docs/design/plugins.md lists the members.
namespace sluice::plugin {

// What is asked before an attempt. `image`: JSON text that the host gave for this item earlier, or empty.
std::string attempt_question(
    const queue::Work& work, const mail::Message& message, const std::string& image, const Clock& clock);
// What is told after one.
std::string hearing_question(
    delivery::Hook hook, const delivery::Hearing& about, const std::string& image, const Clock& clock);

// Notes of a message, which are JSON text or empty.
boost::json::object notes_of(const std::string& text);

// The text of a member, or nothing.
std::string text_member(const boost::json::object& object, std::string_view key);
// Seconds of an answer as a duration; bounded by what a duration can be added to.
Duration seconds_member(const boost::json::object& object, std::string_view key);
// The hosts that get_mx named. Error: bad_input, a sentence.
Result<std::vector<dns::Nexthop>> mx_member(const boost::json::object& answer);

}  // namespace sluice::plugin
