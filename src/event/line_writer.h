#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.h"

namespace sluice::event {

// Opens a file for lines at its end, or makes it, readable by its group; a pipe need have no reader. Links are followed when they are
// root's or ours: the folder may be that of a user whom we become later. Gives a descriptor, or -1 with errno.
int open_for_lines(const std::string& path);

// Where lines go. Value.
struct LineTarget {
    std::string path;                 // empty: standard output
    std::uint64_t rotate_bytes = 0;   // 0: never; otherwise PATH becomes PATH.1, PATH.1 becomes PATH.2 ...
    std::uint32_t files_max = 8;      // kept, PATH itself included; at least 1
    std::size_t waiting_bytes_max = 32u << 20;
};

// Takes whole lines from any thread and writes them on a thread of its own, many in one write. A reader that blocks or a
// full disk never stops mail, nor the end of the process: what does not fit in the bound is dropped and counted, and a line
// says how many. A line is in the file whole or not at all, also after a crash. Thread-safe.
class LineWriter {
public:
    static Result<std::unique_ptr<LineWriter>> open(const LineTarget& target);
    ~LineWriter();  // writes what waits, for at most two seconds
    LineWriter(const LineWriter&) = delete;
    LineWriter& operator=(const LineWriter&) = delete;

    // `lines` ends in a newline.
    void append(std::string_view lines);
    // Returns when everything appended before has been written or the writer is stuck for `wait_ms`.
    void flush(int wait_ms);
    std::uint64_t dropped() const;

private:
    LineWriter(const LineTarget& target, int fd, std::uint64_t size, bool regular);
    void run();
    void write_out(std::string_view text);
    bool wait_for_reader();
    void note_written(std::string_view text);
    void take_back_half_a_line();
    void rotate();

    const LineTarget target_;
    int fd_;
    std::uint64_t size_;
    std::uint64_t whole_;  // size_ up to and including the last newline
    bool regular_;         // our own file: not a pipe, terminal or whatever standard output is
    const bool rotates_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable written_;
    std::string waiting_;
    std::uint64_t dropped_ = 0;
    std::uint64_t dropped_told_ = 0;
    bool writing_ = false;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace sluice::event
