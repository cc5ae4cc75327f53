#include "config/schema.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

constexpr const char* file = "tls.ini";

std::optional<std::string> any_text(std::string_view text) {
    return std::string(text);
}

// What no_tls_hosts and force_tls_hosts may name: an address, a CIDR, an MX name or a recipient domain.
std::optional<std::string> peer(std::string_view text) {
    if (auto cidr = parse_cidr(text)) return cidr;
    if (!is_host_name(text)) return std::nullopt;
    return to_lower(text);
}

// Versions before 1.2 must not be negotiated (RFC 8996), so asking for them gives 1.2.
template <class Group>
Kind tls_version(Group Settings::* group) {
    Kind kind =
        choice<std::string>(at(group, &Group::min_version), {{"TLSv1.2", "TLSv1.2"}, {"TLSv1.3", "TLSv1.3"}});
    kind.assign = [assign = kind.assign](Settings& settings, const Values& given) {
        Complaints complaints = assign(settings, given);
        for (Complaint& complaint : complaints)
            complaint.consequence = "TLSv1.2 is used";
        return complaints;
    };
    return kind;
}

void add_inbound(std::vector<Setting>& table) {
    using T = InboundTlsSettings;
    const Section main(file, "main");
    const Section section_hosts(file, "no_tls_hosts");
    table.insert(
        table.end(),
        {
            main.live(
                "cert", list(at(&Settings::tls, &T::certificates), "a PEM file", any_text),
                "Certificates with their chains, absolute or under DIR/config; the name that a client asks "
                "for (SNI) chooses. "
                "`tls_cert.pem` when not given. Files in DIR/config/tls/ that hold key and certificate are "
                "added."
            ),
            main.live(
                "key", list(at(&Settings::tls, &T::keys), "a PEM file", any_text),
                "Their private keys, in the same order. `tls_key.pem` when not given."
            ),
            main.live(
                "dhparam", first_text(at(&Settings::tls, &T::dh_params), "a PEM file", any_text),
                "Diffie-Hellman parameters; without them OpenSSL's own are used."
            ),
            main.live(
                "ca", first_text(at(&Settings::tls, &T::ca_file), "a PEM file", any_text),
                "Authorities that sign client certificates; the system's when empty."
            ),
            main.live(
                "ciphers", text(at(&Settings::tls, &T::ciphers)),
                "Ciphers of TLS 1.2 in OpenSSL's notation; its default when empty."
            ),
            lenient(main.live(
                "minVersion", tls_version(&Settings::tls), "The oldest version that may be negotiated."
            )),
            main.live(
                "requestCert", truth(at(&Settings::tls, &T::request_certificate)),
                "Ask clients for a certificate."
            ),
            main.live(
                "rejectUnauthorized", truth(at(&Settings::tls, &T::verify_peer)),
                "Refuse clients whose certificate does not verify."
            ),
            main.live(
                "honorCipherOrder", truth(at(&Settings::tls, &T::prefer_server_ciphers)),
                "Our order of ciphers counts, not the client's."
            ),
            main.live(
                "no_starttls_ports", ports(at(&Settings::tls, &T::no_starttls_ports)),
                "STARTTLS is not offered on these listeners."
            ),
            section_hosts.live(
                "", keys(at(&Settings::tls, &T::no_tls_hosts), "an address or `address/prefix`", parse_cidr),
                "Clients to which STARTTLS is not offered."
            ),
            main.none("requestOCSP", "No OCSP stapling."),
            main.none("enableOCSPStapling", "No OCSP stapling."),
            main.none(
                "mutual_tls", "The certificate of [outbound] is shown to every MX host that asks for one."
            ),
            main.live(
                "requireAuthorized", elsewhere("list of ports"),
                "Refused when it names ports: certificates cannot be demanded by port; `rejectUnauthorized` "
                "demands them on all."
            ),
            Section(file, "mutual_auth_hosts")
                .none("", "The certificate of [outbound] is shown to every MX host that asks for one."),
            Section(file, "mutual_auth_hosts_exclude")
                .none("", "The certificate of [outbound] is shown to every MX host that asks for one."),
        }
    );
}

void add_outbound(std::vector<Setting>& table) {
    using T = OutboundTlsSettings;
    const Section outbound(file, "outbound");
    const auto shared = [&](std::string key, Kind kind, std::string doc) {
        return falling_back_to("main", outbound.live(std::move(key), std::move(kind), std::move(doc)));
    };
    const auto peers = [](std::vector<std::string> T::* field) {
        return list(
            at(&Settings::outbound_tls, field), "an address, `address/prefix`, MX name or domain", peer
        );
    };
    table.insert(
        table.end(),
        {
            shared(
                "cert", first_text(at(&Settings::outbound_tls, &T::certificate), "a PEM file", any_text),
                "Client certificate for MX hosts that ask for one; the first of a list."
            ),
            shared(
                "key", first_text(at(&Settings::outbound_tls, &T::key), "a PEM file", any_text),
                "Its private key."
            ),
            shared(
                "dhparam", first_text(at(&Settings::outbound_tls, &T::dh_params), "a PEM file", any_text),
                "Diffie-Hellman parameters."
            ),
            shared(
                "ca", first_text(at(&Settings::outbound_tls, &T::ca_file), "a PEM file", any_text),
                "Authorities that sign the certificates of MX hosts; the system's when empty."
            ),
            shared(
                "ciphers", text(at(&Settings::outbound_tls, &T::ciphers)),
                "Ciphers of TLS 1.2 in OpenSSL's notation."
            ),
            lenient(shared(
                "minVersion", tls_version(&Settings::outbound_tls),
                "The oldest version that may be negotiated."
            )),
            shared(
                "rejectUnauthorized", truth(at(&Settings::outbound_tls, &T::verify_peer)),
                "Certificates of all MX hosts must verify; otherwise the next host is tried."
            ),
            shared(
                "force_tls_hosts", peers(&T::force_tls_hosts),
                "Mail to these goes out over verified TLS or not at all."
            ),
            outbound.live("no_tls_hosts", peers(&T::no_tls_hosts), "STARTTLS is not used with these."),
            outbound.none("requestCert", "Servers always present a certificate."),
            outbound.none("honorCipherOrder", "The server's order of ciphers is the server's choice."),
            Section(file, "main")
                .live(
                    "force_tls_hosts", elsewhere("list"),
                    "The same setting of [outbound], when that one is not given."
                ),
        }
    );
    const Section redis(file, "redis");
    table.insert(
        table.end(),
        {
            redis.live(
                "disable_expiry",
                duration(at(&Settings::outbound_tls, &T::broken_tls_expiry), {seconds(0), hours(24 * 365)}),
                "How long an MX host with broken TLS is remembered and spoken to in clear, where policy "
                "permits that."
            ),
            redis.none(
                "disable_for_failed_hosts", "Hosts with broken TLS are always remembered, without Redis."
            ),
            redis.none("disable_inbound_expiry", "Clients with broken TLS are not remembered."),
            redis.none("host", "No Redis is needed."),
            redis.none("port", "No Redis is needed."),
            redis.none("db", "No Redis is needed."),
        }
    );
}

}  // namespace

std::vector<Setting> tls_schema() {
    std::vector<Setting> table;
    add_inbound(table);
    add_outbound(table);
    return table;
}

}  // namespace sluice::config
