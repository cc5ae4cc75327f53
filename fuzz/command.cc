// Command lines from any octets: cut the same way whatever the read size; what is understood has sane values,
// what is refused has a reply with a fitting code.

#include "smtp/command.h"

#include <vector>

#include "base/assert.h"

namespace {

using namespace sluice;
using smtp::CommandLines;

std::vector<std::string> cut(std::string_view bytes, std::size_t piece_size) {
    std::vector<std::string> out;
    CommandLines lines;
    while (!bytes.empty()) {
        std::string_view piece = bytes.substr(0, piece_size);
        bytes.remove_prefix(piece.size());
        while (const auto line = lines.next(piece, 200)) {
            out.push_back(std::to_string(static_cast<int>(line->kind)).append(line->text));
        }
    }
    return out;
}

void check(std::string_view line, const smtp::CommandSyntax& syntax) {
    const auto command = smtp::parse_command(line, syntax);
    if (!command) {
        ASSERT(command.error().reply.permanent() && !command.error().reply.contradicts_itself());
        return;
    }
    ASSERT(line.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
    if (command->verb == smtp::Verb::mail) {
        const auto& mail = command->as<smtp::MailFrom>();
        ASSERT(!mail.size || syntax.offered->size);
        ASSERT(mail.smtputf8 || !mail.reverse_path.needs_utf8());
    }
    if (command->verb == smtp::Verb::rcpt) {
        ASSERT(!command->as<smtp::RcptTo>().recipient.address.is_null());
        ASSERT(syntax.smtputf8 || !command->as<smtp::RcptTo>().recipient.address.needs_utf8());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    smtp::Extensions offered;
    offered.size = offered.eight_bit_mime = offered.binarymime = offered.smtputf8 = offered.dsn = true;
    offered.requiretls = true;
    offered.size_max = 1000;
    offered.auth = {"PLAIN"};
    const auto lines = cut(input, input.size() + 1);
    ASSERT(lines == cut(input, 1) && lines == cut(input, 7));
    for (const std::string& line : lines) {
        check(std::string_view(line).substr(1), {&offered, true});
        check(std::string_view(line).substr(1), {nullptr, false});
    }
    check(input, {&offered, false});
    return 0;
}
