#include "delivery/courier.h"

#include <absl/container/flat_hash_map.h>

#include "async/blocking.h"
#include "async/task_group.h"
#include "base/assert.h"
#include "base/text.h"
#include "delivery/hearing.h"
#include "delivery/outbound_session.h"
#include "delivery/settlement.h"
#include "delivery/tls_policy.h"

namespace sluice::delivery {

class Courier::Impl final : public SessionOwner {
public:
    Impl(const Surroundings& surroundings, config::SettingsPtr settings)
        : surroundings_(surroundings),
          settings_(std::move(settings)),
          settlement_(surroundings, surroundings.seed),
          tasks_(surroundings.shard.executor()),
          all_gone_(surroundings.shard.executor()) {
        const auto ready = tls_.configure(*settings_);
        if (!ready) surroundings_.log.error("outbound", "outbound TLS is off", {{"reason", ready.error().text()}});
    }
    ~Impl() override { ASSERT(sessions_.empty()); }

    void carry_out(queue::Action action) {
        if (closing_) return;  // nothing is attempted any more, so the items stay queued as they are
        if (auto* deliver = std::get_if<queue::Deliver>(&action)) return take(std::move(*deliver));
        if (auto* conclude = std::get_if<queue::Conclude>(&action)) {
            ++concluding_;
            const Verdict verdict = verdict_of(*conclude);
            tasks_.spawn(this->conclude(std::move(conclude->work), verdict, std::move(conclude->how)));
            return;
        }
        if (auto* consult = std::get_if<queue::Consult>(&action)) {
            ++concluding_;
            tasks_.spawn(this->consult(std::move(consult->work)));
            return;
        }
        const auto* close = std::get_if<queue::Close>(&action);
        ASSERT(close != nullptr);
        const auto found = sessions_.find(close->session);
        if (found != sessions_.end()) found->second->ask_to_close();
    }

    Result<> configure(config::SettingsPtr settings) {
        settings_ = std::move(settings);
        return tls_.configure(*settings_);
    }

    Task<> close(std::chrono::steady_clock::time_point deadline) {
        closing_ = true;
        for (const auto& [id, session] : sessions_) session->ask_to_close();
        async::TaskGroup timer(surroundings_.shard.executor());
        timer.spawn(break_off_at(deadline));
        while (!sessions_.empty() || concluding_ > 0) co_await all_gone_.wait();
        co_await timer.close();
        co_await tasks_.close();
    }

private:
    void take(queue::Deliver deliver) {
        const queue::SessionId id = deliver.session;
        auto found = sessions_.find(id);
        if (found == sessions_.end()) {
            ASSERT(deliver.open);
            found = sessions_.emplace(id, std::make_unique<OutboundSession>(*this, surroundings_, id)).first;
            found->second->give(std::move(deliver));
            tasks_.spawn(run(*found->second, id));
            return;
        }
        ASSERT(!deliver.open);
        found->second->give(std::move(deliver));
    }

    Task<> run(OutboundSession& session, queue::SessionId id) {
        co_await session.run();
        sessions_.erase(id);
        surroundings_.core.push(queue::SessionClosed{id});
        note_end();
    }

    // What somebody gave up is refused by us, as a server would.
    static Verdict verdict_of(const queue::Conclude& concluded) {
        if (!concluded.rejected) return Verdict::of_error(Stage::route, concluded.error);
        Verdict verdict;
        verdict.code = 554;
        verdict.status = "5.7.1";
        verdict.text = concluded.error.detail;
        return verdict;
    }

    // Decides an item that has nowhere to go. Counted in concluding_.
    Task<> conclude(queue::Work work, Verdict verdict, policy::DeliverySettingsPtr how) {
        auto loaded = co_await load(surroundings_, work);
        queue::AttemptEnded ended;
        if (loaded) {
            std::vector<std::uint32_t> recipients = undecided(work, **loaded);
            Verdicts verdicts(recipients.size(), verdict);
            const std::string domain = (*loaded)->items[work.item.index].domain;
            const Attempted attempted{
                .work = work, .message = *loaded, .domain = domain, .recipients = recipients, .verdicts = verdicts,
                .standing = {}, .link = {}, .how = how.get(), .may_go_on = false};
            const config::SettingsPtr settings = settings_;  // others may come while plugins think
            Wishes wishes;
            if (must_hear(surroundings_.hooks, attempted)) {
                wishes = co_await hear(*surroundings_.hooks, settlement_, attempted, *settings, surroundings_.clock);
            }
            ended = settlement_.settle(attempted, *settings, std::move(wishes));
        } else {
            ended = settlement_.settle_lost(work, loaded.error(), *settings_, how.get());
        }
        // Plugins may have removed some just now, of which the core has not heard.
        if (ended.pending.empty()) ended.pending = work.pending;
        surroundings_.core.push(std::move(ended));
        --concluding_;
        note_end();
    }

