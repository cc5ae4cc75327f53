#include "dns/resolver.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <deque>

#include "async/blocking.h"
#include "async/signal.h"
#include "async/task_group.h"
#include "base/assert.h"
#include "base/text.h"
#include "dns/cache.h"
#include "dns/unbound.h"
#include "net/wait_token.h"

namespace sluice::dns {
namespace {

// So many questions are with the servers at once; the others wait in line. Bounds the rate at which servers
// in trouble are asked (DNS-6).
constexpr std::size_t under_way_max = 512;
constexpr std::size_t cache_weight_max = 200'000;
// How long a context that broke, or could not be set up, stays away before a new one is tried.
constexpr std::chrono::seconds repair_pause(1);

using SteadyClock = std::chrono::steady_clock;
using Timer =
    boost::asio::basic_waitable_timer<SteadyClock, boost::asio::wait_traits<SteadyClock>, async::Executor>;

// Somebody who asked. Lives in the asking coroutine.
struct Waiter {
    explicit Waiter(async::Executor executor) : ready(executor) {}
    async::Signal ready;
    FindingPtr finding;
};

// One question on its way, for however many want to know. The coroutine fly() sleeps on `alarm`; whoever
// changes the flight cancels the alarm to wake it.
struct Flight final : Context::Asker {
    Flight(async::Executor executor, Question question, Instant deadline_)
        : asked(std::move(question)), alarm(executor), deadline(deadline_) {}

    const Question& question() const override { return asked; }
    void told(Finding answer) override {
        finding = std::move(answer);
        alarm.cancel();
    }

    Question asked;
    Timer alarm;
    Instant deadline;
    std::optional<Finding> finding;
    bool has_turn = false;
    bool superseded = false;  // the context that was asked is gone
    std::vector<Waiter*> waiters;
};

Question make_question(std::string_view name, RecordType type) {
    if (!name.empty() && name.back() == '.') name.remove_suffix(1);
    return Question{to_lower(name), type};
}

class CachingResolver final : public Resolver {
public:
    CachingResolver(async::Shard& shard, const config::DnsSettings& settings, MakeContext make_context)
        : executor_(shard.executor()), make_context_(std::move(make_context)), tasks_(executor_), settings_(settings) {
        open_context();
    }

    Task<Result<Answer<std::vector<MxRecord>>>> mx(std::string domain) override;
    Task<Result<Answer<std::vector<net::IpAddress>>>> a(std::string name) override;
    Task<Result<Answer<std::vector<net::IpAddress>>>> aaaa(std::string name) override;
    void configure(const config::DnsSettings& settings) override;
    Task<> close() override;

private:
    using Addresses = Result<Answer<std::vector<net::IpAddress>>>;

    Task<AnswerCache::Hit> find(Question question);
    Task<Addresses> addresses(std::string name, RecordType type);
    void join(const Question& question, Waiter& waiter);

    Task<> fly(Flight& flight);
    Task<> take_turn(Flight& flight);
    void pass_turn();
    Task<> ask_once(Flight& flight);
    void settle(Flight& flight);
    Finding conclude(Flight& flight) const;

    void open_context();
    void abandon_tries();
    Task<> serve(std::unique_ptr<Context> context);
    std::chrono::seconds clamp_ttl(std::chrono::seconds ttl) const;

