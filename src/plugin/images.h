#pragma once

#include <absl/container/flat_hash_map.h>

#include <atomic>
#include <cstddef>
#include <boost/json/object.hpp>
#include <span>
#include <string>
#include <vector>

#include "async/guarded.h"
#include "base/ids.h"
#include "spool/spool.h"

namespace sluice::plugin {

// Of the JSON text of notes, for an item or a message; the plugin host has the same bound.
inline constexpr std::size_t notes_bytes_max = 64 * 1024;

// What plugins said of queued items, as a JSON text for each: kept here for a host that is started again, and in the spool
// for an engine that is. One of these has the host's image of the notes, another one what was made of envelopes.
// Thread-safe.
class Images {
public:
    // `prefix` begins the keys in the spool, for ever the same.
    explicit Images(std::string prefix) : prefix_(std::move(prefix)) {}

    // At start: takes what is ours from what the spool recovered; whether there was something.
    bool recover(const std::vector<spool::PolicyRecord>& records);
    // After that: forgets those of items that are not queued any more; the batch erases them.
    template <class IsQueued>
    void prune(const IsQueued& is_queued, spool::Batch& batch) {
        images_.with([&](auto& images) {
            for (auto at = images.begin(); at != images.end();) {
                const auto here = at++;
                if (is_queued(here->first)) continue;
                batch.emplace_back(spool::PolicyRecord{key_of(here->first), {}});
                images.erase(here);
            }
            count_ = images.size();
        });
    }

    std::string get(ItemId item) const;  // empty: none
    void set(ItemId item, std::string text);
    // A native plugin sets members of the todo's notes, which began as `given` (JSON text, or empty). False: it would be
    // more than an image may hold, and nothing is set.
    bool note(ItemId item, const std::string& given, const boost::json::object& notes);
    // What was noted so since the last call, as JSON text; empty: nothing.
    std::string take_noted(ItemId item);
    // Nothing is known of any item. Costs one load.
    bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }
    // What record() put into a batch has not become durable: `text` is what get() said before.
    void restore(ItemId item, std::string text);
    // Adds what has changed since it was last recorded; with `decided` the item is forgotten.
    void record(ItemId item, bool decided, spool::Batch& batch);
    // The item has left the queue, and the spool knows that: what was noted since is nobody's.
    void forget(ItemId item);

private:
    struct Image {
        std::string text;
        bool recorded = false;     // this text is in the spool
        bool ever_recorded = false;
        boost::json::object noted = {};  // by native plugins, and not yet told to the plugin host
    };
    std::string key_of(ItemId item) const { return prefix_ + item.text(); }

    const std::string prefix_;
    std::atomic<std::size_t> count_ = 0;
    async::Guarded<absl::flat_hash_map<ItemId, Image>> images_;
};

}  // namespace sluice::plugin
