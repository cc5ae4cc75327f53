// Replies from any octets: understood the same way at every read size; what we format parses back.

#include "smtp/reply.h"

#include "base/assert.h"
#include "smtp/extensions.h"

namespace {

using namespace sluice;

// All replies up to the first error, as text.
std::string read_all(std::string_view bytes, std::size_t piece_size) {
    std::string out;
    smtp::ReplyParser parser;
    while (!bytes.empty()) {
        std::string_view piece = bytes.substr(0, piece_size);
        bytes.remove_prefix(piece.size());
        while (!piece.empty()) {
            const auto reply = parser.feed(piece);
            if (!reply) return out + "error";
            if (*reply) out += (*reply)->full_text() + "|" + std::to_string((*reply)->lines.size()) + "|";
        }
    }
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    const std::string whole = read_all(input, input.size() + 1);
    ASSERT(whole == read_all(input, 1) && whole == read_all(input, 3));

    smtp::Reply reply(550, "5.7.1", std::string(input.substr(0, 20000)));
    std::string wire = smtp::format(reply);
    std::string_view rest = wire;
    smtp::ReplyParser parser;
    const auto again = parser.feed(rest);
    ASSERT(again && *again && (*again)->code == 550 && (*again)->enhanced == reply.enhanced && rest.empty());

    rest = input;
    parser.reset();
    if (const auto peer = parser.feed(rest); peer && *peer) {
        const smtp::Extensions offered = smtp::parse_extensions(**peer);
        ASSERT(smtp::parse_extensions(smtp::format_extensions(offered, "mx.test")).limits == offered.limits);
    }
    return 0;
}
