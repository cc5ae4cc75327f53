#include "net/line_reader.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace sluice::net {

Task<Result<std::string_view>> LineReader::read_line(std::size_t bytes_max) {
    ASSERT(bytes_max > 0 && bytes_max <= buffer_bytes_max);
    while (true) {
        const auto size = find_line_end();
        if (size.value_or(scanned_ + 1) > bytes_max) co_return fail(Errc::too_large, "line too long");
        if (size) {
            const std::string_view line = buffered().substr(0, *size);
            consume(*size);
            co_return line;
        }
        CO_TRY_VOID(co_await read_more(line_buffer_bytes));
    }
}

std::optional<std::string_view> LineReader::take_line() {
    const auto size = find_line_end();
    if (!size) return std::nullopt;
    const std::string_view line = buffered().substr(0, *size);
    consume(*size);
    return line;
}

Task<Result<>> LineReader::skip_line() {
    while (true) {
        if (const auto size = find_line_end()) {
            consume(*size);
            co_return Result<>();
        }
        discard();
        CO_TRY_VOID(co_await read_more(line_buffer_bytes));
    }
}

Task<Result<>> LineReader::fill() {
    return read_more(bulk_buffer_bytes);
}

void LineReader::consume(std::size_t size) {
    ASSERT(size <= end_ - begin_);
    begin_ += size;
    scanned_ -= std::min(scanned_, size);
}

std::size_t LineReader::discard() {
    const std::size_t size = end_ - begin_;
    consume(size);
    return size;
}

std::optional<std::size_t> LineReader::find_line_end() {
    const std::string_view bytes = buffered();
    const std::size_t at = bytes.find('\n', scanned_);
    if (at != std::string_view::npos) return at + 1;
    scanned_ = bytes.size();
    return std::nullopt;
}

Task<Result<>> LineReader::read_more(std::size_t capacity_wanted) {
    CO_TRY_VOID(make_room(capacity_wanted));
    const std::span<char> room(buffer_.get() + end_, capacity_ - end_);
    CO_TRY(const std::size_t size, co_await stream_.read_some(room));
    last_read_was_full_ = size == room.size();
    end_ += size;
    co_return Result<>();
}

// A read that filled its room says that more is waiting: the next one gets more. An empty buffer is the
// moment to give memory back.
Result<> LineReader::make_room(std::size_t capacity_wanted) {
    const std::size_t held = end_ - begin_;
    if (held == buffer_bytes_max) return fail(Errc::too_large, "nobody takes what was read");

    std::size_t capacity = std::max(capacity_wanted, held == 0 ? 0 : capacity_);
    if (last_read_was_full_ || held == capacity) capacity = std::max(capacity, 2 * capacity_);
    capacity = std::min(capacity, buffer_bytes_max);
    if (capacity != capacity_) {
        move_to_buffer_of(capacity);
    } else if (begin_ > 0 && (held == 0 || capacity_ - end_ < capacity_ / 2)) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, held);
        begin_ = 0;
        end_ = held;
    }
    return {};
}

void LineReader::move_to_buffer_of(std::size_t capacity) {
    const std::string_view held = buffered();
    auto buffer = std::make_unique_for_overwrite<char[]>(capacity);
    held.copy(buffer.get(), held.size());
    end_ = held.size();
    begin_ = 0;
    buffer_ = std::move(buffer);
    capacity_ = capacity;
}

}  // namespace sluice::net
