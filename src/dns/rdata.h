#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "dns/resolver.h"
#include "net/address.h"

namespace sluice::dns {

// The data of one resource record (RFC 1035 §3.3, RFC 3596) as octets, names uncompressed. Whatever the
// octets are, the answer is a value or bad_input: lengths must fit exactly, labels have 1 to 63 octets, names
// at most 255, and a compression pointer has no place here (DNS-1).

// The host is in presentation form: lower case, no trailing dot, a dot or backslash inside a label escaped by
// a backslash, octets that are not printable as \DDD (RFC 1035 §5.1). So it can be logged, compared and asked
// for.
Result<MxRecord> parse_mx(std::string_view rdata);
Result<net::IpAddress> parse_a(std::string_view rdata);
Result<net::IpAddress> parse_aaaa(std::string_view rdata);

// True for text in presentation form that stands for a name on the wire: labels of 1 to 63 octets, 255 in
// all, no raw octet that parse_mx() would have escaped. Not for the root.
bool is_presentable_name(std::string_view text);

// How many CNAME records stand in the answer section of a DNS message.
Result<std::size_t> count_aliases(std::string_view message);

// True for a message whose authority section names servers but no SOA: whoever sent it knows somebody to ask,
// which says nothing about what exists (RFC 2308 §2.2).
Result<bool> is_referral(std::string_view message);

}  // namespace sluice::dns
