// Plays test/transcripts/server/*.smtp against a session over an in-memory stream, at several read sizes.
//
//   # text            what the dialogue shows
//   % name = value    a setting that differs from test_settings()
//   C: text           the client says this and CRLF; lines in a row go out in one write
//   R: text           the same without CRLF, for odd line ends
//   S: text           the next line of the server; '*' stands for the rest of it
//   S: ... text       the last line of the next reply
//   S: <closed>       the server closes
//   = what text       about the mail accepted so far, see check()
//
// In C and R: \r \n \t \0 \\ and \xNN, and {5000*x} for 5000 times x.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "base/text.h"
#include "net/pipe.h"
#include "reception/reception_test_support.h"

namespace sluice::reception {
namespace {

struct Step {
    char kind;  // one of % C R S =
    std::string text;
    int line;
};

struct Scene {
    config::Settings settings = test_settings();
    Patience patience = test_patience();
    net::PipeOptions pipe;
    net::Endpoint listener{net::IpAddress::v4(0x7F000001), 25};
    std::optional<std::string> refusing;
    std::uint32_t refusing_at = 0;  // only the question of this number; 0: all of them
    std::optional<Errc> failure;
};

std::string unescape(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto star = text[i] == '{' ? text.find('*', i) : std::string_view::npos;
        const auto count = star == std::string_view::npos
                               ? std::optional<std::size_t>()
                               : parse_number<std::size_t>(text.substr(i + 1, star - i - 1));
        if (const auto end = text.find('}', i); count && end != std::string_view::npos) {
            const std::string piece = unescape(text.substr(star + 1, end - star - 1));
            for (std::size_t n = 0; n < *count; ++n) out += piece;
            i = end;
        } else if (text[i] == '\\' && i + 1 < text.size()) {
            const char c = text[++i];
            if (c == 'x') {
                out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
                i += 2;
            } else {
                static const std::map<char, char> meaning{{'r', '\r'}, {'n', '\n'}, {'t', '\t'}, {'0', '\0'}, {'\\', '\\'}};
                out += meaning.at(c);
            }
        } else {
            out += text[i];
        }
    }
    return out;
}

std::vector<Step> read_steps(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::vector<Step> steps;
    std::string text;
    for (int line = 1; std::getline(file, text); ++line) {
        if (text.empty() || text.front() == '#') continue;
        const std::size_t skip = text[1] == ':' ? 2 : 1;
        std::string_view rest = std::string_view(text).substr(skip);
        if (rest.starts_with(' ')) rest.remove_prefix(1);
        steps.push_back({text.front(), std::string(rest), line});
    }
    return steps;
}

// The settings a transcript may name.
void apply_setting(Scene& scene, std::string_view text) {
    const std::size_t equals = text.find('=');
    const std::string name(trim(text.substr(0, equals)));
    const std::string value(trim(text.substr(equals + 1)));
    const auto number = [&value] { return parse_number<std::uint32_t>(value).value(); };
    const auto yes = [&value] { return value == "yes"; };
    auto& [settings, patience, pipe, listener, refusing, refusing_at, failure] = scene;
    auto& connection = settings.connection;
    const std::map<std::string, std::function<void()>> known{
        {"client", [&] { pipe.left.address = net::IpAddress::parse(value).value(); }},
        {"port", [&] { listener.port = static_cast<std::uint16_t>(number()); }},
        {"inactivity_timeout_ms", [&] { settings.smtp.inactivity_timeout = std::chrono::milliseconds(number()); }},
        {"connections_max", [&] { settings.smtp.connections_max = number(); }},
        {"message_bytes_max", [&] { connection.message_bytes_max = number(); }},
        {"data_line_max", [&] { connection.data_line_max = number(); }},
        {"recipients_max", [&] { connection.recipients_max = number(); }},
        {"errors_max", [&] { connection.errors_max = number(); }},
        {"messages_max", [&] { connection.messages_max = number(); }},
        {"received_max", [&] { connection.received_max = number(); }},
        {"header_lines_max", [&] { connection.header_lines_max = number(); }},
        {"header_bytes_max", [&] { connection.header_bytes_max = number(); }},
        {"add_received", [&] { connection.add_received = yes(); }},
        {"smtputf8", [&] { connection.smtputf8 = yes(); }},
        {"bare_eol", [&] { connection.strict_bare_eol = value == "refuse"; }},
        {"greeting", [&] { connection.greeting.push_back(value); }},
        {"close_message", [&] { connection.close_message = value; }},
        {"proxy_host", [&] { connection.proxy_hosts.push_back(value); }},
        {"constrain_sender_exact", [&] { connection.constrain_sender_addresses = yes(); }},
        {"user", [&] {
             const std::size_t colon = value.find(':');
             settings.auth.enabled = true;
             settings.auth.methods = {"CRAM-MD5", "PLAIN", "LOGIN"};
             settings.auth.users[value.substr(0, colon)] = value.substr(colon + 1);
         }},
        {"relay_all", [&] { settings.relay.all = yes(); }},
        {"relay_allow", [&] { settings.relay.acl_allow = {value}; }},
        {"destination", [&] {
             settings.relay.dest_domains = true;
             settings.relay.domains[value.substr(0, value.find(' '))].action = value.substr(value.find(' ') + 1);
         }},
        {"received_header", [&] { settings.outbound.received_header = value; }},
        {"always_split", [&] { settings.outbound.always_split = yes(); }},
        {"auth_failures_max", [&] { patience.auth_failures_max = number(); }},
        {"refusing", [&] { refusing = value; }},
        {"refusing_at", [&] { refusing_at = number(); }},
        {"accept_fails", [&] { failure = value == "disk_full" ? Errc::disk_full : Errc::disk_failed; }},
    };
    known.at(name)();
}

// The other end of the session.
class Player {
public:
    Player(net::StreamPtr stream, std::vector<Step> steps, FakeAcceptance& acceptance)
        : stream_(std::move(stream)), steps_(std::move(steps)), acceptance_(acceptance) {}

