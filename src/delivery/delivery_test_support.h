#pragma once

// What the tests of this folder put in place of the rest of the engine, and a peer that plays a dialogue from text.

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "async/blocking.h"
#include "async/shard.h"
#include "async/task_group.h"
#include "base/text.h"
#include "delivery/courier.h"
#include "mail/header.h"
#include "net/line_reader.h"
#include "net/listener.h"

namespace sluice::delivery {

// Keeps batches; gives back the messages it was told of. append() on the test's thread, load() on the disk pool.
class FakeSpool final : public spool::Spool {
public:
    void append(spool::Batch batch, spool::CommitListener* listener, std::uint64_t ticket) override {
        batches.push_back(std::move(batch));
        if (listener == nullptr) return;
        EXPECT_FALSE(listener->repeats()) << "nobody can repeat an outcome";
        unsynced.emplace_back(listener, ticket);
        if (syncs_at_once) sync();
    }
    // Makes everything durable that somebody waits for.
    void sync() {
        for (const auto& [listener, ticket] : std::exchange(unsynced, {})) {
            spool::Committed committed{ticket, {}};
            listener->committed(std::span(&committed, 1));
        }
    }
    Result<mail::MessagePtr> load(MessageId id) override {
        ++loads;
        if (load_failure) return fail(*load_failure, "as the test says");
        const auto found = stored.find(id.value);
        if (found == stored.end()) return fail(Errc::not_found, "no such message");
        return found->second;
    }
    spool::Status status() const override { return {}; }
    spool::Pulse pulse() const override { return {}; }
    bool accepting() const override { return true; }
    void close() override {}

    template <class Record>
    std::vector<Record> all() const {
        std::vector<Record> out;
        for (const spool::Batch& batch : batches) {
            for (const spool::Record& record : batch) {
                if (const auto* one = std::get_if<Record>(&record)) out.push_back(*one);
            }
        }
        return out;
    }

    std::vector<spool::Batch> batches;
    std::vector<std::pair<spool::CommitListener*, std::uint64_t>> unsynced;
    bool syncs_at_once = true;
    std::map<std::uint64_t, mail::MessagePtr> stored;
    std::optional<Errc> load_failure;
    int loads = 0;
};

class FakeInbox final : public CoreInbox {
public:
    void push(queue::Event event) override { events.push_back(std::move(event)); }

    template <class Event>
    std::vector<Event> all() const {
        std::vector<Event> out;
        for (const queue::Event& event : events) {
            if (const auto* one = std::get_if<Event>(&event)) out.push_back(*one);
        }
        return out;
    }
    std::vector<queue::Event> events;
};

// Keeps facts as "delivered dot 2.0.0 250 2.0.0 ok [0,1]".
class FakeRecorder final : public event::Recorder {
public:
    void record(const event::Accepted&) override {}
    void record(const event::Refused&) override {}
    void record(const event::Delivered& fact) override { keep("delivered", fact); }
    void record(const event::Deferred& fact) override { keep("deferred", fact); }
    void record(const event::Bounced& fact) override { keep(fact.dsn.value != 0 ? "bounced+dsn" : "bounced", fact); }
    void record(const event::Expired& fact) override { keep(fact.dsn.value != 0 ? "expired+dsn" : "expired", fact); }
    void record(const event::Removed&) override {}
    void record(const event::PolicyChanged&) override {}
    void record(const event::PossibleDuplicate& fact) override { keep("duplicate?", fact); }

    std::vector<std::string> facts;
    std::vector<std::string> hosts;

private:
    void keep(const char* what, const event::ItemFact& fact) {
        std::string text(what);
        text.append(" ").append(fact.stage).append(" ").append(fact.status).append(" ").append(fact.reply).append(" [");
        for (const std::uint32_t recipient : fact.recipients) {
            if (text.back() != '[') text += ",";
            text += std::to_string(recipient);
        }
        facts.push_back(text + "]");
        hosts.emplace_back(fact.link.mx_host);
    }
};

class FakeLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return true; }
    void write(
        event::Level level, std::string_view, std::string_view, std::string_view sentence,
        std::initializer_list<event::Field> fields) override {
        std::string line(sentence);
        for (const event::Field& field : fields) line.append(" ").append(field.key).append("=").append(field.value);
        if (level == event::Level::error && !errors_expected) ADD_FAILURE() << "logged at error: " << line;
        lines.push_back(std::move(line));
    }
    std::string starting_with(std::string_view start) const {
        for (const std::string& line : lines) {
            if (line.starts_with(start)) return line;
        }
        return {};
    }
    std::vector<std::string> lines;
    bool errors_expected = false;
};

