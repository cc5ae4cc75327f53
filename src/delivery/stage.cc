#include "delivery/stage.h"

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

StageTimeouts::StageTimeouts(const config::OutboundSettings& settings, const policy::DeliverySettings* how, bool lmtp) {
    for (int i = 0; i < stage_count; ++i) {
        const auto timeout = facts_of(static_cast<Stage>(i)).timeout;
        if (timeout != nullptr) times_[static_cast<std::size_t>(i)] = settings.*timeout;
    }
    old_helo_ = settings.helo_timeout;
    if (how == nullptr) return;
    const auto adopt = [how](const char* state, Duration& time) {
        const auto found = how->state_timeouts.find(state);
        if (found != how->state_timeouts.end()) time = found->second;
    };
    const auto stage = [this](Stage which) -> Duration& { return times_[static_cast<std::size_t>(which)]; };
    stage(Stage::connect) = how->connect_timeout.value_or(settings.connect_timeout);
    adopt("BANNER", stage(Stage::greeting));
    adopt(lmtp ? "LHLO" : "EHLO", stage(Stage::helo));
    adopt("HELO", old_helo_);
    adopt("STARTTLS", stage(Stage::starttls));
    adopt("STARTTLS", stage(Stage::tls));
    adopt("AUTH", stage(Stage::auth));
    adopt("MAIL", stage(Stage::mail));
    adopt("RCPT", stage(Stage::rcpt));
    adopt("DATA", stage(Stage::data));
    adopt("EOD", stage(Stage::dot));
    adopt("QUIT", stage(Stage::quit));
}

}  // namespace sluice::delivery
