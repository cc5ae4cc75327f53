#pragma once

#include <string>

#include "base/result.h"
#include "net/socket.h"

namespace sluice::daemon {

// The file that names our process while we run (`daemon_pid_file` of smtp.ini). It is kept open: root writes it where only root may,
// and at the end somebody else has to take it back. Value, movable.
class PidFile {
public:
    // Whatever stood in the file is replaced. A link, or a file that has another name as well, is refused: in a folder of others it
    // could be anybody's. Errors: disk_failed.
    static Result<PidFile> write(const std::string& path);

    // The name goes; where we may not remove it, the file is left empty, so that no later process is taken for us.
    void remove();

private:
    PidFile(std::string path, net::Descriptor file) : path_(std::move(path)), file_(std::move(file)) {}

    std::string path_;
    net::Descriptor file_;
};

}  // namespace sluice::daemon
