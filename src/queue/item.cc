#include "queue/item.h"

namespace sluice::queue {

bool may_become(ItemState from, ItemState to) {
    switch (from) {
        case ItemState::scheduled: return to != ItemState::scheduled;
        case ItemState::ready: return to == ItemState::sending || to == ItemState::held;
        case ItemState::sending: return to != ItemState::sending;
        case ItemState::held: return to != ItemState::held;
    }
    UNREACHABLE();
}

}  // namespace sluice::queue
