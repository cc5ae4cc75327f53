#include "config/plugins.h"
#include "config/schema.h"
#include "config/syntax.h"

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
            "call_busy_max",
            duration(at(&Settings::plugin_host, &P::call_busy_max), {seconds(0), minutes(10)}),
            "A hook whose code runs for longer in one call without giving way, while all other plugins wait, is over its budget: "
            "warned of and counted. 0: no budget."
        ),
        main.restart(
            "plugin_heap_bytes_max", bytes(at(&Settings::plugin_host, &P::plugin_heap_bytes_max), {0, 64 * gib}),
            "A plugin that holds more of the heap is over its budget, as sampled once a second. 0: only the heap as a whole counts."
        ),
        main.restart(
            "over_budget_max", number(at(&Settings::plugin_host, &P::over_budget_max), {0, 10'000}),
            "A hook that is over its budget so often within a minute is passed over, as if it did not answer in time; for heap, all "
            "hooks of its plugin. 0: it never is."
        ),
        main.restart(
            "host_ends_max", number(at(&Settings::plugin_host, &P::host_ends_max), {0, 1000}),
            "A hook by which so many plugin hosts hung, or ran out of memory, within ten minutes is passed over by the next one. 0: it never is."
        ),
        main.restart(
            "pass_over_time",
            duration(at(&Settings::plugin_host, &P::pass_over_time), {seconds(1), minutes(10)}),
            "How long a hook is passed over: the first time; each time that it goes on at once afterwards, twice as long, up to ten minutes."
        ),
        main.restart(
            "addresses", choice(at(&Settings::plugin_host, &P::addresses), generations),
            "For which Haraka the plugins were written: `rcpt.address()` up to 3.1, `rcpt.address` since 3.2, `both` where "
            "they are mixed. `auto`: what is installed in the instance decides."
        ),
        main.restart(
            "web_listen",
            first_text(
                at(&Settings::plugin_host, &P::web_listen), "`address:port`",
                [](std::string_view text) -> std::optional<std::string> {
                    const auto endpoint = parse_endpoint(text, 0);
                    if (!endpoint || !endpoint->path.empty() || endpoint->port == 0) return std::nullopt;
                    return endpoint->text();
                }
            ),
            "Where plugins serve HTTP: `server.http` and the hooks `init_http` and `init_wss`, with the packages express and ws of the instance. Whoever "
            "reaches it gets what plugins serve; http.ini is of the engine's own API."
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
