// A whole server session: any octets of a client, from before the banner to the end of the stream.
// The first octet chooses the settings, so that refusing and normalising, strangers and submitters are all met.

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/text.h"
#include "mail/header.h"
#include "net/pipe.h"
#include "reception/reception_test_support.h"

namespace {

using namespace sluice;
using namespace sluice::reception;

RulesPtr rules_for(unsigned choice) {
    config::Settings settings = test_settings();
    settings.connection.strict_bare_eol = (choice & 1) == 0;
    settings.connection.message_bytes_max = (choice & 2) == 0 ? 1 << 20 : 64;
    settings.connection.errors_max = 0;
    settings.relay.acl = (choice & 4) == 0;
    settings.relay.dest_domains = true;
    settings.relay.domains["local.test"].action = "accept";
    settings.auth.enabled = true;
    settings.auth.methods = {"PLAIN", "LOGIN", "CRAM-MD5"};
    settings.auth.users["joe@sender.test"] = "secret";
    if ((choice & 8) != 0) settings.connection.proxy_hosts = {"127.0.0.0/8"};
    auto rules = std::make_shared<Rules>(*test_rules(std::move(settings)));
    rules->patience.auth_delay_first = std::chrono::milliseconds(0);
    return rules;
}

Task<> talk(net::StreamPtr stream, std::string said) {
    co_await stream->write(said);
    co_await stream->close();
}

// Whatever came in, what was accepted is clean text for known recipients.
void check(const mail::Message& message) {
    ASSERT(!message.envelope.recipients.empty() && !message.items.empty());
    ASSERT(!message.traits.has_bare_eol);
    ASSERT(message.content.empty() || message.content.ends_with("\r\n"));
    ASSERT(message.trace.ends_with("\r\n"));
    // No field in front of it goes on in it.
    ASSERT(message.content.empty() || !is_space(message.content.front()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* octets, std::size_t size) {
    if (size < 2) return 0;
    TestWorld world;
    net::PipeOptions options;
    options.read_bytes_max = octets[0] >= 128 ? SIZE_MAX : 1 + octets[0] / 16;
    auto [client_end, server_end] = net::make_pipe(world.shard.executor(), options);
    const net::Endpoint listener(net::IpAddress::v4(0x7F000001), 25);
    Session session(world.surroundings(), world.census, rules_for(octets[0]), std::move(server_end), listener);
    async::TaskGroup group(world.shard.executor());
    group.spawn(session.run());
    // The session greets before it hears anything, or nearly all inputs would end as early talkers.
    world.shard.loop().poll();
    group.spawn(talk(std::move(client_end), std::string(reinterpret_cast<const char*>(octets + 1), size - 1)));
    world.run(group);
    for (const mail::MessagePtr& message : world.acceptance.messages) check(*message);
    return 0;
}
