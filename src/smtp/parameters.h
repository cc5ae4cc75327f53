#pragma once

#include <optional>
#include <string_view>

#include "smtp/command.h"

namespace sluice::smtp {

// The parameters after the path of MAIL and RCPT, read into the command. A reply means refusal: 555 5.5.4 for
// one that is unknown or belongs to an extension not offered, 501 5.5.4 for a bad value or a repetition.
std::optional<Reply> read_mail_parameters(std::string_view text, const Extensions* offered, MailFrom& mail);
std::optional<Reply> read_rcpt_parameters(
    std::string_view text, const CommandSyntax& syntax, mail::Recipient& recipient
);

}  // namespace sluice::smtp
