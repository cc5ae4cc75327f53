#include "delivery/admission.h"

#include "spool/spool.h"

namespace sluice::delivery {

queue::Admit admission(const mail::MessagePtr& message, std::uint32_t index) {
    const mail::ItemSpec& item = message->items[index];
    queue::Admit admit;
    admit.id = ItemId{message->id, index};
    admit.domain = item.domain;
    admit.tenant = message->tenant;
    admit.job = message->job;
    admit.transport = message->transport;
    admit.sender_domain = spool::sender_domain(message->envelope);
    admit.marks = message->marks;
    admit.arrival = message->arrival;
    admit.due = message->arrival;
    admit.lifetime = message->lifetime;
    admit.size = static_cast<std::uint32_t>(message->size());
    admit.recipient_count = static_cast<std::uint32_t>(item.recipients.size());
    admit.source_hash = spool::source_hash(message->envelope, item);
    admit.priority = message->priority;
    admit.fresh = message;
    return admit;
}

}  // namespace sluice::delivery
