#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/socket.h"

namespace sluice::plugin {

// A process of our own with a socket to it as its descriptor 3, and one that takes notes for us as its descriptor 4. It inherits the environment and our standard error, for
// both of its outputs, and nothing else that is open; it dies with the thread that started it. Ended when destroyed.
class Child {
public:
    // `arguments[0]` is the program, a path or a name in PATH. Errors: not_found, out_of_resources.
    static Result<Child> start(const std::vector<std::string>& arguments);
    Child(Child&& other) noexcept;
    Child& operator=(Child&& other) noexcept;
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() { end(); }

    // Our end, in non-blocking mode; once.
    net::Descriptor take_socket() { return std::move(socket_); }
    pid_t id() const { return pid_; }
    // What it has noted since the last time, also after its end. Never waits.
    std::string take_notes();
    void kill();
    // Kills it unless it has gone already, and waits. Says how it ended: "exit code 1", "signal 9".
    std::string end();
    // 0 when it cannot be known.
    std::uint64_t resident_bytes() const;

private:
    Child(pid_t pid, net::Descriptor socket, net::Descriptor notes)
        : pid_(pid), socket_(std::move(socket)), notes_(std::move(notes)) {}

    pid_t pid_ = -1;
    net::Descriptor socket_, notes_;
};

// Whether we, and so what we start, may make code at run time: service managers can forbid it.
bool may_make_code();

}  // namespace sluice::plugin
