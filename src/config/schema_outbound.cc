#include "config/schema.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using O = OutboundSettings;

constexpr const char* file = "outbound.ini";

Kind flag(bool O::* field) {
    return boolean(at(&Settings::outbound, field));
}
Kind span(Milliseconds O::* field, Milliseconds low, Milliseconds high) {
    return duration(at(&Settings::outbound, field), {low, high});
}
Kind count(std::uint32_t O::* field, std::uint32_t low, std::uint32_t high) {
    return number(at(&Settings::outbound, field), {low, high});
}

// Comes before temp_fail_intervals in the table, because that one takes precedence over what this one
// derives.
Kind failures() {
    Kind kind = number(at(&Settings::outbound, &O::temp_failures_max), {1, 24});
    kind.assign = [assign = kind.assign](Settings& settings, const Values& given) {
        Complaints complaints = assign(settings, given);
        settings.outbound.temp_fail_intervals = default_intervals(settings.outbound.temp_failures_max);
        return complaints;
    };
    return zero_is_default(kind);
}

Kind intervals() {
    Kind kind;
    kind.words = "`none`, or intervals such as `30s, 5m, 1h*3, 1d`, each at least 5s";
    kind.assign = [](Settings& settings, const Values& given) -> Complaints {
        std::string text;  // a list with commas may also be given line by line
        for (const Value& value : given)
            text += (text.empty() ? "" : ",") + value.text;
        if (text.empty()) return {};
        auto parsed = parse_intervals(text);
        if (parsed) {
            settings.outbound.temp_fail_intervals = std::move(*parsed);
            return {};
        }
        const std::string_view reason = parsed.error().detail;
        constexpr std::string_view prefix = "expected ";
        Complaint wrong(given.front().line, text, std::string(reason.substr(prefix.size())));
        wrong.consequence = "the default schedule is used";
        return {wrong};
    };
    kind.show = [](const Settings& settings) {
        return format_intervals(settings.outbound.temp_fail_intervals);
    };
    return kind;
}

std::optional<std::string> ipv4(std::string_view text) {
    return is_ipv4(text) ? std::optional<std::string>(text) : std::nullopt;
}
std::optional<std::string> ipv6(std::string_view text) {
    return is_ip(text) && !is_ipv4(text) ? std::optional<std::string>(text) : std::nullopt;
}

void add_haraka(std::vector<Setting>& table) {
    const Section main(file, "main");
    table.insert(
        table.end(),
        {
            with_legacy_file(
                main.live(
                    "disabled", truth(at(&Settings::outbound, &O::disabled)),
                    "Accept and queue, but deliver nothing."
                ),
                "outbound.disabled"
            ),
            with_legacy_file(
                main.live(
                    "concurrency_max", zero_is_default(count(&O::concurrency_max, 1, 1'000'000)),
                    "Deliveries in flight."
                ),
                "outbound.concurrency_max"
            ),
            with_legacy_file(
                main.live(
                    "enable_tls", truth(at(&Settings::outbound, &O::enable_tls)),
                    "Use STARTTLS where it is offered."
                ),
                "outbound.enable_tls"
            ),
            main.live(
                "always_split", truth(at(&Settings::outbound, &O::always_split)),
                "One item for each recipient instead of one for each domain."
            ),
            main.live(
                "local_mx_ok", truth(at(&Settings::outbound, &O::local_mx_ok)),
                "MX hosts found by DNS, and address literals, may be this host or have addresses that are not public."
            ),
            lenient(main.live(
                "inet_prefer",
                choice<O::InetPrefer>(
                    at(&Settings::outbound, &O::inet_prefer), {{"default", O::InetPrefer::standard},
                                                               {"v4", O::InetPrefer::v4},
                                                               {"v6", O::InetPrefer::v6}}
                ),
                "Which addresses of equally preferred MX hosts come first."
            )),
            main.live(
                "connect_timeout", zero_is_default(span(&O::connect_timeout, seconds(1), minutes(10))),
                "For connecting only."
            ),
            with_legacy_file(
                main.live(
                    "maxTempFailures", failures(),
                    "Attempts before an item is bounced, when `temp_fail_intervals` is not given: after "
                    "failure i the next attempt "
                    "comes 2^(i+5) seconds later."
                ),
                "outbound.maxTempFailures"
            ),
            with_legacy_file(
                lenient(main.live(
                    "temp_fail_intervals", intervals(),
                    "How long to wait after each temporary failure; `none`: no second attempt."
                )),
                "outbound.temp_fail_intervals"
            ),
            with_legacy_file(
                main.live(
                    "received_header", text(at(&Settings::outbound, &O::received_header)),
                    "Text in the Received header of the outbound side; `disabled`: no such header."
                ),
                "outbound.received_header"
            ),
            main.none("pool_concurrency_max", "A leftover of Haraka 2.8; see `destination_concurrency`."),
            main.none("pool_waiting_queue_max", "A leftover of Haraka 2.8."),
            main.none("ipv6_enabled", "A leftover of Haraka 3.0; see `inet_prefer`."),
        }
    );
}

