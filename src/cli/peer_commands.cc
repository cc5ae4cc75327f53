#include <signal.h>

#include <atomic>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "peer/blast.h"
#include "peer/sink.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

std::atomic<bool> interrupted = false;
void on_interrupt(int) { interrupted = true; }

struct SinkWords {
    peer::SinkOptions options;
    std::vector<std::string> listen, rules;
    int seconds = 0;
};

json::object sink_json(const peer::SinkCounts& counts, const peer::WireReport& wire) {
    json::array first;
    for (const std::string& one : wire.first()) first.emplace_back(one);
    return {{"messages", counts.messages.load()},   {"recipients", counts.recipients.load()},
            {"bytes", counts.bytes.load()},         {"connections", counts.connections.load()},
            {"refused", counts.refused.load()},     {"dropped", counts.dropped.load()},
            {"violations", wire.count()},           {"first_violations", std::move(first)}};
}

void run_sink(Session& session, SinkWords& words) {
    for (const std::string& text : words.listen) {
        const auto endpoint = net::Endpoint::parse(text, 2525);
        if (!endpoint) return session.fail_with(Error(Errc::bad_input, "--listen: not an address and port: " + text));
        words.options.endpoints.push_back(*endpoint);
    }
    for (const std::string& text : words.rules) {
        Result<peer::Rule> rule = peer::parse_rule(text);
        if (!rule) return session.fail_with(Error(Errc::bad_input, "--rule " + text + ": " + rule.error().detail));
        words.options.rules.push_back(std::move(*rule));
    }
    const Result<std::unique_ptr<peer::Sink>> sink = peer::Sink::start(words.options);
    if (!sink) return session.fail_with(sink.error());
    std::string ready = "sink: listening on";
    for (const net::Endpoint& endpoint : (*sink)->endpoints()) ready += " " + endpoint.text();
    std::puts(ready.c_str());
    std::fflush(stdout);

    ::signal(SIGINT, on_interrupt);
    ::signal(SIGTERM, on_interrupt);
    constexpr int tick_ms = 200;
    for (int waited = 0; !interrupted && (words.seconds == 0 || waited < words.seconds * 1000); waited += tick_ms) {
        if ((*sink)->wait(tick_ms)) break;
    }
    (*sink)->stop();
    const peer::SinkCounts& counts = (*sink)->counts();
    const peer::WireReport& wire = (*sink)->wire();
    if (session.json) {
        Session::print_json(sink_json(counts, wire));
    } else {
        std::printf(
            "sink: %llu messages, %llu recipients, %llu connections, %llu refused, %llu violations\n",
            static_cast<unsigned long long>(counts.messages), static_cast<unsigned long long>(counts.recipients),
            static_cast<unsigned long long>(counts.connections), static_cast<unsigned long long>(counts.refused),
            static_cast<unsigned long long>(wire.count()));
        for (const std::string& one : wire.first()) std::printf("sink: violation on %s\n", one.c_str());
    }
    if (wire.count() > 0) session.exit_code = exit_failed;
}

void add_sink(CLI::App& app, Session& session) {
    const auto words = std::make_shared<SinkWords>();
    peer::SinkOptions& options = words->options;
    CLI::App* sink = app.add_subcommand("sink", "a scriptable receiving server");
    sink->add_option("--listen", words->listen, "address:port or socket path; may be repeated (port 0: any)")->required()->allow_extra_args(false)->take_all();
    sink->add_option(
            "--rule", words->rules,
            "STAGE[:PATTERN][%PERCENT]=ACTION; stages connect ehlo starttls auth mail rcpt data dot rset quit; "
            "actions: a reply like '450 4.2.0 busy', drop, drop-after, 'delay MS'; may be repeated")
        ->allow_extra_args(false)
        ->take_all();
    sink->add_option("--seed", options.seed, "of the percentages")->capture_default_str();
    sink->add_option("--threads", options.threads, "I/O threads")->capture_default_str();
    sink->add_option("--size-max", options.size_max, "offer SIZE");
    sink->add_option("--ehlo", options.extra_ehlo, "further EHLO keywords, separated by commas");
    sink->add_option("--dir", options.directory, "write each message to a file here");
    sink->add_option("--ledger", options.ledger, "append one JSON line for each message, before it is answered");
    sink->add_option("--count", options.stop_after, "stop after this many messages");
    sink->add_option("--seconds", words->seconds, "stop after this time");
    sink->add_option("--cert", options.certificate, "certificate (PEM): offer STARTTLS");
    sink->add_option("--key", options.key, "its key (PEM)");
    sink->add_flag("--tls", options.implicit_tls, "TLS from the first octet");
    sink->add_flag("!--no-resumption", options.resumption, "give no TLS session tickets");
    sink->add_flag("--lmtp", options.lmtp, "LMTP: one answer a recipient");
    sink->add_flag("--print", options.print, "print one line for each message");
    sink->add_flag("!--no-pipelining", options.pipelining, "do not offer PIPELINING");
    sink->add_flag("!--no-chunking", options.chunking, "do not offer CHUNKING");
    sink->add_flag("!--no-8bitmime", options.eight_bit, "do not offer 8BITMIME");
    sink->add_flag("!--no-smtputf8", options.smtputf8, "do not offer SMTPUTF8");
    sink->add_flag("!--no-dsn", options.dsn, "do not offer DSN");
    sink->add_flag("!--no-check", options.check_wire, "do not judge what clients send; otherwise a violation of the protocol makes the exit code 1");
    sink->callback([words, &session] { run_sink(session, *words); });
}

