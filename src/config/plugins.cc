#include "config/plugins.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "base/nearest.h"

namespace sluice::config {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// Names that Haraka replaced, with what it loads instead.
constexpr std::array<Pair, 32> renames{{
    {"auth/auth_ldap", "auth-ldap"},
    {"backscatterer", "dns-list"},
    {"connect.asn", "asn"},
    {"connect.fcrdns", "fcrdns"},
    {"connect.geoip", "geoip"},
    {"connect.p0f", "p0f"},
    {"connect.rdns_access", "access"},
    {"data.headers", "headers"},
    {"data.nomsgid", "headers"},
    {"data.noreceived", "headers"},
    {"data.rfc5322_header_checks", "headers"},
    {"data.uribl", "uribl"},
    {"dkim_sign", "dkim"},
    {"dkim_verify", "dkim"},
    {"dnsbl", "dns-list"},
    {"dnswl", "dns-list"},
    {"log.syslog", "syslog"},
    {"mail_from.access", "access"},
    {"mail_from.blocklist", "access"},
    {"mail_from.nobounces", "bounce"},
    {"max_unrecognized_commands", "limit"},
    {"rate_limit", "limit"},
    {"rcpt_to.access", "access"},
    {"rcpt_to.blocklist", "access"},
    {"rcpt_to.ldap", "rcpt-ldap"},
    {"rcpt_to.max_count", "limit"},
    {"rcpt_to.qmail_deliverable", "qmail-deliverable"},
    {"rdns.regexp", "access"},
    {"relay_acl", "relay"},
    {"relay_all", "relay"},
    {"relay_dest_domains", "relay"},
    {"relay_force_routing", "relay"},
}};

// Plugins whose job the engine does itself.
constexpr std::array<std::string_view, 7> native{"tls",    "auth/flat_file",       "relay",  "process_title",
                                                 "status", "rcpt_to.in_host_list", "toobusy"};
// Of these, those that do it in another way, and need not be missed. The third takes recipients for plugins
// that take messages over, which the engine does not do by itself.
constexpr std::array<std::string_view, 3> replaceable{"process_title", "status", "rcpt_to.in_host_list"};
// And those that do it as well, for who wants just them.
constexpr std::array<std::string_view, 2> by_wish{"auth/flat_file", "relay"};

// What to do instead of waiting for a plugin.
constexpr std::array<Pair, 5> advice{{
    {"limit", "; `errors`, `recipients` and `messages` in connection.ini limit connections"},
    {"queue/lmtp", "; relay_dest_domains.ini with an `lmtp://` next hop does this job"},
    {"queue/smtp_forward", "; mail goes where DNS or relay_dest_domains.ini says"},
    {"queue/smtp_proxy", "; mail goes where DNS or relay_dest_domains.ini says"},
    {"syslog", "; log lines go to standard output"},
}};

std::string_view find(const auto& table, std::string_view name) {
    const auto found =
        std::find_if(table.begin(), table.end(), [&](const Pair& row) { return row.first == name; });
    return found == table.end() ? std::string_view() : found->second;
}

// The first place where Haraka would look for a plugin of this name.
bool has_own_file(const std::string& instance, const std::string& name) {
    std::error_code ignored;
    return std::filesystem::exists(instance + "/plugins/" + name + ".js", ignored);
}

constexpr std::string_view object_ending = ".so";

// The file that a line names if it names a shared object: one that is there, or one that is called so.
std::string object_file(const std::string& instance, std::string_view listed) {
    const bool is_path = listed.find('/') != std::string_view::npos;
    std::string file(listed);
    if (!listed.ends_with(object_ending)) {
        file = instance + "/plugins/" + file + std::string(object_ending);
        std::error_code ignored;
        return std::filesystem::exists(file, ignored) ? file : std::string();
    }
    if (file.starts_with('/')) return file;
    return instance + (is_path ? "/" : "/plugins/") + file;
}

// "acme" of "acme", "acme.so" and "/usr/lib/sluice/acme.so"; "queue/acme" stays as it is.
std::string object_name(std::string_view listed) {
    if (!listed.ends_with(object_ending)) return std::string(listed);
    return std::filesystem::path(listed).stem().string();
}

// The names of the shared objects that lie in plugins/.
std::vector<std::string> objects_in(const std::string& instance) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(instance + "/plugins", error), end; !error && entry != end; entry.increment(error)) {
        if (entry->path().extension() == object_ending) names.push_back(entry->path().filename().string());
    }
    return names;
}

