#include "base/ids.h"

#include "base/text.h"

namespace sluice {
namespace {

constexpr std::string_view alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

}  // namespace

std::string MessageId::text() const {
    std::string out(13, '0');
    std::uint64_t rest = value;
    for (std::size_t i = 13; i-- > 0; rest >>= 5) out[i] = alphabet[rest & 31];
    return out;
}

std::optional<MessageId> MessageId::parse(std::string_view text) {
    if (text.size() != 13) return std::nullopt;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::size_t digit = alphabet.find(ascii_lower(text[i]));
        if (digit == std::string_view::npos || (i == 0 && digit > 15)) return std::nullopt;
        value = value << 5 | digit;
    }
    return MessageId{value};
}

std::string ItemId::text() const { return message.text() + "." + std::to_string(index + 1); }

std::optional<ItemId> ItemId::parse(std::string_view text) {
    const std::size_t dot = text.find('.');
    if (dot == std::string_view::npos) return std::nullopt;
    const auto message = MessageId::parse(text.substr(0, dot));
    const auto number = parse_number<std::uint32_t>(text.substr(dot + 1));
    if (!message || !number || *number == 0) return std::nullopt;
    return ItemId{*message, *number - 1};
}

}  // namespace sluice
