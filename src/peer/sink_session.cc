#include "peer/sink_session.h"

#include <cstring>

#include "async/blocking.h"
#include "base/text.h"

namespace sluice::peer {
namespace {

constexpr std::size_t read_bytes = 16 * 1024;
constexpr std::chrono::minutes idle_timeout{30};
constexpr std::string_view end_of_data = "\r\n.\r\n";

// One client of a sink. Replies gather in `out_` and go out when the input runs dry.
class SinkSession {
public:
    SinkSession(const SinkSurroundings& around, net::StreamPtr stream, std::uint64_t connection)
        : around_(around), stream_(std::move(stream)), connection_(connection), endpoint_(stream_->local().text()) {
        if (around.options.check_wire) wire_.emplace(around.wire, connection, around.options.lmtp);
    }

    Task<> serve() {
        stream_->set_timeout(idle_timeout);
        if (around_.options.implicit_tls) {
            const Result<> secured = co_await stream_->start_tls_server(around_.tls);
            if (!secured) co_return;
        }
        const bool greeted = co_await answer(Stage::connect, {}, "220 sink.test ESMTP");
        if (greeted) co_await converse();
        if (!dropped_) {
            co_await flush();
            co_await stream_->close();
        }
    }

private:
    enum class Mode : std::uint8_t { commands, data, chunk };

    Task<> converse() {
        while (!over_) {
            const bool stepped = co_await step();
            if (over_) co_return;
            if (stepped) continue;
            const bool flushed = co_await flush();
            if (!flushed) co_return;
            const bool more = co_await read_more();
            if (!more) co_return;
        }
    }

    // Does one thing with what has been read; false when more octets are needed.
    Task<bool> step() {
        switch (mode_) {
            case Mode::commands: co_return co_await take_command();
            case Mode::data: co_return co_await take_data();
            case Mode::chunk: co_return co_await take_chunk();
        }
        UNREACHABLE();
    }

    Task<bool> take_command() {
        const std::string_view left = unread();
        const auto* newline = static_cast<const char*>(std::memchr(left.data(), '\n', left.size()));
        if (newline == nullptr) co_return false;
        const std::string_view whole = left.substr(0, static_cast<std::size_t>(newline - left.data()) + 1);
        if (wire_) wire_->command(whole, left.size() - whole.size());
        const std::string line(trim(whole));
        consume(whole.size());
        co_await command(line);
        co_return true;
    }

    Task<> command(const std::string& line) {
        const std::string verb = to_upper(std::string_view(line).substr(0, 4));
        if (verb == "MAIL") co_await mail(line);
        else if (verb == "RCPT") co_await rcpt(line);
        else if (verb == "DATA") co_await data();
        else if (verb == "BDAT") co_await bdat(line);
        else if (verb == "EHLO" || verb == "LHLO" || verb == "HELO") co_await hello(verb);
        else if (verb == "STAR") co_await starttls();
        else if (verb == "AUTH") co_await answer(Stage::auth, {}, "235 2.7.0 authenticated");
        else if (verb == "RSET") co_await reset();
        else if (verb == "QUIT") co_await quit();
        else out_ += verb == "NOOP" ? "250 2.0.0 ok\r\n" : "502 5.5.1 not known here\r\n";
    }

    Task<> hello(const std::string& verb) {
        forget_transaction();
        const SinkOptions& options = around_.options;
        std::vector<std::string> lines{"sink.test"};
        if (verb != "HELO") {
            if (options.pipelining) lines.emplace_back("PIPELINING");
            if (options.chunking) lines.emplace_back("CHUNKING");
            if (options.eight_bit) lines.emplace_back("8BITMIME");
            if (options.smtputf8) lines.emplace_back("SMTPUTF8");
            if (options.dsn) lines.emplace_back("DSN");
            if (options.size_max > 0) lines.push_back("SIZE " + std::to_string(options.size_max));
            if (around_.tls && stream_->tls() == nullptr) lines.emplace_back("STARTTLS");
            lines.emplace_back("ENHANCEDSTATUSCODES");
            for (const std::string_view extra : split(options.extra_ehlo, ',')) {
                if (!extra.empty()) lines.emplace_back(extra);
            }
        }
        std::string reply;
        for (std::size_t i = 0; i < lines.size(); ++i) {
            if (i > 0) reply += "\r\n";
            reply += (i + 1 < lines.size() ? "250-" : "250 ") + lines[i];
        }
        const bool accepted = co_await answer(Stage::ehlo, {}, reply);
        if (wire_ && accepted) wire_->offered({lines.begin() + 1, lines.end()});
    }