// Takes the line if it names a shared object.
bool take_object(const Value& line, const std::string& instance, NativePlugins& on, Problems& problems) {
    const std::string file = object_file(instance, line.text), list = "config/plugins";
    if (file.empty()) return false;
    NativePlugin plugin{object_name(line.text), line.text, file, line.line, on.javascript.size()};
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) {
        const std::string meant = nearest(std::filesystem::path(file).filename().string(), objects_in(instance));
        problems.error(list, line.line, "expected a shared object, found no file " + file, meant);
        return true;
    }
    const auto same = [&](const NativePlugin& other) { return other.name == plugin.name; };
    const auto before = std::find_if(on.objects.begin(), on.objects.end(), same);
    if (before != on.objects.end()) {
        problems.warning(
            list, line.line, "plugin `" + plugin.name + "` was listed before, on line " + std::to_string(before->line) + "; that one counts"
        );
        return true;
    }
    if (has_own_file(instance, plugin.name)) {
        problems.warning(list, line.line, "plugin `" + plugin.name + "`: " + file + " is used, plugins/" + plugin.name + ".js is not");
    }
    on.objects.push_back(std::move(plugin));
    return true;
}

// Wherever the plugin host looks (plugin-host/lib/registry.js).
bool is_installed(const std::string& instance, const std::string& name) {
    const std::string modules = instance + "/node_modules/", package = "/package.json", core = modules + "Haraka/";
    const std::array<std::string, 6> places{
        modules + "haraka-plugin-" + name + package, instance + "/../haraka-plugin-" + name + package,
        instance + "/plugins/" + name + package, modules + name + package, core + "plugins/" + name + ".js",
        core + "node_modules/haraka-plugin-" + name + package};
    std::error_code ignored;
    return has_own_file(instance, name) || std::any_of(places.begin(), places.end(), [&](const std::string& place) {
        return std::filesystem::exists(place, ignored);
    });
}

bool is_among(const auto& names, std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); }

bool is_native(const std::string& instance, const std::vector<std::string>& instead, const std::string& name) {
    return is_among(native, name) && !is_among(instead, name) && !(is_among(replaceable, name) && is_installed(instance, name));
}

}  // namespace

bool NativePlugins::runs(std::string_view plugin) const { return is_among(javascript, plugin); }

std::string current_plugin_name(std::string_view listed) {
    constexpr std::string_view prefix = "haraka-plugin-";
    if (listed.starts_with(prefix)) listed.remove_prefix(prefix.size());
    const std::string_view renamed = find(renames, listed);
    return std::string(renamed.empty() ? listed : renamed);
}

bool may_run_instead(std::string_view name) { return is_among(by_wish, name); }

std::vector<std::string> native_plugin_names(const std::string& instance, const std::vector<std::string>& instead) {
    std::vector<std::string> names(native.begin(), native.end());
    std::erase_if(names, [&](const std::string& name) { return !is_native(instance, instead, name); });
    return names;
}

NativePlugins classify_plugins(const Values& listed, const PluginPlaces& places, Problems& problems) {
    const auto& [instance, instead, loaded] = places;
    NativePlugins on;
    const std::string file = "config/plugins";
    for (const Value& line : listed) {
        const std::string name = current_plugin_name(line.text);
        const bool stays = is_among(loaded, name);
        const bool native_here = is_native(instance, instead, name) && !(stays && is_among(replaceable, name));
        on.tls |= name == "tls";
        on.auth |= native_here && name == "auth/flat_file";
        on.relay |= native_here && name == "relay";
        if (native_here) {
            if (!has_own_file(instance, name)) continue;
            problems.warning(
                file, line.line, "plugin `" + name + "` is native: plugins/" + name + ".js is not used"
            );
            continue;
        }
        if (take_object(line, instance, on, problems)) continue;
        const bool installed = is_installed(instance, name);
        if (stays && !installed) {
            problems.warning(
                file, line.line, "plugin `" + name + "` is no longer in plugins/ nor in node_modules/; what is loaded of it goes on");
        }
        if (stays || installed) {
            const bool again = std::find(on.javascript.begin(), on.javascript.end(), name) != on.javascript.end();
            if (!again) on.javascript.push_back(name);
            continue;
        }
        if (is_among(instead, name)) {
            problems.error(
                file, line.line,
                "plugin `" + name + "` shall run instead of the engine's own (`instead` in plugin_host.ini), and is neither in plugins/ nor in "
                "node_modules/");
            continue;
        }
        const std::string shown =
            name == line.text ? "`" + name + "`" : "`" + line.text + "` (now `" + name + "`)";
        const std::string known_typo = nearest(name, {native.begin(), native.end()});
        problems.warning(
            file, line.line,
            "plugin " + shown + " is neither in plugins/ nor in node_modules/; it is left out" +
                std::string(find(advice, name)),
            known_typo
        );
    }
    return on;
}

}  // namespace sluice::config
