#include "delivery/connecting.h"

#include "async/blocking.h"
#include "async/signal.h"
#include "base/assert.h"

namespace sluice::delivery {
namespace {

constexpr std::chrono::milliseconds stagger_delay{250};  // RFC 8305 §8

}  // namespace

bool is_source_fault(Errc code) {
    return code == Errc::bad_source || code == Errc::out_of_resources || code == Errc::address_in_use;
}

struct Race::Track {
    // What came of a runner so far.
    enum class Word : std::uint8_t { none, none_for_long, given };

    Track(async::Executor executor, net::Network& network_) : network(network_), news(executor) {}

    net::Network& network;

    std::vector<net::ConnectOptions> runners;
    std::vector<Word> words;
    std::size_t started = 0;
    std::size_t failed = 0;
    bool next_is_due = false;
    bool cancelled = false;
    RaceResult result;
    async::Signal news;  // somebody arrived or failed, or the next one may start
};

Task<> Race::run_one(Track& track, std::size_t index) {
    auto link = co_await track.network.connect(track.runners[index]);
    if (link) {
        if (!track.result.winner) {
            track.result.winner = std::move(*link);
            track.result.winner_index = index;
        }
    } else if (link.error().code != Errc::cancelled) {
        if (track.failed == 0) track.result.error = link.error();
        if (!is_source_fault(link.error().code)) track.result.unreachable.push_back(index);
        ++track.failed;
        track.next_is_due = true;
    }
    track.words[index] = Track::Word::given;
    track.news.set();
}

Task<> Race::stagger(Track& track, std::size_t started) {
    const bool waited = co_await async::sleep_for(stagger_delay);
    if (!waited) co_return;
    Track::Word& word = track.words[started - 1];
    if (word == Track::Word::none) word = Track::Word::none_for_long;
    if (track.started != started) co_return;
    track.next_is_due = true;
    track.news.set();
}

void Race::start_next(Track& track, async::TaskGroup& group) {
    track.next_is_due = false;
    group.spawn(run_one(track, track.started++));
    if (track.started < track.runners.size()) group.spawn(stagger(track, track.started));
}

Task<RaceResult> Race::run(std::vector<net::ConnectOptions> runners) {
    ASSERT(track_ == nullptr);
    Track track(executor_, network_);
    track.runners = std::move(runners);
    track.words.assign(track.runners.size(), Track::Word::none);
    track_ = &track;
    async::TaskGroup group(executor_);
    track.next_is_due = true;
    while (!track.result.winner && !track.cancelled && track.failed < track.runners.size()) {
        if (track.next_is_due && track.started < track.runners.size()) start_next(track, group);
        co_await track.news.wait();
    }
    for (std::size_t i = 0; track.result.winner && i < track.result.winner_index; ++i) {
        if (track.words[i] == Track::Word::none_for_long) track.result.overtaken.push_back(i);
    }
    co_await group.close();
    track_ = nullptr;
    if (track.cancelled) {
        track.result.winner.reset();
        track.result.error = Error(Errc::cancelled, "the attempt was broken off");
    }
    co_return std::move(track.result);
}

void Race::cancel() {
    if (track_ == nullptr) return;
    track_->cancelled = true;
    track_->news.set();
}

}  // namespace sluice::delivery
