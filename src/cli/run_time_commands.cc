// Conditions and suspensions of a running engine.

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

const char* const conditions_path = "/v1/policy/conditions";
const char* const suspensions_path = "/v1/suspensions";

// What both kinds can be given.
struct Common {
    std::vector<std::string> tests, properties;
    std::string id, ttl, tag, author, reason;
    bool dry_run = false;
};

// Nobody else runs yet who could change the environment.
std::string usual_author() {
    const char* const name = std::getenv("USER");
    return name != nullptr ? name : "";
}

void add_common_options(CLI::App& command, Common& common) {
    command.add_option("--if", common.tests, "FIELD=PATTERN; may be repeated: several patterns of a field mean any, several fields all")
        ->allow_extra_args(false)
        ->take_all();
    command.add_option("--id", common.id, "replaces the one with this id");
    command.add_option("--ttl", common.ttl, "how long: seconds, or as 5m, 2h, 1d");
    command.add_option("--tag", common.tag, "a word for people and hooks");
    command.add_option("--property", common.properties, "KEY=VALUE; may be repeated")->allow_extra_args(false)->take_all();
    command.add_option("--reason", common.reason, "why");
    command.add_option("--author", common.author, "who (default: $USER)");
    command.add_flag("--dry-run", common.dry_run, "only tell what it would match now");
}

// KEY=VALUE pairs as an object; of the same key several times a list.
Result<json::object> pairs_of(const std::vector<std::string>& words, const char* option) {
    json::object pairs;
    for (const std::string& word : words) {
        const std::size_t equals = word.find('=');
        if (equals == std::string::npos || equals == 0) {
            return fail(Errc::bad_input, std::string(option) + ": NAME=VALUE is expected, found `" + printable(word) + "`");
        }
        const std::string key = word.substr(0, equals);
        json::value value(word.substr(equals + 1));
        if (!pairs.contains(key)) {
            pairs[key] = std::move(value);
        } else {
            if (!pairs[key].is_array()) pairs[key] = json::array{pairs[key]};
            pairs[key].as_array().push_back(std::move(value));
        }
    }
    return pairs;
}

// "90", "5m", "2h", "1d".
Result<double> seconds_of(const std::string& text) {
    std::string_view digits = text;
    double unit = 1;
    if (!digits.empty()) {
        const char last = digits.back();
        if (last == 's' || last == 'm' || last == 'h' || last == 'd') digits.remove_suffix(1);
        unit = last == 'm' ? 60 : last == 'h' ? 3'600 : last == 'd' ? 86'400 : 1;
    }
    const auto number = parse_number<double>(digits);
    if (!number) return fail(Errc::bad_input, "--ttl: seconds are expected, or as 5m, 2h, 1d, found `" + printable(text) + "`");
    return *number * unit;
}

// Puts into `body` what both kinds have at the top.
Result<> put_common(const Common& common, json::object& body) {
    if (!common.id.empty()) body["id"] = common.id;
    if (!common.ttl.empty()) {
        TRY(const double seconds, seconds_of(common.ttl));
        body["ttl"] = seconds;
    }
    const std::string author = common.author.empty() ? usual_author() : common.author;
    if (!author.empty()) body["author"] = author;
    if (!common.reason.empty()) body["reason"] = common.reason;
    if (common.dry_run) body["dry_run"] = true;
    return {};
}

Result<> put_remarks(const Common& common, json::object& into) {
    if (!common.tag.empty()) into["tag"] = common.tag;
    TRY(json::object properties, pairs_of(common.properties, "--property"));
    if (!properties.empty()) into["properties"] = std::move(properties);
    return {};
}

std::string counted(const json::object& object, const char* key, const char* one, const char* many) {
    const std::string number = member(object, key);
    return number + " " + (number == "1" ? one : many);
}

void send(Session& session, const char* path, const char* kind, const Result<json::object>& body) {
    if (!body) return session.fail_with(body.error());
    const Result<json::value> answer = session.client().post_json(path, *body);
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    const json::object& reply = answer->as_object();
    if (const json::value* const matches = reply.if_contains("matches")) {
        const json::object& reach = matches->as_object();
        const std::string buckets = std::string_view(kind) == "condition" ? counted(reach, "buckets", "bucket", "buckets") + ", " : "";
        const char* const at_least = reach.at("at_least").as_bool() ? "at least " : "";
        std::printf("matches %s%s%s\n", buckets.c_str(), at_least, counted(reach, "waiting", "waiting message", "waiting messages").c_str());
        return;
    }
    std::printf("%s %s %s\n", kind, member(reply, "id").c_str(), reply.at("updated").as_bool() ? "updated" : "added");
}

