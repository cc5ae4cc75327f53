// Plays test/transcripts/client/*.smtp against the client over an in-memory stream, at every fragmentation.
//
// Besides the peer's steps (delivery_test_support.h) a file says what the client is to do and what must come of it:
//   % key = value   see Plan below
//   = 1 delivered 2.0.0      recipient 1 (of the first message; "2/1": of the second)
//   = 1 words 12             so many octets of text came with that
//   = stopped next_candidate greeting 5.3.2      open() gave up
//   = usable yes
//   = logged sentence        a line of the log begins so
#include "delivery/client_session.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "delivery/delivery_test_support.h"
#include "net/pipe.h"

namespace sluice::delivery {
namespace {

using event::Level;

const char* name_of(Fate fate) {
    switch (fate) {
        case Fate::delivered: return "delivered";
        case Fate::deferred: return "deferred";
        case Fate::failed: return "failed";
        case Fate::expired: return "expired";
        case Fate::next_candidate: return "next_candidate";
        case Fate::fresh_session: return "fresh_session";
    }
    UNREACHABLE();
}

// A transcript file, taken apart.
struct Plan {
    std::string script;                             // the peer's part
    std::vector<std::string> expected;              // lines after '='
    std::multimap<std::string, std::string> keys;   // lines after '%'

    std::string value(const std::string& key, std::string otherwise = "") const {
        const auto found = keys.find(key);
        return found == keys.end() ? otherwise : found->second;
    }
    bool yes(const std::string& key) const { return value(key) == "yes"; }
    std::vector<std::string> values(const std::string& key) const {
        std::vector<std::string> out;
        for (auto [at, end] = keys.equal_range(key); at != end; ++at) out.push_back(at->second);
        return out;
    }
};

Plan read_plan(const std::filesystem::path& file) {
    std::ifstream in(file);
    Plan plan;
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("% ")) {
            const std::size_t equals = line.find(" = ");
            plan.keys.emplace(line.substr(2, equals - 2), unescaped(line.substr(equals + 3)));
        } else if (line.starts_with("= ")) {
            plan.expected.push_back(line.substr(2));
        } else if (const std::size_t times = line.find(" {x"); times != std::string::npos && line[1] == ':') {
            const int count = std::stoi(line.substr(times + 3));
            for (int i = 0; i < count; ++i) plan.script += line.substr(0, times) + "\n";
        } else {
            plan.script += line + "\n";
        }
    }
    return plan;
}

