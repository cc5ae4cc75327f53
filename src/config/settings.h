#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "policy/local_pool.h"

namespace sluice::policy {
class PolicySet;
struct Assignments;
struct DeliveryFile;
struct SuspensionFile;
}

namespace sluice::config {

using Milliseconds = std::chrono::milliseconds;

// smtp.ini
struct SmtpSettings {
    std::vector<std::string> listen{"[::0]:25"};  // endpoint texts
    std::vector<std::uint16_t> smtps_ports{465};  // listeners on these ports speak TLS at once
    std::string public_ip;
    Milliseconds inactivity_timeout{300'000};  // per command
    std::string user, group;
    bool core_dumps = false;  // a crash may leave a file of all memory, secrets included
    bool daemonize = false;
    std::string daemon_log_file, daemon_pid_file;
    Milliseconds force_shutdown_timeout{30'000};
    std::uint32_t shards = 0;  // I/O threads; 0: one a core
    std::uint32_t connections_max = 15'000;
    std::uint32_t connections_per_client_max = 0;  // 0: no limit
    bool submission_requires_auth = true;  // ports 587 and 465: 530 before AUTH unless relaying (SU-1)
};

// connection.ini
struct ConnectionSettings {
    std::uint64_t message_bytes_max = 26'214'400;  // [max] bytes
    std::uint32_t command_line_max = 512;   // [max] line_length; MAIL/RCPT may be longer by their extensions
    std::uint32_t data_line_max = 0;        // [max] data_line_max: longer lines are refused; 0: no limit
    std::uint32_t recipients_max = 10'000;  // [max] recipients
    std::uint32_t errors_max = 20;          // [max] errors: then 421
    std::uint32_t messages_max = 0;         // [max] messages a connection; 0: no limit
    std::uint32_t received_max = 100;       // [headers] max_received
    std::uint32_t header_lines_max = 1000;  // [headers] max_lines
    std::uint64_t header_bytes_max = 1 << 20;
    bool add_received = true;                 // [headers] add_received
    bool show_version = true;                 // [headers] show_version
    bool smtputf8 = true;                     // [main] smtputf8
    bool strict_bare_eol = true;              // [main] bare_eol = refuse | normalise
    std::vector<std::string> greeting;        // [message] greeting[]
    std::string helo_message, close_message;  // [message] helo, close
    std::uint32_t banner_uuid_chars = 6;      // [uuid] banner_chars
    bool proxy_enabled = true;                // [haproxy] enabled
    std::vector<std::string> proxy_hosts;     // [haproxy] hosts[]: CIDRs
    bool constrain_sender_addresses =
        false;  // [main] constrain_sender_exact: MAIL FROM must be the login itself
};

// tls.ini, inbound part
struct InboundTlsSettings {
    bool enabled = false;  // plugin `tls` is listed and a certificate could be read
    std::vector<std::string> certificates,
        keys;  // absolute paths, pairs by index; tls/*.pem bundles included
    std::string ciphers, min_version = "TLSv1.2", dh_params;
    std::string ca_file;              // absolute; empty: the system's
    bool request_certificate = true;  // ask; whether it must verify is verify_peer
    bool verify_peer = false;
    bool prefer_server_ciphers = true;
    std::uint32_t files_crc = 0;  // of the files named above: differs when one was renewed in place
    std::vector<std::uint16_t> no_starttls_ports;
    std::vector<std::string> no_tls_hosts;  // CIDRs: STARTTLS is not offered to them
    friend bool operator==(const InboundTlsSettings&, const InboundTlsSettings&) = default;
};

// tls.ini [outbound]
struct OutboundTlsSettings {
    std::string certificate, key;  // client certificate, absolute paths, or empty
    std::string ciphers, min_version = "TLSv1.2", dh_params;
    bool verify_peer = false;
    std::vector<std::string> no_tls_hosts;  // IP, CIDR, MX name or recipient domain
    std::vector<std::string> force_tls_hosts;
    Milliseconds broken_tls_expiry{604'800'000};  // how long a host with broken TLS is remembered
    std::string ca_file;
    std::uint32_t files_crc = 0;  // as above
    friend bool operator==(const OutboundTlsSettings&, const OutboundTlsSettings&) = default;
};

// auth_flat_file.ini
struct AuthSettings {
    bool enabled = false;              // plugin `auth/flat_file` is listed
    std::vector<std::string> methods;  // upper case: CRAM-MD5, PLAIN, LOGIN
    bool constrain_sender = true;
    std::map<std::string, std::string> users;
};

// relay.ini, relay_acl_allow, relay_dest_domains.ini
struct DestinationRule {
    std::string action;   // accept | continue | deny; empty: accept
    std::string nexthop;  // host[:port], smtp://user:pass@host:port, lmtp://…, /socket; empty: DNS
};
struct RelaySettings {
    bool acl = false, force_routing = false, all = false, dest_domains = false;
    std::vector<std::string> acl_allow;  // CIDRs
    std::map<std::string, DestinationRule> domains;
    std::optional<DestinationRule> any;  // key `any`
};

// log.ini
enum class LogFormat { standard, logfmt, json };
struct LogSettings {
    int level = 6;  // Haraka's numbers: 9 DATA … 3 ERROR … 0 EMERG
    bool timestamps = false;
    LogFormat format = LogFormat::standard;
    bool events = true;                             // DIR/log/events.jsonl
    std::uint64_t events_bytes_max = 256ull << 20;  // rotate above this
    std::uint32_t events_files_max = 8;
};

// outbound.ini
struct OutboundSettings {
    bool disabled = false;
    std::uint32_t concurrency_max = 10'000;
    std::uint32_t destination_concurrency = 50;
    bool enable_tls = true;
    bool always_split = false;
    bool local_mx_ok = false;
    enum class InetPrefer { standard, v4, v6 } inet_prefer = InetPrefer::standard;
    Milliseconds connect_timeout{30'000};
    int temp_failures_max = 13;  // maxTempFailures; already part of temp_fail_intervals
    std::vector<Milliseconds>
        temp_fail_intervals;                   // from temp_fail_intervals, or derived from maxTempFailures
    bool retry_jitter = true;                  // ±10 % on every interval
    Milliseconds queue_lifetime{432'000'000};  // 5 days
    Milliseconds delay_dsn_after{14'400'000};  // when NOTIFY=DELAY asks; 0: never
    std::string received_header = "Sluice outbound";  // "disabled": no Received of the outbound side
    Milliseconds pool_timeout{5'000};                 // idle pooled connections
    std::uint32_t messages_per_connection = 1'000;
    bool pipelining = true, chunking = true;
    enum class EightBit { downgrade, send, bounce } eight_bit = EightBit::send;  // next hop without 8BITMIME
    bool auth_fallback_plain = false;             // Haraka's way: send without AUTH when it is not offered
    bool auth_cleartext = false;                  // permit credentials without TLS
    std::uint64_t dsn_full_bytes_max = 1 << 20;   // RET=FULL above this returns headers only
    std::vector<std::string> sources4, sources6;  // [outbound_ipv4], [outbound_ipv6]
    std::uint16_t smtp_port = 25;                 // port of MX hosts; for test networks
    Milliseconds unhealthy_for{60'000};
    // Per-phase deadlines (RFC 5321 §4.5.3.2)
    Milliseconds greeting_timeout{300'000}, helo_timeout{300'000}, mail_timeout{300'000},
        rcpt_timeout{300'000}, data_timeout{120'000}, block_timeout{180'000}, dot_timeout{600'000},
        quit_timeout{5'000};
};

// outbound.bounce_message, _html, _image: lines verbatim; empty: the built-in template
struct BounceTemplates {
    std::vector<std::string> text, html, image;
};

// net-utils.ini [dns]
struct DnsSettings {
    Milliseconds timeout{25'000};
    int tries = 1;
    std::vector<std::string> servers;  // address[:port]; empty: the system's
    Milliseconds cache_ttl_max{3'600'000};
    Milliseconds cache_ttl_min{1'000};
    std::string trust_anchor_file;  // DS or DNSKEY records to validate from; empty: the servers validate
    friend bool operator==(const DnsSettings&, const DnsSettings&) = default;
};

// http.ini
struct HttpSettings {
    std::vector<std::string> listen;  // endpoint texts for the control API on TCP; empty: socket only
    std::string token;                // required for TCP beyond loopback
};

// plugin_host.ini: the Node process that runs JavaScript plugins
struct PluginHostSettings {
    std::string node = "node";                        // the program, looked for in PATH
    std::string folder;                               // of the package sluice-plugin-host; empty: where it is installed
    std::uint64_t heap_bytes_max = 512ull << 20;      // Node ends when it needs more
    std::uint64_t memory_bytes_max = 1024ull << 20;   // resident; we end it when it uses more
    Milliseconds hang_timeout{10'000};                // we end it when it does not answer for so long
    Milliseconds call_busy_max{1000};                 // of a hook, until it gives way; 0: none
    std::uint64_t plugin_heap_bytes_max = 0;          // of one plugin; 0: none
    std::uint32_t over_budget_max = 10;               // a minute, before a hook is passed over; 0: it never is
    std::uint32_t host_ends_max = 3;                  // by a hook, before it is passed over; 0: it never is
    Milliseconds pass_over_time{30'000};              // the first time; doubles while it goes on
    std::string addresses = "auto";
    std::string web_listen;                           // address and port where plugins serve HTTP; empty: nowhere
    std::vector<std::string> instead;                 // plugins that run although the engine would do their job itself
    friend bool operator==(const PluginHostSettings&, const PluginHostSettings&) = default;
};

// A shared object that is listed in config/plugins.
struct NativePlugin {
    std::string name;      // "acme" of plugins/acme.so or /usr/lib/sluice/acme.so
    std::string listed;    // as it stands there
    std::string file;      // absolute
    int line = 0;
    std::size_t after = 0; // so many JavaScript plugins stand before it
    // Whether they are the same to load and to call; lines move when comments are written.
    friend bool operator==(const NativePlugin& one, const NativePlugin& other) {
        return one.name == other.name && one.file == other.file && one.after == other.after;
    }
};

// spool.ini, queue_dir
struct SpoolSettings {
    std::string directory;  // absolute
    std::uint64_t segment_bytes = 128ull << 20;
    std::uint64_t reserve_bytes = 16ull << 20;
    std::uint64_t free_bytes_min = 64ull << 20;
    std::uint64_t queued_messages_max = 10'000'000;
    std::uint64_t memory_bytes_max =
        0;  // resident size above which accepting stops; 0: half of the machine's
    std::uint64_t fresh_bytes_max = 256ull << 20;
    bool sync = true;
};

// Everything an instance is told, checked and with defaults filled in. Immutable once published; a reload
// publishes a new one. Live settings take effect within a second of the file's change; those that need a
// restart are named by the schema and reported when they change.
struct Settings {
    std::string directory;             // of the instance, absolute
    std::string me;                    // primary host name
    std::vector<std::string> plugins;  // as listed
    std::vector<std::string> javascript_plugins;  // of these, by today's names: installed, and not built in
    std::vector<NativePlugin> native_plugins;     // of these: shared objects
    // host_list, lower case: Haraka's inbound domains. Sluice has no mailboxes: who may not relay is refused
    // here too, unless relay_dest_domains.ini takes the domain; the mail goes where that file or DNS says.
    std::vector<std::string> local_domains;
    SmtpSettings smtp;
    ConnectionSettings connection;
    InboundTlsSettings tls;
    OutboundTlsSettings outbound_tls;
    AuthSettings auth;
    RelaySettings relay;
    LogSettings log;
    OutboundSettings outbound;
    BounceTemplates bounce;
    DnsSettings dns;
    HttpSettings http;
    SpoolSettings spool;
    PluginHostSettings plugin_host;
    std::shared_ptr<const policy::PolicySet> policies;          // policy.yaml; null: there is no such file
    std::shared_ptr<const policy::SuspensionFile> suspensions;  // suspend.yaml; null: there is no such file
    std::shared_ptr<const policy::Assignments> fields;          // fields.yaml; null: there is no such file
    std::shared_ptr<const policy::DeliveryFile> deliveries;     // delivery.yaml; null: there is no such file
    std::vector<policy::LocalPool> transports;                  // transports.yaml
    // Notes and header fields that are kept beside every message because somebody may ask for them, as policies name them.
    std::vector<std::string> kept_fields;
};
using SettingsPtr = std::shared_ptr<const Settings>;

}  // namespace sluice::config
