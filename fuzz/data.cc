// DATA from any octets: decoded the same way at every read size, ended by CRLF.CRLF only, clean when
// accepted; and what we stuff is decoded to itself.

#include "smtp/data.h"

#include "base/assert.h"
#include "mail/header.h"

namespace {

using namespace sluice;

struct Decoded {
    std::string content;
    std::size_t used = 0;
    bool done = false;
    smtp::DataFault fault = smtp::DataFault::none;
    friend bool operator==(const Decoded&, const Decoded&) = default;
};

Decoded decode(std::string_view wire, std::size_t piece_size, const smtp::DataLimits& limits) {
    smtp::DataDecoder decoder(limits);
    Decoded result;
    while (result.used < wire.size() && !decoder.done()) {
        std::string_view piece = wire.substr(result.used, piece_size);
        const std::size_t given = piece.size();
        decoder.feed(piece, result.content);
        result.used += given - piece.size();
    }
    result.done = decoder.done();
    result.fault = decoder.fault();
    return result;
}

void check(std::string_view wire, const smtp::DataLimits& limits) {
    const Decoded whole = decode(wire, wire.size() + 1, limits);
    ASSERT(whole == decode(wire, 1, limits) && whole == decode(wire, 65, limits));
    ASSERT(whole.fault == smtp::DataFault::none || whole.content.empty());
    if (!whole.done) return;
    const std::string seen = "\r\n" + std::string(wire.substr(0, whole.used));
    ASSERT(seen.find("\r\n.\r\n") == seen.size() - 5);
    ASSERT(mail::is_clean_text(whole.content));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    smtp::DataLimits limits;
    check(input, limits);
    limits.bare_eol = smtp::BareEol::normalise;
    check(input, limits);
    limits.size_max = 500;
    limits.line_max = 90;
    check(input, limits);

    const std::string content = mail::clean_text(input);
    std::vector<std::string_view> pieces;
    smtp::append_stuffed(pieces, content, mail::scan_content(content).has_leading_dot);
    std::string wire;
    for (const std::string_view piece : pieces)
        wire += piece;
    wire += smtp::data_terminator(content);
    const Decoded back = decode(wire, wire.size(), {});
    ASSERT(back.done && back.used == wire.size() && back.content == content);
    return 0;
}
