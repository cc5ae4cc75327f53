#pragma once

#include <string_view>
#include <vector>

#include "queue/names.h"
#include "queue/slab.h"

namespace sluice::queue {

// What the last attempts of items came to, for operators. Equal replies are kept once, at most so many different ones: when there are more, only the
// codes of further ones. Costs four octets an item. Core-owned.
class Replies {
public:
    static constexpr std::size_t octets_max = 240;       // of one reply
    static constexpr std::size_t different_max = 50'000;

    void set(Index item, std::string_view reply);
    void drop(Index item) { set(item, {}); }
    // Equal replies have equal numbers.
    NameId name(Index item) const { return item < of_item_.size() ? of_item_[item] : Names::empty; }
    std::string_view text(NameId name) const { return texts_.text(name); }
    std::string_view text(Index item) const { return texts_.text(name(item)); }
    std::size_t different() const { return texts_.size() - 1; }

private:
    std::string_view kept(std::string_view reply) const;

    Names texts_;
    std::vector<NameId> of_item_;
};

}  // namespace sluice::queue