struct Removal {
    std::string id, author, reason;
};

void add_removal(CLI::App& parent, Session& session, const char* name, const char* description, std::string path, bool with_id) {
    const auto removal = std::make_shared<Removal>();
    CLI::App* command = parent.add_subcommand(name, description);
    if (with_id) command->add_option("ID", removal->id, "its id")->required();
    command->add_option("--reason", removal->reason, "why");
    command->add_option("--author", removal->author, "who (default: $USER)");
    command->callback([removal, path = std::move(path), with_id, &session] {
        json::object body;
        if (with_id) body["id"] = removal->id;
        const std::string author = removal->author.empty() ? usual_author() : removal->author;
        if (!author.empty()) body["author"] = author;
        if (!removal->reason.empty()) body["reason"] = removal->reason;
        const Result<json::value> answer = session.client().post_json(path, body);
        if (!answer) return session.fail_with(answer.error());
        if (session.json) Session::print_json(*answer);
    });
}

std::string or_dash(std::string text) { return text.empty() ? "-" : text; }

void print_rest(const json::object& answer, std::size_t shown) {
    const auto total = static_cast<std::size_t>(answer.at("total").as_int64());
    if (total > shown) std::printf("and %zu more\n", total - shown);
}

// ---- conditions ------------------------------------------------------------------------------------------------

struct ConditionOptions {
    Common common;
    std::vector<std::string> rates;
    std::string kind, policy, connect_interval, transport;
    std::optional<std::uint64_t> concurrency, messages, bytes;
    bool fixed_window = false;
};

// "N" or "N/SECONDS", as the policy file would say it; one of several must not look like a plain number, which would make the list a single rate.
json::value rate_of(const std::string& text, bool fixed_window, bool one_of_several) {
    const std::size_t slash = text.find('/');
    const bool is_plain = slash == std::string::npos;
    if (!fixed_window) return json::value(is_plain && one_of_several ? text + "/1" : text);
    return json::object{
        {"count", text.substr(0, slash)}, {"interval", is_plain ? "1" : text.substr(slash + 1)}, {"algorithm", "fixedwindow"}};
}

Result<json::object> body_of(const ConditionOptions& options) {
    json::object body, then;
    TRY_VOID(put_common(options.common, body));
    TRY(json::object tests, pairs_of(options.common.tests, "--if"));
    if (!tests.empty()) body["if"] = std::move(tests);
    if (!options.kind.empty()) body["class"] = options.kind;
    if (!options.policy.empty()) body["policy"] = options.policy;
    if (options.fixed_window && options.rates.empty()) return fail(Errc::bad_input, "--fixed-window is about rates: expected --rate beside it");
    if (options.rates.size() == 1) then["rate"] = rate_of(options.rates.front(), options.fixed_window, false);
    if (options.rates.size() > 1) {
        json::array rates;
        for (const std::string& rate : options.rates) rates.push_back(rate_of(rate, options.fixed_window, true));
        then["rate"] = std::move(rates);
    }
    if (!options.transport.empty()) then["transport"] = options.transport;
    if (options.concurrency) then["concurrency"] = *options.concurrency;
    if (!options.connect_interval.empty()) then["connectinterval"] = options.connect_interval;
    if (options.messages) then["messages_per_connection"] = *options.messages;
    if (options.bytes) then["bytes_per_second"] = *options.bytes;
    TRY_VOID(put_remarks(options.common, then));
    body["then"] = std::move(then);
    return body;
}

void list_conditions(Session& session) {
    const Result<json::value> answer = session.client().get_json(conditions_path);
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    std::vector<std::vector<std::string>> rows{{"ID", "CLASS", "MATCH", "LIMITS", "UNTIL", "BUCKETS", "BY", "REASON"}};
    const json::array& list = answer->at("conditions").as_array();
    for (const json::value& value : list) {
        const json::object& one = value.as_object();
        rows.push_back({member(one, "id"), member(one, "class"), member(one, "match"), member(one, "limits"), or_dash(member(one, "expires")),
                        one.at("idle").as_bool() ? "idle: no such policy" : member(one, "buckets"), or_dash(member(one, "author")),
                        or_dash(member(one, "reason"))});
    }
    print_table(rows);
    print_rest(answer->as_object(), list.size());
}

// ---- suspensions -----------------------------------------------------------------------------------------------

struct SuspensionOptions {
    Common common;
    std::optional<double> percent;
    std::vector<std::string> windows;
    bool new_connections_only = false, all = false;
};