struct BlastWords {
    peer::BlastOptions options;
    std::string target, protocol = "pipelining";
};

json::object report_json(const peer::BlastReport& report) {
    const double rate = report.seconds > 0 ? static_cast<double>(report.accepted) / report.seconds : 0;
    return {{"accepted", report.accepted},
            {"refused_temporary", report.refused_temporary},
            {"refused_permanent", report.refused_permanent},
            {"lost", report.lost},
            {"connections", report.connections},
            {"connect_failures", report.connect_failures},
            {"seconds", report.seconds},
            {"per_second", rate},
            {"latency_ms", json::object{{"p50", report.latency_ms_p50},
                                        {"p90", report.latency_ms_p90},
                                        {"p99", report.latency_ms_p99},
                                        {"max", report.latency_ms_max}}},
            {"first_refusal", report.first_refusal}};
}

void run_blast(Session& session, BlastWords& words) {
    const auto target = net::Endpoint::parse(words.target, 25);
    if (!target) return session.fail_with(Error(Errc::bad_input, "--target: not an address and port: " + words.target));
    words.options.target = *target;
    if (words.protocol == "plain") words.options.protocol = peer::BlastOptions::Protocol::plain;
    else if (words.protocol == "chunking") words.options.protocol = peer::BlastOptions::Protocol::chunking;
    else if (words.protocol != "pipelining") {
        return session.fail_with(Error(Errc::bad_input, "--protocol: plain, pipelining or chunking is expected"));
    }
    const Result<peer::BlastReport> report = peer::blast(words.options);
    if (!report) return session.fail_with(report.error());
    if (report->accepted < words.options.messages) session.exit_code = exit_failed;
    if (session.json) return Session::print_json(report_json(*report));
    std::printf(
        "blast: %llu accepted in %.2f s, %.0f a second; latency p50 %.1f p99 %.1f max %.1f ms\n",
        static_cast<unsigned long long>(report->accepted), report->seconds,
        static_cast<double>(report->accepted) / report->seconds, report->latency_ms_p50, report->latency_ms_p99,
        report->latency_ms_max);
    if (report->accepted < words.options.messages) {
        std::printf(
            "blast: refused for now %llu, for good %llu, lost %llu; first refusal: %s\n",
            static_cast<unsigned long long>(report->refused_temporary),
            static_cast<unsigned long long>(report->refused_permanent), static_cast<unsigned long long>(report->lost),
            report->first_refusal.c_str());
    }
}

void add_blast(CLI::App& app, Session& session) {
    const auto words = std::make_shared<BlastWords>();
    peer::BlastOptions& options = words->options;
    CLI::App* blast = app.add_subcommand("blast", "a load generator; exit code 0 when everything was accepted");
    blast->add_option("--target", words->target, "address:port or socket path")->required();
    blast->add_option("--sessions", options.sessions, "connections at once")->capture_default_str();
    blast->add_option("--threads", options.threads, "I/O threads")->capture_default_str();
    blast->add_option("--messages", options.messages, "in all")->capture_default_str();
    blast->add_option("--per-connection", options.per_connection, "messages before a new connection; 0: no limit");
    blast->add_option("--size", options.size, "octets of a message")->capture_default_str();
    blast->add_option("--from", options.from, "reverse-path")->capture_default_str();
    blast->add_option("--to", options.to, "forward-path; %n: number of the recipient, %d: of the domain")->capture_default_str();
    blast->add_option("--domains", options.domains, "how many %d")->capture_default_str();
    blast->add_option("--recipients", options.recipients, "per message")->capture_default_str();
    blast->add_option("--rate", options.rate, "messages a second, whatever the answers (open loop)");
    blast->add_option("--protocol", words->protocol, "plain, pipelining or chunking")->capture_default_str();
    blast->add_option("--window", options.window, "messages on their way per connection")->capture_default_str();
    blast->add_option("--user", options.user, "AUTH PLAIN");
    blast->add_option("--password", options.password, "AUTH PLAIN");
    blast->add_option("--ledger", options.ledger, "append one JSON line for each accepted message");
    blast->add_option("--id-prefix", options.id_prefix, "of X-Ledger-Id")->capture_default_str();
    blast->add_flag("--starttls", options.starttls, "STARTTLS");
    blast->add_flag("--tls", options.implicit_tls, "TLS from the first octet");
    blast->add_flag("!--no-resumption", options.resumption, "resume no TLS session");
    blast->add_flag("--keep-going", options.keep_going, "reconnect when the link is lost");
    blast->callback([words, &session] { run_blast(session, *words); });
}

}  // namespace

void add_peer_commands(CLI::App& app, Session& session) {
    add_sink(app, session);
    add_blast(app, session);
}

}  // namespace sluice::cli
