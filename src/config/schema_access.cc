#include <boost/json.hpp>

#include "base/text.h"
#include "config/next_hop.h"
#include "config/schema.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

// One method of AUTH that is known here.
std::optional<std::string> auth_method(std::string_view text) {
    for (const std::string_view known : {"CRAM-MD5", "PLAIN", "LOGIN"}) {
        if (iequals(known, text)) return std::string(known);
    }
    return std::nullopt;
}

// About an entry of a section, without its value: that may hold a password.
Complaint about(const Value& entry, std::string expected) {
    Complaint complaint(entry.line, "", std::move(expected));
    complaint.name = entry.name;
    return complaint;
}

Kind users() {
    Kind kind;
    kind.words = "section of `name=password`, one a line";
    kind.secret = true;
    kind.assign = [](Settings& settings, const Values& given) {
        Complaints complaints;
        for (const Value& entry : given) {
            if (entry.text.empty()) {
                // Not even its name: that may be a password, or a name and a password without `=`.
                complaints.emplace_back(entry.line, "", "`name=password`");
                complaints.back().mild = true;
                complaints.back().consequence = "a user without password cannot log in";
            } else {
                settings.auth.users[entry.name] = entry.text;
            }
        }
        return complaints;
    };
    kind.show = [](const Settings& settings) {
        std::string out;
        for (const auto& [name, password] : settings.auth.users)
            out += name + "=" + password + "\n";
        return out;
    };
    return kind;
}

// {"action":"accept|continue|deny","nexthop":"..."}: the rule, and a complaint about what does not fit.
class RuleReader {
public:
    explicit RuleReader(const Value& entry) : entry_(entry) {}

    DestinationRule read() {
        boost::json::error_code error;
        const boost::json::value json = boost::json::parse(entry_.text, error);
        if (error || !json.is_object()) {
            expect("JSON such as {\"action\":\"accept\",\"nexthop\":\"192.0.2.1:25\"}");
            return rule_;
        }
        for (const auto& [name, value] : json.get_object())
            take(name, value);
        return rule_;
    }
    Complaints complaints;

private:
    void take(std::string_view name, const boost::json::value& value) {
        const boost::json::string* text = value.if_string();
        if (name == "action") {
            const std::string_view action = text ? std::string_view(*text) : "";
            if (action != "accept" && action != "continue" && action != "deny") {
                return expect("`action` to be one of `accept`, `continue`, `deny`");
            }
            rule_.action = action;
        } else if (name == "nexthop") {
            if (!text) return expect("`nexthop` to be a string");
            if (text->empty()) return;
            const auto hop = parse_next_hop(*text);
            if (!hop) return expect("`nexthop` to have " + hop.error().detail);
            rule_.nexthop = trim(*text);
        } else {
            complaints.push_back(about(entry_, "only `action` and `nexthop`"));
            complaints.back().mild = true;
            complaints.back().text = name;
        }
    }
    void expect(std::string what) { complaints.push_back(about(entry_, std::move(what))); }

    const Value& entry_;
    DestinationRule rule_;
};

Kind domains() {
    Kind kind;
    kind.words = "section of `domain={\"action\":…,\"nexthop\":…}`, one a line";
    kind.secret = true;  // a next hop may carry a password
    kind.assign = [](Settings& settings, const Values& given) {
        Complaints complaints;
        for (const Value& entry : given) {
            RuleReader reader(entry);
            DestinationRule rule = reader.read();
            const std::string domain = to_lower(entry.name);
            const bool literal = domain.starts_with('[') && domain.ends_with(']');
            if (domain == "any") {
                settings.relay.any = std::move(rule);
            } else if (literal || is_host_name(domain)) {
                settings.relay.domains[domain] = std::move(rule);
            } else {
                complaints.push_back(about(entry, "a domain or `any`"));
            }
            complaints.insert(complaints.end(), reader.complaints.begin(), reader.complaints.end());
        }
        return complaints;
    };
    kind.show = [](const Settings& settings) {
        std::string out;
        const auto add = [&](const std::string& domain, const DestinationRule& rule) {
            out += domain + " " + rule.action + " " + rule.nexthop + "\n";
        };
        for (const auto& [domain, rule] : settings.relay.domains)
            add(domain, rule);
        if (settings.relay.any) add("any", *settings.relay.any);
        return out;
    };
    return kind;
}