config::SettingsPtr settings_of(const Plan& plan) {
    auto settings = std::make_shared<config::Settings>(test_settings());
    config::OutboundSettings& out = settings->outbound;
    out.pipelining = plan.value("pipelining") != "off";
    out.chunking = plan.value("chunking") != "off";
    out.auth_fallback_plain = plan.yes("auth_fallback_plain");
    out.auth_cleartext = plan.yes("auth_cleartext");
    using EightBit = config::OutboundSettings::EightBit;
    const std::string eight_bit = plan.value("eight_bit");
    out.eight_bit = eight_bit == "bounce"      ? EightBit::bounce
                    : eight_bit == "downgrade" ? EightBit::downgrade
                                               : EightBit::send;
    for (auto timeout : {&config::OutboundSettings::greeting_timeout, &config::OutboundSettings::helo_timeout,
                         &config::OutboundSettings::mail_timeout, &config::OutboundSettings::rcpt_timeout,
                         &config::OutboundSettings::data_timeout, &config::OutboundSettings::dot_timeout,
                         &config::OutboundSettings::quit_timeout}) {
        out.*timeout = std::chrono::milliseconds(20'000);
    }
    const std::map<std::string, config::Milliseconds config::OutboundSettings::*> timeouts{
        {"greeting", &config::OutboundSettings::greeting_timeout}, {"helo", &config::OutboundSettings::helo_timeout},
        {"mail", &config::OutboundSettings::mail_timeout},         {"rcpt", &config::OutboundSettings::rcpt_timeout},
        {"data", &config::OutboundSettings::data_timeout},         {"dot", &config::OutboundSettings::dot_timeout},
        {"quit", &config::OutboundSettings::quit_timeout}};
    const auto impatient = timeouts.find(plan.value("impatient"));
    if (impatient != timeouts.end()) out.*(impatient->second) = std::chrono::milliseconds(5);
    return settings;
}

std::shared_ptr<mail::Message> message_of(const Plan& plan) {
    std::vector<std::string> recipients = plan.values("to");
    if (recipients.empty()) recipients = {"b@example.test"};
    if (const std::string many = plan.value("recipients"); !many.empty()) {
        recipients.clear();
        for (int i = 1; i <= std::stoi(many); ++i) recipients.push_back("r" + std::to_string(i) + "@example.test");
    }
    std::string content = plan.value("content", "Subject: x\r\n\r\nhello\r\n");
    if (const std::string size = plan.value("size"); !size.empty()) {
        content = "Subject: x\r\n\r\n";
        while (content.size() + 100 <= std::stoul(size)) content.append(98, 'x').append("\r\n");
    }
    if (const std::string size = plan.value("long_line"); !size.empty()) {
        content = "Subject: x\r\n\r\n" + std::string(std::stoul(size), 'm') + "\r\nend\r\n";
    }
    auto message = make_message(recipients, content);
    if (plan.keys.contains("from")) message->envelope.reverse_path = recipient_of(plan.value("from")).address;
    if (plan.yes("null_sender")) message->envelope.reverse_path = {};
    message->trace = plan.value("trace");
    message->envelope.smtputf8 = plan.yes("smtputf8");
    message->envelope.envid = plan.value("envid");
    if (plan.value("ret") == "hdrs") message->envelope.ret = mail::Return::headers;
    if (plan.value("body") == "binary") message->envelope.body = mail::BodyType::binary_mime;
    for (mail::Recipient& recipient : message->envelope.recipients) {
        recipient.orcpt = plan.value("orcpt");
        if (plan.yes("notify_success")) recipient.notify = mail::notify_success | mail::notify_failure;
    }
    return message;
}

// What the client found out, in the words of the expectations.
struct Findings {
    std::vector<std::string> lines;
};

std::string told(const std::string& who, const Verdict& verdict, const Standing& standing) {
    const Ruling ruling = rule(verdict, standing);
    std::string line = who + " " + name_of(ruling.fate) + " " + facts_of(verdict.stage).name + " " +
                       status_for(verdict, ruling.fate);
    if (ruling.possible_duplicate) line += " duplicate?";
    return line;
}

struct ClientRun {
    ClientSession& client;
    const Plan& plan;
    std::shared_ptr<mail::Message> message;
    Findings findings;
    bool finished = false;
};

Task<> run_client(ClientRun& run) {
    Standing standing;
    standing.more_hosts = run.plan.yes("more_hosts");
    const auto stopped = co_await run.client.open();
    if (stopped) run.findings.lines.push_back(told("stopped", *stopped, standing));
    const int messages = stopped ? 0 : std::stoi(run.plan.value("messages", "1"));
    std::vector<std::uint32_t> recipients = run.message->items.front().recipients;
    for (int i = 1; i <= messages; ++i) {
        Verdicts verdicts(recipients.size());
        co_await run.client.deliver(*run.message, recipients, verdicts);
        standing.reused_untouched = i > 1 && run.client.untouched();
        for (std::size_t place = 0; place < verdicts.size(); ++place) {
            const std::string who = (i > 1 ? std::to_string(i) + "/" : std::string()) + std::to_string(place + 1);
            run.findings.lines.push_back(
                verdicts[place] ? told(who, *verdicts[place], standing) : who + " undecided");
            if (verdicts[place]) run.findings.lines.push_back(who + " words " + std::to_string(verdicts[place]->text.size()));
        }
    }
    run.findings.lines.push_back(std::string("usable ") + (run.client.usable() ? "yes" : "no"));
    run.findings.lines.push_back(std::string("authenticated ") + (run.client.authenticated() ? "yes" : "no"));
    if (run.plan.yes("quit")) {
        co_await run.client.quit();
    } else {
        co_await run.client.stream().close();
    }
    run.finished = true;
}

void play_file(const std::filesystem::path& file, std::size_t fragment) {
    SCOPED_TRACE(file.filename().string() + " at " + std::to_string(fragment));
    const Plan plan = read_plan(file);
    boost::asio::io_context loop(1);
    net::PipeOptions pipe;
    pipe.read_bytes_max = fragment;
    if (plan.keys.contains("capacity")) pipe.capacity_bytes = std::stoul(plan.value("capacity"));
    auto [ours, theirs] = net::make_pipe(loop.get_executor(), pipe);
    theirs->set_timeout(std::chrono::seconds(30));

    FakeLog log;
    SessionTerms terms;
    terms.lmtp = plan.yes("lmtp");
    terms.helo_name = "client.test";
    terms.credentials = {plan.value("user"), plan.value("password"), plan.value("auth_type")};
    if (plan.value("tls") == "mandatory") terms.tls = TlsMode::mandatory;
    if (plan.value("tls") == "opportunistic") terms.tls = TlsMode::opportunistic;
    if (terms.tls != TlsMode::off) terms.tls_context = net::TlsContext::client(net::TlsOptions()).value();
    ClientSession client(std::move(ours), terms, settings_of(plan), log, "1");
    ClientRun run{client, plan, message_of(plan), {}};
    ScriptedPeer peer(*theirs, plan.script);
    async::TaskGroup group(loop.get_executor());
    group.spawn(run_client(run));
    group.spawn(peer.play());
    loop.run();

    EXPECT_TRUE(run.finished && peer.finished);
    EXPECT_EQ(peer.trouble, "");
    for (const std::string& expected : plan.expected) {
        if (expected.starts_with("logged ")) {
            EXPECT_NE(log.starting_with(expected.substr(7)), "") << expected;
            continue;
        }
        const auto& lines = run.findings.lines;
        EXPECT_NE(std::find(lines.begin(), lines.end(), expected), lines.end())
            << "expected \"" << expected << "\"; found " << testing::PrintToString(lines);
    }
    for (const std::string& line : log.lines) {
        if (!plan.value("password").empty()) {
            EXPECT_EQ(line.find(plan.value("password")), std::string::npos) << line;
            EXPECT_EQ(line.find(base64_encode(plan.value("password"))), std::string::npos) << line;
        }
    }
}

std::vector<std::filesystem::path> transcripts() {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(SLUICE_TRANSCRIPTS "/client")) {
        if (entry.path().extension() == ".smtp") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
}

class Transcript : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(Transcript, PlaysAtEveryFragmentation) {
    // Some dialogues are about what arrives together.
    const bool together = read_plan(GetParam()).yes("together");
    for (const std::size_t fragment : {1UL, 2UL, 3UL, 7UL, 64UL, SIZE_MAX}) {
        if (fragment > 64 || !together) play_file(GetParam(), fragment);
    }
}

std::string name_of_case(const testing::TestParamInfo<std::filesystem::path>& info) {
    std::string name = info.param.stem().string();
    std::replace_if(name.begin(), name.end(), [](char c) { return !is_alnum(c); }, '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(Client, Transcript, testing::ValuesIn(transcripts()), name_of_case);

}  // namespace
}  // namespace sluice::delivery
