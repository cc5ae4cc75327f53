#include "queue/replies.h"

#include "queue/filter.h"

namespace sluice::queue {
namespace {

constexpr std::size_t codes_max = 5'000;
constexpr std::size_t basic_code_length = 3;

}  // namespace

void Replies::set(Index item, std::string_view reply) {
    const NameId before = name(item);
    const NameId after = reply.empty() ? Names::empty : texts_.intern(kept(reply));
    if (before != Names::empty) texts_.drop(before);
    if (item >= of_item_.size()) {
        if (after == Names::empty) return;
        of_item_.resize(item + 1, Names::empty);
    }
    of_item_[item] = after;
}

// As much of it as there is room for.
std::string_view Replies::kept(std::string_view reply) const {
    reply = reply.substr(0, octets_max);
    NameId known{};
    if (texts_.find(reply, known) || different() < different_max) return reply;
    const std::string_view code = reply_code(reply);
    if (texts_.find(code, known) || different() < different_max + codes_max) return code;
    return reply.substr(0, basic_code_length);
}

}  // namespace sluice::queue
