// Questions about the whole queue: counts, its shape, buckets, and why.

#include <boost/json/array.hpp>
#include <cstdio>
#include <memory>
#include <utility>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/table.h"

namespace sluice::cli {
namespace {

namespace json = boost::json;

struct SurveyOptions {
    std::string by, where;
    std::size_t limit = 50;
    bool next = false;
};

std::string target_of(const SurveyOptions& options) {
    std::string target = "/v1/queue/groups?limit=" + std::to_string(options.limit);
    if (!options.by.empty()) target += "&by=" + percent_encode(options.by);
    if (!options.where.empty()) target += "&where=" + percent_encode(options.where);
    return target;
}

// One row for all and one for each group; `cells` says what is shown of it.
template <class Cells>
void print_groups(const json::object& report, std::vector<std::string> heads, Cells cells) {
    std::vector<std::vector<std::string>> rows;
    std::vector<std::string> names;
    for (const json::value& name : report.at("by").as_array()) names.push_back(to_upper(text_of(name)));
    if (names.empty()) names.emplace_back("QUEUE");
    const auto add = [&](std::vector<std::string> row, const json::object& group) {
        for (std::string& cell : cells(group)) row.push_back(std::move(cell));
        rows.push_back(std::move(row));
    };
    rows.push_back(names);
    rows.back().insert(rows.back().end(), heads.begin(), heads.end());
    std::vector<std::string> all(names.size());
    all.front() = "(all)";
    add(std::move(all), report.at("total").as_object());
    for (const json::value& value : report.at("groups").as_array()) {
        const json::object& group = value.as_object();
        std::vector<std::string> row;
        for (const json::value& text : group.at("key").as_array()) row.push_back(printable(text_of(text)));
        if (!row.empty()) add(std::move(row), group);
    }
    print_table(rows);
    const std::string more = member(report, "groups_more");
    if (more != "0") std::fprintf(stderr, "%s more groups: see --limit\n", more.c_str());
}

void count(Session& session, const SurveyOptions& options) {
    const Result<json::value> answer = session.client().get_json(target_of(options));
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    const auto cells = [](const json::object& group) {
        std::vector<std::string> row;
        for (const char* key : {"items", "scheduled", "ready", "sending", "held", "recipients", "octets", "oldest"}) row.push_back(member(group, key));
        return row;
    };
    print_groups(answer->as_object(), {"ITEMS", "SCHEDULED", "READY", "SENDING", "HELD", "RECIPIENTS", "OCTETS", "OLDEST"}, cells);
}

// "age>=1m age<5m" as the head of a column: "<5m".
std::string interval_head(const std::string& where) {
    const std::size_t less = where.find('<');
    if (less != std::string::npos) return where.substr(less);
    return where.substr(where.find('>'));
}

void shape(Session& session, const SurveyOptions& options) {
    const Result<json::value> answer = session.client().get_json(target_of(options));
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    const json::object& report = answer->as_object();
    std::vector<std::string> heads{"ITEMS"};
    for (const json::value& where : report.at(options.next ? "next_intervals" : "age_intervals").as_array()) {
        heads.push_back((options.next ? "NEXT" : "AGE") + interval_head(text_of(where)));
    }
    const auto cells = [&options](const json::object& group) {
        std::vector<std::string> row{member(group, "items")};
        for (const json::value& items : group.at(options.next ? "nexts" : "ages").as_array()) {
            const std::string number = text_of(items);
            row.push_back(number == "0" ? "." : number);
        }
        return row;
    };
    print_groups(report, std::move(heads), cells);
}

struct BucketOptions {
    std::string policy, part;
    bool waiting = false;
    std::size_t limit = 100;
};

void buckets(Session& session, const BucketOptions& options) {
    std::string target = "/v1/buckets?limit=" + std::to_string(options.limit);
    if (!options.policy.empty()) target += "&policy=" + percent_encode(options.policy);
    if (!options.part.empty()) target += "&part=" + percent_encode(options.part);
    if (options.waiting) target += "&waiting=true";
    const Result<json::value> answer = session.client().get_json(target);
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    std::vector<std::vector<std::string>> rows{{"BUCKET", "USED", "IDLE", "WAITING", "BLOCKED", "OPENS", "LIMITS"}};
    for (const json::value& value : answer->as_object().at("buckets").as_array()) {
        const json::object& bucket = value.as_object();
        const std::string limit = member(bucket, "concurrency");
        const std::string blocked = member(bucket, "blocked");
        rows.push_back({member(bucket, "name"), member(bucket, "used") + (limit == "0" ? "" : "/" + limit), member(bucket, "idle"),
                        member(bucket, "waiting"), blocked == "none" ? "" : blocked, member(bucket, "opens"), member(bucket, "limits")});
    }
    print_table(rows);
    if (answer->as_object().contains("cursor")) std::fputs("more buckets: see --limit, --policy, --part\n", stderr);
}

void explain(Session& session, const std::string& what) {
    const Result<json::value> answer = session.client().get_json("/v1/explain?what=" + percent_encode(what));
    if (!answer) return session.fail_with(answer.error());
    if (session.json) return Session::print_json(*answer);
    bool first = true;
    for (const json::value& one : answer->as_object().at("explanations").as_array()) {
        if (!std::exchange(first, false)) std::puts("");
        for (const json::value& sentence : one.as_object().at("sentences").as_array()) std::puts(printable(text_of(sentence)).c_str());
    }
}

CLI::App* add_survey(CLI::App& queue, const char* name, const char* description, const std::shared_ptr<SurveyOptions>& options) {
    CLI::App* command = queue.add_subcommand(name, description);
    command->add_option("--by", options->by, "fields with commas between them, as domain,tenant,state; at most four");
    command->add_option("--where", options->where, where_help);
    command->add_option("--limit", options->limit, "at most so many groups, the largest first")->capture_default_str();
    return command;
}

}  // namespace

void add_queue_views(CLI::App& queue, Session& session) {
    const auto counted = std::make_shared<SurveyOptions>();
    add_survey(queue, "count", "how many items there are, in groups", counted)->callback([counted, &session] { count(session, *counted); });

    const auto shaped = std::make_shared<SurveyOptions>();
    CLI::App* shaping = add_survey(queue, "shape", "how old items are, or when they are tried next, in groups", shaped);
    shaping->add_flag("--next", shaped->next, "by the time until the next try");
    shaping->callback([shaped, &session] { shape(session, *shaped); });

    const auto options = std::make_shared<BucketOptions>();
    CLI::App* list = queue.add_subcommand("buckets", "live policy counters: what is in use, who waits, what blocks");
    list->add_option("--policy", options->policy, "only of this policy");
    list->add_option("--part", options->part, "part of the bucket's name");
    list->add_flag("--waiting", options->waiting, "only where somebody waits");
    list->add_option("--limit", options->limit, "at most this many")->capture_default_str();
    list->callback([options, &session] { buckets(session, *options); });
}

void add_explain_command(CLI::App& app, Session& session) {
    const auto what = std::make_shared<std::string>();
    CLI::App* command = app.add_subcommand("explain", "why an item, a message or a domain's mail stands where it does, or what a bucket does");
    command->add_option("WHAT", *what, "an item, a message, a domain, or a bucket as `queue buckets` names it")->required();
    command->callback([what, &session] { explain(session, *what); });
}

}  // namespace sluice::cli
