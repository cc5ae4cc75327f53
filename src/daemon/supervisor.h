#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::daemon {

// Whoever started us and wants to know how we are: systemd with Type=notify, or anything that speaks its protocol
// (sd_notify(3)): short datagrams to the socket in $NOTIFY_SOCKET. Without that variable nothing is sent.
// A message that cannot be sent is dropped: mail does not depend on being watched.
// Thread-safe.
class Supervisor {
public:
    // From the environment, which is cleared of it: children are not watched. Call it before threads are made, and in the
    // process that will serve.
    static Supervisor from_environment();
    explicit Supervisor(std::string socket, std::optional<std::chrono::microseconds> patience = std::nullopt);
    ~Supervisor();
    Supervisor(const Supervisor&) = delete;
    Supervisor& operator=(const Supervisor&) = delete;

    void ready(std::string_view status);      // serving, also after reloading()
    void reloading(std::string_view status);  // until ready()
    void stopping(std::string_view status);
    void status(std::string_view status);     // one line for people; told once while it stays the same
    void alive();

    // How long the supervisor waits for alive() before it ends us; nothing when it does not watch.
    std::optional<std::chrono::microseconds> patience() const { return patience_; }

private:
    void send(const std::string& message);

    const std::string socket_;
    const std::optional<std::chrono::microseconds> patience_;
    int fd_ = -1;
    std::mutex mutex_;
    std::string status_;
};

}  // namespace sluice::daemon
