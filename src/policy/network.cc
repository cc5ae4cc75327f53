#include "policy/network.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "base/text.h"

namespace sluice::policy {
namespace {

constexpr unsigned mapped_bits = 96;
constexpr std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool bit_at(const std::array<std::uint8_t, 16>& bytes, unsigned at) { return (bytes[at / 8] >> (7 - at % 8) & 1) != 0; }

}  // namespace

std::optional<Network> Network::parse(std::string_view text) {
    const std::size_t slash = text.find('/');
    const std::string address(text.substr(0, slash));
    if (address.size() > 45) return std::nullopt;
    Network network;
    unsigned before = 0;
    if (inet_pton(AF_INET, address.c_str(), network.bytes_.data() + 12) == 1) {
        std::copy(mapped.begin(), mapped.end(), network.bytes_.begin());
        before = mapped_bits;
    } else if (inet_pton(AF_INET6, address.c_str(), network.bytes_.data()) != 1) {
        return std::nullopt;
    }
    if (slash == std::string_view::npos) return network;
    const std::optional<unsigned> bits = parse_number<unsigned>(text.substr(slash + 1));
    if (!bits || *bits > 128 - before) return std::nullopt;
    network.bits_ = before + *bits;
    return network.has_only_prefix() ? std::optional(network) : std::nullopt;
}

bool Network::has_only_prefix() const {
    for (unsigned at = bits_; at < 128; ++at) {
        if (bit_at(bytes_, at)) return false;
    }
    return true;
}

bool Network::contains(const Network& other) const {
    if (other.bits_ < bits_) return false;
    const unsigned whole = bits_ / 8;
    if (std::memcmp(bytes_.data(), other.bytes_.data(), whole) != 0) return false;
    if (bits_ % 8 == 0) return true;
    const unsigned drop = 8 - bits_ % 8;
    return bytes_[whole] >> drop == other.bytes_[whole] >> drop;
}

std::string Network::text() const {
    const bool is_ipv4 = bits_ >= mapped_bits && std::equal(mapped.begin(), mapped.end(), bytes_.begin());
    char out[INET6_ADDRSTRLEN] = {};
    inet_ntop(is_ipv4 ? AF_INET : AF_INET6, bytes_.data() + (is_ipv4 ? 12 : 0), out, sizeof out);
    return is_address() ? out : std::string(out) + "/" + std::to_string(bits_ - (is_ipv4 ? mapped_bits : 0));
}

}  // namespace sluice::policy
