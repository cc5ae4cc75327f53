#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dns/resolver.h"

namespace sluice::dns {

enum class RecordType : std::uint16_t { a = 1, mx = 15, aaaa = 28 };  // their numbers on the wire

const char* name_of(RecordType type);

// Value; hashable.
struct Question {
    std::string name;  // lower case, no trailing dot
    RecordType type;

    std::string text() const { return name + " " + name_of(type); }
    friend bool operator==(const Question&, const Question&) = default;
    template <class H>
    friend H AbslHashValue(H h, const Question& q) {
        return H::combine(std::move(h), q.name, q.type);
    }
};

struct Records {
    std::vector<MxRecord> mx;               // by preference, then name; at most mx_records_max
    std::vector<net::IpAddress> addresses;  // in their own order; at most addresses_max
};

// At most this much of one answer is kept, always the same part whatever the order on the wire (DNS-2).
inline constexpr std::size_t mx_records_max = 100;
inline constexpr std::size_t addresses_max = 20;

// What DNS said to one question. Immutable once shared.
struct Finding {
    Result<Records> records;      // or dns_no_domain, dns_no_data, dns_temporary, cancelled
    std::chrono::seconds ttl{0};  // 0: not to be kept
    bool secure = false;
};
using FindingPtr = std::shared_ptr<const Finding>;

}  // namespace sluice::dns
