#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// Names one accepted message for ever: the engine time of its birth in milliseconds (42 bits), then a
// counter (22 bits). Printed as 13 characters of Crockford base 32, which sort like the numbers. Value.
struct MessageId {
    std::uint64_t value = 0;

    friend bool operator==(MessageId, MessageId) = default;
    friend auto operator<=>(MessageId, MessageId) = default;
    template <class H>
    friend H AbslHashValue(H h, MessageId id) {
        return H::combine(std::move(h), id.value);
    }
    std::string text() const;
    // Nothing when the text is not 13 digits of the alphabet (either case).
    static std::optional<MessageId> parse(std::string_view text);
};

// Names one item: the message and the item's place in Message::items. Printed "MESSAGE.n", n from 1. Value.
struct ItemId {
    MessageId message;
    std::uint32_t index = 0;

    friend bool operator==(ItemId, ItemId) = default;
    friend auto operator<=>(ItemId, ItemId) = default;
    template <class H>
    friend H AbslHashValue(H h, ItemId id) {
        return H::combine(std::move(h), id.message.value, id.index);
    }
    std::string text() const;
    static std::optional<ItemId> parse(std::string_view text);
};

}  // namespace sluice
