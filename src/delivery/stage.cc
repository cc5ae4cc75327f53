#include "delivery/stage.h"

#include <array>

namespace sluice::delivery {

const StageFacts& facts_of(Stage stage) {
    using Out = config::OutboundSettings;
    static constexpr std::array<StageFacts, stage_count> facts{{
        {"dns", nullptr, false, false},
        {"load", nullptr, false, false},
        {"connect", &Out::connect_timeout, true, false},
        {"greeting", &Out::greeting_timeout, true, false},
        {"helo", &Out::helo_timeout, true, false},
        {"starttls", &Out::helo_timeout, true, false},
        {"tls", &Out::helo_timeout, true, false},
        {"auth", &Out::helo_timeout, true, false},
        {"mail", &Out::mail_timeout, false, false},
        {"rcpt", &Out::rcpt_timeout, false, false},
        {"data", &Out::data_timeout, false, false},
        {"body", &Out::block_timeout, false, false},
        {"dot", &Out::dot_timeout, false, true},
        {"quit", &Out::quit_timeout, false, false},
    }};
    return facts[static_cast<std::size_t>(stage)];
}

}  // namespace sluice::delivery
