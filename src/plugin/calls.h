#pragma once

#include <absl/container/flat_hash_map.h>

#include <boost/json/object.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "async/published.h"
#include "async/task_group.h"
#include "base/clock.h"
#include "config/settings.h"
#include "event/events.h"
#include "event/log.h"
#include "plugin/frames.h"
#include "plugin/intake.h"
#include "reception/injection.h"
#include "spool/id_source.h"

namespace sluice::plugin {

// Mail that plugins hand in (outbound.send_email, outbound.send_trans_email), on its way from the socket into the queue.
//
// Promise: a plugin is told OK only when the message is durable and queued; of a message whose octets did not all come,
// because the host ended, nothing is kept. What was complete goes its way, also when nobody is left to hear of it.
// Thread: the host's shard, except configure().
// Limits: so many messages at once, each within what `databytes` allows, and memory as for mail that comes by SMTP.
class Calls {
public:
    struct Surroundings {
        Intake& intake;
        const Clock& clock;
        spool::IdSource& ids;
        event::Recorder& events;
    };
    using Send = std::function<void(std::string_view message)>;
    static constexpr std::size_t at_once_max = 64;
    // Tells octets of these messages from others that come from the host.
    static constexpr std::uint32_t request_bit = 0x8000'0000;

    // Answers go to `send`, tasks into `tasks`.
    Calls(const Surroundings& surroundings, config::SettingsPtr settings, async::TaskGroup& tasks, Send send);
    void configure(config::SettingsPtr settings) { settings_.set(std::move(settings)); }

    // `inject`: a message is announced.
    void begin(const boost::json::object& message);
    // A piece of it.
    void octets(const Octets& piece);
    // The rest of it does not come.
    void abandon(std::uint32_t request) { open_.erase(request); }
    // The host has ended, and another one will count from the beginning.
    void host_ended();

private:
    Task<> take(std::uint32_t request, reception::Injection injection, std::uint64_t host);
    void tell(std::uint32_t request, std::uint64_t host, std::string_view code, std::string_view text);
    void refuse(std::uint32_t request, std::string_view code, std::string_view text);

    const Surroundings around_;
    async::Published<config::Settings> settings_;
    async::TaskGroup& tasks_;
    const Send send_;
    absl::flat_hash_map<std::uint32_t, reception::Injection> open_;  // not all octets are here
    std::size_t under_way_ = 0;
    std::uint64_t host_ = 0;  // counts them
};

}  // namespace sluice::plugin
