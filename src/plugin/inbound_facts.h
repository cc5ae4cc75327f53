#pragma once

#include <boost/json/object.hpp>

#include <string>

#include "reception/hooks.h"

// Questions and answers about mail in as JSON; docs/design/plugins.md lists the members.
namespace sluice::plugin {

// The members of a message, without braces. `knows_content`: the host has had the header section with an earlier part.
std::string inbound_question(reception::Hook hook, const reception::Occasion& occasion, bool knows_content = false);
// `octets`: what came with the answer. An answer that makes no sense is none.
reception::Answer inbound_answer(const boost::json::object& from, std::string octets);

}  // namespace sluice::plugin
