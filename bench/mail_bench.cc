// What one 4 KiB message costs in the parsers on its way through: each of these has a budget of 1 µs.

#include <benchmark/benchmark.h>

#include <string>

#include "mail/header.h"
#include "smtp/command.h"
#include "smtp/data.h"

namespace sluice {
namespace {

std::string sample_content(std::size_t size) {
    std::string content =
        "Received: from client.test (client.test [192.0.2.1]) by mx.test with ESMTP\r\n"
        "From: <sender@origin.test>\r\nTo: <user@dest.test>\r\nSubject: A subject\r\n"
        "Date: Fri, 20 Nov 2026 10:54:00 +0000\r\nMessage-ID: <1@origin.test>\r\n\r\n";
    while (content.size() + 78 <= size)
        content += std::string(74, 'x') + ".y\r\n";
    return content;
}

void scan_content(benchmark::State& state) {
    const std::string content = sample_content(static_cast<std::size_t>(state.range(0)));
    for (auto _ : state)
        benchmark::DoNotOptimize(mail::scan_content(content));
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(content.size()));
}
BENCHMARK(scan_content)->Arg(4096)->Arg(1 << 20);

void decode_data(benchmark::State& state) {
    const std::string wire = sample_content(static_cast<std::size_t>(state.range(0))) + ".\r\n";
    std::string out;
    for (auto _ : state) {
        smtp::DataLimits limits;
        limits.size_max = 50'000'000;
        limits.line_max = 100'000;
        smtp::DataDecoder decoder(limits);
        out.clear();
        std::string_view bytes = wire;
        decoder.feed(bytes, out);
        benchmark::DoNotOptimize(out.data());
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(wire.size()));
}
BENCHMARK(decode_data)->Arg(4096)->Arg(1 << 20);

void count_received(benchmark::State& state) {
    const std::string content = sample_content(4096);
    for (auto _ : state)
        benchmark::DoNotOptimize(mail::count_fields(content, "Received"));
}
BENCHMARK(count_received);

void parse_mail_from(benchmark::State& state) {
    smtp::Extensions offered;
    offered.size = offered.eight_bit_mime = true;
    const smtp::CommandSyntax syntax{&offered, false};
    for (auto _ : state) {
        benchmark::DoNotOptimize(
            smtp::parse_command("MAIL FROM:<sender@origin.test> SIZE=4096 BODY=8BITMIME", syntax)
        );
    }
}
BENCHMARK(parse_mail_from);

void parse_rcpt_to(benchmark::State& state) {
    for (auto _ : state)
        benchmark::DoNotOptimize(smtp::parse_command("RCPT TO:<user@dest.test>", {}));
}
BENCHMARK(parse_rcpt_to);

void parse_reply(benchmark::State& state) {
    smtp::ReplyParser parser;
    for (auto _ : state) {
        std::string_view bytes = "250 2.1.5 Recipient accepted\r\n";
        benchmark::DoNotOptimize(parser.feed(bytes));
    }
}
BENCHMARK(parse_reply);

void format_reply(benchmark::State& state) {
    const smtp::Reply reply(250, "2.1.5", "Recipient accepted");
    std::string out;
    for (auto _ : state) {
        out.clear();
        smtp::append(out, reply);
        benchmark::DoNotOptimize(out.data());
    }
}
BENCHMARK(format_reply);

void format_received(benchmark::State& state) {
    mail::ReceivedTrace trace;
    trace.helo = trace.rdns = "client.test";
    trace.client_ip = "192.0.2.1";
    trace.by = "mx.test";
    trace.with = "ESMTP";
    trace.id = "0123456789ABC";
    trace.wall_ms = 1795172040000;
    for (auto _ : state)
        benchmark::DoNotOptimize(mail::format_received(trace));
}
BENCHMARK(format_received);

}  // namespace
}  // namespace sluice
