#include "config/schema.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

std::optional<std::string> listen_address(std::string_view text) {
    const auto endpoint = parse_endpoint(text, 25);
    if (!endpoint || !endpoint->path.empty()) return std::nullopt;
    return endpoint->text();
}

std::optional<std::string> lower_host_name(std::string_view text) {
    if (!is_host_name(text)) return std::nullopt;
    return to_lower(text);
}

void add_smtp(std::vector<Setting>& table) {
    using S = SmtpSettings;
    const Section main("smtp.ini", "main");
    table.insert(
        table.end(),
        {
            main.restart(
                "listen",
                list(
                    at(&Settings::smtp, &S::listen), "`address:port`, `[IPv6]:port` or an address (port 25)",
                    listen_address
                ),
                "Where SMTP clients may connect. `[::0]:25` takes IPv4 as well."
            ),
            main.restart(
                "smtps_port", ports(at(&Settings::smtp, &S::smtps_ports)),
                "Listeners on these ports speak TLS from the first octet."
            ),
            main.live(
                "public_ip",
                first_text(
                    at(&Settings::smtp, &S::public_ip), "an IP address",
                    [](std::string_view text) {
                        return is_ip(text) ? std::optional<std::string>(text) : std::nullopt;
                    }
                ),
                "The address under which the Internet sees this host behind a NAT; an MX that points there "
                "is ourselves."
            ),
            main.live(
                "inactivity_timeout",
                zero_is_default(duration(at(&Settings::smtp, &S::inactivity_timeout), {seconds(1), hours(24)})
                ),
                "How long a client may be silent before 421 ends the session."
            ),
            main.restart(
                "user", text(at(&Settings::smtp, &S::user)),
                "Drop privileges to this user after the ports are bound."
            ),
            main.restart("group", text(at(&Settings::smtp, &S::group)), "Drop privileges to this group."),
            main.restart(
                "core_dumps", boolean(at(&Settings::smtp, &S::core_dumps)),
                "After a crash the system may keep a file of all memory: passwords, keys and mail. For finding a defect."
            ),
            main.restart("daemonize", truth(at(&Settings::smtp, &S::daemonize)), "Run in the background."),
            main.restart(
                "daemon_log_file", text(at(&Settings::smtp, &S::daemon_log_file)),
                "Where log lines go in the background."
            ),
            main.restart(
                "daemon_pid_file", text(at(&Settings::smtp, &S::daemon_pid_file)),
                "Where the process id is written in the background."
            ),
            main.live(
                "force_shutdown_timeout",
                duration(at(&Settings::smtp, &S::force_shutdown_timeout), {seconds(0), hours(1)}),
                "How long a stop waits for open sessions before it cuts them."
            ),
            main.restart(
                "shards", number(at(&Settings::smtp, &S::shards), {0, 256}),
                "I/O threads; 0: one for each core."
            ),
            main.live(
                "connections_max", number(at(&Settings::smtp, &S::connections_max), {1, 1'000'000}),
                "Inbound connections at once; more are told 421."
            ),
            main.live(
                "connections_per_client_max",
                number(at(&Settings::smtp, &S::connections_per_client_max), {0, 1'000'000}),
                "Inbound connections at once from one address; 0: no limit."
            ),
            main.live(
                "submission_requires_auth", boolean(at(&Settings::smtp, &S::submission_requires_auth)),
                "On ports 587 and 465 MAIL is refused with 530 before AUTH, unless the client may relay (RFC "
                "6409 §4.3)."
            ),
            main.restart(
                "listen_host", elsewhere("address"),
                "With `port` it adds a listener in front of `listen`, as in old Haraka versions; prefer "
                "`listen`."
            ),
            main.restart(
                "port", elsewhere("port, 1 to 65535"), "See `listen_host`; alone it listens on `[::0]`."
            ),
            main.none("nodes", "One process serves all cores; `shards` sets the number of I/O threads."),
            main.none(
                "ignore_bad_plugins",
                "Read by the plugin host: `true` leaves out a plugin that cannot be loaded. Otherwise mail waits until it can."
            ),
            main.none(
                "graceful_shutdown", "A stop is always graceful, for `force_shutdown_timeout` at most."
            ),
        }
    );
}

void add_connection_main(std::vector<Setting>& table) {
    using C = ConnectionSettings;
    const Section main("connection.ini", "main");
    const Section haproxy("connection.ini", "haproxy");
    table.insert(
        table.end(),
        {
            main.live(
                "smtputf8", truth(at(&Settings::connection, &C::smtputf8)), "Offer SMTPUTF8 (RFC 6531)."
            ),
            main.live(
                "bare_eol",
                choice(
                    at(&Settings::connection, &C::strict_bare_eol), {{"refuse", true}, {"normalise", false}}
                ),
                "What happens to a message with bare CR, bare LF or NUL: `refuse` it, or `normalise` line "
                "ends to CR LF. "
                "Only `refuse` closes every way of smuggling a second message in."
            ),
            main.live(
                "constrain_sender_exact", boolean(at(&Settings::connection, &C::constrain_sender_addresses)),
                "After AUTH the reverse-path must be the login name itself."
            ),
            main.none("spool_dir", "Message bodies go to the journal, not to temporary files."),
            main.none("spool_after", "See `fresh_bytes_max` in spool.ini."),
            main.none("strict_rfc1869", "Commands are always parsed strictly."),
            main.none("postel", "Commands are always parsed strictly."),
            haproxy.live(
                "enabled", truth(at(&Settings::connection, &C::proxy_enabled)),
                "Understand the PROXY protocol, v1 and v2."
            ),
            haproxy.live(
                "hosts",
                list(
                    at(&Settings::connection, &C::proxy_hosts), "an address or `address/prefix`", parse_cidr
                ),
                "Load balancers that speak the PROXY protocol; no other client may. An address without "
                "prefix is one host."
            ),
        }
    );
}

