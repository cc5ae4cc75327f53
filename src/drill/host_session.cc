#include "drill/host_session.h"

#include <algorithm>
#include <array>

#include "async/blocking.h"
#include "base/text.h"
#include "drill/virtual_time.h"

namespace sluice::drill {
namespace {

constexpr std::size_t read_bytes = 16 * 1024;
constexpr std::size_t command_octets_max = 512;
constexpr std::size_t parameter_octets_max = 1500;  // of MAIL and RCPT with every extension (RFC 5321 §4.5.3.1.4)
constexpr std::size_t content_line_max = 998;
constexpr std::int64_t greylisted_ns = 300'000'000'000;

std::string address_in(const std::string& line) {
    const std::size_t open = line.find('<');
    const std::size_t close = line.find('>', open);
    if (open == std::string::npos || close == std::string::npos) return "?";
    return line.substr(open + 1, close - open - 1);
}

}  // namespace

HostSession::HostSession(Internet& internet, Internet::Host& host, Mood mood, LinkPtr link, net::StreamPtr stream)
    : internet_(internet), host_(host), mood_(mood), link_(std::move(link)), stream_(std::move(stream)) {}

Random& HostSession::random() { return internet_.random_; }

// Who forgets half of what it was told misunderstands the rest.
void HostSession::violate(const std::string& what) {
    if (!is(Mood::lies_about_pipelining)) internet_.ledger_.violate(host_.name + ": " + what);
}

Task<> HostSession::serve() {
    stream_->set_timeout(std::chrono::hours(2));
    if (is(Mood::never_reads)) {
        const bool waited = co_await pause(3'600);
        if (waited) link_->reset();
        co_return;
    }
    bool goes_on = co_await greet();
    while (goes_on && !over_) {
        std::string line;
        goes_on = co_await read_line(line);
        if (goes_on) goes_on = co_await obey(std::move(line));
    }
    co_await stream_->close();
}

Task<bool> HostSession::greet() {
    if (is(Mood::closes_at_once)) co_return false;
    if (is(Mood::refuses_for_good)) {
        over_ = true;
        co_return co_await reply("554 5.7.1 go away");
    }
    if (is(Mood::talks_nonsense) && chance(0.3)) co_return co_await reply("hello there");
    co_return co_await reply("220 " + host_.name + " ESMTP");
}

Task<bool> HostSession::pause(std::int64_t seconds) {
    const std::chrono::milliseconds delay(seconds * 1'000);
    co_return co_await async::sleep_for(delay);
}

// Says one reply as the mood wants it.
Task<bool> HostSession::reply(std::string text) {
    internet_.ledger_.trace(host_.name + " says " + text);
    if (is(Mood::tarpits)) {
        const bool waited = co_await pause(static_cast<std::int64_t>(30 + random().below(200)));
        if (!waited) co_return false;
    }
    if (is(Mood::floods) && text.size() > 4) {
        std::string flood;
        for (int i = 0; i < 300; ++i) flood += text.substr(0, 3) + "-" + std::to_string(i) + " of many lines\r\n";
        text = flood + text;
    }
    if (is(Mood::talks_nonsense) && chance(0.2)) text = chance(0.5) ? "999 what" : std::string("25") + '\0' + " ?";
    text += is(Mood::bare_lf) ? "\n" : "\r\n";
    if (is(Mood::slow_octets)) {
        for (const char c : text) {
            const std::string_view octet(&c, 1);
            const bool waited = co_await pause(1);
            const Result<> written = co_await stream_->write(octet);
            if (!waited || !written) co_return false;
        }
        co_return true;
    }
    const Result<> written = co_await stream_->write(text);
    co_return written.has_value();
}

Task<bool> HostSession::read_more() {
    std::array<char, read_bytes> fresh;
    const Result<std::size_t> count = co_await stream_->read_some(fresh);
    if (!count) co_return false;
    in_.append(fresh.data(), *count);
    co_return true;
}

Task<bool> HostSession::read_line(std::string& line) {
    std::size_t end = in_.find("\r\n");
    while (end == std::string::npos) {
        if (in_.size() > parameter_octets_max) {
            violate("a command without end");
            co_return false;
        }
        const bool more = co_await read_more();
        if (!more) co_return false;
        end = in_.find("\r\n");
    }
    line = in_.substr(0, end);
    in_.erase(0, end + 2);
    check_line(line);
    // Who was not offered PIPELINING waits for each reply; content may follow BDAT.
    const bool followed_by_content = istarts_with(line, "BDAT");
    if (!in_.empty() && !(extended_ && host_.plan.pipelining) && !followed_by_content) violate("pipelined without an offer: " + line);
    if (is(Mood::lies_about_pipelining) && !followed_by_content) in_.clear();
    co_return true;
}

void HostSession::check_line(std::string_view line) {
    for (const char c : line) {
        if (c == '\r' || c == '\n' || c == '\0') violate("a command with a bare CR, LF or NUL: " + printable(line));
    }
    const bool with_parameters = istarts_with(line, "MAIL") || istarts_with(line, "RCPT") || istarts_with(line, "AUTH");
    if (line.size() + 2 > (with_parameters ? parameter_octets_max : command_octets_max)) violate("a command that is too long");
}

Task<bool> HostSession::obey(std::string line) {
    internet_.ledger_.trace(host_.name + " hears " + (istarts_with(line, "BDAT") ? std::string("BDAT") : line));
    if (istarts_with(line, "EHLO ")) co_return co_await hello(true);
    if (istarts_with(line, "HELO ")) co_return co_await hello(false);
    if (istarts_with(line, "STARTTLS")) co_return co_await start_tls();
    if (istarts_with(line, "MAIL FROM:")) co_return co_await mail(line);
    if (istarts_with(line, "RCPT TO:")) co_return co_await rcpt(line);
    if (line == "DATA") co_return co_await data();
    if (istarts_with(line, "BDAT ")) co_return co_await bdat(line);
    if (line == "RSET") {
        forget();
        co_return co_await reply("250 2.0.0 forgotten");
    }
    if (line == "QUIT") {
        over_ = true;
        co_return co_await reply("221 2.0.0 bye");
    }
    violate("not a command: " + printable(line.substr(0, 80)));
    co_return co_await reply("500 5.5.1 what?");
}

Task<bool> HostSession::hello(bool extended) {
    if (extended && is(Mood::helo_only)) co_return co_await reply("502 5.5.1 never heard of it");
    greeted_ = true;
    extended_ = extended;
    forget();
    internet_.talks(link_);
    if (!extended) co_return co_await reply("250 " + host_.name);
    const HostPlan& plan = host_.plan;
    std::string text = "250-" + host_.name + "\r\n";
    const auto offer = [&](bool offered, const char* keyword) {
        if (offered) text += std::string("250-") + keyword + "\r\n";
    };
    offer(plan.pipelining, "PIPELINING");
    offer(plan.chunking, "CHUNKING");
    offer(plan.eight_bit, "8BITMIME");
    offer(plan.smtputf8, "SMTPUTF8");
    offer(plan.size, "SIZE 10000000");
    offer(plan.dsn, "DSN");
    const bool tls = plan.starttls || is(Mood::broken_tls) || is(Mood::refuses_tls) || is(Mood::expired_certificate);
    offer(tls && !in_tls_, "STARTTLS");
    text += "250 ENHANCEDSTATUSCODES";
    co_return co_await reply(text);
}

Task<bool> HostSession::start_tls() {
    if (in_tls_) violate("STARTTLS inside TLS");
    if (!in_.empty()) violate("octets behind STARTTLS");
    in_.clear();
    if (is(Mood::refuses_tls)) co_return co_await reply("454 4.7.0 not now");
    bool said = co_await reply("220 2.0.0 go ahead");
    if (!said) co_return false;
    if (is(Mood::broken_tls)) {
        said = co_await reply("this is no TLS record at all");
        co_return false;
    }
    const auto& context = is(Mood::expired_certificate) ? internet_.credentials_.expired : internet_.credentials_.good;
    const Result<> shaken = co_await stream_->start_tls_server(context);
    in_tls_ = true;
    greeted_ = false;
    co_return shaken.has_value();
}

void HostSession::check_parameters(const std::string& line, std::initializer_list<std::string_view> allowed) {
    const std::size_t end = line.find('>');
    if (end == std::string::npos) return violate("a path without end: " + line);
    for (const std::string_view parameter : split(std::string_view(line).substr(end + 1), ' ')) {
        if (parameter.empty()) continue;
        const std::string_view keyword = parameter.substr(0, parameter.find('='));
        const bool known = std::any_of(allowed.begin(), allowed.end(), [&](std::string_view one) { return one == keyword; });
        if (!known) violate("a parameter that was not offered: " + std::string(parameter));
    }
}

Task<bool> HostSession::mail(const std::string& line) {
    if (!greeted_) violate("MAIL before EHLO");
    if (has_mail_) violate("MAIL inside a transaction");
    const bool offered = extended_;
    const HostPlan& plan = host_.plan;
    check_parameters(
        line, {offered && plan.size ? "SIZE" : "-", offered && plan.eight_bit ? "BODY" : "-",
               offered && plan.smtputf8 ? "SMTPUTF8" : "-", offered && plan.dsn ? "RET" : "-", offered && plan.dsn ? "ENVID" : "-"});
    if (is(Mood::throttles) && messages_ >= host_.plan.after) {
        over_ = true;
        co_return co_await reply("421 4.7.0 enough for today");
    }
    has_mail_ = true;
    from_ = address_in(line);
    co_return co_await reply("250 2.1.0 sender fine");
}

std::string HostSession::rcpt_answer(const std::string& recipient) {
    // Whoever lies about PIPELINING may have lost the MAIL before it.
    if (!has_mail_) return "503 5.5.1 who sends that?";
    if (is(Mood::refuses_some) && chance(0.5)) return chance(0.5) ? "550 5.1.1 nobody here" : "450 4.2.1 busy";
    if (is(Mood::greylists)) {
        const auto [seen, fresh] = host_.greylist.emplace(from_ + " " + recipient, VirtualTime::now_ns());
        if (fresh || VirtualTime::now_ns() - seen->second < greylisted_ns) return "451 4.7.1 greylisted";
    }
    return "250 2.1.5 recipient fine";
}

Task<bool> HostSession::rcpt(const std::string& line) {
    if (!has_mail_) violate("RCPT before MAIL");
    const bool dsn = extended_ && host_.plan.dsn;
    check_parameters(line, {dsn ? "NOTIFY" : "-", dsn ? "ORCPT" : "-"});
    const std::string recipient = address_in(line);
    const std::string answer = rcpt_answer(recipient);
    if (answer.starts_with('2')) to_.push_back(recipient);
    co_return co_await reply(answer);
}

Task<bool> HostSession::data() {
    if (!has_mail_) violate("DATA before MAIL");
    if (in_chunks_) violate("DATA after BDAT");
    if (to_.empty()) co_return co_await reply("554 5.5.1 no valid recipients");
    // What follows DATA may only come after 354, whatever was offered (RFC 2920 §3.1).
    if (!in_.empty()) violate("content before 354");
    const bool said = co_await reply("354 go on");
    if (!said) co_return false;
    const bool right = co_await read_content();
    if (!right) co_return false;
    co_return co_await decide(true);
}

Task<bool> HostSession::read_content() {
    std::string line;
    while (true) {
        const std::size_t end = in_.find("\r\n");
        if (end == std::string::npos) {
            if (is(Mood::resets_in_content) && content_.size() + in_.size() > 200) {
                link_->reset();
                co_return false;
            }
            if (in_.size() > content_line_max + 2) violate("a line of content that is too long");
            const bool more = co_await read_more();
            if (!more) co_return false;
            continue;
        }
        line = in_.substr(0, end);
        in_.erase(0, end + 2);
        if (line == ".") co_return true;
        if (line.starts_with('.')) {
            if (!line.starts_with("..")) violate("a leading dot was not doubled");
            line.erase(0, 1);
        }
        if (line.size() > content_line_max) violate("a line of content that is too long");
        if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) violate("bare CR, LF or NUL in content");
        content_ += line;
        content_ += "\r\n";
    }
}

Task<bool> HostSession::bdat(const std::string& line) {
    if (!extended_ || !host_.plan.chunking) violate("BDAT was not offered");
    if (!has_mail_) violate("BDAT before MAIL");
    const auto words = split(line, ' ');
    const auto size = words.size() > 1 ? parse_number<std::size_t>(words[1]) : std::nullopt;
    const bool last = words.size() > 2 && words[2] == "LAST";
    if (!size || words.size() > 3 || (words.size() == 3 && !last)) {
        violate("BDAT that cannot be read: " + line);
        co_return false;
    }
    in_chunks_ = true;
    while (in_.size() < *size) {
        if (is(Mood::resets_in_content) && in_.size() > 200) {
            link_->reset();
            co_return false;
        }
        const bool more = co_await read_more();
        if (!more) co_return false;
    }
    content_ += in_.substr(0, *size);
    in_.erase(0, *size);
    if (to_.empty()) {
        forget();
        co_return co_await reply("503 5.5.1 no valid recipients");
    }
    if (!last) co_return co_await reply("250 2.0.0 chunk taken");
    co_return co_await decide(true);
}

std::string HostSession::dot_answer() {
    if (is(Mood::refuses_at_dot) && chance(0.7)) return chance(0.5) ? "554 5.6.0 not this" : "451 4.3.0 not now";
    return "250 2.0.0 taken";
}

// The message is complete: takes it or not, and says so or not.
Task<bool> HostSession::decide(bool) {
    const std::string answer = dot_answer();
    ++messages_;
    auto said = std::make_shared<std::uint64_t>(0);
    if (answer.starts_with('2')) {
        const bool garbles = is(Mood::bare_lf) || is(Mood::talks_nonsense) || is(Mood::drops_dot_reply) || is(Mood::floods);
        internet_.ledger_.taken({host_.name, from_, to_, std::move(content_), link_, said, !garbles});
    }
    forget();
    if (is(Mood::resets_after_dot)) {
        link_->reset();
        co_return false;
    }
    if (is(Mood::drops_dot_reply)) {
        const bool waited = co_await pause(3'000);
        co_return waited && false;
    }
    const bool heard = co_await reply(answer);
    if (heard) *said = link_->written_by_far();
    if (is(Mood::closes_without_quit)) co_return false;
    co_return heard;
}

void HostSession::forget() {
    has_mail_ = in_chunks_ = false;
    from_.clear();
    to_.clear();
    content_.clear();
}

}  // namespace sluice::drill
