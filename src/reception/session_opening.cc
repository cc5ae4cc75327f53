// Before the first command: who is there, TLS, and the banner. Also STARTTLS, which begins a session anew.

#include <utility>

#include "net/proxy.h"
#include "reception/session.h"

namespace sluice::reception {
namespace {

constexpr std::size_t v1_header_min = 15;  // "PROXY UNKNOWN" CRLF
constexpr std::size_t v2_fixed = 16;

// How many octets surely still belong to a PROXY header that begins so. Never one too many: what follows the header may
// be a TLS handshake, which must stay in the stream.
std::size_t header_octets_wanted(std::string_view header) {
    if (header.size() < v1_header_min) return v1_header_min - header.size();
    if (header.front() == 'P') return 1;
    if (header.size() < v2_fixed) return v2_fixed - header.size();
    const std::size_t high = static_cast<unsigned char>(header[14]);
    const std::size_t low = static_cast<unsigned char>(header[15]);
    return v2_fixed + (high << 8 | low) - header.size();
}

}  // namespace

Task<Result<>> Session::open() {
    if (rules_->is_proxy(stream_->remote().address)) {
        CO_TRY_VOID(co_await read_proxy_header());
    }
    client_text_ = client_.path.empty() ? client_.address.text() : "unix";
    relays_by_address_ = client_.path.empty() && rules_->relays_for(client_.address);
    log_connect();
    if (!enter()) co_return Result<>();
    if (rules_->implicit_tls(listener_)) {
        CO_TRY_VOID(co_await handshake());
    }
    if (!proxied_ && stream_->idle_link_is_dead()) co_return co_await refuse_early_talker();
    if (asks(Hook::opening)) {
        const bool welcome = co_await open_with_plugins();
        if (!welcome) co_return Result<>();
    }
    greet();
    co_return Result<>();
}

// The client counts from here; a crowd is sent away.
bool Session::enter() {
    using Admission = Census::Admission;
    const config::SmtpSettings& limits = settings().smtp;
    const Admission admission =
        census_.enter(client_.address, limits.connections_max, limits.connections_per_client_max);
    entered_ = admission == Admission::admitted;
    if (entered_ && !stopping_) return true;
    smtp::Reply reply(421, "4.3.2", settings().me + " is shutting down; please come back");
    if (admission == Admission::too_many) reply = smtp::Reply(421, "4.3.2", "Too many connections; try again later");
    if (admission == Admission::too_many_of_client) {
        reply = smtp::Reply(421, "4.7.0", "Too many connections from your address; try again later");
    }
    refuse(reply, "connect");
    over_ = true;
    return false;
}

// No banner before the header is complete (as Haraka); then the client is who the proxy says.
Task<Result<>> Session::read_proxy_header() {
    wait_until(std::chrono::steady_clock::now() + rules_->patience.proxy_wait);
    std::string header;
    for (;;) {
        const std::size_t wanted = std::min(header_octets_wanted(header), InputBuffer::idle_size);
        CO_TRY_VOID(co_await fill(wanted));
        header.append(input_.rest());
        input_.drop();
        CO_TRY(const auto told, net::parse_proxy_header(header));
        if (!told) continue;
        proxied_ = true;
        if (!told->local && told->source.path.empty()) client_ = told->source;
        co_return Result<>();
    }
}

// Nobody who speaks SMTP talks before the banner; what does is a bot, or a proxy that we do not know.
Task<Result<>> Session::refuse_early_talker() {
    static constexpr std::string_view v1 = "PROXY ";
    static constexpr std::string_view v2("\r\n\r\n\0\r\nQUIT\n", 12);
    wait_until(std::chrono::steady_clock::now() + rules_->patience.proxy_wait);
    std::string said;
    do {
        CO_TRY_VOID(co_await fill(InputBuffer::idle_size));
        said.append(input_.rest());
        input_.drop();
    } while (said.size() < v2.size() && (v1.starts_with(said) || v2.starts_with(said)));
    const bool proxy = said.starts_with(v1) || said.starts_with(v2);
    refuse(proxy ? smtp::Reply(421, "4.7.0", "You are no proxy that we know; goodbye")
                 : smtp::Reply(554, "5.5.0", "You talked before the greeting; goodbye"),
           "connect");
    over_ = true;
    co_return Result<>();
}

// The banner carries no enhanced code (RFC 2034 §4).
void Session::greet() {
    const config::ConnectionSettings& connection = settings().connection;
    const std::string tag = " (" + id_.substr(0, connection.banner_uuid_chars) + ")";
    smtp::Reply banner(220, "", settings().me + " ESMTP " + (connection.show_version ? "Sluice " : "") + "ready" +
                                    (connection.banner_uuid_chars > 0 ? tag : ""));
    if (!connection.greeting.empty()) {
        banner.lines = connection.greeting;
        banner.lines.front() = settings().me + " ESMTP " + banner.lines.front();
        if (connection.banner_uuid_chars > 0) banner.lines.back() += tag;
    }
    say(banner);
}

Task<Result<>> Session::start_tls() {
    say(220, "2.0.0", "Go ahead");
    CO_TRY_VOID(co_await flush());
    CO_TRY_VOID(co_await handshake());
    forget_client();
    co_return Result<>();
}

Task<Result<>> Session::handshake() {
    stream_->set_timeout(rules_->patience.handshake);
    Result<> shaken = fail(Errc::tls_failed, "there is no certificate");
    if (rules_->tls) shaken = co_await stream_->start_tls_server(rules_->tls);
    if (shaken) co_return shaken;
    mute_ = true;
    if (log_enabled(event::Level::notice)) {
        around_.log.write(event::Level::notice, id_, "tls", "handshake failed",
                          {{"ip", client_text_}, {"error", shaken.error().detail}});
    }
    co_return shaken;
}

// Nothing said in clear counts inside TLS (RFC 3207 §4.2, TLS-I3).
void Session::forget_client() {
    ASSERT(input_.empty() && lines_.idle());
    helo_.clear();
    extended_ = false;
    offered_ = smtp::Extensions();
    auth_user_.clear();
    if (std::exchange(auth_by_plugin_, false)) plugins_relay_.reset();
    plugins_read_ = false;
    end_transaction();
}

}  // namespace sluice::reception