    Task<> starttls() {
        if (!around_.tls || stream_->tls() != nullptr) {
            out_ += "503 5.5.1 not now\r\n";
            co_return;
        }
        const bool go = co_await answer(Stage::starttls, {}, "220 2.0.0 go ahead");
        if (!go) co_return;
        const bool flushed = co_await flush();
        in_.clear();
        at_ = 0;
        if (!flushed) co_return;
        const Result<> secured = co_await stream_->start_tls_server(around_.tls);
        if (!secured) over_ = dropped_ = true;
        if (wire_) wire_->secured();
    }

    Task<> mail(const std::string& line) {
        const std::string address = path_of(line);
        if (!to_.empty()) complain("MAIL within a transaction that has recipients", line);
        const bool taken = co_await answer(Stage::mail, address, "250 2.1.0 ok");
        if (!taken) co_return;
        forget_transaction();
        from_ = address;
        has_mail_ = true;
    }

    Task<> rcpt(const std::string& line) {
        if (!has_mail_) {
            out_ += "503 5.5.1 MAIL first\r\n";
            co_return;
        }
        std::string address = path_of(line);
        const bool taken = co_await answer(Stage::rcpt, address, "250 2.1.5 ok");
        if (taken) to_.push_back(std::move(address));
    }

    Task<> data() {
        if (to_.empty()) {
            out_ += "503 5.5.1 no valid recipients\r\n";
            co_return;
        }
        const bool go = co_await answer(Stage::data, {}, "354 go ahead");
        if (go) mode_ = Mode::data;
    }

    Task<> bdat(const std::string& line) {
        const auto words = split(line, ' ');
        const auto size = words.size() > 1 ? parse_number<std::uint64_t>(words[1]) : std::nullopt;
        if (!size) {
            complain("BDAT without a size", line);
            out_ += "501 5.5.4 BDAT takes a size\r\n";
            over_ = true;
            co_return;
        }
        chunk_left_ = *size;
        chunk_last_ = words.size() > 2 && iequals(words[2], "LAST");
        mode_ = Mode::chunk;
    }

    Task<bool> take_data() {
        const std::string_view left = unread();
        // The terminator may also be the very first line: then the CRLF before it is that of DATA.
        if (content_size_ == 0 && left.starts_with(".\r\n")) {
            consume(3);
            end_of_content(WireCheck::Framing::dots);
            co_await finish();
            co_return true;
        }
        if (content_size_ == 0 && left.size() < 3) co_return false;
        const std::size_t end = left.find(end_of_data);
        if (end == std::string_view::npos) {
            if (left.size() <= end_of_data.size()) co_return false;
            keep(left.substr(0, left.size() - end_of_data.size() + 1), WireCheck::Framing::dots);
            consume(left.size() - end_of_data.size() + 1);
            co_return false;
        }
        keep(left.substr(0, end + 2), WireCheck::Framing::dots);
        consume(end + end_of_data.size());
        end_of_content(WireCheck::Framing::dots);
        if (around_.store.wants_content()) remove_dots();
        co_await finish();
        co_return true;
    }

    Task<bool> take_chunk() {
        const std::string_view left = unread();
        const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left.size(), chunk_left_));
        keep(left.substr(0, count), WireCheck::Framing::chunk);
        consume(count);
        chunk_left_ -= count;
        if (chunk_left_ > 0) co_return false;
        if (chunk_last_) end_of_content(WireCheck::Framing::chunk);
        mode_ = Mode::commands;
        if (!to_.empty() && chunk_last_) co_await finish();
        else if (to_.empty()) out_ += "503 5.5.1 no valid recipients\r\n";
        else out_ += "250 2.0.0 chunk taken\r\n";
        if (to_.empty()) content_.clear();
        co_return true;
    }

    // The message is complete: LMTP answers for every recipient, SMTP once.
    Task<> finish() {
        mode_ = Mode::commands;
        const std::size_t answers = around_.options.lmtp ? to_.size() : 1;
        for (std::size_t i = 0; i < answers && !over_; ++i) co_await finish_one(around_.options.lmtp ? to_[i] : std::string());
        forget_transaction();
    }

    Task<> finish_one(const std::string& recipient) {
        const auto rule = around_.script.decide(Stage::dot, recipient);
        const bool refused = rule && !rule->reply.empty() && !rule->reply.starts_with('2');
        const std::string ok = rule && !rule->reply.empty() ? rule->reply : "250 2.0.0 taken";
        if (rule && rule->delay.count() > 0) {
            co_await flush();
            co_await async::sleep_for(rule->delay);
        }
        if (!refused && !(rule && rule->drop)) record(recipient, rule && rule->drop_after ? "" : ok);
        if (rule && (rule->drop || rule->drop_after)) {
            drop();
            co_return;
        }
        if (refused) ++around_.counts.refused;
        out_ += ok + "\r\n";
    }

