#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

// Frames on the socket between engine and plugin host; docs/design/plugins.md describes them, plugin-host/lib/wire.js is
// the other side.
namespace sluice::plugin {

inline constexpr std::size_t frame_bytes_max = 64u << 20;

enum class FrameKind : std::uint8_t {
    messages = 1,  // a JSON array
    octets = 2,    // u32 request | u8 last | octets
};

struct Frame {
    FrameKind kind;
    std::string_view payload;
};

void append_frame(std::string& out, FrameKind kind, std::string_view payload);
void append_octets(std::string& out, std::uint32_t request, std::string_view octets, bool last);

// What a frame of octets carries.
struct Octets {
    std::uint32_t request;
    bool last;
    std::string_view octets;
};
// Nothing when the payload is too short.
std::optional<Octets> read_octets(std::string_view payload);

// Cuts what arrives into frames. Value.
class FrameReader {
public:
    void append(std::string_view bytes);
    // The next frame, valid until append(); nothing while it is incomplete. Error: too_large, bad_input.
    Result<std::optional<Frame>> next();

private:
    std::string buffer_;
    std::size_t taken_ = 0;
};

}  // namespace sluice::plugin
