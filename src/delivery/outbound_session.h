#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/signal.h"
#include "delivery/client_session.h"
#include "delivery/connecting.h"
#include "delivery/courier.h"
#include "delivery/host_memory.h"
#include "delivery/tls_policy.h"

namespace sluice::delivery {

class Settlement;
struct Attempted;

// What sessions of one courier share. Shard-owned; outlives them.
class SessionOwner {
public:
    virtual ~SessionOwner() = default;
    virtual const config::SettingsPtr& settings() const = 0;  // the newest
    virtual TlsPolicy& tls() = 0;
    virtual HostMemory& bad_pipeliners() = 0;  // hosts that offer PIPELINING and do not cope with it
    virtual Settlement& settlement() = 0;
};

// One of the core's sessions, from Deliver{open} to SessionClosed: connects, attempts the items it is given one after
// the other, and ends when it is asked to or when the link is spent. Shard-owned; run() is its only coroutine.
class OutboundSession {
public:
    OutboundSession(SessionOwner& owner, const Surroundings& surroundings, queue::SessionId id);

    // The next item; the session is idle or new.
    void give(queue::Deliver deliver);
    // Ends after the attempt under way, if any.
    void ask_to_close();
    // Ends the attempt under way with Errc::cancelled.
    void break_off();

    // Until the connection is gone. The caller reports SessionClosed.
    Task<> run();

private:
    struct Opening;

    Task<bool> attempt(queue::Deliver deliver);
    Task<> deliver_all(const queue::Deliver& deliver, const mail::Message& message, Opening& opening);
    Task<> open(const queue::Deliver& deliver, Opening& opening);
    Task<> open_host(const queue::Deliver& deliver, Opening& opening);
    Task<> greet(const queue::Deliver& deliver, Opening& opening, net::StreamPtr stream, bool in_clear);
    void note_pipelining();
    net::ConnectOptions connect_options(const queue::Deliver& deliver, const queue::Candidate& candidate) const;
    const std::string& helo_name(const queue::Deliver& deliver) const;
    SessionTerms terms_for(const queue::Deliver& deliver, bool in_clear) const;
    Attempted attempted_with(
        const queue::Deliver& deliver, const mail::MessagePtr& message, const Opening& opening,
        std::chrono::steady_clock::duration took);
    bool report(queue::AttemptEnded ended, Opening& opening);
    void warn_about(const queue::Deliver& deliver, const Verdict& verdict) const;
    bool watches_failures() const;
    event::Link link() const;

    SessionOwner& owner_;
    const Surroundings& surroundings_;
    const queue::SessionId id_;
    const std::string name_;

    std::optional<queue::Deliver> next_;
    bool close_asked_ = false;
    bool broken_off_ = false;
    async::Signal news_;

    Race race_;
    std::unique_ptr<ClientSession> client_;
    queue::Candidate candidate_;  // the one we are connected to
    std::string local_;           // our end, as text
    TlsState tls_state_;          // how it was opened
    std::vector<std::uint32_t> recipients_;  // of the attempt under way
    Verdicts verdicts_;
};

// The undecided recipients of an item.
std::vector<std::uint32_t> undecided(const queue::Work& work, const mail::Message& message);
// The message of an item, from memory, else from the spool, as plugins want it to go out.
Task<Result<mail::MessagePtr>> load(const Surroundings& surroundings, const queue::Work& work);

}  // namespace sluice::delivery
