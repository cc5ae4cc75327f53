#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/stream.h"
#include "peer/sink.h"

namespace sluice::peer {

// Where taken messages go: files, ledger, standard output. Thread-safe.
class MessageStore {
public:
    static Result<std::unique_ptr<MessageStore>> open(const SinkOptions& options);
    ~MessageStore();
    // True when somebody wants the octets of messages, not only their number.
    bool wants_content() const { return wants_content_; }
    struct Taken {
        std::string_view from;
        const std::vector<std::string>& to;
        std::string_view content;     // dots removed
        std::string_view endpoint;    // that received it
        std::uint64_t connection;
        std::string_view answer;      // what the client is told; empty: the connection is dropped
    };
    void take(const Taken& message);

private:
    MessageStore(const SinkOptions& options, int ledger_fd);

    const SinkOptions& options_;
    const int ledger_fd_;
    const bool wants_content_;
    std::atomic<std::uint64_t> number_{0};
};

struct SinkSurroundings {
    const SinkOptions& options;
    SinkCounts& counts;
    WireReport& wire;
    MessageStore& store;
    Script& script;                               // of this thread
    std::shared_ptr<net::TlsContext> tls;         // may be null
    std::function<void()>& on_message;
};

// Serves one client.
Task<> serve_sink(SinkSurroundings surroundings, net::StreamPtr stream, std::uint64_t connection);

}  // namespace sluice::peer
