#include "config/changes.h"

#include "config/schema.h"
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
    static const std::string no_policies;
    const auto text = [](const Settings& settings) -> const std::string& { return settings.policies ? settings.policies->text : no_policies; };
    if (text(before) != text(after)) changes.live.emplace_back("policy.yaml");
    const auto suspended = [](const Settings& settings) { return settings.suspensions ? settings.suspensions->text : no_policies; };
    if (suspended(before) != suspended(after)) changes.live.emplace_back("suspend.yaml");
    if (before.tls.files_crc != after.tls.files_crc)
        changes.live.emplace_back("tls.ini [main]: contents of the files");
    if (before.outbound_tls.files_crc != after.outbound_tls.files_crc) {
        changes.live.emplace_back("tls.ini [outbound]: contents of the files");
    }
    return changes;
}

}  // namespace sluice::config