Result<json::object> body_of(const SuspensionOptions& options) {
    if (options.common.tests.empty() != options.all) {
        return fail(Errc::bad_input, options.all ? "--all and --if exclude each other" : "--if is expected, or --all for everything");
    }
    TRY(json::object body, pairs_of(options.common.tests, "--if"));
    TRY_VOID(put_common(options.common, body));
    TRY_VOID(put_remarks(options.common, body));
    if (options.percent) body["percent"] = *options.percent;
    if (!options.windows.empty()) {
        json::array windows;
        for (const std::string& window : options.windows) windows.emplace_back(window);
        body["cron"] = std::move(windows);
    }
    if (options.new_connections_only) body["new_connections_only"] = true;
    return body;
}

std::string kind_of(const json::object& suspension) {
    std::string kind = suspension.at("percent").to_number<double>() < 100 ? json::serialize(suspension.at("percent")) + " %" : "all";
    if (suspension.contains("new_connections_only")) kind += ", new connections";
    return kind;
}

void list_suspensions(Session& session) {
    const Result<json::value> answer = session.client().get_json(suspensions_path);
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    std::vector<std::vector<std::string>> rows{{"ID", "FROM", "NOW", "MATCH", "OF IT", "UNTIL", "LANES", "BY", "REASON"}};
    const json::array& list = answer->at("suspensions").as_array();
    for (const json::value& value : list) {
        const json::object& one = value.as_object();
        rows.push_back({member(one, "id"), member(one, "from"), one.at("in_force").as_bool() ? "in force" : "not in force", member(one, "match"),
                        kind_of(one), or_dash(member(one, "expires")), member(one, "lanes"), or_dash(member(one, "author")),
                        or_dash(member(one, "reason"))});
    }
    print_table(rows);
    print_rest(answer->as_object(), list.size());
}

}  // namespace

void add_condition_commands(CLI::App& policy, Session& session) {
    const auto options = std::make_shared<ConditionOptions>();
    CLI::App* add = policy.add_subcommand("add", "override the limits of the buckets that match; exit code 0 means that it survives restarts");
    add_common_options(*add, options->common);
    add->add_option("--rate", options->rates, "N a second, or N/SECONDS; may be repeated")->allow_extra_args(false)->take_all();
    add->add_flag("--fixed-window", options->fixed_window, "of each rate: as fast as they come, then none until the interval has passed");
    add->add_option("--concurrency", options->concurrency, "sessions at once");
    add->add_option("--transport", options->transport, "mail goes out from the addresses of this one");
    add->add_option("--connect-interval", options->connect_interval, "seconds between the openings of two sessions");
    add->add_option("--messages-per-connection", options->messages, "then the session is closed");
    add->add_option("--bytes-per-second", options->bytes, "octets of the messages that start");
    add->add_option("--class", options->kind, "ordinary, warm_up or back_off; the last comes first");
    add->add_option("--policy", options->policy, "name of the policy that is meant, where the fields do not tell");
    add->callback([options, &session] { send(session, conditions_path, "condition", body_of(*options)); });
    policy.add_subcommand("list", "conditions of run time")->callback([&session] { list_conditions(session); });
    add_removal(policy, session, "delete", "remove a condition of run time", std::string(conditions_path) + "/delete", true);
}

void add_suspend_commands(CLI::App& app, Session& session) {
    CLI::App* suspend = app.add_subcommand("suspend", "stop deliveries for a time");
    suspend->require_subcommand(1);
    suspend->fallthrough();
    const auto options = std::make_shared<SuspensionOptions>();
    CLI::App* add = suspend->add_subcommand("add", "suspend what matches; exit code 0 means that it survives restarts");
    add_common_options(*add, options->common);
    add->add_flag("--all", options->all, "everything");
    add->add_option("--percent", options->percent, "of the messages; the others pass");
    add->add_option("--cron", options->windows, "only in these minutes, as '* 9-16 * * 1-5' (UTC); may be repeated")->allow_extra_args(false)->take_all();
    add->add_flag("--new-connections-only", options->new_connections_only, "sessions that are open go on");
    add->callback([options, &session] { send(session, suspensions_path, "suspension", body_of(*options)); });
    suspend->add_subcommand("list", "suspensions, those of suspend.yaml too")->callback([&session] { list_suspensions(session); });
    add_removal(*suspend, session, "delete", "remove a suspension that is not in suspend.yaml", std::string(suspensions_path) + "/delete", true);
    add_removal(*suspend, session, "resume", "begin after a start with start_suspended", std::string(suspensions_path) + "/resume", false);
}

}  // namespace sluice::cli
