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

// What a native plugin answered. Value.
struct NativeReply {
    std::int32_t code = SLUICE_CONT;
    bool in_time = true;     // false: there is no answer
    bool cancelled = false;  // and that is because we are closing
    bool force_tls = false;
    Duration delay{0};
    std::string reason;
    std::string notes;  // JSON text, as the plugin gave it
    std::string mx;     // the hosts in a form of our own, which says when two answers are the same

    // Copies all of a plugin's structure.
    void take(const sluice_answer& answer);
    bool denies() const { return code == SLUICE_DENY || code == SLUICE_DENYDISCONNECT; }
    bool denies_for_now() const { return code == SLUICE_DENYSOFT || code == SLUICE_DENYSOFTDISCONNECT; }
    // Error: bad_input, a sentence.
    Result<std::vector<dns::Nexthop>> hosts() const;
    // The notes to set; empty when there are none. Error: bad_input, when that is no JSON object.
    Result<boost::json::object> noted() const;
};

}  // namespace sluice::plugin
