#include "config/changes.h"

#include <algorithm>
#include <utility>

#include "config/plugins.h"
#include "config/schema.h"
#include "policy/assignment.h"
#include "policy/delivery.h"
#include "policy/policy_set.h"
#include "policy/suspension.h"

namespace sluice::config {

Changes compare(const Settings& before, const Settings& after) {
    Changes changes;
    for (const Setting& setting : schema()) {
        if (setting.effect == Effect::none || setting.kind.show(before) == setting.kind.show(after)) continue;
        auto& names = setting.effect == Effect::live ? changes.live : changes.needs_restart;
        names.push_back(setting.name());
    }
    const auto text = [](const auto& file) { return file != nullptr ? file->text : std::string(); };
    if (text(before.policies) != text(after.policies)) changes.live.emplace_back("policy.yaml");
    if (text(before.suspensions) != text(after.suspensions)) changes.live.emplace_back("suspend.yaml");
    if (text(before.fields) != text(after.fields)) changes.live.emplace_back("fields.yaml");
    if (text(before.deliveries) != text(after.deliveries)) changes.live.emplace_back("delivery.yaml");
    if (before.javascript_plugins != after.javascript_plugins) changes.live.emplace_back("plugins: what is installed");
    if (before.native_plugins != after.native_plugins) changes.needs_restart.emplace_back("plugins: shared objects");
    if (before.transports != after.transports) changes.live.emplace_back("transports.yaml");
    if (before.tls.files_crc != after.tls.files_crc)
        changes.live.emplace_back("tls.ini [main]: contents of the files");
    if (before.outbound_tls.files_crc != after.outbound_tls.files_crc) {
        changes.live.emplace_back("tls.ini [outbound]: contents of the files");
    }
    return changes;
}

namespace {

// A JavaScript plugin whose name is a shared object's from the next start on runs as it is until then.
void keep_scripts(Settings& settings, const Settings& running, const std::vector<NativePlugin>& natives) {
    auto& scripts = settings.javascript_plugins;
    std::size_t kept = 0;
    for (const NativePlugin& object : natives) {
        const std::string name = current_plugin_name(object.listed);
        const bool runs = std::ranges::find(running.javascript_plugins, name) != running.javascript_plugins.end();
        if (!runs || std::ranges::find(scripts, name) != scripts.end()) continue;
        scripts.insert(scripts.begin() + static_cast<std::ptrdiff_t>(std::min(object.after + kept++, scripts.size())), name);
    }
}

}  // namespace

std::vector<std::string> keep_until_restart(Settings& settings, const Settings& running) {
    std::vector<std::string> waiting = compare(running, settings).needs_restart;
    for (const Setting& setting : schema()) {
        if (setting.effect == Effect::restart) setting.kind.copy(settings, running);
    }
    const std::vector<NativePlugin> natives = std::exchange(settings.native_plugins, running.native_plugins);
    keep_scripts(settings, running, natives);
    return waiting;
}

}  // namespace sluice::config
