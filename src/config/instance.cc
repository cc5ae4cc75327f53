#include "config/instance.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <system_error>

#include "base/text.h"
#include "config/page.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

namespace fs = std::filesystem;

// The files of a new instance and what they say; the rest of the table's files are for special needs.
using Plan = std::map<std::string, Chosen>;

Plan usual_plan(const std::string& me) {
    Plan plan;
    for (const char* file :
         {"smtp.ini", "connection.ini", "tls.ini", "auth_flat_file.ini", "relay.ini", "outbound.ini",
          "log.ini", "net-utils.ini", "spool.ini", "http.ini"}) {
        plan[file] = {};
    }
    plan["me"] = {{"", me + "\n"}};
    plan["host_list"] = {};
    plan["plugins"] = {{"", "# tls\n# auth/flat_file\nrelay\n"}};
    plan["relay_acl_allow"] = {{"", "127.0.0.0/8\n::1\n"}};
    plan["relay_dest_domains.ini"] = {
        {"domains", "; example.com={\"action\":\"accept\",\"nexthop\":\"192.0.2.1:25\"}\n"}
    };
    return plan;
}

Plan demo_plan() {
    Plan plan = usual_plan("mx.demo.test");
    plan["smtp.ini"] = {{"main listen", "127.0.0.1:2525"}};
    plan["http.ini"] = {{"main listen", "127.0.0.1:8026"}};
    plan["relay_dest_domains.ini"] = {
        {"domains", "any={\"action\":\"accept\",\"nexthop\":\"127.0.0.1:2526\"}\n"}
    };
    return plan;
}

std::string this_host() {
    char name[256] = {};
    if (gethostname(name, sizeof name - 1) != 0 || !is_host_name(name)) return "localhost";
    return to_lower(name);
}

// Passwords and tokens are nobody else's business; the group may read, for an engine that changes its user.
mode_t mode_of(const std::string& file) {
    return file == "auth_flat_file.ini" || file == "http.ini" || file == "relay_dest_domains.ini" ? 0640
                                                                                                  : 0644;
}

tl::unexpected<Error> refusal(const std::string& path, int error) {
    const bool full = error == ENOSPC || error == EDQUOT;
    return fail(
        full ? Errc::disk_full : Errc::disk_failed, path + ": " + std::system_category().message(error)
    );
}

Result<void> write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(fd, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return refusal("writing", errno);
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
}

class Creation {
public:
    explicit Creation(std::string directory) : directory_(std::move(directory)) {}

    Result<void> folder(const std::string& name) {
        const std::string path = directory_ + (name.empty() ? "" : "/" + name);
        if (mkdir(path.c_str(), 0755) == 0) {
            if (!name.empty()) report_.created.push_back(name + "/");
            return {};
        }
        std::error_code ignored;
        if (errno != EEXIST || !fs::is_directory(path, ignored))
            return refusal(path, errno == EEXIST ? ENOTDIR : errno);
        if (!name.empty()) report_.kept.push_back(name + "/");
        return {};
    }

    Result<void> file(const std::string& name, const std::string& content, mode_t mode) {
        const std::string path = directory_ + "/" + name;
        const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd < 0 && errno == EEXIST) {
            report_.kept.push_back(name);
            return {};
        }
        if (fd < 0) return refusal(path, errno);
        const Result<void> written = write_all(fd, content);
        close(fd);
        if (!written) {
            // Half a file would be taken for the operator's next time.
            unlink(path.c_str());
            return fail(written.error().code, path + ": " + written.error().detail);
        }
        report_.created.push_back(name);
        return {};
    }

    InitReport take() { return std::move(report_); }

private:
    std::string directory_;
    InitReport report_;
};

Result<InitReport> create(const std::string& directory, const Plan& plan) {
    std::error_code error;
    const fs::path path = fs::absolute(directory, error).lexically_normal();
    fs::create_directories(path, error);
    if (error) return refusal(path.string(), error.value());

    Creation creation(path.string());
    for (const char* folder : {"config", "plugins", "queue", "log", "run"})
        TRY_VOID(creation.folder(folder));
    for (const auto& [file, chosen] : plan) {
        TRY_VOID(creation.file("config/" + file, commented_file(file, chosen), mode_of(file)));
    }
    return creation.take();
}

}  // namespace

Result<InitReport> init(const std::string& directory) {
    return create(directory, usual_plan(this_host()));
}
Result<InitReport> init_demo(const std::string& directory) {
    return create(directory, demo_plan());
}

}  // namespace sluice::config
