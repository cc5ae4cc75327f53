#include "policy/policy.h"

#include "base/assert.h"

namespace sluice::policy {

BucketKey bucket_key(std::uint32_t place, const WindowPolicy& policy, const FieldValues& values) {
    BucketKey key{place, {}};
    for (std::size_t i = 0; i < field_max; ++i) {
        const Field field = static_cast<Field>(i);
        if (policy.fields.has(field)) key.values[field] = values[field];
    }
    return key;
}

}  // namespace sluice::policy
