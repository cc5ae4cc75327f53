#include "control/http.h"

#include <array>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/text.h"

namespace sluice::control {
namespace {

namespace http = boost::beast::http;
using Parser = http::request_parser<http::string_body>;

// Of a last chunk, "0" and two line ends. Beast (1.81) takes it for granted that it has so much, once it has seen a size of 0.
constexpr std::size_t last_chunk_bytes = 5;

bool may_be_part_of_the_last_chunk(std::string_view unread) { return unread.size() < last_chunk_bytes && unread.starts_with('0'); }

constexpr std::uint32_t head_bytes_max = 16 * 1024;
constexpr std::size_t read_bytes = 16 * 1024;
// What the parser leaves until more has come: parts of a chunk's head and the fields behind the last chunk, which have no other bound.
constexpr std::size_t unparsed_bytes_max = 64 * 1024;

std::string text_of(boost::beast::string_view view) { return std::string(view.data(), view.size()); }

std::optional<int> hex_value(char c) {
    if (is_digit(c)) return c - '0';
    const char lower = ascii_lower(c);
    if (lower >= 'a' && lower <= 'f') return lower - 'a' + 10;
    return std::nullopt;
}

Result<> parse_target(std::string_view target, HttpRequest& request) {
    const std::size_t question = target.find('?');
    const auto path = percent_decode(target.substr(0, question), false);
    if (!path || path->empty() || path->front() != '/') return fail(Errc::bad_input, "bad request target");
    request.path = *path;
    if (question == std::string_view::npos) return {};
    for (const std::string_view pair : split(target.substr(question + 1), '&')) {
        if (pair.empty()) continue;
        const std::size_t equals = pair.find('=');
        const auto key = percent_decode(pair.substr(0, equals), true);
        const auto value =
            equals == std::string_view::npos ? std::optional<std::string>("") : percent_decode(pair.substr(equals + 1), true);
        if (!key || !value) return fail(Errc::bad_input, "bad escape in the query");
        request.query.emplace_back(*key, *value);
    }
    return {};
}

Result<HttpRequest> request_of(Parser& parser) {
    auto& message = parser.get();
    // Who reads the first and who reads the last of two would not agree on what was asked (RFC 9112 §3.2).
    for (const http::field once : {http::field::host, http::field::authorization, http::field::content_type, http::field::origin}) {
        if (message.count(once) > 1) return fail(Errc::bad_input, "a header field that may stand only once stands twice");
    }
    // Another reader might not know the coding, or go by the length: then it sees other requests (RFC 9112 §6.1, §6.3).
    const std::size_t codings = message.count(http::field::transfer_encoding);
    const bool chunked = iequals(text_of(message[http::field::transfer_encoding]), "chunked");
    if (codings > 1 || (codings == 1 && (!chunked || message.count(http::field::content_length) > 0))) {
        return fail(Errc::bad_input, "a Transfer-Encoding that is not chunked alone");
    }
    HttpRequest request;
    request.method = text_of(message.method_string());
    request.host = text_of(message[http::field::host]);
    request.content_type = text_of(message[http::field::content_type]);
    request.authorization = text_of(message[http::field::authorization]);
    request.origin = text_of(message[http::field::origin]);
    request.idempotency_key = text_of(message["Idempotency-Key"]);
    request.keep_alive = message.keep_alive();
    TRY_VOID(parse_target(text_of(message.target()), request));
    return request;
}

std::string_view reason_of(int status) {
    const auto reason = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)));
    return std::string_view(reason.data(), reason.size());
}

}  // namespace

std::string_view HttpRequest::query_value(std::string_view key) const {
    for (const auto& [name, value] : query) {
        if (name == key) return value;
    }
    return {};
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '+' && plus_is_space) {
            out += ' ';
        } else if (text[i] == '%') {
            if (i + 2 >= text.size()) return std::nullopt;
            const auto high = hex_value(text[i + 1]);
            const auto low = hex_value(text[i + 2]);
            if (!high || !low) return std::nullopt;
            out += static_cast<char>(*high * 16 + *low);
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

struct RequestReader::Parsing {
    Parser parser;
    std::array<char, read_bytes> buffer;
};

RequestReader::RequestReader(net::Stream& stream, std::string& unread, std::uint64_t body_bytes_max)
    : stream_(stream), unread_(unread), parsing_(std::make_unique<Parsing>()) {
    parsing_->parser.header_limit(head_bytes_max);
    parsing_->parser.body_limit(body_bytes_max);
}

RequestReader::~RequestReader() = default;

Task<Result<HttpRequest>> RequestReader::head() {
    while (!parsing_->parser.is_header_done()) {
        CO_TRY_VOID(co_await advance());
    }
    co_return request_of(parsing_->parser);
}

std::optional<std::uint64_t> RequestReader::announced() const {
    const Parser& parser = parsing_->parser;
    if (parser.is_done()) return 0;
    const auto length = parser.content_length();
    return length ? std::optional<std::uint64_t>(*length) : std::nullopt;
}

Task<Result<>> RequestReader::body(HttpRequest& request) {
    Parser& parser = parsing_->parser;
    const bool waits = iequals(text_of(parser.get()[http::field::expect]), "100-continue");
    if (waits && !parser.is_done() && unread_.empty()) {
        CO_TRY_VOID(co_await stream_.write("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    parser.eager(true);
    while (!parser.is_done()) {
        CO_TRY_VOID(co_await advance());
    }
    request.body = std::move(parser.get().body());
    co_return Result<>();
}

// Parses what has arrived; waits for more when that was not enough.
Task<Result<>> RequestReader::advance() {
    Parser& parser = parsing_->parser;
    boost::beast::error_code error;
    while (parser.is_header_done() && parser.chunked() && may_be_part_of_the_last_chunk(unread_)) {
        CO_TRY_VOID(co_await receive());
    }
    const std::size_t used = parser.put(boost::asio::const_buffer(unread_.data(), unread_.size()), error);
    unread_.erase(0, used);
    if (error == http::error::body_limit || error == http::error::header_limit) {
        co_return fail(Errc::too_large, error.message());
    }
    if (error && error != http::error::need_more) co_return fail(Errc::bad_input, error.message());
    if (parser.is_done() || (used > 0 && !error)) co_return Result<>();
    if (unread_.size() > unparsed_bytes_max) co_return fail(Errc::too_large, "a line or trailer without end");
    co_return co_await receive();
}

Task<Result<>> RequestReader::receive() {
    CO_TRY(const std::size_t count, co_await stream_.read_some(parsing_->buffer));
    unread_.append(parsing_->buffer.data(), count);
    co_return Result<>();
}

Task<Result<>> write_reply(net::Stream& stream, const HttpReply& reply, bool keep_alive) {
    std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " ";
    head += reason_of(reply.status);
    head += "\r\nContent-Type: " + reply.content_type;
    head += "\r\nContent-Length: " + std::to_string(reply.body.size());
    head += "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff";
    head += "\r\nContent-Security-Policy: default-src 'none'";
    head += keep_alive ? "\r\nConnection: keep-alive\r\n\r\n" : "\r\nConnection: close\r\n\r\n";
    const std::array<std::string_view, 2> slices = {head, reply.body};
    co_return co_await stream.write_all(slices);
}

}  // namespace sluice::control
