#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "base/clock.h"
#include "base/text.h"
#include "peer/ledger_time.h"
#include "peer/sink_session.h"

namespace sluice::peer {
namespace {

std::string sha256(std::string_view bytes) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
    return hex_encode(std::string_view(reinterpret_cast<const char*>(digest), size));
}

// The value of the first such header field, without folding; empty when there is none.
std::string_view header_value(std::string_view content, std::string_view name) {
    while (!content.empty() && !content.starts_with("\r\n")) {
        const std::size_t end = content.find("\r\n");
        const std::string_view line = content.substr(0, end);
        if (istarts_with(line, name) && line.size() > name.size() && line[name.size()] == ':') {
            return trim(line.substr(name.size() + 1));
        }
        if (end == std::string_view::npos) break;
        content.remove_prefix(end + 2);
    }
    return {};
}

std::string_view body_of(std::string_view content) {
    const std::size_t end = content.find("\r\n\r\n");
    return end == std::string_view::npos ? std::string_view{} : content.substr(end + 4);
}

void write_whole(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(fd, text.data(), text.size());
        if (count <= 0 && errno != EINTR) return;
        if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
    }
}

void add(std::string& json, std::string_view key, std::string_view value) {
    json += json.size() > 1 ? ",\"" : "\"";
    json += key;
    json += "\":\"";
    append_json_escaped(json, value);
    json += '"';
}

std::string ledger_line(const MessageStore::Taken& message) {
    std::string line = "{";
    add(line, "time", rfc3339(wall_clock_ms()));
    line += ",\"steady_us\":" + std::to_string(steady_us(std::chrono::steady_clock::now()));
    add(line, "id", header_value(message.content, "X-Ledger-Id"));
    add(line, "message_id", header_value(message.content, "Message-ID"));
    add(line, "from", message.from);
    line += ",\"to\":[";
    for (std::size_t i = 0; i < message.to.size(); ++i) {
        line += i > 0 ? ",\"" : "\"";
        append_json_escaped(line, message.to[i]);
        line += '"';
    }
    line += ']';
    add(line, "sha256", sha256(message.content));
    add(line, "body_sha256", sha256(body_of(message.content)));
    line += ",\"size\":" + std::to_string(message.content.size());
    line += ",\"connection\":" + std::to_string(message.connection);
    add(line, "endpoint", message.endpoint);
    add(line, "answer", message.answer);
    return line + "}\n";
}

}  // namespace

Result<std::unique_ptr<MessageStore>> MessageStore::open(const SinkOptions& options) {
    int fd = -1;
    if (!options.ledger.empty()) {
        fd = ::open(options.ledger.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (fd < 0) return fail(Errc::disk_failed, options.ledger + ": " + std::generic_category().message(errno));
    }
    return std::unique_ptr<MessageStore>(new MessageStore(options, fd));
}

MessageStore::MessageStore(const SinkOptions& options, int ledger_fd)
    : options_(options),
      ledger_fd_(ledger_fd),
      wants_content_(!options.directory.empty() || ledger_fd >= 0 || options.print) {}

MessageStore::~MessageStore() {
    if (ledger_fd_ >= 0) ::close(ledger_fd_);
}

void MessageStore::take(const Taken& message) {
    const std::uint64_t number = ++number_;
    if (!options_.directory.empty()) {
        const std::string path = options_.directory + "/" + std::to_string(number) + ".eml";
        const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd >= 0) {
            write_whole(fd, message.content);
            ::close(fd);
        }
    }
    // One write a line: lines of several threads do not mix.
    if (ledger_fd_ >= 0) write_whole(ledger_fd_, ledger_line(message));
    if (options_.print) {
        std::string line = rfc3339(wall_clock_ms()) + " received at " + std::string(message.endpoint) + " from <" +
                           printable(message.from) + "> to";
        for (const std::string& to : message.to) line += " <" + printable(to) + ">";
        line += " size=" + std::to_string(message.content.size());
        line += " subject=\"" + printable(header_value(message.content, "Subject")) + "\"\n";
        write_whole(STDOUT_FILENO, line);
    }
}

}  // namespace sluice::peer
