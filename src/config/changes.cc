#include "config/changes.h"

#include "config/schema.h"
#include "policy/delivery.h"
#include "policy/policy_set.h"

namespace sluice::config {

Changes compare(const Settings& before, const Settings& after) {
    Changes changes;
    for (const Setting& setting : schema()) {
        if (setting.effect == Effect::none || setting.kind.show(before) == setting.kind.show(after)) continue;
        auto& names = setting.effect == Effect::live ? changes.live : changes.needs_restart;
        names.push_back(setting.name());
    }
    const auto differ = [](const auto& one, const auto& other) { return (one ? one->text : std::string()) != (other ? other->text : std::string()); };
    if (differ(before.policies, after.policies)) changes.live.emplace_back("policy.yaml");
    if (differ(before.deliveries, after.deliveries)) changes.live.emplace_back("delivery.yaml");
    if (before.tls.files_crc != after.tls.files_crc)
        changes.live.emplace_back("tls.ini [main]: contents of the files");
    if (before.outbound_tls.files_crc != after.outbound_tls.files_crc) {
        changes.live.emplace_back("tls.ini [outbound]: contents of the files");
    }
    return changes;
}

}  // namespace sluice::config
