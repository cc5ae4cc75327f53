#pragma once

#include <sluice/plugin.h>

#include <boost/json/object.hpp>

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "dns/nexthop.h"

namespace sluice::plugin {

// A header field that a plugin adds. Value.
struct NativeField {
    bool first = false;  // above all others
    std::string name, value;  // the value on one line

    // With its line ends, folded.
    std::string text() const;
};

// What a native plugin answered. Value.
struct NativeReply {
    std::int32_t code = SLUICE_CONT;
    bool in_time = true;     // false: there is no answer
    bool cancelled = false;  // and that is because we are closing
    bool threw = false;      // and that is no answer either
    bool force_tls = false;
    Duration delay{0};
    std::string reason;
    std::string notes;  // JSON text, as the plugin gave it
    std::string mx;     // the hosts in a form of our own, which says when two answers are the same

    // Of hooks of mail in:
    int reply_code = 0;  // of a refusal, when it fits; 0: the usual one
    std::optional<bool> relaying;
    std::vector<NativeField> fields;
    bool bad_field = false;  // one was left out, because its name or its value is none

    // Copies all of a plugin's structure.
    void take(const sluice_answer& answer);
    bool denies() const { return code == SLUICE_DENY || code == SLUICE_DENYDISCONNECT; }
    bool denies_for_now() const { return code == SLUICE_DENYSOFT || code == SLUICE_DENYSOFTDISCONNECT; }
    // The lines of `reason`.
    std::vector<std::string> words() const;
    // Error: bad_input, a sentence.
    Result<std::vector<dns::Nexthop>> hosts() const;
    // The notes to set; empty when there are none. Error: bad_input, when that is no JSON object.
    Result<boost::json::object> noted() const;
};

}  // namespace sluice::plugin
