#include "drill/client.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "mail/message.h"

namespace sluice::drill {
namespace {

std::string random_line(Random& random) {
    static constexpr std::array openings = {"", ".", "..", "From ", "--", " ", "\t", "X: "};
    std::string line = openings[random.below(openings.size())];
    const std::size_t size = random.chance(0.03) ? 990 : random.below(80);
    if (random.chance(0.05)) line += "gr\xC3\xBC\xC3\x9F" "e";
    while (line.size() < size) line += static_cast<char>(random.chance(0.1) ? '.' : 'a' + static_cast<char>(random.below(26)));
    return line;
}

// The client's side of a dialogue.
class Client {
public:
    explicit Client(net::StreamPtr wire) : wire_(std::move(wire)) {}

    // The last line of a reply; empty when the link is gone.
    Task<std::string> reply() {
        while (true) {
            const std::size_t end = in_.find("\r\n");
            if (end == std::string::npos) {
                std::array<char, 4096> fresh;
                const auto count = co_await wire_->read_some(fresh);
                if (!count) co_return std::string();
                in_.append(fresh.data(), *count);
                continue;
            }
            std::string line = in_.substr(0, end);
            in_.erase(0, end + 2);
            if (line.size() < 4 || line[3] != '-') co_return line;
        }
    }
    Task<std::string> ask(std::string command) {
        const Result<> written = co_await wire_->write(command);
        if (!written) co_return std::string();
        co_return co_await reply();
    }
    Task<bool> say(std::string octets) {
        const Result<> written = co_await wire_->write(octets);
        co_return written.has_value();
    }
    net::Stream& wire() { return *wire_; }

private:
    net::StreamPtr wire_;
    std::string in_;
};

std::string mail_line(const Sent& message, bool dsn) {
    std::string line = "MAIL FROM:<" + message.reverse_path + ">";
    if (dsn) line += " RET=HDRS ENVID=drill";
    if (!is_ascii(message.content)) line += " BODY=8BITMIME";
    return line + "\r\n";
}

std::string rcpt_line(const Sent& message, const std::string& recipient) {
    std::string line = "RCPT TO:<" + recipient + ">";
    if (message.notify == mail::notify_never) return line + " NOTIFY=NEVER\r\n";
    std::string wanted;
    const auto want = [&](std::uint8_t bit, const char* word) {
        if ((message.notify & bit) != 0) wanted += (wanted.empty() ? "" : ",") + std::string(word);
    };
    want(mail::notify_success, "SUCCESS");
    want(mail::notify_failure, "FAILURE");
    want(mail::notify_delay, "DELAY");
    if (!wanted.empty()) line += " NOTIFY=" + wanted;
    return line + "\r\n";
}

std::string stuffed(const std::string& content) {
    std::string out;
    bool line_begins = true;
    for (const char c : content) {
        if (line_begins && c == '.') out += '.';
        out += c;
        line_begins = c == '\n';
    }
    return out + ".\r\n";
}

std::string chunks(const std::string& content, Random& random) {
    const std::size_t cut = random.chance(0.5) ? content.size() : random.below(content.size());
    std::string out;
    if (cut < content.size()) out = "BDAT " + std::to_string(cut) + "\r\n" + content.substr(0, cut);
    const std::string rest = cut < content.size() ? content.substr(cut) : content;
    return out + "BDAT " + std::to_string(rest.size()) + " LAST\r\n" + rest;
}

bool positive(const std::string& reply) { return reply.starts_with('2'); }

Task<bool> send_envelope(Client& client, const StreamPlan& stream, const Sent& message) {
    std::string group = mail_line(message, message.notify != 0);
    for (const std::string& recipient : message.recipients) group += rcpt_line(message, recipient);
    if (stream.pipelining) {
        const bool said = co_await client.say(group);
        if (!said) co_return false;
    }
    bool fine = true;
    std::string_view rest(group);
    while (!rest.empty()) {
        const std::size_t end = rest.find("\r\n") + 2;
        std::string answer;
        if (stream.pipelining) {
            answer = co_await client.reply();
        } else {
            answer = co_await client.ask(std::string(rest.substr(0, end)));
        }
        if (answer.empty()) co_return false;
        fine = fine && positive(answer);
        rest.remove_prefix(end);
    }
    co_return fine;
}

// The content and its answer; an empty answer when the client or the link went away.
Task<std::string> send_content(Client& client, const StreamPlan& stream, const Sent& message, Random& random) {
    const bool aborts = random.chance(stream.aborts);
    if (stream.chunking) {
        std::string octets = chunks(message.content, random);
        if (aborts) octets.resize(random.below(octets.size()));
        const bool said = co_await client.say(octets);
        if (!said || aborts) co_return std::string();
        std::string answer = co_await client.reply();
        const bool first_of_two = !octets.starts_with("BDAT " + std::to_string(message.content.size()));
        if (first_of_two && positive(answer)) answer = co_await client.reply();
        co_return answer;
    }
    const std::string go_on = co_await client.ask("DATA\r\n");
    if (!go_on.starts_with("354")) co_return go_on.empty() ? go_on : "400 not taken";
    std::string octets = stuffed(message.content);
    // Sometimes a client goes away just after the dot, and never learns what became of its message.
    const bool after_dot = aborts && random.chance(0.4);
    if (aborts && !after_dot) octets.resize(random.below(octets.size()));
    const bool said = co_await client.say(octets);
    if (!said || aborts) co_return std::string();
    co_return co_await client.reply();
}

}  // namespace

Sent compose_sent(const StreamPlan& stream, std::uint64_t number, Random& random) {
    Sent message;
    if (!random.chance(stream.null_senders)) message.reverse_path = "sender" + std::to_string(random.below(5)) + "@senders.test";
    const std::uint64_t count = 1 + random.below(stream.recipients_max);
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string& domain = stream.to[random.below(stream.to.size())];
        message.recipients.push_back("user" + std::to_string(number) + "-" + std::to_string(i) + "@" + domain);
    }
    if (random.chance(stream.wants_dsn)) message.notify = random.chance(0.2) ? mail::notify_never : static_cast<std::uint8_t>(2 * (1 + random.below(7)));
    message.content = "From: drill@senders.test\r\nSubject: a message\r\n" + Ledger::mark(number) + "\r\n";
    const std::size_t size = random.below(stream.bytes_max);
    while (message.content.size() < size) message.content += random_line(random) + "\r\n";
    return message;
}