    // Asks plugins whether and over which route an attempt may begin.
    Task<> consult(queue::Work work) {
        Before before;
        if (surroundings_.hooks != nullptr && surroundings_.hooks->wants(Hook::before_attempt)) {
            auto loaded = co_await load(surroundings_, work);
            if (!loaded) {
                surroundings_.core.push(settlement_.settle_lost(work, loaded.error(), *settings_, nullptr));
                --concluding_;
                co_return note_end();
            }
            work.message = std::move(*loaded);
            before = co_await surroundings_.hooks->before_attempt(work, work.message);
            if (!before.pending.empty()) work.pending = before.pending;
        }
        const Instant now = surroundings_.clock.now();
        switch (before.what) {
            case Before::What::go: surroundings_.core.push(queue::Consulted{work.item, std::move(before.route), std::move(before.pending)}); break;
            case Before::What::removed: {
                surroundings_.hooks->ended(work.item);
                queue::AttemptEnded ended;
                ended.item = work.item;
                surroundings_.core.push(std::move(ended));
                break;
            }
            case Before::What::cancelled: break;  // we are closing: it stays queued as it is
            case Before::What::later: {
                const Instant end = given_up_at(work, *work.message, *settings_, nullptr);
                if (now >= end) {
                    const Error too_late(Errc::timed_out, "plugin " + before.by + " put it off for too long");
                    co_return co_await conclude(std::move(work), Verdict::of_error(Stage::route, too_late), nullptr);
                }
                const Instant next = before.delay < end - now ? now + before.delay : end;
                surroundings_.core.push(settlement_.postpone(work, next, "put off by plugin " + before.by));
                break;
            }
            case Before::What::defer:
            case Before::What::fail: {
                const bool for_good = before.what == Before::What::fail;
                Verdict verdict;
                verdict.code = for_good ? 550 : 450;
                verdict.status = for_good ? "5.1.2" : "4.1.2";
                verdict.text = printable(before.text);  // one line, as of a peer: it goes into notifications
                co_return co_await conclude(std::move(work), std::move(verdict), nullptr);
            }
        }
        --concluding_;
        note_end();
    }

    Task<> break_off_at(std::chrono::steady_clock::time_point deadline) {
        const auto left = deadline - std::chrono::steady_clock::now();
        const auto wait = std::chrono::ceil<std::chrono::milliseconds>(left);
        const bool waited = co_await async::sleep_for(std::max(wait, std::chrono::milliseconds(0)));
        if (!waited) co_return;
        for (const auto& [id, session] : sessions_) session->break_off();
    }

    void note_end() {
        if (closing_ && sessions_.empty() && concluding_ == 0) all_gone_.set();
    }

    // SessionOwner
    const config::SettingsPtr& settings() const override { return settings_; }
    TlsPolicy& tls() override { return tls_; }
    HostMemory& bad_pipeliners() override { return bad_pipeliners_; }
    Settlement& settlement() override { return settlement_; }

    const Surroundings surroundings_;
    config::SettingsPtr settings_;
    TlsPolicy tls_;
    HostMemory bad_pipeliners_;
    Settlement settlement_;
    absl::flat_hash_map<queue::SessionId, std::unique_ptr<OutboundSession>> sessions_;
    int concluding_ = 0;
    bool closing_ = false;
    async::TaskGroup tasks_;
    async::Signal all_gone_;  // while closing
};

Courier::Courier(const Surroundings& surroundings, config::SettingsPtr settings)
    : impl_(std::make_unique<Impl>(surroundings, std::move(settings))) {}
Courier::~Courier() = default;

void Courier::carry_out(queue::Action action) { impl_->carry_out(std::move(action)); }
Result<> Courier::configure(config::SettingsPtr settings) { return impl_->configure(std::move(settings)); }
Task<> Courier::close(std::chrono::steady_clock::time_point deadline) { co_await impl_->close(deadline); }

}  // namespace sluice::delivery
