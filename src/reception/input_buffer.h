#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "base/assert.h"

namespace sluice::reception {

// Octets that arrived and were not used yet. Small while a client may be idle, larger while content flows. Value.
class InputBuffer {
public:
    static constexpr std::size_t idle_size = 2 * 1024;
    static constexpr std::size_t content_size = 16 * 1024;

    // What is left to use; users cut it from the front.
    std::string_view& rest() { return rest_; }
    bool empty() const { return rest_.empty(); }

    // Room for the next read. Everything read before has been used.
    std::span<char> space(std::size_t size) {
        ASSERT(rest_.empty());
        if (size != size_) {
            room_ = std::make_unique_for_overwrite<char[]>(size);
            size_ = size;
        }
        return {room_.get(), size_};
    }
    void received(std::size_t count) { rest_ = std::string_view(room_.get(), count); }
    void drop() { rest_ = {}; }

private:
    std::unique_ptr<char[]> room_;
    std::size_t size_ = 0;
    std::string_view rest_;
};

}  // namespace sluice::reception
