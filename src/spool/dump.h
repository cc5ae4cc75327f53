#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::spool {

// Reads a journal for people, without the lock and without changing anything: also while an instance runs
// (then the last batches may or may not be seen) and after one died. `sluice journal dump DIR` and `sluice
// journal verify DIR`.

// Something that is wrong, or worth knowing, in a segment.
struct JournalProblem {
    bool harmless = false;  // an unfinished batch at the very end, as a crash leaves it
    std::string sentence;   // names the file and the offset
};

struct JournalSurvey {
    std::uint64_t segments = 0, records = 0, messages = 0, bytes = 0;
    std::vector<JournalProblem> problems;

    // Verified whole but for what a crash may leave. The exit code of `journal verify`: 0 if so, 1 otherwise.
    bool sound() const;
};

// Gives one JSON object per segment and record to `line`, without line end, in the order of the stream:
//   {"segment":"0000000003.seg","epoch":2,"first_sequence":91,"sealed":true,"bytes":134217728}
//   {"file":"0000000003.seg","offset":576,"type":"message","id":"...","size":4096,"sender":"a@b.test",...}
// Contents of messages are not shown. Errors: not_found (no such directory), disk_failed, unsupported (a
// newer format).
Result<JournalSurvey> dump_journal(
    const std::string& directory, const std::function<void(const std::string&)>& line
);

// Reads every octet of the journal and checks every checksum, and that each index says what its segment
// holds.
Result<JournalSurvey> verify_journal(const std::string& directory);

}  // namespace sluice::spool
