#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

namespace sluice::daemon {

// The id of a process that is a Haraka working on this queue directory, as far as this machine can tell: by its command line, or
// because it is called so, or is a Node, and files of the queue name it (`owners`: the ids in file names of this host). Nothing: none was
// seen, which proves nothing about other containers and machines.
std::optional<std::int64_t> running_haraka(const std::string& queue_directory, const std::set<std::int64_t>& owners);

// What Haraka calls this machine in file names.
std::string haraka_host_name();

}  // namespace sluice::daemon