    Task<> play() {
        stream_->set_timeout(std::chrono::seconds(20));
        for (std::size_t i = 0; i < steps_.size() && problem_.empty(); ++i) {
            const Step& step = steps_[i];
            if (step.kind == 'C' || step.kind == 'R') {
                unsent_ += unescape(step.text) + (step.kind == 'C' ? "\r\n" : "");
                const bool goes_on = i + 1 < steps_.size() && (steps_[i + 1].kind == 'C' || steps_[i + 1].kind == 'R');
                if (!goes_on) co_await send();
            } else if (step.kind == 'S') {
                co_await hear(step);
            } else if (step.kind == '=') {
                check(step);
            }
        }
        co_await stream_->close();
    }
    const std::string& problem() const { return problem_; }

private:
    Task<> send() {
        // A session that has ended takes no more; what it said last is still to be read.
        co_await stream_->write(unsent_);
        unsent_.clear();
    }

    Task<> hear(const Step& step) {
        std::string_view wanted = step.text;
        const bool last = wanted.starts_with("... ");
        if (last) wanted.remove_prefix(4);
        std::string line = co_await next_line();
        while (last && line.size() > 3 && line[3] == '-') line = co_await next_line();
        const bool any_rest = wanted.ends_with('*');
        if (any_rest) wanted.remove_suffix(1);
        const bool matches = any_rest ? line.starts_with(wanted) : line == wanted;
        if (!matches) problem_ = "line " + std::to_string(step.line) + ": wanted '" + step.text + "', got '" + line + "'";
    }

    Task<std::string> next_line() {
        for (;;) {
            if (const std::size_t end = heard_.find("\r\n"); end != std::string::npos) {
                std::string line = heard_.substr(0, end);
                heard_.erase(0, end + 2);
                co_return line;
            }
            std::array<char, 4096> octets;
            const Result<std::size_t> count = co_await stream_->read_some(octets);
            if (!count) co_return heard_.empty() && count.error().code == Errc::link_closed ? "<closed>" : count.error().text();
            heard_.append(octets.data(), *count);
        }
    }

