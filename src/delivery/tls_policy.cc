#include "delivery/tls_policy.h"

#include <algorithm>

#include "base/assert.h"
#include "base/text.h"

namespace sluice::delivery {
namespace {

net::TlsOptions client_options(const config::OutboundTlsSettings& settings) {
    net::TlsOptions options;
    if (!settings.certificate.empty() && !settings.key.empty()) {
        options.certificates = {settings.certificate};
        options.keys = {settings.key};
    }
    options.ciphers = settings.ciphers;
    options.min_version = settings.min_version;
    options.dh_params = settings.dh_params;
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
    if (trusting_ && settings.outbound_tls == applied_ && settings.outbound.enable_tls == enabled_) return {};
    net::TlsOptions options = client_options(settings.outbound_tls);
    TRY(auto trusting, net::TlsContext::client(options));
    options.verify_peer = true;
    TRY(auto verifying, net::TlsContext::client(options));
    trusting_ = std::move(trusting);
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
    const TlsState& state, const queue::Route& route, const queue::Candidate& candidate, Demand demand, Instant now) const {
    if (state.generation != generation_) return false;
    const TlsMode wanted = mode_for(route, candidate, demand, now);
    // Verified TLS is good enough for whoever would have taken any.
    return wanted == state.mode || (wanted != TlsMode::off && state.mode == TlsMode::mandatory);
}

namespace {

TlsMode mode_of(policy::TlsDemand demand) {
    switch (demand) {
        case policy::TlsDemand::disabled: return TlsMode::off;
        case policy::TlsDemand::optional: return TlsMode::opportunistic;
        case policy::TlsDemand::optional_verify: return TlsMode::verified_if_offered;
        case policy::TlsDemand::require: return TlsMode::required;
        case policy::TlsDemand::require_verify: return TlsMode::mandatory;
    }
    UNREACHABLE();
}

}  // namespace

TlsMode TlsPolicy::mode_for(const queue::Route& route, const queue::Candidate& candidate, Demand demand, Instant now) const {
    if (route.transport.force_tls || always_.has(route, candidate)) return TlsMode::mandatory;
    TlsMode mode = applied_.verify_peer ? TlsMode::verified_if_offered : TlsMode::opportunistic;
    if (demand) mode = mode_of(*demand);
    else if (!enabled_ || never_.has(route, candidate)) return TlsMode::off;
    if (is_demanded(mode)) return mode;
    if (!trusting_ || (mode == TlsMode::opportunistic && broken_.has(candidate.remote, now))) return TlsMode::off;
    return mode;
}

std::shared_ptr<net::TlsContext> TlsPolicy::context_for(TlsMode mode) const {
    switch (mode) {
        case TlsMode::off: return nullptr;
        case TlsMode::opportunistic:
        case TlsMode::required: return trusting_;
        case TlsMode::verified_if_offered:
        case TlsMode::mandatory: return verifying_;
    }
    UNREACHABLE();
}

void TlsPolicy::remember_broken(const queue::Candidate& candidate, Instant now) {
    broken_.remember(candidate.remote, now, broken_expiry_);
}

}  // namespace sluice::delivery
