#include "config/checks.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/text.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

std::string host_name() {
    std::array<char, 256> name{};
    if (gethostname(name.data(), name.size() - 1) != 0 || !is_host_name(name.data())) return "localhost";
    return to_lower(name.data());
}

// Whether the control API may be served there without a token.
bool is_local(const std::string& listener) {
    const auto endpoint = parse_endpoint(listener, 80);
    return endpoint && (!endpoint->path.empty() || is_loopback_ip(endpoint->host));
}

// Whether the system knows for certain that it has no such entry: one that cannot be asked now may well have it.
template <class Entry, class Ask>
bool is_unknown(const std::string& name, Ask ask) {
    std::array<char, 16'384> room{};
    Entry entry{};
    Entry* found = nullptr;
    return !name.empty() && ask(name.c_str(), &entry, room.data(), room.size(), &found) == 0 && found == nullptr;
}

// Whether a line of the file, its comment apart, is a record that can be trusted.
bool holds_trust_anchor(std::string_view text) {
    for (const std::string_view line : split(text, '\n')) {
        std::string words(line.substr(0, line.find(';')));
        std::replace(words.begin(), words.end(), '\t', ' ');
        for (const std::string_view word : split(words, ' ')) {
            if (iequals(word, "DS") || iequals(word, "DNSKEY")) return true;
        }
    }
    return false;
}

bool admits_everybody(const std::string& cidr) {
    return cidr.ends_with("/0");
}

}  // namespace

void settle_listeners(Settings& settings, const Sources& sources, Problems& problems) {
    const std::string file = "smtp.ini";
    const Values host = sources.given(file, "main", "listen_host");
    const Values port = sources.given(file, "main", "port");
    // Haraka, too, ignores the host without a port.
    if (port.empty() || port.back().text.empty() || port.back().text == "0") return;
    const std::string address = host.empty() || host.back().text.empty() ? "[::0]" : host.back().text;
    const bool bare_ipv6 = is_ip(address) && !is_ipv4(address);
    const auto endpoint =
        parse_endpoint((bare_ipv6 ? "[" + address + "]" : address) + ":" + port.back().text, 25);
    if (!endpoint) {
        problems.error(
            shown_name(file), port.back().line,
            "listen_host and port: expected an address and a port, found " +
                printable(address + ":" + port.back().text)
        );
        return;
    }
    std::vector<std::string>& listen = settings.smtp.listen;
    if (sources.given(file, "main", "listen").empty()) listen.clear();
    listen.insert(listen.begin(), endpoint->text());
}

void settle_me(Settings& settings, const Sources& sources, Problems& problems) {
    const Values lines = sources.lines("me");
    const bool refused = settings.me.empty() && !lines.empty();  // that was reported already
    if (settings.me.empty()) settings.me = host_name();
    if (refused || settings.me.find('.') != std::string::npos) return;
    problems.warning(
        shown_name("me"), lines.empty() ? 0 : lines.front().line,
        "the primary host name `" + settings.me +
            "` has no domain: expected a name such as mail.example.com that resolves to this host"
    );
}

void check_user(const Settings& settings, const Sources& sources, Problems& problems) {
    const auto report = [&](const std::string& key, const std::string& name) {
        const std::string file = "smtp.ini";
        const int line = sources.line_of(file, "main", key);
        const std::string message = key + ": this system has no " + key + " `" + printable(name) + "`";
        if (geteuid() == 0) problems.error(shown_name(file), line, message);
        else problems.warning(shown_name(file), line, message + "; the engine does not start as root");
    };
    const SmtpSettings& smtp = settings.smtp;
    if (is_unknown<passwd>(smtp.user, getpwnam_r)) report("user", smtp.user);
    if (is_unknown<group>(smtp.group, getgrnam_r)) report("group", smtp.group);
}

void check_trust_anchors(const Settings& settings, const Sources& sources, Problems& problems) {
    constexpr std::size_t bytes_max = 1 << 20;
    const std::string& path = settings.dns.trust_anchor_file;
    if (path.empty()) return;
    const auto text = read_text(path, bytes_max);
    std::string trouble;
    if (!path.starts_with('/')) trouble = "expected an absolute path, found `" + printable(path) + "`";
    else if (!text) trouble = printable(path) + " " + text.error().detail;
    else if (!*text) trouble = printable(path) + " does not exist";
    else if (!holds_trust_anchor(**text)) trouble = printable(path) + " holds no DS or DNSKEY record";
    if (trouble.empty()) return;
    const std::string file = "net-utils.ini";
    problems.error(shown_name(file), sources.line_of(file, "dns", "trust_anchor_file"), "trust_anchor_file: " + trouble);
}

