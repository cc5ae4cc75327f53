#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace sluice::mail {

// Where in a block of 64 octets something stands: bit i belongs to octet i. The scanners of content work on
// these, because looking at every octet of a message one by one would cost more than storing it.
struct OctetMasks {
    static constexpr std::size_t width = 64;
    std::uint64_t cr = 0;
    std::uint64_t lf = 0;
    std::uint64_t dot = 0;
    std::uint64_t nul = 0;
    std::uint64_t high = 0;  // octets above 127
};

#if defined(__SSE2__)
inline OctetMasks octet_masks(const char* block) {
    OctetMasks masks;
    const auto bits = [](__m128i lanes) {
        return static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm_movemask_epi8(lanes)));
    };
    for (unsigned shift = 0; shift < OctetMasks::width; shift += 16) {
        const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + shift));
        masks.cr |= bits(_mm_cmpeq_epi8(octets, _mm_set1_epi8('\r'))) << shift;
        masks.lf |= bits(_mm_cmpeq_epi8(octets, _mm_set1_epi8('\n'))) << shift;
        masks.dot |= bits(_mm_cmpeq_epi8(octets, _mm_set1_epi8('.'))) << shift;
        masks.nul |= bits(_mm_cmpeq_epi8(octets, _mm_setzero_si128())) << shift;
        masks.high |= bits(octets) << shift;
    }
    return masks;
}
#else
inline OctetMasks octet_masks(const char* block) {
    OctetMasks masks;
    for (unsigned i = 0; i < OctetMasks::width; ++i) {
        const auto bit = [i](bool set) { return static_cast<std::uint64_t>(set) << i; };
        masks.cr |= bit(block[i] == '\r');
        masks.lf |= bit(block[i] == '\n');
        masks.dot |= bit(block[i] == '.');
        masks.nul |= bit(block[i] == '\0');
        masks.high |= bit(static_cast<unsigned char>(block[i]) >= 0x80);
    }
    return masks;
}
#endif

}  // namespace sluice::mail