    void record(const std::string& recipient, std::string_view answer_text) {
        const std::vector<std::string> one{recipient};
        const std::vector<std::string>& to = around_.options.lmtp ? one : to_;
        around_.counts.messages += 1;
        around_.counts.recipients += to.size();
        around_.counts.bytes += content_size_;
        if (around_.store.wants_content()) {
            around_.store.take({from_, to, content_, endpoint_, connection_, answer_text});
        }
        around_.on_message();
    }

    // Answers as the script says, or with `ordinary`; false when the client was refused or dropped.
    Task<bool> answer(Stage stage, const std::string& address, std::string ordinary) {
        if (around_.script.empty()) {
            out_ += ordinary;
            out_ += "\r\n";
            co_return true;
        }
        const auto rule = around_.script.decide(stage, address);
        if (rule && rule->delay.count() > 0) {
            co_await flush();
            co_await async::sleep_for(rule->delay);
        }
        if (rule && rule->drop) {
            drop();
            co_return false;
        }
        const bool scripted = rule && !rule->reply.empty();
        out_ += scripted ? rule->reply : ordinary;
        out_ += "\r\n";
        const bool positive = !scripted || rule->reply.starts_with('2') || rule->reply.starts_with('3');
        if (!positive) ++around_.counts.refused;
        if (scripted && rule->reply.starts_with("421")) over_ = true;
        co_return positive;
    }

    Task<> reset() {
        forget_transaction();
        co_await answer(Stage::rset, {}, "250 2.0.0 ok");
    }

    Task<> quit() {
        if (wire_) wire_->ended(unread().size());
        co_await answer(Stage::quit, {}, "221 2.0.0 bye");
        over_ = true;
    }

    void drop() {
        ++around_.counts.dropped;
        over_ = dropped_ = true;
        stream_->abort();
    }

    void forget_transaction() {
        from_.clear();
        to_.clear();
        content_.clear();
        content_size_ = 0;
        has_mail_ = false;
    }

    void complain(std::string_view what, std::string_view line) {
        if (wire_) around_.wire.add(connection_, what, line);
    }

    void end_of_content(WireCheck::Framing framing) {
        if (wire_) wire_->end_of_content(framing);
    }

    void keep(std::string_view octets, WireCheck::Framing framing) {
        if (wire_) wire_->content(octets, framing);
        content_size_ += octets.size();
        if (around_.store.wants_content()) content_.append(octets);
    }

    void remove_dots() {
        if (content_.starts_with("..")) content_.erase(0, 1);
        for (std::size_t at = content_.find("\r\n.."); at != std::string::npos; at = content_.find("\r\n..", at + 3)) {
            content_.erase(at + 2, 1);
        }
    }

    static std::string path_of(const std::string& line) {
        const std::size_t open = line.find('<');
        const std::size_t close = line.find('>', open);
        if (open == std::string::npos || close == std::string::npos) return {};
        return line.substr(open + 1, close - open - 1);
    }

    std::string_view unread() const { return std::string_view(in_).substr(at_); }
    void consume(std::size_t count) { at_ += count; }

    Task<bool> read_more() {
        in_.erase(0, at_);
        at_ = 0;
        const Result<std::size_t> count = co_await stream_->read_some(std::span<char>(fresh_.get(), read_bytes));
        in_.append(fresh_.get(), count.value_or(0));
        co_return count.has_value();
    }

    Task<bool> flush() {
        if (out_.empty()) co_return true;
        const Result<> written = co_await stream_->write(out_);
        out_.clear();
        co_return written.has_value();
    }

    SinkSurroundings around_;
    net::StreamPtr stream_;
    const std::uint64_t connection_;
    const std::string endpoint_;
    std::optional<WireCheck> wire_;  // unless switched off
    Mode mode_ = Mode::commands;
    std::unique_ptr<char[]> fresh_ = std::make_unique_for_overwrite<char[]>(read_bytes);
    std::string in_, out_;
    std::size_t at_ = 0;
    std::string from_;
    std::vector<std::string> to_;
    std::string content_;
    std::uint64_t content_size_ = 0;
    std::uint64_t chunk_left_ = 0;
    bool chunk_last_ = false, has_mail_ = false, over_ = false, dropped_ = false;
};

}  // namespace

Task<> serve_sink(SinkSurroundings surroundings, net::StreamPtr stream, std::uint64_t connection) {
    ++surroundings.counts.connections;
    SinkSession session(surroundings, std::move(stream), connection);
    co_await session.serve();
}

}  // namespace sluice::peer
