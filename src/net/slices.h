#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace sluice::net {

// How far a gathered write has come. Value; borrows the slices.
class SliceCursor {
public:
    static constexpr std::size_t pieces_max = 64;

    explicit SliceCursor(std::span<const std::string_view> slices) : slices_(slices) { skip_empty(); }

    bool done() const { return index_ == slices_.size(); }
    // What is left of the current slice.
    std::string_view front() const { return slices_[index_].substr(offset_); }
    bool in_last_slice() const { return index_ + 1 == slices_.size(); }

    void advance(std::size_t size) {
        while (size > 0) {
            const std::size_t step = std::min(size, front().size());
            offset_ += step;
            size -= step;
            skip_empty();
        }
    }

    // The rest for one system call; returns the number of pieces.
    std::size_t gather(std::array<iovec, pieces_max>& pieces) const {
        std::size_t count = 0;
        std::size_t offset = offset_;
        for (std::size_t i = index_; i < slices_.size() && count < pieces_max; ++i, offset = 0) {
            const std::string_view piece = slices_[i].substr(offset);
            // The kernel only reads through this pointer; iovec serves both directions.
            if (!piece.empty()) pieces[count++] = iovec{const_cast<char*>(piece.data()), piece.size()};
        }
        return count;
    }

    // Copies the rest, as far as it fits; returns the size.
    std::size_t copy_to(std::span<char> into) const {
        std::size_t size = 0;
        std::size_t offset = offset_;
        for (std::size_t i = index_; i < slices_.size() && size < into.size(); ++i, offset = 0) {
            size += slices_[i].substr(offset).copy(into.data() + size, into.size() - size);
        }
        return size;
    }

private:
    void skip_empty() {
        while (!done() && offset_ == slices_[index_].size()) {
            ++index_;
            offset_ = 0;
        }
    }

    std::span<const std::string_view> slices_;
    std::size_t index_ = 0;
    std::size_t offset_ = 0;
};

}  // namespace sluice::net