// "\\r", "\\n", "\\\\" and "\\xNN" in test texts.
inline std::string unescaped(std::string text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            out += text[i];
        } else if (text[++i] == 'x') {
            out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
            i += 2;
        } else {
            out += text[i] == 'r' ? '\r' : text[i] == 'n' ? '\n' : text[i];
        }
    }
    return out;
}

// Plays the server's part of a dialogue written as text, one step a line:
//   S: text   sends the line          C: text   expects the line; a '*' at its end stands for any rest
//   S+ text   sends it without CRLF   ~ quiet   expects that the client waits for us
//   ! close   closes                  ! stall   says nothing more until the client goes away
//   ! tls     the server's handshake  ! body    reads up to the line with only a dot
//   # comment
// Stops at the first step that does not fit; `trouble` then says why.
class ScriptedPeer {
public:
    ScriptedPeer(net::Stream& stream, const std::string& script) : stream_(stream), reader_(stream) {
        for (const std::string_view line : split(script, '\n')) {
            if (!trim(line).empty() && !line.starts_with('#')) steps_.emplace_back(line);
        }
    }

    Task<> play(std::shared_ptr<net::TlsContext> tls = nullptr) {
        for (const std::string& step : steps_) {
            bool fits = true;
            if (step == "! close") {
                break;
            } else if (step == "! tls") {
                const auto secured = co_await stream_.start_tls_server(tls);
                fits = secured.has_value();
            } else if (step == "! body") {
                fits = co_await read_body();
            } else if (step == "! stall") {
                const auto filled = co_await reader_.fill();
                fits = !filled;
            } else if (step == "~ quiet") {
                fits = co_await is_quiet();
            } else if (step.starts_with("S")) {
                fits = co_await say(step);
            } else {
                fits = co_await expect(step);
            }
            if (!fits) {
                trouble = "at \"" + step + "\", got \"" + printable(got_) + "\"";
                break;
            }
        }
        co_await stream_.close();
        finished = true;
    }

    std::string trouble;
    bool finished = false;

private:
    static std::string text_of(const std::string& step) {
        return step.size() > 3 ? unescaped(step.substr(3)) : std::string();
    }
    Task<bool> say(const std::string& step) {
        std::string bytes = text_of(step);
        if (step[1] == ':') bytes += "\r\n";
        const auto sent = co_await stream_.write(bytes);
        co_return sent.has_value();
    }
    Task<bool> expect(const std::string& step) {
        const auto line = co_await reader_.read_line(60'000);
        got_ = line ? std::string(*line) : line.error().text();
        if (!line || !got_.ends_with("\r\n")) co_return false;
        got_.resize(got_.size() - 2);
        const std::string text = text_of(step);
        const std::string_view wanted = text;
        if (!wanted.ends_with('*')) co_return got_ == wanted;
        co_return std::string_view(got_).starts_with(wanted.substr(0, wanted.size() - 1));
    }
    Task<bool> read_body() {
        while (true) {
            const auto line = co_await reader_.read_line(60'000);
            if (!line) co_return false;
            if (*line == ".\r\n") co_return true;
        }
    }
    Task<bool> is_quiet() {
        for (int turn = 0; turn < 50; ++turn) {
            co_await async::sleep_for(std::chrono::milliseconds(0));
        }
        got_ = reader_.buffered();
        co_return got_.empty() && !stream_.idle_link_is_dead();
    }

    net::Stream& stream_;
    net::LineReader reader_;
    std::vector<std::string> steps_;
    std::string got_;
};

inline mail::Recipient recipient_of(std::string_view address) {
    mail::Recipient recipient;
    const std::size_t at = address.rfind('@');
    recipient.address = {std::string(address.substr(0, at)), std::string(address.substr(at + 1))};
    return recipient;
}

// A message from a@sender.test with one item that holds all its recipients.
inline std::shared_ptr<mail::Message> make_message(
    const std::vector<std::string>& recipients, std::string content = "Subject: x\r\n\r\nhello\r\n") {
    auto message = std::make_shared<mail::Message>();
    message->id = MessageId{std::uint64_t{1'800'000'000'000} << 22};
    message->arrival = instant_from_ms(1'800'000'000'000);
    message->envelope.reverse_path = recipient_of("a@sender.test").address;
    for (const std::string& one : recipients) message->envelope.recipients.push_back(recipient_of(one));
    message->items = mail::split_items(message->envelope.recipients, false);
    message->content = std::move(content);
    message->traits = mail::scan_content(message->content);
    return message;
}

inline config::Settings test_settings() {
    config::Settings settings;
    settings.me = "client.test";
    settings.outbound.temp_fail_intervals = {Duration(60'000), Duration(300'000), Duration(900'000)};
    settings.outbound.retry_jitter = false;
    return settings;
}

}  // namespace sluice::delivery