void add_sluice(std::vector<Setting>& table) {
    const Section main(file, "main");
    table.insert(
        table.end(),
        {
            main.live(
                "destination_concurrency", count(&O::destination_concurrency, 1, 1'000'000),
                "Connections at once to one destination."
            ),
            main.live("retry_jitter", flag(&O::retry_jitter), "Vary every retry interval by up to 10 %."),
            main.live(
                "queue_lifetime", span(&O::queue_lifetime, minutes(1), hours(24 * 365)),
                "An item older than this is bounced at its next failure (RFC 5321 §4.5.4.1)."
            ),
            main.live(
                "delay_dsn_after", span(&O::delay_dsn_after, seconds(0), hours(24 * 365)),
                "When a sender who asked for it is told of a delay; 0: never."
            ),
            main.live(
                "pool_timeout", span(&O::pool_timeout, seconds(0), minutes(5)),
                "How long an idle connection is kept for more mail."
            ),
            main.live(
                "messages_per_connection", count(&O::messages_per_connection, 1, 1'000'000),
                "Messages over one connection."
            ),
            main.live("pipelining", flag(&O::pipelining), "Use PIPELINING where it is offered (RFC 2920)."),
            main.live("chunking", flag(&O::chunking), "Use CHUNKING where it is offered (RFC 3030)."),
            main.live(
                "eight_bit",
                choice<O::EightBit>(
                    at(&Settings::outbound, &O::eight_bit), {{"send", O::EightBit::send},
                                                             {"downgrade", O::EightBit::downgrade},
                                                             {"bounce", O::EightBit::bounce}}
                ),
                "8-bit content for a next hop without 8BITMIME: send it as it is, encode it, or bounce it."
            ),
            main.live(
                "auth_fallback_plain", flag(&O::auth_fallback_plain),
                "When a route has credentials and its host offers no AUTH: send without, as Haraka does, "
                "instead of deferring."
            ),
            main.live("auth_cleartext", flag(&O::auth_cleartext), "Credentials may be sent without TLS."),
            main.live(
                "dsn_full_bytes_max", bytes(at(&Settings::outbound, &O::dsn_full_bytes_max), {0, 64 << 20}),
                "A bounce returns the header only when the message is larger than this (RFC 3461 §4.3)."
            ),
            main.live(
                "smtp_port", number(at(&Settings::outbound, &O::smtp_port), Bounds<std::uint16_t>{1, 65'535}),
                "Port of MX hosts; for test networks."
            ),
            main.live(
                "unhealthy_for", span(&O::unhealthy_for, seconds(0), hours(1)),
                "How long an address that cannot be reached is avoided while there are others."
            ),
            Section(file, "outbound_ipv4")
                .live(
                    "", keys(at(&Settings::outbound, &O::sources4), "an IPv4 address", ipv4),
                    "Source addresses towards IPv4 hosts. Sender and recipients choose one, so that equal "
                    "mail keeps its source."
                ),
            Section(file, "outbound_ipv6")
                .live(
                    "", keys(at(&Settings::outbound, &O::sources6), "an IPv6 address", ipv6),
                    "Source addresses towards IPv6 hosts."
                ),
        }
    );
}

void add_phases(std::vector<Setting>& table) {
    const Section main(file, "main");
    const auto phase = [&](std::string key, Milliseconds O::* field, std::string doc) {
        return main.live(std::move(key), span(field, seconds(1), hours(1)), std::move(doc));
    };
    table.insert(
        table.end(),
        {
            phase("greeting_timeout", &O::greeting_timeout, "Wait for the greeting (RFC 5321 §4.5.3.2.1)."),
            phase("helo_timeout", &O::helo_timeout, "Wait for the reply to EHLO, STARTTLS and AUTH."),
            phase("mail_timeout", &O::mail_timeout, "Wait for the reply to MAIL (RFC 5321 §4.5.3.2.2)."),
            phase("rcpt_timeout", &O::rcpt_timeout, "Wait for the reply to RCPT (RFC 5321 §4.5.3.2.3)."),
            phase("data_timeout", &O::data_timeout, "Wait for the reply to DATA (RFC 5321 §4.5.3.2.4)."),
            phase(
                "block_timeout", &O::block_timeout,
                "Wait for the peer to take a block of the message (RFC 5321 §4.5.3.2.5)."
            ),
            phase(
                "dot_timeout", &O::dot_timeout, "Wait for the reply to the final dot (RFC 5321 §4.5.3.2.6)."
            ),
            phase("quit_timeout", &O::quit_timeout, "Wait for the reply to QUIT."),
        }
    );
}

// The three files of a bounce. An empty file is the same as none.
Setting bounce_template(
    std::string name, std::vector<std::string> BounceTemplates::* field, std::string doc
) {
    return whole_file(
        std::move(name), Format::verbatim, verbatim(at(&Settings::bounce, field)), Effect::live,
        std::move(doc)
    );
}

}  // namespace

std::vector<Setting> outbound_schema() {
    std::vector<Setting> table;
    add_haraka(table);
    add_sluice(table);
    add_phases(table);
    table.push_back(bounce_template(
        "outbound.bounce_message", &BounceTemplates::text,
        "Template of a bounce: lines up to the first empty one are headers, the rest is the text. Absent: a "
        "built-in one."
    ));
    table.push_back(bounce_template(
        "outbound.bounce_message_html", &BounceTemplates::html,
        "HTML alternative of the text, when it has more than one line."
    ));
    table.push_back(bounce_template(
        "outbound.bounce_message_image", &BounceTemplates::image,
        "A MIME part, with its own headers, that goes with the HTML, when it has more than one line."
    ));
    return table;
}

}  // namespace sluice::config
