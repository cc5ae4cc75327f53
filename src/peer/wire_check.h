#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::peer {

// What clients did that no client may do. Thread-safe.
class WireReport {
public:
    // `octets`: where it happened, in any form.
    void add(std::uint64_t connection, std::string_view what, std::string_view octets = {});
    std::uint64_t count() const { return count_; }
    // The first ones, a line each.
    std::vector<std::string> first() const;

private:
    std::atomic<std::uint64_t> count_{0};
    mutable std::mutex mutex_;
    std::vector<std::string> first_;
};

// Judges everything that one client sends by RFC 5321 and by what the server has offered. Shard-owned.
//
// The server tells it what was said, in order; it never influences the dialogue. Content is looked at in blocks of 64
// octets, so that checking costs a load test next to nothing.
class WireCheck {
public:
    // `report` outlives the check.
    WireCheck(WireReport& report, std::uint64_t connection, bool lmtp) : report_(report), connection_(connection), lmtp_(lmtp) {}

    // EHLO, LHLO or HELO was accepted with these keyword lines. What earlier ones offered is forgotten.
    void offered(const std::vector<std::string>& keywords);
    // TLS has begun: nothing that was said before counts.
    void secured();
    // A line up to and including its LF; `behind` octets had arrived with it and wait.
    void command(std::string_view line, std::size_t behind);

    // Content, in pieces. Dots count when it is that of DATA.
    enum class Framing : std::uint8_t { dots, chunk };
    void content(std::string_view octets, Framing framing);
    void end_of_content(Framing framing);
    // After QUIT, behind which so many octets wait.
    void ended(std::size_t behind);

private:
    bool offers(std::string_view keyword) const;
    bool offers_mechanism(std::string_view mechanism) const;
    void check_octets(std::string_view line);
    void check_verb(std::string_view verb, std::string_view line, std::size_t behind);
    void check_path(std::string_view verb, std::string_view line);
    void check_parameter(std::string_view verb, std::string_view parameter);
    std::size_t line_bytes_max(std::string_view verb) const;
    void forget_content();
    void block(const char* octets, unsigned size, Framing framing);
    void complain(std::string_view what, std::string_view octets = {}) { report_.add(connection_, what, octets); }

    WireReport& report_;
    const std::uint64_t connection_;
    const bool lmtp_;
    bool greeted_ = false;
    bool utf8_ = false, binary_ = false;  // of the transaction
    // Of content: what its last octet was, and the line that is under way.
    bool after_cr_ = false, line_starts_ = true, dot_starts_ = false, line_is_stuffed_ = false;
    std::uint64_t line_octets_ = 0;
    std::vector<std::string> offered_;  // upper case
};

}  // namespace sluice::peer
