#pragma once

#include <string>
#include <utility>
#include <vector>

#include "dns/resolver.h"

namespace sluice::plugin {

// Knows no host.
class NoResolver final : public dns::Resolver {
public:
    Task<Result<dns::Answer<std::vector<dns::MxRecord>>>> mx(std::string domain) override { co_return fail(Errc::dns_temporary, std::move(domain)); }
    Task<Result<dns::Answer<std::vector<net::IpAddress>>>> a(std::string name) override { co_return fail(Errc::dns_temporary, std::move(name)); }
    Task<Result<dns::Answer<std::vector<net::IpAddress>>>> aaaa(std::string name) override { co_return fail(Errc::dns_temporary, std::move(name)); }
    void configure(const config::DnsSettings&) override {}
    Task<> close() override { co_return; }
};

}  // namespace sluice::plugin
