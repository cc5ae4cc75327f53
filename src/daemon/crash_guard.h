#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <span>
#include <string>

#include "async/guarded.h"
#include "base/ids.h"
#include "base/result.h"

namespace sluice::daemon {

// Ends crash loops: a message on which the engine crashed crashes_max times is not worked on again before an operator
// releases it.
//
// A handler of fatal signals writes down the message that its thread was working on (see base/working_on.h), in a file that
// outlives the process; the next start counts. A kill from outside is no crash and never counts. The file is not synced: who
// loses it in a power cut loses counts, not mail. Thread-safe, but at most one of them is armed in a process.
class CrashGuard {
public:
    static constexpr std::uint32_t crashes_max = 3;

    // Reads what earlier runs wrote down.
    explicit CrashGuard(std::string path);
    ~CrashGuard();
    CrashGuard(const CrashGuard&) = delete;
    CrashGuard& operator=(const CrashGuard&) = delete;

    bool suspects() const;  // some message crashed us, however often
    bool crashed_on(MessageId id) const;
    bool quarantined(MessageId id) const;
    // A sentence for operators.
    static std::string reason();

    // Forgets all messages but these, and writes down crashes from now on.
    Result<> arm(std::span<const MessageId> queued);
    // Counts from nought again: an operator wants another try, or the message is gone.
    void forget(MessageId id);

private:
    using Counts = absl::flat_hash_map<MessageId, std::uint32_t>;
    void rewrite(const Counts& counts) const;

    const std::string path_;
    int fd_ = -1;
    async::Guarded<Counts> counts_;
};

}  // namespace sluice::daemon
