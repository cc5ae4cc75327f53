#include "peer/blast_session.h"

#include <unistd.h>

#include <cstring>

#include "async/blocking.h"
#include "base/assert.h"
#include "base/text.h"
#include "peer/ledger_time.h"

namespace sluice::peer {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr std::chrono::minutes answer_timeout{10};
constexpr std::chrono::milliseconds reconnect_pause{50};
constexpr std::string_view data_line = "DATA\r\n";
constexpr std::size_t read_bytes = 4 * 1024;

// One message on its way.
struct Flight {
    std::uint64_t number = 0;
    std::uint32_t replies_left = 0;  // of MAIL, RCPT..., DATA
    bool waits_for_354 = false;
    bool refused = false;
    bool mail_answered = false;
    bool mail_refused = false;  // should the server ask for content all the same, it gets none
    SteadyClock::time_point began;
};

class BlastSession {
public:
    BlastSession(BlastShared& shared, BlastThreadResult& result) : shared_(shared), options_(shared.options), result_(result) {
        filler_ = make_filler(options_.size);
    }

    Task<> run() {
        while (shared_.next < options_.messages) {
            const bool opened = co_await open();
            if (opened) {
                co_await send_messages();
                if (stream_) co_await say_goodbye();
            } else {
                ++shared_.connect_failures;
            }
            count_lost();
            stream_.reset();
            if (!opened && !options_.keep_going) co_return;
            if (!opened) co_await async::sleep_for(reconnect_pause);
        }
    }

private:
    static std::string make_filler(std::uint32_t size) {
        std::string text;
        Random random(size);
        while (text.size() + 78 <= size) {
            for (int i = 0; i < 74; ++i) text += static_cast<char>('a' + random.below(26));
            text += "\r\n";
        }
        return text;
    }

    Task<bool> open() {
        in_.clear();
        flights_.clear();
        sent_here_ = 0;
        net::ConnectOptions to(options_.target);
        Result<net::StreamPtr> connected = co_await net::connect(to);
        if (!connected) co_return false;
        stream_ = std::move(*connected);
        stream_->set_timeout(answer_timeout);
        ++shared_.connections;
        if (options_.implicit_tls) {
            const Result<> secured = co_await stream_->start_tls_client(shared_.tls, "");
            if (!secured) co_return false;
        }
        const int greeting = co_await read_code();
        if (greeting != 220) co_return false;
        const int hello = co_await command("EHLO blast.test\r\n");
        if (hello != 250) co_return false;
        if (options_.starttls) {
            const int go = co_await command("STARTTLS\r\n");
            if (go != 220) co_return false;
            const Result<> secured = co_await stream_->start_tls_client(shared_.tls, "");
            if (!secured) co_return false;
            const int again = co_await command("EHLO blast.test\r\n");
            if (again != 250) co_return false;
        }
        if (options_.user.empty()) co_return true;
        const std::string secret = std::string(1, '\0') + options_.user + std::string(1, '\0') + options_.password;
        const int authenticated = co_await command("AUTH PLAIN " + base64_encode(secret) + "\r\n");
        co_return authenticated == 235;
    }

    Task<> send_messages() {
        for (;;) {
            if (may_begin() && !exhausted_) {
                const bool begun = co_await begin_message();
                if (!begun && !stream_) co_return;
                if (begun) continue;
            }
            if (flights_.empty()) co_return;
            const bool alive = co_await progress();
            if (!alive) co_return;
        }
    }

    bool may_begin() const {
        if (options_.per_connection != 0 && sent_here_ >= options_.per_connection) return false;
        if (flights_.empty()) return true;
        if (flights_.size() >= options_.window) return false;
        switch (options_.protocol) {
            case BlastOptions::Protocol::plain: return false;
            // Nothing may follow DATA before its content (RFC 2920 §3.1).
            case BlastOptions::Protocol::pipelining: return flights_.back().replies_left == 0;
            case BlastOptions::Protocol::chunking: return true;
        }
        UNREACHABLE();
    }