    async::Executor executor_;
    MakeContext make_context_;
    async::TaskGroup tasks_;
    SystemClock clock_;
    config::DnsSettings settings_;
    AnswerCache cache_{cache_weight_max};
    Context* context_ = nullptr;  // owned by its serve()
    absl::flat_hash_map<Question, std::unique_ptr<Flight>> flights_;
    std::size_t turns_taken_ = 0;
    std::deque<Flight*> in_line_;
    bool closing_ = false;
};

Task<Result<Answer<std::vector<MxRecord>>>> CachingResolver::mx(std::string domain) {
    const AnswerCache::Hit hit = co_await find(make_question(domain, RecordType::mx));
    if (!hit.finding->records) co_return fail(hit.finding->records.error());
    co_return Answer<std::vector<MxRecord>>{hit.finding->records->mx, hit.left, hit.finding->secure};
}

Task<Result<Answer<std::vector<net::IpAddress>>>> CachingResolver::a(std::string name) {
    return addresses(std::move(name), RecordType::a);
}

Task<Result<Answer<std::vector<net::IpAddress>>>> CachingResolver::aaaa(std::string name) {
    return addresses(std::move(name), RecordType::aaaa);
}

Task<CachingResolver::Addresses> CachingResolver::addresses(std::string name, RecordType type) {
    const AnswerCache::Hit hit = co_await find(make_question(name, type));
    if (!hit.finding->records) co_return fail(hit.finding->records.error());
    co_return Answer<std::vector<net::IpAddress>>{
        hit.finding->records->addresses, hit.left, hit.finding->secure
    };
}

// From the cache, or from the flight of this question, which is started if there is none. After the wait the
// resolver may be closed and gone, so nothing of it is touched any more.
Task<AnswerCache::Hit> CachingResolver::find(Question question) {
    if (auto hit = cache_.get(question, clock_.now())) co_return std::move(*hit);
    Waiter waiter(executor_);
    join(question, waiter);
    co_await waiter.ready.wait();
    const std::chrono::seconds left = waiter.finding->ttl;
    co_return AnswerCache::Hit{std::move(waiter.finding), left};
}

void CachingResolver::join(const Question& question, Waiter& waiter) {
    if (closing_) {
        const Finding closed{fail(Errc::cancelled, question.text() + ": the resolver is closed")};
        waiter.finding = std::make_shared<const Finding>(closed);
        waiter.ready.set();
        return;
    }
    std::unique_ptr<Flight>& place = flights_[question];
    if (place) {
        place->waiters.push_back(&waiter);
        return;
    }
    const Duration patience = settings_.timeout * std::max(1, settings_.tries);
    place = std::make_unique<Flight>(executor_, question, clock_.now() + patience);
    place->waiters.push_back(&waiter);
    tasks_.spawn(fly(*place));  // may run to its end at once, and the flight with it
}

// Asks until there is an answer or the deadline of the question has passed, whatever the library does.
Task<> CachingResolver::fly(Flight& flight) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    co_await take_turn(flight);
    while (!flight.finding && !closing_ && clock_.now() < flight.deadline) {
        co_await ask_once(flight);
    }
    if (flight.has_turn) pass_turn();
    settle(flight);
}

Task<> CachingResolver::take_turn(Flight& flight) {
    if (turns_taken_ < under_way_max) {
        ++turns_taken_;
        flight.has_turn = true;
        co_return;
    }
    in_line_.push_back(&flight);
    while (!flight.has_turn && !closing_ && clock_.now() < flight.deadline) {
        flight.alarm.expires_after(flight.deadline - clock_.now());
        co_await flight.alarm.async_wait(net::as_values);
    }
    if (!flight.has_turn) std::erase(in_line_, &flight);
}

void CachingResolver::pass_turn() {
    if (in_line_.empty()) {
        --turns_taken_;
        return;
    }
    Flight& next = *in_line_.front();
    in_line_.pop_front();
    next.has_turn = true;
    next.alarm.cancel();
}

// One try: ends with an answer, after the time for one try, or when the context was replaced or closed.
Task<> CachingResolver::ask_once(Flight& flight) {
    flight.superseded = false;
    const auto number = context_->ask(flight);
    if (!number) {
        flight.finding = Finding{fail(number.error())};
        co_return;
    }
    flight.alarm.expires_after(std::min<Duration>(settings_.timeout, flight.deadline - clock_.now()));
    co_await flight.alarm.async_wait(net::as_values);
    if (!flight.finding && !flight.superseded) context_->cancel(*number);
}

Finding CachingResolver::conclude(Flight& flight) const {
    if (flight.finding) {
        flight.finding->ttl = clamp_ttl(flight.finding->ttl);
        return std::move(*flight.finding);
    }
    const std::string question = printable(flight.asked.text());
    if (closing_) return Finding{fail(Errc::cancelled, question + ": the resolver is closed")};
    return Finding{fail(Errc::dns_temporary, question + ": the DNS servers do not answer")};
}

// Tells everybody, and ends the flight.
void CachingResolver::settle(Flight& flight) {
    const auto finding = std::make_shared<const Finding>(conclude(flight));
    cache_.put(flight.asked, finding, clock_.now());
    for (Waiter* waiter : flight.waiters) {
        waiter->finding = finding;
        waiter->ready.set();
    }
    flights_.erase(Question(flight.asked));
}

// Zero stays zero: such an answer serves those who wait for it and nobody else (RFC 1035 §3.2.1, DNS-5).
std::chrono::seconds CachingResolver::clamp_ttl(std::chrono::seconds ttl) const {
    if (ttl <= std::chrono::seconds(0)) return std::chrono::seconds(0);
    const auto longest = std::chrono::floor<std::chrono::seconds>(settings_.cache_ttl_max);
    const auto shortest = std::min(longest, std::chrono::ceil<std::chrono::seconds>(settings_.cache_ttl_min));
    return std::clamp(ttl, shortest, longest);
}

void CachingResolver::configure(const config::DnsSettings& settings) {
    ASSERT(!closing_);
    settings_ = settings;
    cache_.clear();
    Context* const old = context_;
    open_context();
    old->stop();
    abandon_tries();
}

// Wakes every flight; none of them touches the context that it asked any more.
void CachingResolver::abandon_tries() {
    for (auto& [question, flight] : flights_) {
        flight->superseded = true;
        flight->finding.reset();
        flight->alarm.cancel();
    }
}

void CachingResolver::open_context() {
    std::unique_ptr<Context> context = make_context_(executor_, settings_);
    context_ = context.get();
    tasks_.spawn(serve(std::move(context)));
}

// Owns the context until it is replaced. One that broke by itself is replaced here.
Task<> CachingResolver::serve(std::unique_ptr<Context> context) {
    co_await context->serve();
    if (closing_ || context_ != context.get()) co_return;
    co_await async::sleep_for(repair_pause);
    if (closing_ || context_ != context.get()) co_return;
    configure(settings_);
}

Task<> CachingResolver::close() {
    closing_ = true;
    abandon_tries();
    context_->stop();
    co_await tasks_.close();
}

}  // namespace

std::unique_ptr<Resolver> make_resolver(
    async::Shard& shard, const config::DnsSettings& settings, MakeContext make_context
) {
    if (!make_context) {
        make_context = [](async::Executor executor, const config::DnsSettings& dns) {
            return std::make_unique<UnboundContext>(executor, dns);
        };
    }
    return std::make_unique<CachingResolver>(shard, settings, std::move(make_context));
}

}  // namespace sluice::dns
