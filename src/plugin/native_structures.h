#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

// The structures of sluice/plugin.h, across versions of it.
namespace sluice::plugin {

// Fills in a structure of the plugin's, which may be older or newer than ours. False: its size was not set.
template <class Structure>
bool give(Structure* to, Structure from) {
    const std::uint32_t size = to->size;
    if (size < sizeof size) return false;
    from.size = size;
    std::memcpy(to, &from, std::min<std::size_t>(size, sizeof from));
    if (size > sizeof from) std::memset(reinterpret_cast<char*>(to) + sizeof from, 0, size - sizeof from);
    return true;
}

// Our view of a structure that a plugin filled in. A size that was not set: nothing is there.
template <class Structure>
Structure take(const Structure* from) {
    Structure ours{};
    if (from == nullptr) return ours;
    std::uint32_t size = 0;
    std::memcpy(&size, from, sizeof size);
    std::memcpy(&ours, from, std::min<std::size_t>(size, sizeof ours));
    return ours;
}

// Calls `use` with our view of each of a plugin's structures, which stand one after the other in its size.
template <class Structure, class Use>
void each_of(const Structure* first, std::size_t count, Use&& use) {
    if (first == nullptr) return;
    const auto* bytes = reinterpret_cast<const char*>(first);
    const std::size_t stride = take(first).size;
    for (std::size_t i = 0; i < count; ++i) use(take(reinterpret_cast<const Structure*>(bytes + i * stride)));
}

}  // namespace sluice::plugin
