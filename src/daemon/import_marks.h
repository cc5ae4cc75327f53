#pragma once

#include <absl/container/flat_hash_map.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "haraka/file_name.h"
#include "spool/spool.h"

namespace sluice::daemon {

// Which source files are durable here although they still exist. A mark is written in the batch of its message and erased when the
// removal of the file is on disk: whenever we die, a file is either imported or not, and known to be. Not thread-safe.
class ImportMarks {
public:
    // What a file is known by: what Haraka never changes of its name, and its contents.
    static std::string name_of(const haraka::FileName& name, std::string_view bytes);

    // At start: takes what is ours from what the spool recovered. Erases those whose files are gone for good.
    void recover(const std::vector<spool::PolicyRecord>& records, spool::Batch& erasures);

    bool contains(const std::string& mark) const { return marks_.contains(mark); }
    std::size_t size() const { return marks_.size(); }
    // `path`: where the file stands.
    void add(const std::string& mark, MessageId message, const std::string& path, spool::Batch& batch);
    // The batch of its message came to nothing.
    void forget(const std::string& mark) { marks_.erase(mark); }
    void erase(const std::string& mark, spool::Batch& batch);

private:
    absl::flat_hash_map<std::string, std::string> marks_;  // mark -> path
};

}  // namespace sluice::daemon
