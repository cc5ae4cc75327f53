#include "delivery/courier.h"

#include <absl/container/flat_hash_map.h>

#include "async/blocking.h"
#include "async/task_group.h"
#include "base/assert.h"
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
            tasks_.spawn(this->conclude(std::move(*conclude)));
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

    // Decides an item that has nowhere to go.
    Task<> conclude(queue::Conclude concluded) {
        const queue::Work& work = concluded.work;
        auto loaded = co_await load(surroundings_, work);
        queue::AttemptEnded ended;
        if (loaded) {
            std::vector<std::uint32_t> recipients = undecided(work, **loaded);
            Verdicts verdicts(recipients.size(), verdict_of(concluded));
            const std::string domain = (*loaded)->items[work.item.index].domain;
            const Attempted attempted{
                .work = work, .message = *loaded, .domain = domain, .recipients = recipients, .verdicts = verdicts,
                .standing = {}, .link = {}, .may_go_on = false};
            ended = settlement_.settle(attempted, *settings_);
        } else {
            ended = settlement_.settle_lost(work, loaded.error(), *settings_);
        }
        surroundings_.core.push(std::move(ended));
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
    Settlement& settlement() override { return settlement_; }

    const Surroundings surroundings_;
    config::SettingsPtr settings_;
    TlsPolicy tls_;
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
