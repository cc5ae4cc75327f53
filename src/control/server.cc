#include "control/server.h"

#include <openssl/crypto.h>

#include <map>
#include <optional>

#include "async/task_group.h"
#include "base/text.h"
#include "control/failure_limit.h"
#include "control/http.h"
#include "control/routes.h"
#include "net/listener.h"

namespace sluice::control {
namespace {

// How somebody came here: what he may follows from the listener, which stays open whatever the settings come to say.
enum class Way : std::uint8_t { socket, loopback, network };

Way way_of(const net::Endpoint& listener) {
    if (!listener.path.empty()) return Way::socket;
    return listener.address.is_loopback() ? Way::loopback : Way::network;
}

constexpr std::chrono::milliseconds request_timeout{60'000};
constexpr std::chrono::milliseconds stranger_timeout{10'000};  // until a request was authorised
constexpr std::size_t connections_max = 1000;                  // on the sockets, and again on TCP
constexpr std::uint64_t refused_body_max = 64 * 1024;

// The host of "name:port", "[v6]:port" or "name".
std::string_view host_part(std::string_view host) {
    if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
    return host.substr(0, host.find(':'));
}

HttpReply refusal_of(int status, std::string_view sentence, std::string_view field) {
    HttpReply reply;
    reply.status = status;
    reply.body = "{\"error\":\"" + std::string(sentence) + "\",\"field\":\"" + std::string(field) + "\"}\n";
    return reply;
}

// Connections that wait for a request, or for the rest of one. Shard-owned.
class WaitingRoom {
public:
    // One of them, while this lives.
    class Place {
    public:
        Place(WaitingRoom& room, net::Stream& stream) : room_(room), number_(++room.last_) { room_.waiting_.emplace(number_, &stream); }
        Place(const Place&) = delete;
        Place& operator=(const Place&) = delete;
        ~Place() { room_.waiting_.erase(number_); }

    private:
        WaitingRoom& room_;
        const std::uint64_t number_;
    };

    // Ends the one that has waited longest. False when nobody waits.
    bool dismiss_one() {
        if (waiting_.empty()) return false;
        net::Stream& longest = *waiting_.begin()->second;
        waiting_.erase(waiting_.begin());
        longest.abort();
        return true;
    }

private:
    std::map<std::uint64_t, net::Stream*> waiting_;
    std::uint64_t last_ = 0;
};

}  // namespace

class Server::Impl {
public:
    Impl(async::Shard& shard, Backend& backend, event::Log& log, Options options)
        : shard_(shard), backend_(backend), log_(log), options_(std::move(options)), tasks_(shard.executor()) {}

    Result<> start() {
        for (const net::Endpoint& endpoint : options_.endpoints) {
            TRY(std::unique_ptr<net::Listener> listener, net::Listener::open(shard_.executor(), endpoint));
            listeners_.push_back(std::move(listener));
        }
        for (const auto& listener : listeners_) {
            const Way way = way_of(listener->local());
            tasks_.spawn(listener->run([this, way](net::StreamPtr stream) { accept(std::move(stream), way); }));
        }
        return {};
    }

    void set_access(std::string token, std::string host_name) {
        // Whoever had the new one too early was right after all.
        if (token != options_.token) failures_ = FailureLimit();
        options_.token = std::move(token);
        options_.host_name = std::move(host_name);
    }

    std::vector<net::Endpoint> endpoints() const {
        std::vector<net::Endpoint> out;
        for (const auto& listener : listeners_) out.push_back(listener->local());
        return out;
    }

    Task<> close() {
        for (const auto& listener : listeners_) listener->stop();
        co_await tasks_.close();
    }

private:
    struct Crowd {
        std::size_t open = 0;
        WaitingRoom waiting;
    };

    void accept(net::StreamPtr stream, Way way) {
        if (tasks_.closing()) return;
        Crowd& crowd = crowd_of(way);
        // Nobody keeps others out who opens connections and asks nothing.
        if (crowd.open >= connections_max && !crowd.waiting.dismiss_one()) return;
        ++crowd.open;
        tasks_.spawn(serve(std::move(stream), way));
    }

    // Strangers on TCP cannot take the places of the operator on the socket.
    Crowd& crowd_of(Way way) { return way == Way::socket ? local_ : remote_; }

    Task<> serve(net::StreamPtr stream, Way way) {
        co_await converse(*stream, way);
        --crowd_of(way).open;
    }

    Task<> converse(net::Stream& stream, Way way) {
        std::string unread;
        bool known = way == Way::socket;
        for (bool open = true; open;) {
            stream.set_timeout(known ? request_timeout : stranger_timeout);
            RequestReader reader(stream, unread, options_.body_bytes_max);
            Result<HttpReply> reply = co_await exchange(stream, reader, way, open);
            if (!reply) co_return;
            known = known || reply->status < 400;
            stream.set_timeout(request_timeout);
            const Result<> written = co_await write_reply(stream, *reply, open);
            if (!written) co_return;
        }
        co_await stream.close();
    }

    // One request, up to its reply. `open`: the connection can go on afterwards.
    Task<Result<HttpReply>> exchange(net::Stream& stream, RequestReader& reader, Way way, bool& open) {
        open = false;
        std::optional<WaitingRoom::Place> place(std::in_place, crowd_of(way).waiting, stream);
        Result<HttpRequest> request = co_await reader.head();
        if (!request) co_return reply_to(request.error());
        std::optional<HttpReply> refusal =
            way == Way::socket ? std::nullopt : refuse(*request, stream.remote().address, way);
        // The body of a refused request is read only when that is cheaper than a new connection.
        const std::uint64_t announced = reader.announced().value_or(refused_body_max + 1);
        if (refusal && announced > refused_body_max) co_return std::move(*refusal);
        stream.set_timeout(request_timeout);
        const Result<> body = co_await reader.body(*request);
        if (!body) co_return reply_to(body.error());
        place.reset();
        open = request->keep_alive;
        if (refusal) co_return std::move(*refusal);
        co_return co_await answer(backend_, std::move(*request));
    }

    // What a client is told whose request could not be read; the error itself when there is nobody to tell.
    static Result<HttpReply> reply_to(const Error& error) {
        if (error.code != Errc::bad_input && error.code != Errc::too_large) return fail(error);
        HttpReply reply;
        reply.status = error.code == Errc::too_large ? 413 : 400;
        reply.body = "{\"error\":\"the request could not be read\"}\n";
        return reply;
    }

    // Who comes by TCP has to show, before anything is done for him, that he means us and may.
    std::optional<HttpReply> refuse(const HttpRequest& request, const net::IpAddress& client, Way way) {
        if (!host_is_ours(request.host)) return refusal_of(421, "the Host is not this instance", "Host");
        if (!is_same_origin(request)) return refusal_of(403, "pages of other sites may ask nothing", "Origin");
        const auto now = std::chrono::steady_clock::now();
        if (failures_.reached(client, now)) {
            return refusal_of(429, "too many wrong tokens came from this address; wait a minute", "Authorization");
        }
        if (authorised(request.authorization, way)) return std::nullopt;
        failures_.add(client, now);
        log_.warn("control", "request without a valid token refused", {{"client", client.text()}, {"path", request.path}});
        return refusal_of(401, "a valid bearer token is needed", "Authorization");
    }

    // A browser says in whose name it asks. Programs say nothing.
    static bool is_same_origin(const HttpRequest& request) {
        const std::string_view origin = request.origin;
        const std::size_t scheme = origin.find("://");
        return origin.empty() || (scheme != std::string_view::npos && iequals(origin.substr(scheme + 3), request.host));
    }

    // A page on another site can make a browser send requests here, but under its own name (DNS rebinding).
    bool host_is_ours(std::string_view host) const {
        const std::string_view name = host_part(host);
        if (name.empty()) return false;
        return net::IpAddress::parse(name) || iequals(name, "localhost") || iequals(name, options_.host_name);
    }

    // A token that is taken away, or whose file is being replaced, opens nothing to the network.
    bool authorised(std::string_view authorization, Way way) const {
        if (options_.token.empty()) return way == Way::loopback;
        constexpr std::string_view scheme = "Bearer ";
        if (!istarts_with(authorization, scheme)) return false;
        const std::string_view given = authorization.substr(scheme.size());
        return given.size() == options_.token.size() &&
               CRYPTO_memcmp(given.data(), options_.token.data(), given.size()) == 0;
    }

    async::Shard& shard_;
    Backend& backend_;
    event::Log& log_;
    Options options_;
    FailureLimit failures_;
    std::vector<std::unique_ptr<net::Listener>> listeners_;
    Crowd local_, remote_;
    async::TaskGroup tasks_;
};

Server::Server(async::Shard& shard, Backend& backend, event::Log& log, Options options)
    : impl_(std::make_unique<Impl>(shard, backend, log, std::move(options))) {}
Server::~Server() = default;
Result<> Server::start() { return impl_->start(); }
void Server::set_access(std::string token, std::string host_name) {
    impl_->set_access(std::move(token), std::move(host_name));
}
std::vector<net::Endpoint> Server::endpoints() const { return impl_->endpoints(); }
Task<> Server::close() { return impl_->close(); }

}  // namespace sluice::control
