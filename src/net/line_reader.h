#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#include "net/stream.h"

namespace sluice::net {

// The buffer between a stream and a dialogue: lines for commands and replies, raw bytes for message bodies.
//
// Memory:  none before the first read; 2 KiB while lines are read; up to 64 KiB while a body flows. Waiting
// for a line
//          with nothing buffered gives the rest back, so an idle session holds 2 KiB.
// Thread:  shard-owned. One operation at a time; nothing may be called while one is under way.
// Views:   what read_line(), take_line() and buffered() return is valid until the next operation that reads.
class LineReader {
public:
    static constexpr std::size_t line_buffer_bytes = 2 * 1024;
    static constexpr std::size_t bulk_buffer_bytes = 16 * 1024;
    static constexpr std::size_t buffer_bytes_max = 64 * 1024;

    // The stream outlives the reader.
    explicit LineReader(Stream& stream) : stream_(stream) {}

    // The next line, with what ends it: "\r\n", or a bare "\n" about which the caller decides. It counts as
    // consumed. too_large: the first `bytes_max` bytes (<= buffer_bytes_max) hold no "\n"; they stay
    // buffered, and skip_line() leads to the next line.
    Task<Result<std::string_view>> read_line(std::size_t bytes_max);
    // The same without waiting: nothing when no whole line is buffered. For pipelining: as long as there is
    // one, replies can be gathered.
    std::optional<std::string_view> take_line();
    // Drops everything up to and including the next "\n", however far it is.
    Task<Result<>> skip_line();

    // Reads at least one more byte behind what is buffered, with room for bulk. too_large when
    // buffer_bytes_max are buffered.
    Task<Result<>> fill();
    std::string_view buffered() const { return std::string_view(buffer_.get() + begin_, end_ - begin_); }
    void consume(std::size_t size);
    // Forgets everything buffered; returns how much that was. For STARTTLS: what came in clear before the
    // handshake must not be taken for something said inside TLS.
    std::size_t discard();

    // The memory held now.
    std::size_t capacity() const { return capacity_; }

private:
    Result<> make_room(std::size_t capacity_wanted);
    void move_to_buffer_of(std::size_t capacity);
    Task<Result<>> read_more(std::size_t capacity_wanted);
    std::optional<std::size_t> find_line_end();

    Stream& stream_;
    std::unique_ptr<char[]> buffer_;
    std::size_t capacity_ = 0;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::size_t scanned_ = 0;  // no "\n" in so many bytes from begin_
    bool last_read_was_full_ = false;
};

}  // namespace sluice::net
