#include "mail/message.h"

#include <unordered_map>

namespace sluice::mail {

std::vector<ItemSpec> split_items(const std::vector<Recipient>& recipients, bool always_split) {
    std::vector<ItemSpec> items;
    std::unordered_map<std::string, std::size_t> place;
    for (std::uint32_t i = 0; i < recipients.size(); ++i) {
        std::string domain = recipients[i].address.routing_domain();
        std::size_t at = items.size();
        if (!always_split) at = place.try_emplace(domain, at).first->second;
        if (at == items.size()) items.push_back({std::move(domain), {}});
        items[at].recipients.push_back(i);
    }
    return items;
}

}  // namespace sluice::mail
