#pragma once

#include <cstdint>
#include <string_view>

namespace sluice::queue {

// The parts of an endpoint's text: "192.0.2.1:25", "[2001:db8::1]:25", "/run/lmtp". All borrow from it.
enum class Family : std::uint8_t { ipv4, ipv6, local };
Family family_of(std::string_view remote);
// Without brackets and port; empty for a socket path.
std::string_view ip_of(std::string_view remote);
// The same, but a socket path is its own address.
std::string_view address_of(std::string_view remote);
// Empty when there is none.
std::string_view port_of(std::string_view remote);

}  // namespace sluice::queue