    // Takes the next number and sends what can be sent of that message at once.
    Task<bool> begin_message() {
        const std::uint64_t number = shared_.next++;
        if (number >= options_.messages) {
            exhausted_ = true;
            co_return false;
        }
        ++sent_here_;
        Flight flight;
        flight.number = number;
        flight.began = SteadyClock::now();
        // In an open loop a message that is late because the ones before were slow counts from when it was due.
        if (options_.rate > 0) flight.began = co_await wait_for_turn(number);
        if (options_.protocol == BlastOptions::Protocol::plain) co_return co_await begin_step_by_step(flight);

        const std::string envelope = envelope_of(number);
        const bool chunking = options_.protocol == BlastOptions::Protocol::chunking;
        flight.replies_left = 1 + options_.recipients + (chunking ? 0 : 1);
        flight.waits_for_354 = !chunking;
        flights_.push_back(flight);
        std::string head = header_of(number);
        const std::string bdat = "BDAT " + std::to_string(head.size() + filler_.size()) + " LAST\r\n";
        const std::vector<std::string_view> slices =
            chunking ? std::vector<std::string_view>{envelope, bdat, head, filler_}
                     : std::vector<std::string_view>{envelope, data_line};
        co_return co_await send(slices);
    }

    // Without PIPELINING: one command, one answer.
    Task<bool> begin_step_by_step(Flight flight) {
        const std::string envelope = envelope_of(flight.number);
        flight.waits_for_354 = true;
        flight.replies_left = 1;
        std::size_t start = 0;
        for (std::size_t end = envelope.find('\n'); end != std::string::npos; end = envelope.find('\n', start)) {
            const int code = co_await command(envelope.substr(start, end + 1 - start));
            if (code == 0) co_return fail_link(flight);
            if (code / 100 != 2) flight.refused = note_refusal(code);
            if (!std::exchange(flight.mail_answered, true)) flight.mail_refused = flight.refused;
            start = end + 1;
        }
        flights_.push_back(flight);
        const std::vector<std::string_view> slices{data_line};
        co_return co_await send(slices);
    }

    bool fail_link(const Flight& flight) {
        flights_.push_back(flight);
        stream_.reset();
        return false;
    }

    // Reads one reply and does what follows from it.
    Task<bool> progress() {
        Flight& flight = flights_.front();
        const int code = co_await read_code();
        if (code == 0) {
            stream_.reset();
            co_return false;
        }
        if (flight.replies_left == 0) {
            finish(flight, code);
            flights_.pop_front();
            co_return true;
        }
        if (!std::exchange(flight.mail_answered, true)) flight.mail_refused = code / 100 != 2;
        --flight.replies_left;
        if (flight.replies_left == 0 && flight.waits_for_354) {
            if (code != 354) {
                count_refusal(flight.refused ? refused_code_ : code);
                flights_.pop_front();
                co_return true;
            }
            const std::string head = header_of(flight.number);
            std::vector<std::string_view> slices{head, filler_, ".\r\n"};
            if (flight.mail_refused) slices = {".\r\n"};
            co_return co_await send(slices);
        }
        if (code / 100 != 2) flight.refused = note_refusal(code);
        co_return true;
    }

    void finish(const Flight& flight, int code) {
        if (flight.mail_refused) return count_refusal(refused_code_);
        if (code / 100 != 2) {
            note_refusal(code);
            return count_refusal(code);
        }
        const std::chrono::duration<float, std::milli> took = SteadyClock::now() - flight.began;
        result_.latencies_ms.push_back(took.count());
        ++shared_.accepted;
        if (shared_.ledger_fd >= 0) write_ledger(flight, SteadyClock::now());
    }

    bool note_refusal(int code) {
        refused_code_ = code;
        if (result_.first_refusal.empty()) result_.first_refusal = last_line_;
        return true;
    }
    void count_refusal(int code) { ++(code / 100 == 4 ? shared_.refused_temporary : shared_.refused_permanent); }

    void count_lost() {
        shared_.lost += flights_.size();
        flights_.clear();
    }

    Task<> say_goodbye() {
        co_await command("QUIT\r\n");
        if (stream_) co_await stream_->close();
    }

    Task<SteadyClock::time_point> wait_for_turn(std::uint64_t number) {
        const std::chrono::duration<double> offset(static_cast<double>(number) / options_.rate);
        const auto due = shared_.start + std::chrono::duration_cast<SteadyClock::duration>(offset);
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(due - SteadyClock::now());
        if (left.count() > 0) co_await async::sleep_for(left);
        co_return due;
    }

