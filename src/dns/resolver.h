#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/shard.h"
#include "base/result.h"
#include "config/settings.h"
#include "net/address.h"

namespace sluice::dns {

struct MxRecord {
    std::uint16_t preference;
    std::string host;  // lower case, no trailing dot; empty for "."
};

// Answers carry how long they may be kept. Negative answers are errors: dns_no_domain, dns_no_data,
// dns_temporary (SERVFAIL, timeout, REFUSED, bogus, malformed), in whose detail the name and type are said.
template <class Records>
struct Answer {
    Records records;
    std::chrono::seconds ttl;
    bool secure = false;  // validated by DNSSEC
};

// Asks DNS. Caches by TTL within the bounds of the settings; one question a name at a time is on its way
// (single flight). Shard-owned.
class Resolver {
public:
    virtual ~Resolver() = default;
    virtual Task<Result<Answer<std::vector<MxRecord>>>> mx(std::string domain) = 0;
    virtual Task<Result<Answer<std::vector<net::IpAddress>>>> a(std::string name) = 0;
    virtual Task<Result<Answer<std::vector<net::IpAddress>>>> aaaa(std::string name) = 0;
    // New servers, timeouts; drops the cache.
    virtual void configure(const config::DnsSettings& settings) = 0;
    // Questions under way end with cancelled.
    virtual Task<> close() = 0;
};

class Context;
using MakeContext = std::function<std::unique_ptr<Context>(async::Executor, const config::DnsSettings&)>;

// The real one: asks by libunbound, or by the contexts that `make_context` makes.
std::unique_ptr<Resolver> make_resolver(
    async::Shard& shard, const config::DnsSettings& settings, MakeContext make_context = nullptr
);

}  // namespace sluice::dns
