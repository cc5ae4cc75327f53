#include "delivery/tls_policy.h"

#include <algorithm>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::delivery {
namespace {

// Beyond this, a host that is forgotten costs one more failed handshake.
constexpr std::size_t broken_hosts_max = 50'000;

net::TlsOptions client_options(const config::OutboundTlsSettings& settings) {
    net::TlsOptions options;
    if (!settings.certificate.empty() && !settings.key.empty()) {
        options.certificates = {settings.certificate};
        options.keys = {settings.key};
    }
    options.ciphers = settings.ciphers;
    options.min_version = settings.min_version;
    options.dh_params = settings.dh_params;
    options.verify_peer = settings.verify_peer;
    options.ca_file = settings.ca_file;
    return options;
}

}  // namespace

void TlsPolicy::HostList::assign(const std::vector<std::string>& entries) {
    names.clear();
    networks.clear();
    for (const std::string& entry : entries) {
        if (const auto network = net::Cidr::parse(entry)) {
            networks.push_back(*network);
        } else {
            names.push_back(to_lower(entry));
        }
    }
}

bool TlsPolicy::HostList::has(const queue::Route& route, const queue::Candidate& candidate) const {
    const auto named = [&](const std::string& name) { return iequals(name, candidate.mx_host) || iequals(name, route.key); };
    if (std::any_of(names.begin(), names.end(), named)) return true;
    if (networks.empty()) return false;
    const auto remote = net::Endpoint::parse(candidate.remote, 25);
    if (!remote || !remote->path.empty()) return false;
    const auto holds = [&](const net::Cidr& network) { return network.contains(remote->address); };
    return std::any_of(networks.begin(), networks.end(), holds);
}

Result<> TlsPolicy::configure(const config::Settings& settings) {
    if (opportunistic_ && settings.outbound_tls == applied_ && settings.outbound.enable_tls == enabled_) return {};
    net::TlsOptions options = client_options(settings.outbound_tls);
    TRY(auto opportunistic, net::TlsContext::client(options));
    options.verify_peer = true;
    TRY(auto verifying, net::TlsContext::client(options));
    opportunistic_ = std::move(opportunistic);
    verifying_ = std::move(verifying);
    enabled_ = settings.outbound.enable_tls;
    never_.assign(settings.outbound_tls.no_tls_hosts);
    always_.assign(settings.outbound_tls.force_tls_hosts);
    broken_expiry_ = settings.outbound_tls.broken_tls_expiry;
    applied_ = settings.outbound_tls;
    ++generation_;
    return {};
}

bool TlsPolicy::may_carry(
    const TlsState& state, const queue::Route& route, const queue::Candidate& candidate, Instant now) const {
    if (state.generation != generation_) return false;
    const TlsMode wanted = mode_for(route, candidate, now);
    // Verified TLS is good enough for whoever would have taken any.
    return wanted == state.mode || (wanted == TlsMode::opportunistic && state.mode == TlsMode::mandatory);
}

TlsMode TlsPolicy::mode_for(const queue::Route& route, const queue::Candidate& candidate, Instant now) const {
    if (route.transport.force_tls || always_.has(route, candidate)) return TlsMode::mandatory;
    if (!enabled_ || !opportunistic_ || never_.has(route, candidate)) return TlsMode::off;
    const auto broken = broken_.find(candidate.remote);
    if (broken != broken_.end() && now < broken->second) return TlsMode::off;
    return TlsMode::opportunistic;
}

std::shared_ptr<net::TlsContext> TlsPolicy::context_for(TlsMode mode) const {
    switch (mode) {
        case TlsMode::off: return nullptr;
        case TlsMode::opportunistic: return opportunistic_;
        case TlsMode::mandatory: return verifying_;
    }
    UNREACHABLE();
}

void TlsPolicy::remember_broken(const queue::Candidate& candidate, Instant now) {
    if (broken_expiry_ <= Duration::zero()) return;
    if (broken_.size() >= broken_hosts_max) absl::erase_if(broken_, [&](const auto& entry) { return entry.second <= now; });
    if (broken_.size() >= broken_hosts_max) broken_.clear();
    broken_[candidate.remote] = now + broken_expiry_;
}

}  // namespace sluice::delivery
