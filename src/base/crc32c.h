#pragma once

#include <cstdint>
#include <string_view>

namespace sluice {

// CRC-32C (Castagnoli), as in RFC 3720 §B.4. Feed a long text piece by piece: the result of one call is the
// `seed` of the next. Uses the processor's instruction where it has one.
std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed = 0);

}  // namespace sluice
