#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/setting.h"

namespace sluice::config {

// Every setting of an instance, declared once, in the order in which the loader applies them and the
// reference page lists them. The parser, the checks, the page and the comparison of a reload are all readers
// of this table.
const std::vector<Setting>& schema();

// The settings of an instance whose config folder is empty: the defaults of settings.h, with the derived ones
// computed.
Settings default_settings();

// The names of the files that the table mentions, legacy ones included, without repetition, in its order.
std::vector<std::string> known_files();

// The parts of the table, by what they are about; schema() joins them.
std::vector<Setting> reception_schema();  // smtp.ini, connection.ini, me, plugins, host_list
std::vector<Setting> tls_schema();        // tls.ini
std::vector<Setting> access_schema();     // auth_flat_file.ini, relay*, http.ini
std::vector<Setting> outbound_schema();   // outbound.ini, outbound.bounce_*
std::vector<Setting> service_schema();    // log.ini, net-utils.ini, spool.ini, queue_dir
std::vector<Setting> plugin_schema();     // plugin_host.ini

// How the parts write their rows: a section of a file gives its name to each setting.
class Section {
public:
    Section(std::string file, std::string section) : file_(std::move(file)), section_(std::move(section)) {}
    Setting live(std::string key, Kind kind, std::string doc) const;
    Setting restart(std::string key, Kind kind, std::string doc) const;
    // Accepted without effect; `why` says what takes its place.
    Setting none(std::string key, std::string why) const;

private:
    std::string file_, section_;
};
// A file that is one setting.
Setting whole_file(std::string file, Format format, Kind kind, Effect effect, std::string doc);
// `setting` with a wrong value taken as a warning.
Setting lenient(Setting setting);
Setting with_legacy_file(Setting setting, std::string file);
Setting falling_back_to(std::string section, Setting setting);

}  // namespace sluice::config