void check_plugin_host(const Settings& settings, const Sources& sources, Problems& problems) {
    if (settings.javascript_plugins.empty()) return;
    const auto report = [&](const std::string& key, const std::string& trouble) {
        const std::string file = "plugin_host.ini";
        problems.warning(
            shown_name(file), sources.line_of(file, "main", key), key + ": " + trouble + "; mail that plugins decide about waits"
        );
    };
    // A bare name is looked for in the PATH of the engine, which need not be ours.
    const std::string& node = settings.plugin_host.node;
    const std::string& folder = settings.plugin_host.folder;
    std::error_code ignored;
    const bool path = node.find('/') != std::string::npos;
    const bool program = std::filesystem::is_regular_file(node, ignored) && access(node.c_str(), X_OK) == 0;
    if (path && !program) report("node", printable(node) + " is no program that can be run");
    if (!folder.empty() && !std::filesystem::is_regular_file(folder + "/index.js", ignored)) {
        report("folder", printable(folder) + " does not hold the package sluice-plugin-host");
    }
}

void settle_spool(Settings& settings, const Sources& sources, Problems& problems) {
    std::string& directory = settings.spool.directory;
    if (directory.empty()) directory = "queue";
    if (!directory.starts_with('/')) directory = settings.directory + "/" + directory;
    directory = std::filesystem::path(directory).lexically_normal().string();
    std::error_code ignored;
    const auto status = std::filesystem::status(directory, ignored);
    if (std::filesystem::exists(status) && !std::filesystem::is_directory(status)) {
        const Values lines = sources.lines("queue_dir");
        problems.error(
            shown_name("queue_dir"), lines.empty() ? 0 : lines.front().line,
            "expected a folder for the journal, found a file: " + directory
        );
    }
}

void settle_auth(
    Settings& settings, const NativePlugins& plugins, const Sources& sources, Problems& problems
) {
    AuthSettings& auth = settings.auth;
    const std::string file = "auth_flat_file.ini";
    if (!plugins.auth) {
        if (!auth.users.empty() && !plugins.runs("auth/flat_file")) {
            problems.warning(
                shown_name(file), 0, "has no effect: plugin `auth/flat_file` is not listed in config/plugins"
            );
        }
        auth = AuthSettings();
        return;
    }
    auth.enabled = true;
    if (auth.methods.empty()) {
        problems.warning(
            shown_name(file), sources.line_of(file, "core", "methods"),
            "AUTH is not offered: expected `methods` in [core], such as methods=PLAIN,LOGIN,CRAM-MD5"
        );
    }
    if (auth.users.empty()) {
        problems.warning(shown_name(file), 0, "nobody can log in: expected `name=password` lines in [users]");
    }
}

void settle_relay(
    Settings& settings, const NativePlugins& plugins, const Sources& sources, Problems& problems
) {
    RelaySettings& relay = settings.relay;
    if (!plugins.relay) {
        for (const char* file : {"relay.ini", "relay_acl_allow", "relay_dest_domains.ini"}) {
            if (!sources.has(file) || plugins.runs("relay")) continue;
            problems.warning(
                shown_name(file), 0, "has no effect: plugin `relay` is not listed in config/plugins"
            );
        }
        relay = RelaySettings();
        return;
    }
    // What is switched off leaves nothing behind that a reader of the settings could take for a rule.
    if (!relay.acl) relay.acl_allow.clear();
    if (!relay.force_routing) {
        relay.any.reset();
        for (auto& [domain, rule] : relay.domains)
            rule.nexthop.clear();
    }
    if (relay.all) {
        problems.warning(
            shown_name("relay.ini"), sources.line_of("relay.ini", "relay", "all"),
            "everybody may relay: this is an open relay"
        );
    }
    const Values lines = sources.lines("relay_acl_allow");
    for (const Value& line : lines) {
        if (!relay.acl || !admits_everybody(line.text)) continue;
        problems.warning(
            shown_name("relay_acl_allow"), line.line, line.text + " admits everybody: this is an open relay"
        );
    }
}

void settle_http(Settings& settings, const Sources& sources, Problems& problems) {
    constexpr std::size_t token_length_min = 16;
    HttpSettings& http = settings.http;
    const std::string file = "http.ini";
    if (!http.token.empty() && http.token.size() < token_length_min) {
        problems.error(
            shown_name(file), sources.line_of(file, "main", "token"),
            "token: expected at least 16 characters, found " + std::to_string(http.token.size())
        );
    }
    if (!http.token.empty()) return;
    // A Haraka instance may have its web server on any address; the control API must not appear there
    // unprotected.
    std::erase_if(http.listen, [&](const std::string& listener) {
        if (is_local(listener)) return false;
        problems.warning(
            shown_name(file), sources.line_of(file, "main", "listen"),
            "listen = " + listener +
                ": expected a `token` for an address beyond loopback; the control API is not served there"
        );
        return true;
    });
}

}  // namespace sluice::config
