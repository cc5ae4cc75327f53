#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::dns {

// A real authoritative server (Knot DNS) for tests, on a free port of the loopback, with its files in a directory of
// its own. Stopped, and the directory removed, by the destructor.
class KnotServer {
public:
    struct Zone {
        std::string name;     // "example.test"
        std::string records;  // below the SOA and NS, which are added; names relative to the zone
        bool sign = false;    // Knot makes a key and signs
    };

    KnotServer() = default;
    KnotServer(const KnotServer&) = delete;
    KnotServer& operator=(const KnotServer&) = delete;
    ~KnotServer();

    // Returns when every zone is served.
    Result<> start(const std::vector<Zone>& zones);
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    // The DS records of a signed zone, one a line, as a trust anchor file has them.
    Result<std::string> delegation_signers(const std::string& zone) const;
    std::filesystem::path directory() const { return directory_; }

private:
    Result<> start_once(const std::vector<Zone>& zones);
    std::string configuration(const std::vector<Zone>& zones) const;
    Result<> wait_until_loaded(std::size_t zone_count);
    void stop();

    std::filesystem::path directory_;
    std::uint16_t port_ = 0;
    pid_t process_ = -1;
    int output_ = -1;
};

}  // namespace sluice::dns