Task<bool> submit(
    const StreamPlan& stream, Ledger& ledger, Random& random, LinkPtr link, net::StreamPtr wire,
    std::shared_ptr<net::TlsContext> tls) {
    Client client(std::move(wire));
    client.wire().set_timeout(std::chrono::minutes(30));
    std::string answer = co_await client.reply();
    if (!positive(answer)) co_return false;
    answer = co_await client.ask("EHLO client.test\r\n");
    if (!positive(answer)) co_return false;
    if (stream.starttls && tls) {
        answer = co_await client.ask("STARTTLS\r\n");
        if (!positive(answer)) co_return false;
        const Result<> shaken = co_await client.wire().start_tls_client(tls, "engine.test");
        if (!shaken) co_return false;
        answer = co_await client.ask("EHLO client.test\r\n");
        if (!positive(answer)) co_return false;
    }
    const std::uint64_t number = ledger.next_number();
    const Sent message = compose_sent(stream, number, random);
    ledger.sent(message);
    const bool taken = co_await send_envelope(client, stream, message);
    if (!taken) co_return false;
    answer = co_await send_content(client, stream, message, random);
    if (!positive(answer)) {
        if (answer.empty()) link->reset();
        co_return false;
    }
    ledger.acknowledged(number);
    answer = co_await client.ask("QUIT\r\n");
    co_await client.wire().close();
    co_return true;
}

}  // namespace sluice::drill
