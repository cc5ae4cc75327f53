#include "policy/policy.h"

#include "base/assert.h"

namespace sluice::policy {

const char* name_of(Field field) {
    switch (field) {
        case Field::tenantid: return "tenantid";
        case Field::recipientdomain: return "recipientdomain";
        case Field::localip: return "localip";
        case Field::remoteip: return "remoteip";
        case Field::remotemx: return "remotemx";
    }
    UNREACHABLE();
}

BucketKey bucket_key(std::uint32_t place, const Policy& policy, const FieldValues& values) {
    BucketKey key{place, {}};
    for (std::size_t i = 0; i < field_count; ++i) {
        const Field field = static_cast<Field>(i);
        if (policy.fields.has(field)) key.values[field] = values[field];
    }
    return key;
}

}  // namespace sluice::policy
