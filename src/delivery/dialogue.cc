#include "delivery/dialogue.h"

#include <algorithm>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::delivery {

Dialogue::Dialogue(
    net::StreamPtr stream, const StageTimeouts& timeouts, event::Log& log, std::string name)
    : stream_(std::move(stream)), timeouts_(timeouts), log_(log), name_(std::move(name)) {}

void Dialogue::enter(Stage stage) {
    stage_ = stage;
    ASSERT(facts_of(stage).timeout != nullptr);
    stream_->set_timeout(timeouts_[stage]);
}

Task<Result<>> Dialogue::send(std::string_view lines, Showing showing) {
    if (log_.enabled(event::Level::protocol)) show("C: ", lines, showing);
    return stream_->write(lines);
}

Task<Result<>> Dialogue::send_with_content(std::string_view lines, std::span<const std::string_view> all) {
    if (log_.enabled(event::Level::protocol)) show("C: ", lines, Showing::plain);
    return stream_->write_all(all);
}

Task<Result<smtp::Reply>> Dialogue::reply() {
    while (true) {
        auto fed = parser_.feed(unread_);
        if (!fed && stage_ == Stage::auth) co_return fail(fed.error().code, "no SMTP reply");  // it may show what we sent
        CO_TRY(auto complete, std::move(fed));
        if (complete) {
            smtp::Reply shown;
            const bool conceals = !secrets_.empty() && repeats_a_secret(*complete);
            if (conceals) {
                shown = smtp::Reply(complete->code, "", "(not shown: it repeats a secret)");
                shown.enhanced = complete->enhanced;
            }
            if (log_.enabled(event::Level::protocol)) show(conceals ? shown : *complete);
            co_return conceals && !complete->intermediate() ? std::move(shown) : std::move(*complete);
        }
        CO_TRY(const std::size_t size, co_await stream_->read_some(buffer_));
        unread_ = std::string_view(buffer_.data(), size);
    }
}

void Dialogue::conceal(std::string_view secret) {
    constexpr std::size_t word_octets_max = 5;
    if (secret.size() > word_octets_max) secrets_.emplace_back(secret);
}

bool Dialogue::repeats_a_secret(const smtp::Reply& reply) const {
    const std::string text = reply.text();
    return std::ranges::any_of(secrets_, [&](const std::string& secret) { return text.find(secret) != std::string_view::npos; });
}

void Dialogue::show(std::string_view mark, std::string_view lines, Showing showing) {
    while (!lines.empty()) {
        const std::size_t end = std::min(lines.find("\r\n"), lines.size());
        std::string sentence(mark);
        sentence += showing == Showing::secret ? "(secret)" : printable(lines.substr(0, end));
        log_.write(event::Level::protocol, name_, "outbound", sentence, {});
        lines.remove_prefix(std::min(end + 2, lines.size()));
    }
}

void Dialogue::show(const smtp::Reply& reply) {
    const std::string sentence = "S: " + printable(reply.full_text());
    log_.write(event::Level::protocol, name_, "outbound", sentence, {});
}

}  // namespace sluice::delivery
