#pragma once

#include "base/problem.h"
#include "config/plugins.h"
#include "config/settings.h"
#include "config/sources.h"

namespace sluice::config {

// What no single setting can tell: rules between settings, and features whose files count only when a plugin
// is listed. Each function completes its part of `settings`.

// The old keys `listen_host` and `port`.
void settle_listeners(Settings& settings, const Sources& sources, Problems& problems);
// The host name when `me` is not given.
void settle_me(Settings& settings, const Sources& sources, Problems& problems);
// Whom root becomes. To others it means nothing, so for them it is a warning.
void check_user(const Settings& settings, const Sources& sources, Problems& problems);
// Without its trust anchors the resolver answers nothing.
void check_trust_anchors(const Settings& settings, const Sources& sources, Problems& problems);
// What runs JavaScript plugins, where plugins need it. Warnings: mail that no plugin decides about can go on.
void check_plugin_host(const Settings& settings, const Sources& sources, Problems& problems);
// The folder of the journal, absolute.
void settle_spool(Settings& settings, const Sources& sources, Problems& problems);
// AUTH is on only with plugin `auth/flat_file`, relay rules only with plugin `relay`.
void settle_auth(
    Settings& settings, const NativePlugins& plugins, const Sources& sources, Problems& problems
);
void settle_relay(
    Settings& settings, const NativePlugins& plugins, const Sources& sources, Problems& problems
);
// Beyond loopback the control API needs a token.
void settle_http(Settings& settings, const Sources& sources, Problems& problems);

}  // namespace sluice::config
