#pragma once

#include "drill/internet.h"

namespace sluice::drill {

// One connection that a host has taken: a server that does what its mood says, and checks every octet that the engine
// sends (RFC 5321, 2920, 3030): whatever its mood, nothing may come that it did not offer.
class HostSession {
public:
    HostSession(Internet& internet, Internet::Host& host, Mood mood, LinkPtr link, net::StreamPtr stream);
    Task<> serve();

private:
    enum class Verb : std::uint8_t { other, ehlo, helo, mail, rcpt, data, bdat, rset, quit, starttls, noop };

    Task<bool> greet();
    Task<bool> obey(std::string line);
    Task<bool> hello(bool extended);
    Task<bool> start_tls();
    Task<bool> mail(const std::string& line);
    Task<bool> rcpt(const std::string& line);
    Task<bool> data();
    Task<bool> bdat(const std::string& line);
    Task<bool> decide(bool content_is_right);
    Task<bool> reply(std::string text);
    Task<bool> read_line(std::string& line);
    Task<bool> read_content();
    Task<bool> read_more();
    Task<bool> pause(std::int64_t seconds);
    std::string rcpt_answer(const std::string& recipient);
    std::string dot_answer();
    void check_parameters(const std::string& line, std::initializer_list<std::string_view> allowed);
    void check_line(std::string_view line);
    void violate(const std::string& what);
    void forget();
    bool is(Mood mood) const { return mood_ == mood; }
    bool chance(double probability) { return random().chance(probability); }
    Random& random();

    Internet& internet_;
    Internet::Host& host_;
    const Mood mood_;
    LinkPtr link_;
    net::StreamPtr stream_;
    std::string in_;
    bool greeted_ = false, extended_ = false, has_mail_ = false, in_tls_ = false, over_ = false;
    bool in_chunks_ = false;
    std::string from_, declared_size_;
    std::vector<std::string> to_;
    std::string content_;
    std::uint32_t messages_ = 0;
};

}  // namespace sluice::drill
