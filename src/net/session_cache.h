#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace sluice::net {

// TLS sessions that servers gave us, in their serialized form, for resumption. Keeps the most recently stored
// ones, but none that is huge: that one is not worth a handshake. Thread-safe: all shards share a context, and a
// session learned by one saves the handshake of another.
class SessionCache {
public:
    static constexpr std::size_t sessions_max = 2048;
    static constexpr std::size_t session_octets_max = 16 * 1024;  // a ticket and the server's certificate; both may have 64 KiB

    void put(const std::string& key, std::string session);
    std::optional<std::string> get(const std::string& key) const;
    void remove(const std::string& key);
    std::size_t size() const;

private:
    struct Entry {
        std::string session;
        std::list<std::string>::iterator age;
    };

    mutable std::mutex mutex_;
    std::unordered_map<std::string, Entry> entries_;
    std::list<std::string> oldest_first_;
};

}  // namespace sluice::net
