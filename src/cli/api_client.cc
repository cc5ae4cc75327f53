#include "cli/api_client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/text.h"

namespace sluice::cli {
namespace {

// Owns a descriptor.
class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }

private:
    int fd_;
};

Result<> connect_to(int fd, const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return fail(Errc::bad_input, "the path is too long for a socket: " + path);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail(Errc::refused, "no engine is running there (" + path + ": " + std::generic_category().message(errno) + ")");
    }
    return {};
}

Result<> send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return fail(Errc::link_closed, "the engine closed the connection");
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

Result<std::string> receive_all(int fd) {
    std::string all;
    char buffer[65536];
    for (;;) {
        const ssize_t count = ::recv(fd, buffer, sizeof buffer, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail(Errc::link_closed, std::generic_category().message(errno));
        if (count == 0) return all;
        all.append(buffer, static_cast<std::size_t>(count));
    }
}

// One word of a shell, whatever is in it.
std::string shell_word(std::string_view text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
    return out + "'";
}

std::string curl(const std::string& socket_path) { return "curl --unix-socket " + shell_word(socket_path); }
std::string url(const std::string& target) { return shell_word("http://localhost" + target); }

}  // namespace

std::string percent_encode(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
            out += c;
        } else {
            out += '%';
            out += to_upper(hex_encode(std::string_view(&c, 1)));
        }
    }
    return out;
}

ApiClient::ApiClient(std::string directory, bool show_requests)
    : socket_path_(std::move(directory) + "/run/control.sock"), show_requests_(show_requests) {}

Result<ApiReply> ApiClient::get(const std::string& target) {
    if (show_requests_) {
        std::fprintf(stderr, "%s %s\n", curl(socket_path_).c_str(), url(target).c_str());
    }
    return exchange("GET " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

Result<ApiReply> ApiClient::post(
    const std::string& target, const std::string& content_type, const std::string& body,
    const std::string& idempotency_key) {
    if (show_requests_) {
        // The body octet by octet, and of any length: a here-document would add a line end, a word of curl's is limited.
        std::string headers = " -H " + shell_word("Content-Type: " + content_type);
        if (!idempotency_key.empty()) headers += " -H " + shell_word("Idempotency-Key: " + idempotency_key);
        std::fprintf(
            stderr, "printf %%s %s | %s%s --data-binary @- %s\n", shell_word(body).c_str(), curl(socket_path_).c_str(), headers.c_str(),
            url(target).c_str());
    }
    std::string request = "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: " +
                          content_type + "\r\nContent-Length: " + std::to_string(body.size());
    if (!idempotency_key.empty()) request += "\r\nIdempotency-Key: " + idempotency_key;
    return exchange(request + "\r\n\r\n" + body);
}

Result<ApiReply> ApiClient::exchange(const std::string& request) {
    const Descriptor link(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (link.get() < 0) return fail(Errc::out_of_resources, std::generic_category().message(errno));
    TRY_VOID(connect_to(link.get(), socket_path_));
    TRY_VOID(send_all(link.get(), request));
    TRY(const std::string all, receive_all(link.get()));
    // "HTTP/1.1 200 ..."; the engine closes after one answer, so the body is the rest.
    const std::size_t body = all.find("\r\n\r\n");
    if (!all.starts_with("HTTP/1.1 ") || body == std::string::npos) return fail(Errc::bad_reply, "the answer is not HTTP");
    ApiReply reply;
    reply.status = parse_number<int>(std::string_view(all).substr(9, 3)).value_or(0);
    reply.body = all.substr(body + 4);
    return reply;
}

Result<boost::json::value> json_of(const Result<ApiReply>& reply) {
    if (!reply) return fail(reply.error());
    boost::json::error_code error;
    boost::json::value value = boost::json::parse(reply->body, error);
    if (error) return fail(Errc::bad_reply, "the answer is not JSON");
    if (reply->status < 300) return value;
    std::string sentence = "status " + std::to_string(reply->status);
    if (const auto* object = value.if_object()) {
        if (const auto* text = object->if_contains("error")) sentence = text->as_string().c_str();
        const auto* field = object->if_contains("field");
        const std::string name = field != nullptr ? std::string(field->as_string()) + ": " : std::string();
        if (!sentence.starts_with(name)) sentence = name + sentence;
    }
    return fail(reply->status == 404 ? Errc::not_found : Errc::bad_input, sentence);
}

Result<boost::json::value> ApiClient::get_json(const std::string& target) { return json_of(get(target)); }

Result<boost::json::value> ApiClient::post_json(const std::string& target, const boost::json::object& body) {
    return json_of(post(target, "application/json", boost::json::serialize(body)));
}

}  // namespace sluice::cli
