#pragma once

#include <memory>
#include <string>
#include <vector>

#include "async/shard.h"
#include "control/backend.h"
#include "event/log.h"
#include "net/address.h"

namespace sluice::control {

// Serves the HTTP/JSON API (docs/reference/api.md, GET /v1/openapi.json) on Unix sockets and TCP.
//
// On the socket the file's mode (0600) is the permission. On TCP the token must come as `Authorization: Bearer TOKEN`; without
// one, listeners on loopback answer everybody and others nobody. Requests whose Host is not an address, `localhost` or the instance's name are refused
// (DNS rebinding), and so are those that a browser sends for a page of another origin. Twenty wrong tokens within a minute are
// the last that an address may try in it. State changes only by POST, with a JSON or message/rfc822 body. Bodies are bounded. Shard-owned.
class Server {
public:
    struct Options {
        std::vector<net::Endpoint> endpoints;
        std::string token;
        std::string host_name;
        std::uint64_t body_bytes_max = 64ull << 20;
    };
    Server(async::Shard& shard, Backend& backend, event::Log& log, Options options);
    ~Server();

    // Binds all endpoints and begins to serve; the error names the endpoint.
    Result<> start();
    // On the shard: the next request is judged by these.
    void set_access(std::string token, std::string host_name);
    std::vector<net::Endpoint> endpoints() const;
    Task<> close();

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::control