void add_connection_limits(std::vector<Setting>& table) {
    using C = ConnectionSettings;
    const Section headers("connection.ini", "headers");
    const Section max("connection.ini", "max");
    const auto count = [](std::uint32_t C::* field, Bounds<std::uint32_t> bounds) {
        return number(at(&Settings::connection, field), bounds);
    };
    table.insert(
        table.end(),
        {
            headers.live(
                "add_received", truth(at(&Settings::connection, &C::add_received)),
                "Add a Received header (RFC 5321 §4.4)."
            ),
            headers.live(
                "show_version", truth(at(&Settings::connection, &C::show_version)),
                "Name the version in greeting and Received."
            ),
            headers.live(
                "max_lines", count(&C::header_lines_max, {1, 1'000'000}),
                "Header lines of a message; more are refused with 554."
            ),
            headers.live(
                "max_received", count(&C::received_max, {1, 10'000}),
                "Received headers of a message; more mean a loop (RFC 5321 §6.3)."
            ),
            headers.live(
                "max_bytes", bytes(at(&Settings::connection, &C::header_bytes_max), {1024, 64 << 20}),
                "Octets of a message's header."
            ),
            headers.none(
                "clean_auth_results",
                "Sluice adds no Authentication-Results of its own, so it leaves those of others alone."
            ),
            max.live(
                "bytes",
                bytes(at(&Settings::connection, &C::message_bytes_max), {1024, std::uint64_t{1} << 30}),
                "Octets of a message, announced as SIZE (RFC 1870)."
            ),
            max.live(
                "line_length", count(&C::command_line_max, {512, 65'536}),
                "Octets of a command line with its CR LF (RFC 5321 §4.5.3.1.4)."
            ),
            max.live(
                "data_line_max", count(&C::data_line_max, {0, 10'000'000}),
                "Octets of a line in a message; longer lines are refused. 0: no limit."
            ),
            max.live(
                "recipients", count(&C::recipients_max, {100, 1'000'000}),
                "Recipients of a message (RFC 5321 §4.5.3.1.8 asks for 100)."
            ),
            max.live(
                "errors", count(&C::errors_max, {1, 100'000}),
                "Bad commands of a connection before 421 ends it."
            ),
            max.live(
                "messages", count(&C::messages_max, {0, 100'000'000}),
                "Messages of a connection before 421 ends it; 0: no limit."
            ),
            max.none(
                "data_line_length",
                "Long lines are not folded, because folding breaks signatures; `data_line_max` refuses them."
            ),
            max.none("mime_parts", "The engine does not take messages apart."),
        }
    );
}

void add_connection_texts(std::vector<Setting>& table) {
    using C = ConnectionSettings;
    const Section message("connection.ini", "message");
    const Section uuid("connection.ini", "uuid");
    table.insert(
        table.end(),
        {
            message.live(
                "greeting", texts(at(&Settings::connection, &C::greeting)),
                "Lines of the greeting, each as `greeting[]=`, instead of the built-in one."
            ),
            message.live(
                "helo", text(at(&Settings::connection, &C::helo_message)),
                "Text after the greeting of HELO and EHLO."
            ),
            message.live(
                "close", text(at(&Settings::connection, &C::close_message)), "Text of the reply to QUIT."
            ),
            uuid.live(
                "banner_chars", number(at(&Settings::connection, &C::banner_uuid_chars), {0, 40}),
                "Characters of the session's id shown in the greeting."
            ),
            uuid.none("deny_chars", "Replies carry no id; the log finds a session by address and time."),
        }
    );
}

}  // namespace

std::vector<Setting> reception_schema() {
    std::vector<Setting> table;
    table.push_back(whole_file(
        "me", Format::value,
        first_text(at(&Settings::me), "a host name such as mail.example.com", lower_host_name), Effect::live,
        "The primary host name: in the greeting, EHLO, Received, Message-ID and bounces. Default: the "
        "machine's host name."
    ));
    table.push_back(whole_file(
        "plugins", Format::list, texts(at(&Settings::plugins)), Effect::live,
        "Plugins, one a line. `tls`, `auth/flat_file` and `relay` switch on what is native here; without "
        "them their files "
        "have no effect. A name that ends in `.so`, or is one of a shared object in plugins/, is a native plugin."
    ));
    table.push_back(whole_file(
        "host_list", Format::list, list(at(&Settings::local_domains), "a domain", lower_host_name),
        Effect::live,
        "Haraka's domains of inbound mail. Sluice has no mailboxes: mail to them is refused from clients "
        "that may not "
        "relay, unless relay_dest_domains.ini or a plugin takes the domain, and goes where that file, the plugin "
        "or DNS says."
    ));
    add_smtp(table);
    add_connection_main(table);
    add_connection_limits(table);
    add_connection_texts(table);
    return table;
}

}  // namespace sluice::config