    void check(const Step& step) {
        const std::size_t blank = step.text.find(' ');
        const std::string what = step.text.substr(0, blank);
        const std::string wanted = blank == std::string::npos ? "" : unescape(step.text.substr(blank + 1));
        std::string got;
        bool matches = false;
        if (what == "messages") {
            got = std::to_string(acceptance_.messages.size());
            matches = got == wanted;
        } else if (acceptance_.messages.empty()) {
            got = "no message at all";
        } else {
            got = fact_of(*acceptance_.messages.back(), what);
            const bool contains = what == "trace" || what == "content_has";
            const bool lacks = what == "trace_lacks" || what == "content_lacks";
            const bool found = got.find(wanted) != std::string::npos;
            matches = contains ? found : lacks ? !found : got == wanted;
        }
        if (!matches) {
            problem_ = "line " + std::to_string(step.line) + ": wanted " + what + " '" + printable(wanted) + "', got '" +
                       printable(got) + "'";
        }
    }

    static std::string fact_of(const mail::Message& message, const std::string& what) {
        const mail::Envelope& envelope = message.envelope;
        if (what == "from") return "<" + envelope.reverse_path.text() + ">";
        if (what == "to") {
            std::string all;
            for (const mail::Recipient& one : envelope.recipients) all += (all.empty() ? "<" : " <") + one.address.text() + ">";
            return all;
        }
        if (what == "notify") return std::to_string(envelope.recipients.front().notify);
        if (what == "orcpt") return envelope.recipients.front().orcpt;
        if (what == "envid") return envelope.envid;
        if (what == "ret") return std::to_string(static_cast<int>(envelope.ret));
        if (what == "body") return std::to_string(static_cast<int>(envelope.body));
        if (what == "smtputf8") return envelope.smtputf8 ? "yes" : "no";
        if (what == "priority") return std::to_string(message.priority);
        if (what == "mt_priority") return envelope.mt_priority ? std::to_string(*envelope.mt_priority) : "none";
        if (what == "items") return std::to_string(message.items.size());
        if (what == "domain") return message.items.front().domain;
        if (what == "auth_user") return message.auth_user;
        if (what == "8bit") return message.traits.has_8bit ? "yes" : "no";
        if (what == "content_size") return std::to_string(message.content.size());
        if (what.starts_with("content")) return message.content;
        if (what.starts_with("trace")) return message.trace;
        return "unknown expectation";
    }

    net::StreamPtr stream_;
    std::vector<Step> steps_;
    FakeAcceptance& acceptance_;
    std::string unsent_, heard_, problem_;
};

std::string play(const std::filesystem::path& path, std::size_t read_bytes_max) {
    const std::vector<Step> steps = read_steps(path);
    Scene scene;
    scene.pipe.read_bytes_max = read_bytes_max;
    for (const Step& step : steps) {
        if (step.kind == '%') apply_setting(scene, step.text);
    }
    TestWorld world;
    world.acceptance.refusing = scene.refusing;
    world.acceptance.refusing_at = scene.refusing_at;
    world.acceptance.failure = scene.failure;
    const RulesPtr untuned = test_rules(scene.settings);
    if (!untuned) return "the settings do not make rules";
    auto rules = std::make_shared<Rules>(*untuned);
    rules->patience = scene.patience;

    auto [client_end, server_end] = net::make_pipe(world.shard.executor(), scene.pipe);
    Player player(std::move(client_end), steps, world.acceptance);
    Session session(world.surroundings(), world.census, rules, std::move(server_end), scene.listener);
    async::TaskGroup group(world.shard.executor());
    group.spawn(player.play());
    group.spawn(session.run());
    world.run(group);
    return player.problem();
}

std::vector<std::filesystem::path> transcripts() {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(SLUICE_TRANSCRIPTS "/server")) {
        if (entry.path().extension() == ".smtp") paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

class Transcript : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(Transcript, PlaysAtEveryReadSize) {
    for (const std::size_t read_bytes_max : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7}, std::size_t{64}, SIZE_MAX}) {
        EXPECT_EQ(play(GetParam(), read_bytes_max), "") << "reading " << read_bytes_max << " octets at a time";
    }
}

std::string test_name(const testing::TestParamInfo<std::filesystem::path>& info) {
    std::string name = info.param.stem().string();
    std::replace_if(name.begin(), name.end(), [](char c) { return !is_alnum(c); }, '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(Server, Transcript, testing::ValuesIn(transcripts()), test_name);

}  // namespace
}  // namespace sluice::reception
