#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "base/random.h"
#include "dns/context.h"
#include "drill/ledger.h"
#include "drill/link.h"
#include "drill/plan.h"
#include "net/stream.h"
#include "net/tls.h"

namespace sluice::drill {

// What the hosts of the fake internet speak TLS with. Immutable.
struct Credentials {
    std::shared_ptr<net::TlsContext> good, expired;
    std::string authority_file, certificate_file, key_file;

    // Makes keys and certificates in a new directory under /tmp, which goes with this.
    static Credentials make();
    ~Credentials();
    Credentials() = default;
    Credentials(Credentials&&) = default;
    Credentials& operator=(Credentials&&) = delete;

private:
    std::string directory_;
};

// All hosts and names outside of the engine. Lives on the world's loop, as long as the run.
class Internet {
public:
    Internet(async::Executor executor, const Plan& plan, const Credentials& credentials, Ledger& ledger, std::uint64_t seed);
    ~Internet();

    // From here on everything works.
    void heal() { healed_ = true; }
    // What the engine connects with and asks names with.
    std::unique_ptr<net::Network> network();
    dns::MakeContext names();
    // Every connection of the engine breaks.
    void reset_all();
    // One of them does.
    void reset_one();

    bool serves(const std::string& host, const std::string& domain) const;
    // Connections that the engine has open, and those of them on which it has said EHLO: a race opens more than one.
    std::size_t open_links();
    std::size_t talking_links();
    // More of the latter are a violation; 0: any number.
    void allow_talking(std::uint32_t most) { talking_max_ = most; }
    LinkTerms terms();
    async::TaskGroup& tasks() { return tasks_; }
    Task<> close() { return tasks_.close(); }

private:
    friend class HostSession;
    friend class EngineNetwork;
    friend class Names;

    struct Host {
        std::string name;
        HostPlan plan;
        net::IpAddress address;
        std::map<std::string, std::int64_t> greylist;  // by message and recipient: first seen
    };
    Task<Result<net::StreamPtr>> connect(async::Executor engine, net::ConnectOptions options);
    Task<> serve(Host& host, Mood mood, LinkPtr link);
    void talks(const LinkPtr& link);
    Mood pick_mood(const Host& host);
    dns::Finding answer(const dns::Question& question);
    std::int64_t delay_ns();
    bool never_answers(const dns::Question& question);

    async::Executor executor_;
    const Plan& plan_;
    const Credentials& credentials_;
    Ledger& ledger_;
    Random random_;
    std::map<std::string, Host> hosts_;
    std::map<net::IpAddress, Host*> by_address_;
    std::map<std::string, std::set<std::string>> in_charge_;  // hosts by domain
    std::vector<LinkPtr> links_, talking_;
    std::uint32_t talking_max_ = 0;
    bool healed_ = false;
    async::TaskGroup tasks_;
};

// Whose own addresses the engine may bind.
bool is_local_source(const net::IpAddress& address);

}  // namespace sluice::drill