    Task<bool> send(const std::vector<std::string_view>& slices) {
        stream_->set_timeout(answer_timeout);
        const Result<> written = co_await stream_->write_all(slices);
        if (!written) stream_.reset();
        co_return written.has_value();
    }

    Task<int> command(std::string line) {
        const Result<> written = co_await stream_->write(line);
        if (!written) co_return 0;
        co_return co_await read_code();
    }

    // The code of the next reply; 0 when the link is gone.
    Task<int> read_code() {
        for (;;) {
            for (std::size_t end = in_.find('\n', at_); end != std::string::npos; end = in_.find('\n', at_)) {
                const std::string_view line = std::string_view(in_).substr(at_, end - at_);
                at_ = end + 1;
                if (line.size() >= 4 && line[3] == '-') continue;
                const int code = parse_number<int>(line.substr(0, 3)).value_or(0);
                if (code >= 400) last_line_ = trim(line);
                co_return code;
            }
            in_.erase(0, at_);
            at_ = 0;
            const Result<std::size_t> count = co_await stream_->read_some(std::span<char>(fresh_.get(), read_bytes));
            if (!count) co_return 0;
            in_.append(fresh_.get(), *count);
        }
    }

    std::string recipient_of(std::uint64_t number, std::uint32_t which) const {
        const std::uint64_t n = number * options_.recipients + which;
        std::string out;
        for (std::size_t i = 0; i < options_.to.size(); ++i) {
            const char next = i + 1 < options_.to.size() ? options_.to[i + 1] : '\0';
            if (options_.to[i] == '%' && next == 'n') {
                out += std::to_string(n);
                ++i;
            } else if (options_.to[i] == '%' && next == 'd') {
                out += std::to_string(n % options_.domains);
                ++i;
            } else {
                out += options_.to[i];
            }
        }
        return out;
    }

    std::string envelope_of(std::uint64_t number) const {
        std::string out = "MAIL FROM:<" + options_.from + ">\r\n";
        for (std::uint32_t i = 0; i < options_.recipients; ++i) out += "RCPT TO:<" + recipient_of(number, i) + ">\r\n";
        return out;
    }

    std::string id_of(std::uint64_t number) const { return options_.id_prefix + std::to_string(number); }

    std::string header_of(std::uint64_t number) const {
        const std::string id = id_of(number);
        return "From: <" + options_.from + ">\r\nTo: <" + recipient_of(number, 0) + ">\r\nSubject: blast " + id +
               "\r\nDate: Fri, 20 Nov 2026 00:00:00 +0000\r\nMessage-ID: <" + id + "@blast.test>\r\nX-Ledger-Id: " + id +
               "\r\n\r\n";
    }

    // `read_ns` is the monotonic clock, by which whoever cuts the power tells the answers before the cut from those after it.
    void write_ledger(const Flight& flight, SteadyClock::time_point read) const {
        std::string line = "{\"id\":\"" + id_of(flight.number) + "\",\"steady_us\":" + std::to_string(steady_us(flight.began)) +
                           ",\"to\":[";
        for (std::uint32_t i = 0; i < options_.recipients; ++i) {
            line += (i > 0 ? ",\"" : "\"") + recipient_of(flight.number, i) + "\"";
        }
        const std::chrono::nanoseconds read_ns = read.time_since_epoch();
        line += "],\"read_ns\":" + std::to_string(read_ns.count()) + "}\n";
        // One write a line: lines of several threads do not mix, and what was written survives our own death.
        [[maybe_unused]] const ssize_t written = ::write(shared_.ledger_fd, line.data(), line.size());
    }

    BlastShared& shared_;
    const BlastOptions& options_;
    BlastThreadResult& result_;
    net::StreamPtr stream_;
    std::string filler_;
    std::unique_ptr<char[]> fresh_ = std::make_unique_for_overwrite<char[]>(read_bytes);
    std::string in_;
    std::size_t at_ = 0;
    std::string last_line_;
    std::deque<Flight> flights_;
    std::uint64_t sent_here_ = 0;
    int refused_code_ = 0;
    bool exhausted_ = false;
};

}  // namespace

Task<> run_blast_session(BlastShared& shared, BlastThreadResult& result) {
    BlastSession session(shared, result);
    co_await session.run();
}

}  // namespace sluice::peer
