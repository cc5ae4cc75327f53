#include "event/event_log.h"

#include <charconv>

#include "base/text.h"

namespace sluice::event {
namespace {

// One JSON object under construction, in a buffer that the thread reuses.
class Line {
public:
    explicit Line(std::string_view event) : out_(buffer()) {
        out_.clear();
        out_ += "{\"time\":\"";
        append_time();
        out_ += "\",\"event\":\"";
        out_ += event;
        out_ += '"';
    }
    void text(std::string_view key, std::string_view value) {
        begin(key);
        out_ += '"';
        append_json_escaped(out_, value);
        out_ += '"';
    }
    void text_if(std::string_view key, std::string_view value) {
        if (!value.empty()) text(key, value);
    }
    void number(std::string_view key, std::int64_t value) {
        begin(key);
        append_number(value);
    }
    void json(std::string_view key, std::string_view value) {
        begin(key);
        out_ += value;
    }
    void flag(std::string_view key, bool value) {
        begin(key);
        out_ += value ? "true" : "false";
    }
    void addresses(std::string_view key, const mail::Message& message, std::span<const std::uint32_t> indexes) {
        begin(key);
        out_ += '[';
        for (std::size_t i = 0; i < indexes.size(); ++i) {
            if (i > 0) out_ += ',';
            address(message.envelope.recipients[indexes[i]].address);
        }
        out_ += ']';
    }
    void address_field(std::string_view key, const mail::Address& value) {
        begin(key);
        address(value);
    }
    std::string_view finish() {
        out_ += "}\n";
        return out_;
    }

private:
    static std::string& buffer() {
        thread_local std::string text;
        return text;
    }
    // The date changes once a second at most; only the milliseconds are formatted each time.
    void append_time() {
        thread_local std::int64_t second = -1;
        thread_local std::string prefix;
        const std::int64_t now = wall_clock_ms();
        if (now / 1000 != second) {
            second = now / 1000;
            prefix = rfc3339(now).substr(0, 20);
        }
        const auto ms = static_cast<int>(now % 1000);
        const char digits[4] = {
            static_cast<char>('0' + ms / 100), static_cast<char>('0' + ms / 10 % 10), static_cast<char>('0' + ms % 10), 'Z'};
        out_ += prefix;
        out_.append(digits, 4);
    }
    void begin(std::string_view key) {
        out_ += ",\"";
        out_ += key;
        out_ += "\":";
    }
    void append_number(std::int64_t value) {
        char digits[24];
        const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
        out_.append(digits, static_cast<std::size_t>(end - digits));
    }
    void address(const mail::Address& value) {
        out_ += '"';
        append_json_escaped(out_, value.text());
        out_ += '"';
    }

    std::string& out_;
};

void add_message(Line& line, const mail::Message& message) {
    line.text("message", message.id.text());
    line.address_field("sender", message.envelope.reverse_path);
    line.text_if("tenant", message.tenant);
    line.text_if("job", message.job);
    line.text_if("transport", message.transport);
}

void add_link(Line& line, const Link& link) {
    line.text_if("mx", link.mx_host);
    line.text_if("remote", link.remote);
    line.text_if("local", link.local);
    line.text_if("tls", link.tls_version);
    line.text_if("cipher", link.tls_cipher);
    if (!link.tls_version.empty()) line.flag("tls_verified", link.tls_verified);
    if (link.authenticated) line.flag("authenticated", true);
    if (link.lmtp) line.flag("lmtp", true);
    if (link.message_number > 0) line.number("on_connection", link.message_number);
}

void add_item(Line& line, const ItemFact& fact) {
    add_message(line, fact.message);
    line.text("item", fact.item.text());
    if (fact.item.index < fact.message.items.size()) line.text("domain", fact.message.items[fact.item.index].domain);
    line.addresses("recipients", fact.message, fact.recipients);
    line.number("attempts", fact.attempts);
    add_link(line, fact.link);
    line.text_if("stage", fact.stage);
    line.text_if("reply", fact.reply);
    line.text_if("status", fact.status);
    line.number("age_ms", fact.since_arrival.count());
    line.number("attempt_ms", fact.attempt_took.count());
}

}  // namespace

EventLog::EventLog(LineWriter* writer, Recorder& next) : writer_(writer), next_(next) {}

void EventLog::record(const Accepted& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("accepted");
    add_message(line, fact.message);
    line.number("recipient_count", static_cast<std::int64_t>(fact.message.envelope.recipients.size()));
    line.number("items", static_cast<std::int64_t>(fact.message.items.size()));
    line.number("size", static_cast<std::int64_t>(fact.message.size()));
    line.text_if("client", fact.client);
    line.text_if("helo", fact.helo);
    line.text_if("user", fact.message.auth_user);
    line.text_if("cipher", fact.tls_cipher);
    line.text_if("origin", fact.message.origin);
    line.number("took_ms", fact.took.count());
    writer_->append(line.finish());
}

void EventLog::record(const Refused& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("refused");
    line.text_if("session", fact.session);
    line.text_if("client", fact.client);
    line.text_if("stage", fact.stage);
    line.text_if("reply", fact.reply);
    line.text_if("sender", fact.reverse_path);
    line.text_if("recipient", fact.forward_path);
    writer_->append(line.finish());
}

void EventLog::record(const Delivered& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("delivered");
    add_item(line, fact);
    writer_->append(line.finish());
}

void EventLog::record(const Deferred& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("deferred");
    add_item(line, fact);
    line.text("next", rfc3339(fact.next_wall_ms));
    writer_->append(line.finish());
}

void EventLog::record(const Bounced& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("bounced");
    add_item(line, fact);
    if (fact.dsn.value != 0) line.text("dsn", fact.dsn.text());
    writer_->append(line.finish());
}

void EventLog::record(const Expired& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("expired");
    add_item(line, fact);
    if (fact.dsn.value != 0) line.text("dsn", fact.dsn.text());
    writer_->append(line.finish());
}

void EventLog::record(const Removed& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("removed");
    add_item(line, fact);
    line.text_if("by", fact.by);
    writer_->append(line.finish());
}

void EventLog::record(const PossibleDuplicate& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line("possible_duplicate");
    add_item(line, fact);
    writer_->append(line.finish());
}

void EventLog::record(const PolicyChanged& fact) {
    next_.record(fact);
    if (writer_ == nullptr) return;
    Line line(fact.kind);
    line.text("change", fact.change);
    line.text("id", fact.id);
    line.text_if("by", fact.by);
    line.text_if("reason", fact.reason);
    line.json("definition", fact.definition);
    writer_->append(line.finish());
}

void EventLog::record_reaction(const Reaction& fact) {
    next_.record_reaction(fact);
    if (writer_ == nullptr) return;
    Line line("reaction");
    line.text("by", fact.by);
    line.text("concerns", fact.concerns);
    line.text("what", fact.what);
    line.text_if("because", fact.because);
    line.text_if("id", fact.id);
    writer_->append(line.finish());
}

}  // namespace sluice::event
