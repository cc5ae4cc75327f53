#include "plugin/frames.h"

#include <bit>
#include <cstring>

namespace sluice::plugin {
namespace {

static_assert(std::endian::native == std::endian::little, "lengths are little endian on the wire");
constexpr std::size_t length_bytes = 4;

void append_u32(std::string& out, std::size_t number) {
    const auto value = static_cast<std::uint32_t>(number);
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

void append_frame(std::string& out, FrameKind kind, std::string_view payload) {
    append_u32(out, payload.size() + 1);
    out += static_cast<char>(kind);
    out += payload;
}

void append_octets(std::string& out, std::uint32_t request, std::string_view octets, bool last) {
    append_u32(out, octets.size() + 6);
    out += static_cast<char>(FrameKind::octets);
    append_u32(out, request);
    out += last ? '\1' : '\0';
    out += octets;
}

std::optional<Octets> read_octets(std::string_view payload) {
    Octets piece{};
    if (payload.size() < sizeof piece.request + 1) return std::nullopt;
    std::memcpy(&piece.request, payload.data(), sizeof piece.request);
    piece.last = payload[sizeof piece.request] != '\0';
    piece.octets = payload.substr(sizeof piece.request + 1);
    return piece;
}

void FrameReader::append(std::string_view bytes) {
    buffer_.erase(0, taken_);
    taken_ = 0;
    buffer_ += bytes;
}

Result<std::optional<Frame>> FrameReader::next() {
    const std::string_view rest = std::string_view(buffer_).substr(taken_);
    if (rest.size() < length_bytes) return std::nullopt;
    std::uint32_t length = 0;
    std::memcpy(&length, rest.data(), sizeof length);
    if (length == 0 || length > frame_bytes_max) return fail(Errc::too_large, "a frame of " + std::to_string(length) + " octets");
    if (rest.size() < length_bytes + length) return std::nullopt;
    const auto kind = static_cast<std::uint8_t>(rest[length_bytes]);
    if (kind != 1 && kind != 2) return fail(Errc::bad_input, "a frame of kind " + std::to_string(kind));
    taken_ += length_bytes + length;
    return Frame{static_cast<FrameKind>(kind), rest.substr(length_bytes + 1, length - 1)};
}

}  // namespace sluice::plugin
