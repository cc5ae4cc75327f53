#include "control/server.h"

#include <openssl/crypto.h>

#include <list>

#include "async/task_group.h"
#include "base/text.h"
#include "control/http.h"
#include "control/routes.h"
#include "net/listener.h"

namespace sluice::control {
namespace {

constexpr std::chrono::milliseconds request_timeout{60'000};
constexpr std::size_t connections_max = 1000;

// The host of "name:port", "[v6]:port" or "name".
std::string_view host_part(std::string_view host) {
    if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
    return host.substr(0, host.find(':'));
}

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
            const bool local = !listener->local().path.empty();
            tasks_.spawn(listener->run([this, local](net::StreamPtr stream) { accept(std::move(stream), local); }));
        }
        return {};
    }

    void set_access(std::string token, std::string host_name) {
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
    void accept(net::StreamPtr stream, bool local) {
        if (tasks_.closing() || tasks_.size() > connections_max) return;
        tasks_.spawn(serve(std::move(stream), local));
    }

    Task<> serve(net::StreamPtr stream, bool local) {
        std::string unread;
        for (bool open = true; open;) {
            stream->set_timeout(request_timeout);
            Result<HttpRequest> request = co_await read_request(*stream, unread, options_.body_bytes_max);
            HttpReply reply;
            if (request) {
                open = request->keep_alive;
                reply = co_await decide(std::move(*request), local);
            } else {
                open = false;
                if (request.error().code != Errc::bad_input && request.error().code != Errc::too_large) co_return;
                reply.status = request.error().code == Errc::too_large ? 413 : 400;
                reply.body = "{\"error\":\"the request could not be read\"}\n";
            }
            stream->set_timeout(request_timeout);
            const Result<> written = co_await write_reply(*stream, reply, open);
            if (!written) co_return;
        }
        co_await stream->close();
    }

    Task<HttpReply> decide(HttpRequest request, bool local) {
        HttpReply refusal;
        if (!local && !host_is_ours(request.host)) {
            refusal.status = 421;
            refusal.body = "{\"error\":\"the Host is not this instance\",\"field\":\"Host\"}\n";
            co_return refusal;
        }
        if (!local && !authorised(request.authorization)) {
            log_.warn("control", "request without a valid token refused", {{"path", request.path}});
            refusal.status = 401;
            refusal.body = "{\"error\":\"a valid bearer token is needed\",\"field\":\"Authorization\"}\n";
            co_return refusal;
        }
        co_return co_await answer(backend_, std::move(request));
    }

    // A page on another site can make a browser send requests here, but under its own name (DNS rebinding).
    bool host_is_ours(std::string_view host) const {
        const std::string_view name = host_part(host);
        return net::IpAddress::parse(name) || iequals(name, "localhost") || iequals(name, options_.host_name);
    }

    bool authorised(std::string_view authorization) const {
        if (options_.token.empty()) return true;
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
    std::vector<std::unique_ptr<net::Listener>> listeners_;
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
