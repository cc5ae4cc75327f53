#include "daemon/privileges.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "config/load.h"
#include "net/socket.h"

namespace sluice::daemon {
namespace {

// A link is given away itself, never what it points to, and a file of somebody else's with a second name is not given away
// at all: whoever may write in the folder could have put either there.
Result<> give(const std::string& path, uid_t uid, gid_t gid) {
    struct stat facts{};
    const bool known = ::lstat(path.c_str(), &facts) == 0;
    if (known && facts.st_uid == uid && facts.st_gid == gid) return {};
    if (known && !S_ISDIR(facts.st_mode) && facts.st_nlink > 1) return {};
    // Files may go while we look: the spool works already.
    if ((known && ::lchown(path.c_str(), uid, gid) == 0) || errno == ENOENT) return {};
    return fail(Errc::disk_failed, path + ": " + std::generic_category().message(errno));
}

Result<> give_folder(const std::string& folder, uid_t uid, gid_t gid) {
    if (::chown(folder.c_str(), uid, gid) != 0) return fail(Errc::disk_failed, folder + ": " + std::generic_category().message(errno));
    std::error_code error;
    using Walk = std::filesystem::recursive_directory_iterator;
    for (Walk entry(folder, error); !error && entry != Walk(); entry.increment(error)) {
        TRY_VOID(give(entry->path().string(), uid, gid));
    }
    return {};
}

// A folder, below another one where one is given; not valid where others than root can have put something there.
net::Descriptor folder_of_root(const net::Descriptor& above, const std::string& name) {
    net::Descriptor folder(::openat(above.valid() ? above.get() : AT_FDCWD, name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat facts{};
    if (!folder.valid() || ::fstat(folder.get(), &facts) != 0) return {};
    const bool group_writes = (facts.st_mode & S_IWGRP) != 0 && facts.st_gid != 0;
    const bool open_to_others = facts.st_uid != 0 || group_writes || (facts.st_mode & S_IWOTH) != 0;
    return open_to_others ? net::Descriptor() : std::move(folder);
}

// A file that root has kept for itself and its group, which may read it and no more.
bool kept_by_root(const struct stat& file) {
    constexpr mode_t judged = S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH | S_ISUID | S_ISGID;
    return S_ISREG(file.st_mode) && file.st_nlink == 1 && file.st_uid == 0 && file.st_gid == 0 && (file.st_mode & judged) == S_IRGRP;
}

// `init` as root writes passwords and tokens for root and its group. Nobody else than whom we become gets to read them, and he
// gets nothing that the mode denies to the group; no link to a file is followed, and an instance with room for somebody's tricks is
// left alone. What he cannot read afterwards is reported.
void share_settings(const std::string& instance, gid_t gid) {
    const net::Descriptor top = folder_of_root({}, instance);
    if (!top.valid()) return;
    const net::Descriptor from = folder_of_root(top, "config");
    if (!from.valid()) return;
    struct stat facts{};
    for (const std::string& name : config::settings_files()) {
        const net::Descriptor file(::openat(from.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        if (!file.valid() || ::fstat(file.get(), &facts) != 0 || !kept_by_root(facts)) continue;
        ::fchownat(file.get(), "", static_cast<uid_t>(-1), gid, AT_EMPTY_PATH);
    }
}

}  // namespace

void forbid_new_privileges() { ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

void settle_core_dumps(bool wanted) {
    rlimit size{};
    if (::getrlimit(RLIMIT_CORE, &size) == 0) {
        size.rlim_cur = wanted ? size.rlim_max : 0;
        ::setrlimit(RLIMIT_CORE, &size);
    }
    // The limit alone does not keep the kernel from handing our memory to a program that collects core files.
    ::prctl(PR_SET_DUMPABLE, wanted ? 1 : 0, 0, 0, 0);
}

Result<> drop_privileges(
    const config::SmtpSettings& settings, std::span<const std::string> folders, const std::string& instance) {
    if (::geteuid() != 0 || (settings.user.empty() && settings.group.empty())) return {};
    // No other thread asks for users and groups.
    const passwd* user = settings.user.empty() ? nullptr : ::getpwnam(settings.user.c_str());  // NOLINT(concurrency-mt-unsafe)
    if (user == nullptr && !settings.user.empty()) {
        return fail(Errc::config, "smtp.ini: user: no such user: " + settings.user);
    }
    const group* named = settings.group.empty() ? nullptr : ::getgrnam(settings.group.c_str());  // NOLINT(concurrency-mt-unsafe)
    if (named == nullptr && !settings.group.empty()) {
        return fail(Errc::config, "smtp.ini: group: no such group: " + settings.group);
    }
    const uid_t uid = user != nullptr ? user->pw_uid : ::geteuid();
    const gid_t gid = named != nullptr ? named->gr_gid : user->pw_gid;

    for (const std::string& folder : folders) TRY_VOID(give_folder(folder, uid, gid));
    if (uid != 0) share_settings(instance, gid);
    if (::setgroups(1, &gid) != 0 || ::setgid(gid) != 0 || ::setuid(uid) != 0) {
        return fail(Errc::config, std::string("cannot become the configured user: ") + std::generic_category().message(errno));
    }
    return {};
}

}  // namespace sluice::daemon
