#include "reception/rules.h"

#include <algorithm>

#include "mail/address.h"

namespace sluice::reception {
namespace {

bool any_contains(const std::vector<net::Cidr>& ranges, const net::IpAddress& address) {
    return std::any_of(ranges.begin(), ranges.end(), [&](const net::Cidr& range) { return range.contains(address); });
}

Result<std::vector<net::Cidr>> parse_ranges(const std::vector<std::string>& texts, std::string_view file) {
    std::vector<net::Cidr> ranges;
    for (const std::string& text : texts) {
        const auto range = net::Cidr::parse(text);
        if (!range) return fail(Errc::config, std::string(file) + ": '" + text + "' is no address or CIDR range");
        ranges.push_back(*range);
    }
    return ranges;
}

Result<std::shared_ptr<net::TlsContext>> make_tls(const config::InboundTlsSettings& tls) {
    if (!tls.enabled || tls.certificates.empty()) return std::shared_ptr<net::TlsContext>();
    net::TlsOptions options;
    options.certificates = tls.certificates;
    options.keys = tls.keys;
    options.ciphers = tls.ciphers;
    options.min_version = tls.min_version;
    options.dh_params = tls.dh_params;
    options.verify_peer = tls.verify_peer;
    options.request_certificate = tls.request_certificate;
    options.ca_file = tls.ca_file;
    options.prefer_server_ciphers = tls.prefer_server_ciphers;
    return net::TlsContext::server(options);
}

template <class Ports>
bool lists(const Ports& ports, const net::Endpoint& endpoint) {
    return std::find(ports.begin(), ports.end(), endpoint.port) != ports.end();
}

}  // namespace

bool Rules::relays_for(const net::IpAddress& client) const {
    return settings->relay.acl && any_contains(relay_allow, client);
}

bool Rules::is_proxy(const net::IpAddress& peer) const {
    return settings->connection.proxy_enabled && any_contains(proxy_hosts, peer);
}

bool Rules::implicit_tls(const net::Endpoint& listener) const {
    return lists(settings->smtp.smtps_ports, listener);
}

bool Rules::offers_starttls(const net::Endpoint& listener, const net::IpAddress& client) const {
    return tls && !lists(settings->tls.no_starttls_ports, listener) && !any_contains(no_tls_hosts, client);
}

bool Rules::submission_port(const net::Endpoint& listener) const {
    return listener.port == 587 || listener.port == 465;
}

Result<RulesPtr> make_rules(config::SettingsPtr settings, const RulesPtr& before) {
    auto rules = std::make_shared<Rules>();
    TRY(rules->relay_allow, parse_ranges(settings->relay.acl_allow, "relay_acl_allow"));
    TRY(rules->proxy_hosts, parse_ranges(settings->connection.proxy_hosts, "connection.ini"));
    TRY(rules->no_tls_hosts, parse_ranges(settings->tls.no_tls_hosts, "tls.ini"));
    // Reading certificates takes long enough for clients to notice: only when they changed.
    if (before && before->settings->tls == settings->tls) {
        rules->tls = before->tls;
    } else {
        TRY(rules->tls, make_tls(settings->tls));
    }
    for (const auto& [domain, rule] : settings->relay.domains) {
        TRY(std::string key, mail::normalise_domain(domain));
        rules->destinations[std::move(key)] = rule.action.empty() ? "accept" : rule.action;
    }
    rules->settings = std::move(settings);
    return RulesPtr(std::move(rules));
}

}  // namespace sluice::reception
