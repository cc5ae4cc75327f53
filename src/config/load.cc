#include "config/load.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "base/nearest.h"
#include "base/text.h"
#include "config/changes.h"
#include "config/checks.h"
#include "config/schema.h"
#include "config/secrecy.h"
#include "config/sources.h"
#include "config/tls_files.h"
#include "policy/assignment.h"
#include "policy/delivery.h"
#include "policy/policy_set.h"
#include "policy/suspension.h"

namespace sluice::config {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t shown_value_max = 60;

std::string shorten(std::string_view text) {
    const bool long_text = text.size() > shown_value_max;
    return printable(text.substr(0, shown_value_max)) + (long_text ? "..." : "");
}

bool contains(const std::vector<std::string>& words, const std::string& word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

std::vector<std::string> sections_of(const std::string& file) {
    std::vector<std::string> sections;
    for (const Setting& setting : schema()) {
        if (setting.file == file && !contains(sections, setting.section)) sections.push_back(setting.section);
    }
    return sections;
}

// The keys of a section; one empty key when the section takes any.
std::vector<std::string> keys_of(const std::string& file, const std::string& section) {
    std::vector<std::string> keys;
    for (const Setting& setting : schema()) {
        if (setting.file == file && setting.section == section) keys.push_back(setting.key);
    }
    return keys;
}

// The section of the file that has this key, or else takes any key of a file that has no other; empty when
// none does.
std::string home_of(const std::string& file, const std::string& key) {
    const std::vector<std::string> sections = sections_of(file);
    for (const std::string& section : sections) {
        if (contains(keys_of(file, section), key)) return section;
    }
    const bool only = sections.size() == 1 && keys_of(file, sections.front()).front().empty();
    return only ? sections.front() : std::string();
}

class Loader {
public:
    Loader(const std::string& directory, const Settings* running) : running_(running) {
        std::error_code error;
        const fs::path path = fs::absolute(directory, error).lexically_normal();
        settings_.directory = path.has_filename() ? path.string() : path.parent_path().string();
        folder_ = settings_.directory + "/config";
    }
    Loaded run();

private:
    void report_stray_files();
    std::optional<std::string> read_yaml(const std::string& name);
    void read_policies();
    void read_suspensions();
    void read_fields();
    void read_deliveries();
    void settle_kept_fields();
    SettingsPtr settle_tls(const NativePlugins& plugins);
    void report_strays(const std::string& file, const Ini& ini);
    void report_stray_key(const std::string& file, const IniEntry& entry);
    void report_repetitions(const std::string& file, const Ini& ini);
    void apply(const Setting& setting);
    void apply_legacy(const Setting& setting, const Values& given);
    void complain(const Setting& setting, const std::string& file, const Complaints& complaints);

    const Settings* const running_;
    Settings settings_ = default_settings();
    std::string folder_;
    Sources sources_;
    Problems problems_;
};

// Files whose names look like slips of the pen; others belong to plugins.
void Loader::report_stray_files() {
    const std::vector<std::string> known = settings_files();
    // Names of Haraka's own that are near ours.
    const std::vector<std::string> others{"dns.ini",   "rspamd.ini", "limit.ini",
                                          "smtp.json", "smtp.yaml",  "tls.yaml"};
    std::set<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
        names.insert(entry->path().filename().string());
    }
    for (const std::string& name : names) {
        if (contains(known, name) || contains(others, name)) continue;
        const std::string meant = nearest(name, known);
        if (meant.empty() || edit_distance(name, meant) > (meant.size() < 10 ? 1U : 2U) ||
            names.contains(meant))
            continue;
        problems_.warning(shown_name(name), 0, "no settings file has this name", meant);
    }
}

// The text of a file that is small where people write it, but may be generated; nothing where there is none.
std::optional<std::string> Loader::read_yaml(const std::string& name) {
    constexpr std::size_t bytes_max = 64 << 20;
    auto text = read_text(folder_ + "/" + name, bytes_max);
    if (text) return std::move(*text);
    problems_.error(shown_name(name), 0, text.error().detail);
    return std::nullopt;
}

void Loader::read_policies() {
    const std::string name = "policy.yaml";
    const auto text = read_yaml(name);
    if (text) settings_.policies = policy::parse_policies(*text, shown_name(name), problems_);
}

// Its patterns may name lists of the policies.
void Loader::read_suspensions() {
    const std::string name = "suspend.yaml";
    const policy::PolicySet none;
    const policy::PolicySet& set = settings_.policies != nullptr ? *settings_.policies : none;
    if (const auto text = read_yaml(name)) settings_.suspensions = policy::parse_suspensions(*text, shown_name(name), set, problems_);
}

void Loader::read_fields() {
    const std::string fields = "fields.yaml";
    const std::string transports = "transports.yaml";
    if (const auto text = read_yaml(fields)) settings_.fields = policy::parse_assignments(*text, shown_name(fields), problems_);
    if (const auto text = read_yaml(transports)) {
        settings_.transports = policy::parse_transports(*text, shown_name(transports), problems_).value_or(std::vector<policy::LocalPool>());
    }
    if (settings_.fields != nullptr) {
        policy::report_unknown_transports(*settings_.fields, settings_.transports, shown_name(fields), problems_);
    }
}

// Its patterns may refer to the lists and groupings of the policies.
void Loader::read_deliveries() {
    const std::string name = "delivery.yaml";
    const auto text = read_yaml(name);
    if (!text) return;
    static const policy::PolicySet no_policies;
    const policy::PolicySet& set = settings_.policies != nullptr ? *settings_.policies : no_policies;
    std::optional<policy::DeliveryFile> file = policy::parse_delivery(*text, shown_name(name), set, problems_);
    if (file) settings_.deliveries = std::make_shared<const policy::DeliveryFile>(std::move(*file));
}

// Whatever names a note or header field adds it here: a message that was accepted without it never has it.
void Loader::settle_kept_fields() {
    std::set<std::string> kept;
    if (settings_.fields != nullptr) kept.insert(settings_.fields->kept.begin(), settings_.fields->kept.end());
    const auto keep = [&](const policy::FieldTable& table) {
        for (std::size_t number = policy::named_field_count; number < table.size(); ++number) {
            kept.insert(table.name_of(static_cast<policy::Field>(number)));
        }
    };
    if (settings_.policies != nullptr) keep(settings_.policies->fields);
    if (settings_.deliveries != nullptr) keep(settings_.deliveries->fields);
    if (settings_.suspensions != nullptr) {
        for (const policy::Suspension& suspension : settings_.suspensions->suspensions) keep(suspension.fields);
    }
    settings_.kept_fields.assign(kept.begin(), kept.end());
}

void Loader::report_strays(const std::string& file, const Ini& ini) {
    const std::vector<std::string> sections = sections_of(file);
    for (const Value& line : ini.bad) {
        problems_.warning(
            shown_name(file), line.line,
            "expected `key = value` or `[section]`, found `" + shorten(line.text) + "`; the line is skipped"
        );
    }
    for (const Value& section : ini.sections) {
        if (section.text == "main" || contains(sections, section.text)) continue;
        problems_.warning(
            shown_name(file), section.line,
            "unknown section [" + shorten(section.text) + "]; its keys are skipped",
            nearest(section.text, sections)
        );
    }
    for (const IniEntry& entry : ini.entries) {
        if (entry.section == "main" || contains(sections, entry.section)) report_stray_key(file, entry);
    }
    report_repetitions(file, ini);
}

void Loader::report_stray_key(const std::string& file, const IniEntry& entry) {
    const std::vector<std::string> keys = keys_of(file, entry.section);
    if (contains(keys, entry.key) || contains(keys, "")) return;
    if (entry.key.starts_with('[')) {
        problems_.warning(
            shown_name(file), entry.line,
            "expected `]` at the end of the section's name, found `" + shorten(entry.key) + "`"
        );
        return;
    }
    const std::string home = home_of(file, entry.key);
    std::string meant = home.empty() ? nearest(entry.key, keys) : "[" + home + "] " + entry.key;
    problems_.warning(
        shown_name(file), entry.line, "unknown key `" + shorten(entry.key) + "` in [" + entry.section + "]",
        std::move(meant)
    );
}

void Loader::report_repetitions(const std::string& file, const Ini& ini) {
    std::map<std::pair<std::string, std::string>, int> seen;
    for (const IniEntry& entry : ini.entries) {
        const auto [at, fresh] = seen.try_emplace({entry.section, entry.key}, entry.line);
        if (fresh || entry.is_array) continue;
        problems_.warning(
            shown_name(file), entry.line,
            "`" + shorten(entry.key) + "` was given before, on line " + std::to_string(at->second) +
                "; this one counts"
        );
        at->second = entry.line;
    }
}

void Loader::complain(const Setting& setting, const std::string& file, const Complaints& complaints) {
    for (const Complaint& complaint : complaints) {
        const std::string& subject = complaint.name.empty() ? setting.key : complaint.name;
        std::string message = subject.empty() ? "" : shorten(subject) + ": ";
        message += "expected " + complaint.expected;
        if (!complaint.text.empty()) message += ", found `" + shorten(complaint.text) + "`";
        if (!complaint.consequence.empty()) message += "; " + complaint.consequence;
        const bool warning = setting.lenient || complaint.mild;
        warning ? problems_.warning(shown_name(file), complaint.line, std::move(message))
                : problems_.error(shown_name(file), complaint.line, std::move(message));
    }
}

void Loader::apply(const Setting& setting) {
    const Values given = sources_.given(setting);
    if (!given.empty()) complain(setting, setting.file, setting.kind.assign(settings_, given));
    if (!setting.legacy_file.empty()) apply_legacy(setting, given);
}

// Haraka asks the one-value file when the value from the ini file is false in JavaScript's sense, and lets a
// file that says no change nothing.
void Loader::apply_legacy(const Setting& setting, const Values& given) {
    const Values legacy = sources_.lines(setting.legacy_file);
    if (legacy.empty()) return;
    const std::string current = setting.kind.show(settings_);
    const bool is_boolean = current == "true" || current == "false";
    const bool said = !given.empty() && !given.back().text.empty() && given.back().text != "0";
    if (is_boolean ? current == "true" : said) return;
    complain(setting, setting.legacy_file, setting.kind.assign(settings_, legacy));
}

Loaded Loader::run() {
    std::error_code error;
    if (!fs::is_directory(folder_, error)) {
        problems_.error(
            "config", 0, "expected the folder " + folder_ + "; `sluice init` creates an instance"
        );
        return {nullptr, problems_.take()};
    }
    sources_ = Sources::read(folder_, problems_);
    report_stray_files();
    for (const auto& [file, ini] : sources_.inis())
        report_strays(file, ini);
    for (const Setting& setting : schema())
        apply(setting);

    const std::vector<std::string> loaded = running_ != nullptr ? running_->javascript_plugins : std::vector<std::string>();
    const NativePlugins plugins = classify_plugins(
        sources_.lines("plugins"), {settings_.directory, settings_.plugin_host.instead, loaded}, problems_);
    settings_.javascript_plugins = plugins.javascript;
    settings_.native_plugins = plugins.objects;
    check_plugin_host(settings_, sources_, problems_);
    settle_me(settings_, sources_, problems_);
    check_user(settings_, sources_, problems_);
    settle_listeners(settings_, sources_, problems_);
    settle_spool(settings_, sources_, problems_);
    settle_auth(settings_, plugins, sources_, problems_);
    settle_relay(settings_, plugins, sources_, problems_);
    settle_http(settings_, sources_, problems_);
    check_trust_anchors(settings_, sources_, problems_);
    read_policies();
    read_suspensions();
    read_fields();
    read_deliveries();
    settle_kept_fields();
    const SettingsPtr in_force = settle_tls(plugins);
    warn_of_open_secrets(settings_, sources_, problems_);

    if (problems_.any_error()) return {nullptr, problems_.take()};
    const SettingsPtr written = std::make_shared<const Settings>(std::move(settings_));
    return {in_force != nullptr ? in_force : written, problems_.take(), written};
}

// Last, for it depends on the listeners: those of the files, which the next start has, and those that are open now where they
// are others. Null when these settings are in force just as they are written.
SettingsPtr Loader::settle_tls(const NativePlugins& plugins) {
    Settings in_force = settings_;
    resolve_tls(settings_, plugins, sources_, problems_);
    if (running_ == nullptr || keep_until_restart(in_force, *running_).empty()) return nullptr;
    Problems problems;
    resolve_tls(in_force, plugins, sources_, problems);
    for (const Problem& problem : problems.all()) {
        const auto add = problem.severity == Severity::error ? &Problems::error : &Problems::warning;
        (problems_.*add)(problem.file, problem.line, problem.message, problem.suggestion);
    }
    return std::make_shared<const Settings>(std::move(in_force));
}

}  // namespace

Loaded load(const std::string& directory, const Settings* running) {
    return Loader(directory, running).run();
}

std::vector<std::string> settings_files() {
    std::vector<std::string> files = known_files();
    files.insert(files.end(), {"policy.yaml", "suspend.yaml", "delivery.yaml", "fields.yaml", "transports.yaml"});
    return files;
}

}  // namespace sluice::config
