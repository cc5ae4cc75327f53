// A whole client session: any octets of a server. The first octet chooses how they arrive, the second what we are and what
// we have to say. Whatever comes back, our side of the wire stays clean, and nothing counts as delivered that no 2xx said.

#include "delivery/client_session.h"

#include <boost/asio/io_context.hpp>

#include "async/task_group.h"
#include "base/assert.h"
#include "mail/header.h"
#include "scripted_stream.h"

namespace {

using namespace sluice;
using namespace sluice::delivery;

// Looks at every line, as the real ones do, and keeps none.
class QuietLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return true; }
    void write(event::Level, std::string_view, std::string_view, std::string_view sentence,
               std::initializer_list<event::Field>) override {
        ASSERT(sentence.find_first_of("\r\n") == std::string_view::npos);
        ASSERT(sentence.find("secret") != 3 || sentence == "C: (secret)");
    }
};

mail::Message message_of(unsigned choice) {
    mail::Message message;
    message.envelope.reverse_path = {"a", "sender.test"};
    for (const char* local : {"one", "two", "three"}) {
        mail::Recipient recipient;
        recipient.address = {local, "example.test"};
        if ((choice & 1) != 0) recipient.notify = mail::notify_success | mail::notify_failure;
        message.envelope.recipients.push_back(std::move(recipient));
    }
    if ((choice & 1) != 0) message.envelope.envid = "id+2B1";
    message.content = (choice & 2) != 0
        ? "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xC3\xBC\xC3\x9F" "e\r\n"
        : "Subject: x\r\n\r\n.\r\n..\r\n.dot\r\nend\r\n";
    // More than a flight with chunks may carry.
    if ((choice & 4) != 0) {
        for (int line = 0; line < 2000; ++line) message.content += ".................................................\r\n";
    }
    message.items = mail::split_items(message.envelope.recipients, false);
    message.traits = mail::scan_content(message.content);
    return message;
}

std::shared_ptr<config::Settings> settings_of(unsigned choice) {
    auto settings = std::make_shared<config::Settings>();
    settings->me = "client.test";
    settings->outbound.chunking = (choice & 8) == 0;
    settings->outbound.auth_cleartext = true;
    using EightBit = config::OutboundSettings::EightBit;
    settings->outbound.eight_bit = (choice & 16) != 0 ? EightBit::downgrade : EightBit::bounce;
    return settings;
}

// What came of one delivery, and where in the words to the server it begins.
struct Delivery {
    Verdicts verdicts;
    std::size_t begin = 0;
};

Task<> use(ClientSession& client, const mail::Message& message, const std::string& heard, std::vector<Delivery>& deliveries) {
    if (const auto stopped = co_await client.open()) {
        ASSERT(rule(*stopped, {}).fate != Fate::delivered);
        co_return;
    }
    const std::vector<std::uint32_t>& recipients = message.items.front().recipients;
    for (int time = 0; time < 2 && (time == 0 || client.usable()); ++time) {
        deliveries.push_back({Verdicts(recipients.size()), heard.size()});
        Verdicts& verdicts = deliveries.back().verdicts;
        co_await client.deliver(message, recipients, verdicts);
    }
    co_await client.quit();
}

void check(std::string_view heard, const Verdicts& verdicts) {
    for (const auto& verdict : verdicts) {
        if (!verdict) continue;
        const Ruling ruling = rule(*verdict, {});
        ASSERT(!status_for(*verdict, ruling.fate).empty());
        if (ruling.fate != Fate::delivered) continue;
        ASSERT(verdict->positive());
        ASSERT(heard.find("\r\n.\r\n") != std::string_view::npos || heard.find(" LAST\r\n") != std::string_view::npos);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* octets, std::size_t size) {
    if (size < 2) return 0;
    static const auto tls = net::TlsContext::client(net::TlsOptions()).value();
    const unsigned choice = octets[1];
    const std::string_view script(reinterpret_cast<const char*>(octets + 2), size - 2);
    SessionTerms terms;
    terms.lmtp = (choice & 32) != 0;
    terms.helo_name = "client.test";
    terms.tls = (choice & 64) != 0 ? TlsMode::opportunistic : TlsMode::off;
    if (terms.tls != TlsMode::off) terms.tls_context = tls;
    if ((choice & 128) != 0) terms.credentials = {"user", "pencil", ""};

    std::string heard;
    QuietLog log;
    boost::asio::io_context loop(1);
    // 0: by lines; 1 to 254: so many octets; 255: all that there is.
    const std::size_t piece = octets[0] == 255 ? SIZE_MAX : octets[0];
    const mail::Message message = message_of(choice);
    ClientSession client(std::make_unique<ScriptedStream>(script, piece, heard), terms, settings_of(choice), log, "1");
    std::vector<Delivery> deliveries;
    async::TaskGroup group(loop.get_executor());
    group.spawn(use(client, message, heard, deliveries));
    loop.run();
    ASSERT(heard.empty() || mail::is_clean_text(heard));
    for (const Delivery& delivery : deliveries) check(std::string_view(heard).substr(delivery.begin), delivery.verdicts);
    return 0;
}
