// Shares of tenants in what is full, over long runs in virtual time.

#include <cmath>
#include <map>
#include <queue>

#include "base/random.h"
#include "queue/core_test_world.h"

namespace sluice::queue {
namespace {

// Receivers that take a while for each message, and a backlog that never ends.
class Saturated {
public:
    Saturated(const char* yaml, std::vector<std::string> tenants, bool own_domains) : tenants_(std::move(tenants)), own_domains_(own_domains) {
        Options made;
        made.policies = policies(yaml);
        made.destination_concurrency = 0;
        core_ = std::make_unique<Core>(made);
        for (const std::string& tenant : tenants_) {
            for (int domain = 0; domain < domains; ++domain) admit(tenant, domain);
        }
    }

    // Messages that started after the first `warm_up`, by tenant.
    std::map<std::string, double> run(int messages, int warm_up) {
        while (started_ < messages + warm_up) {
            const Instant next = std::min(ends_.empty() ? Instant::max() : ends_.top().at, core_->next_timer());
            now_ = std::max(now_, next);
            if (!ends_.empty() && ends_.top().at <= now_) {
                const Ending ending = ends_.top();
                ends_.pop();
                AttemptEnded ended;
                ended.item = ending.item;
                ended.session = ending.session;
                ended.reusable = true;
                tell(ended);
            } else {
                tell(Tick{});
            }
            if (started_ <= warm_up) shares_.clear();
        }
        return shares_;
    }

private:
    static constexpr int domains = 12;
    static constexpr int waiting = 30;
    struct Ending {
        Instant at;
        SessionId session = 0;
        ItemId item;
        bool operator<(const Ending& other) const { return at > other.at; }
    };

    std::string domain_of(const std::string& tenant, int domain) const { return (own_domains_ ? tenant : "") + "d" + std::to_string(domain) + ".test"; }
    void admit(const std::string& tenant, int domain) {
        for (int i = 0; i < waiting; ++i) admit_one(tenant, domain_of(tenant, domain));
    }
    void admit_one(const std::string& tenant, const std::string& domain) {
        Admit mail;
        mail.id = ItemId{MessageId{++last_}, 0};
        mail.domain = domain;
        mail.tenant = tenant;
        mail.arrival = mail.due = now_;
        mail.size = 1'000;
        tell(mail);
    }
    void tell(Event event) {
        std::vector<Action> actions;
        core_->handle(std::move(event), now_, actions);
        for (const Action& action : actions) {
            if (const auto* const resolve = std::get_if<Resolve>(&action)) answer(resolve->key);
            if (const auto* const deliver = std::get_if<Deliver>(&action)) start(*deliver);
            if (const auto* const close = std::get_if<Close>(&action)) tell(SessionClosed{close->session});
        }
    }
    void answer(const std::string& key) {
        auto route = std::make_shared<Route>();
        route->key = key;
        route->candidates.push_back({"mx." + key, "mx." + key + ":25", 0});
        route->expires = now_ + Duration(24 * 3'600'000);
        tell(RouteResolved{key, RoutePtr(std::move(route))});
    }
    void start(const Deliver& deliver) {
        if (deliver.open) tell(SessionOpened{deliver.session, deliver.candidates.front()});
        const auto item = core_->find(deliver.work.item);
        const std::string tenant(item->tenant);
        const std::string domain(item->domain);
        ++started_;
        ++shares_[tenant];
        ends_.push({now_ + Duration(50 + static_cast<std::int64_t>(random_.below(200))), deliver.session, deliver.work.item});
        admit_one(tenant, domain);
    }

    std::vector<std::string> tenants_;
    bool own_domains_;
    std::unique_ptr<Core> core_;
    Random random_{7};
    Instant now_ = instant_from_ms(1'795'000'000'000);
    std::uint64_t last_ = 0;
    int started_ = 0;
    std::map<std::string, double> shares_;
    std::priority_queue<Ending> ends_;
};

void expect_shares(Saturated world, const std::map<std::string, double>& weights) {
    constexpr int messages = 20'000;
    // Who was first pays for it at the beginning.
    auto shares = world.run(messages, 4'000);
    double all = 0;
    for (const auto& [tenant, weight] : weights) all += weight;
    for (const auto& [tenant, weight] : weights) EXPECT_NEAR(shares[tenant] / messages / (weight / all), 1, 0.05) << tenant;
}

const std::map<std::string, double> weights{{"a", 5}, {"b", 3}, {"c", 2}, {"d", 1}};
const std::vector<std::string> tenants{"a", "b", "c", "d"};

// MP-3: within a twentieth of the weights under saturation.
TEST(Fairness, TenantsOfTheSameDomainsShareSessionsByWeight) {
    expect_shares(Saturated("{weights: {a: 5, b: 3, c: 2}, policies: [{default: {concurrency: 20}}]}", tenants, false), weights);
}
TEST(Fairness, TenantsOfOtherDomainsShareSessionsByWeight) {
    expect_shares(Saturated("{weights: {a: 5, b: 3, c: 2}, policies: [{default: {concurrency: 20}}]}", tenants, true), weights);
}
TEST(Fairness, TenantsShareARateByWeight) {
    expect_shares(Saturated("{weights: {a: 5, b: 3, c: 2}, policies: [{default: {rate: 100}}]}", tenants, true), weights);
    expect_shares(Saturated("{weights: {a: 5, b: 3, c: 2}, policies: [{default: {rate: {count: 100, interval: 1, algorithm: fixedwindow}}}]}", tenants, false), weights);
}
TEST(Fairness, ManySmallTenantsShareEvenly) {
    std::vector<std::string> many;
    std::map<std::string, double> even;
    for (int i = 0; i < 10; ++i) {
        many.push_back("t" + std::to_string(i));
        even[many.back()] = 1;
    }
    expect_shares(Saturated("[{default: {concurrency: 8}}]", many, true), even);
}

}  // namespace
}  // namespace sluice::queue
