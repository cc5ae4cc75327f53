#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/result.h"
#include "net/stream.h"

namespace sluice::control {

// One HTTP/1.1 request, read whole. Value.
struct HttpRequest {
    std::string method;  // "GET", "POST", ...
    std::string path;    // decoded, without the query
    std::vector<std::pair<std::string, std::string>> query;  // decoded, in order
    std::string host, content_type, authorization, idempotency_key, origin;
    std::string body;
    bool keep_alive = true;

    // The first value of a query key; empty when absent.
    std::string_view query_value(std::string_view key) const;
};

struct HttpReply {
    int status = 200;
    std::string content_type = "application/json";
    std::string body;
};

// Reads one request in two steps, so that nobody has to keep the body of a stranger: head() first, then body(). Both are
// bounded. What follows the request stays in `unread` for the next one. Errors: link_closed at the orderly end,
// bad_input for what is not HTTP (the peer gets 400), too_large (413), timed_out. Stream and `unread` outlive it.
class RequestReader {
public:
    RequestReader(net::Stream& stream, std::string& unread, std::uint64_t body_bytes_max);
    ~RequestReader();

    // Everything but the body.
    Task<Result<HttpRequest>> head();
    // After head(): the length that the client has announced; nothing when it has not.
    std::optional<std::uint64_t> announced() const;
    // Tells a client that waits for it to go ahead, then reads the body into `request`.
    Task<Result<>> body(HttpRequest& request);

private:
    struct Parsing;
    Task<Result<>> advance();
    Task<Result<>> receive();

    net::Stream& stream_;
    std::string& unread_;
    std::unique_ptr<Parsing> parsing_;
};

// Writes the reply with the headers that keep browsers from guessing and caching.
Task<Result<>> write_reply(net::Stream& stream, const HttpReply& reply, bool keep_alive);

// "a%20b+c" of a query; nothing when an escape is broken.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);

}  // namespace sluice::control
