#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::policy {

// An IPv4 or IPv6 address, or all of a prefix. IPv4 addresses are their IPv4-mapped IPv6 addresses. Value.
class Network {
public:
    // "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"; nothing for anything else, and for bits beyond the prefix.
    static std::optional<Network> parse(std::string_view text);

    bool contains(const Network& other) const;
    bool is_address() const { return bits_ == 128; }
    std::string text() const;
    friend bool operator==(const Network&, const Network&) = default;
    friend auto operator<=>(const Network&, const Network&) = default;

private:
    bool has_only_prefix() const;
    std::array<std::uint8_t, 16> bytes_{};
    unsigned bits_ = 128;
};

}  // namespace sluice::policy