void add_auth(std::vector<Setting>& table) {
    const Section core("auth_flat_file.ini", "core");
    table.insert(
        table.end(),
        {
            lenient(core.live(
                "methods",
                list(
                    at(&Settings::auth, &AuthSettings::methods), "`CRAM-MD5`, `PLAIN` or `LOGIN`", auth_method
                ),
                "Methods of AUTH, offered over TLS and to private addresses."
            )),
            core.live(
                "constrain_sender", truth(at(&Settings::auth, &AuthSettings::constrain_sender)),
                "The organisational domain of the reverse-path must be the login's."
            ),
            Section("auth_flat_file.ini", "users")
                .live("", users(), "Who may log in. Passwords are in clear: keep the file private."),
        }
    );
}

void add_relay(std::vector<Setting>& table) {
    using R = RelaySettings;
    const Section relay("relay.ini", "relay");
    table.insert(
        table.end(),
        {
            relay.live(
                "acl", truth(at(&Settings::relay, &R::acl)), "Clients listed in relay_acl_allow may relay."
            ),
            relay.live(
                "force_routing", truth(at(&Settings::relay, &R::force_routing)),
                "relay_dest_domains.ini says where mail goes."
            ),
            relay.live(
                "all", truth(at(&Settings::relay, &R::all)),
                "Everybody may relay: an open relay. Never set it on the Internet."
            ),
            relay.live(
                "dest_domains", truth(at(&Settings::relay, &R::dest_domains)),
                "relay_dest_domains.ini says to which domains mail is accepted from anybody."
            ),
            whole_file(
                "relay_acl_allow", Format::list,
                list(
                    at(&Settings::relay, &R::acl_allow), "an address or `address/prefix`",
                    [](std::string_view line) { return parse_cidr(trim(line.substr(0, line.find('#')))); }
                ),
                Effect::live, "Clients that may relay, one a line. An address without prefix is one host. What follows a `#` is a comment."
            ),
            Section("relay_dest_domains.ini", "domains")
                .live(
                    "", domains(),
                    "Rules by recipient domain; `any` routes all others. `action`: `accept`, `continue` or "
                    "`deny` with `dest_domains`. `nexthop`: "
                    "`host`, `host:port`, an address, `smtp://user:password@host:port`, `lmtp://host:port` "
                    "or a socket's path; without it DNS decides."
                ),
        }
    );
}

void add_http(std::vector<Setting>& table) {
    const Section main("http.ini", "main");
    table.insert(
        table.end(),
        {
            main.restart(
                "listen",
                list(
                    at(&Settings::http, &HttpSettings::listen),
                    "`address:port`, `[IPv6]:port` or a socket's path",
                    [](std::string_view text) -> std::optional<std::string> {
                        const auto endpoint = parse_endpoint(text, 80);
                        if (!endpoint) return std::nullopt;
                        return endpoint->text();
                    }
                ),
                "Where the control API is served besides DIR/run/control.sock. Beyond loopback a `token` is "
                "required."
            ),
            main.live(
                "token", secret(at(&Settings::http, &HttpSettings::token)),
                "Clients on TCP must send it as `Authorization: Bearer …`; 16 characters at least."
            ),
            main.none("docroot", "No files are served."),
        }
    );
}

}  // namespace

std::vector<Setting> access_schema() {
    std::vector<Setting> table;
    add_auth(table);
    add_relay(table);
    add_http(table);
    return table;
}

}  // namespace sluice::config
