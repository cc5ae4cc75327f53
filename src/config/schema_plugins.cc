#include "config/plugins.h"
#include "config/schema.h"

namespace sluice::config {

std::vector<Setting> plugin_schema() {
    using P = PluginHostSettings;
    using std::chrono::minutes;
    using std::chrono::seconds;
    const Section main("plugin_host.ini", "main");
    constexpr std::uint64_t mib = 1 << 20, gib = 1 << 30;
    const auto size = [](std::uint64_t P::* field) {
        return bytes(at(&Settings::plugin_host, field), {64 * mib, 64 * gib});
    };
    const std::vector<std::pair<std::string, std::string>> generations{
        {"auto", "auto"}, {"3.1", "3.1"}, {"3.2", "3.2"}, {"both", "both"}
    };
    return {
        main.restart(
            "node", text(at(&Settings::plugin_host, &P::node)),
            "The Node program, version 18 or newer, that runs JavaScript plugins: a path, or a name in PATH."
        ),
        main.restart(
            "folder", text(at(&Settings::plugin_host, &P::folder)),
            "Folder of the package sluice-plugin-host. Default: DIR/node_modules/sluice-plugin-host, else where Sluice "
            "installed it."
        ),
        main.restart(
            "heap_bytes_max", size(&P::heap_bytes_max),
            "The plugin host ends, and is started again, when JavaScript needs more memory."
        ),
        main.restart(
            "memory_bytes_max", size(&P::memory_bytes_max),
            "The plugin host is ended, and started again, when it uses more memory."
        ),
        main.restart(
            "hang_timeout",
            duration(at(&Settings::plugin_host, &P::hang_timeout), {seconds(1), minutes(10)}),
            "The plugin host is ended, and started again, when it does not react for so long."
        ),
        main.restart(
            "addresses", choice(at(&Settings::plugin_host, &P::addresses), generations),
            "For which Haraka the plugins were written: `rcpt.address()` up to 3.1, `rcpt.address` since 3.2, `both` where "
            "they are mixed. `auto`: what is installed in the instance decides."
        ),
        main.live(
            "instead",
            list(
                at(&Settings::plugin_host, &P::instead), "`relay` or `auth/flat_file`",
                [](std::string_view name) -> std::optional<std::string> {
                    std::string current = current_plugin_name(name);
                    if (!may_run_instead(current)) return std::nullopt;
                    return current;
                }
            ),
            "Plugins that run in JavaScript, when they are listed, instead of what the engine does in their place. They must be installed in the instance."
        ),
    };
}

}  // namespace sluice::config
