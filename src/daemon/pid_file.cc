#include "daemon/pid_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace sluice::daemon {

Result<PidFile> PidFile::write(const std::string& path) {
    const auto refusal = [&](const std::string& reason) { return fail(Errc::disk_failed, path + ": " + reason); };
    net::Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644));
    struct stat facts{};
    if (!file.valid() || ::fstat(file.get(), &facts) != 0) return refusal(std::generic_category().message(errno));
    if (!S_ISREG(facts.st_mode) || facts.st_nlink != 1) return refusal("not a plain file with one name");
    const std::string text = std::to_string(::getpid()) + "\n";
    const bool written = ::ftruncate(file.get(), 0) == 0 && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (!written) return refusal(std::generic_category().message(errno));
    return PidFile(path, std::move(file));
}

void PidFile::remove() {
    struct stat ours{}, named{};
    const bool same = ::fstat(file_.get(), &ours) == 0 && ::lstat(path_.c_str(), &named) == 0 && ours.st_dev == named.st_dev &&
                      ours.st_ino == named.st_ino;
    if (same && ::unlink(path_.c_str()) == 0) return;
    // Not ours any more, or in a folder where we may not remove it: what is open can still be emptied.
    [[maybe_unused]] const int emptied = ::ftruncate(file_.get(), 0);
}

}  // namespace sluice::daemon
