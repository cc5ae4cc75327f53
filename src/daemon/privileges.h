#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "config/settings.h"

namespace sluice::daemon {

// Neither we nor our children ever get rights that we do not have now, not even through a program with the set-user-id bit.
// Counts for threads made afterwards.
void forbid_new_privileges();

// Memory holds passwords, keys and other people's mail: it goes into no core file and is not shown to other processes of
// the same user, unless `smtp.ini` core_dumps asks for core files. Call it again after the user has changed.
void settle_core_dumps(bool wanted);

// Root becomes the `user` and `group` of smtp.ini, for good; `folders`, with all that is in them, become that user's, and
// settings of `instance` that root's group may read become readable by his group instead: the engine reads them again
// when they change. Anybody else stays who he is. Errors: config (unknown user or group), disk_failed (a folder cannot be given
// away).
Result<> drop_privileges(
    const config::SmtpSettings& settings, std::span<const std::string> folders, const std::string& instance);

}  // namespace sluice::daemon
