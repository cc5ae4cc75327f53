#include "config/schema.h"

#include <algorithm>

#include "config/syntax.h"

namespace sluice::config {

Setting Section::live(std::string key, Kind kind, std::string doc) const {
    return {file_, section_, std::move(key), std::move(kind), Effect::live, std::move(doc)};
}

Setting Section::restart(std::string key, Kind kind, std::string doc) const {
    return {file_, section_, std::move(key), std::move(kind), Effect::restart, std::move(doc)};
}

Setting Section::none(std::string key, std::string why) const {
    return {file_, section_, std::move(key), anything(), Effect::none, std::move(why)};
}

Setting whole_file(std::string file, Format format, Kind kind, Effect effect, std::string doc) {
    return {std::move(file), {}, {}, std::move(kind), effect, std::move(doc), format};
}

Setting lenient(Setting setting) {
    setting.lenient = true;
    return setting;
}

Setting with_legacy_file(Setting setting, std::string file) {
    setting.legacy_file = std::move(file);
    return setting;
}

Setting falling_back_to(std::string section, Setting setting) {
    setting.fallback_section = std::move(section);
    return setting;
}

const std::vector<Setting>& schema() {
    static const std::vector<Setting> table = [] {
        std::vector<Setting> all;
        for (const auto& part :
             {reception_schema(), tls_schema(), access_schema(), outbound_schema(), service_schema(),
              plugin_schema()}) {
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }();
    return table;
}

Settings default_settings() {
    Settings settings;
    // What plugin `relay` does when relay.ini is absent; without the plugin the loader switches both off.
    settings.relay.acl = settings.relay.force_routing = true;
    settings.outbound.temp_fail_intervals = default_intervals(settings.outbound.temp_failures_max);
    return settings;
}

std::vector<std::string> known_files() {
    std::vector<std::string> files;
    const auto add = [&](const std::string& file) {
        if (!file.empty() && std::find(files.begin(), files.end(), file) == files.end())
            files.push_back(file);
    };
    for (const Setting& setting : schema())
        add(setting.file);
    for (const Setting& setting : schema())
        add(setting.legacy_file);
    return files;
}

}  // namespace sluice::config
