#include "base/result.h"

#include "base/assert.h"

namespace sluice {

const char* name_of(Errc code) {
    switch (code) {
        case Errc::link_closed: return "link_closed";
        case Errc::timed_out: return "timed_out";
        case Errc::cancelled: return "cancelled";
        case Errc::refused: return "refused";
        case Errc::unreachable: return "unreachable";
        case Errc::address_in_use: return "address_in_use";
        case Errc::bad_source: return "bad_source";
        case Errc::out_of_resources: return "out_of_resources";
        case Errc::tls_failed: return "tls_failed";
        case Errc::bad_reply: return "bad_reply";
        case Errc::bad_input: return "bad_input";
        case Errc::too_large: return "too_large";
        case Errc::dns_temporary: return "dns_temporary";
        case Errc::dns_no_domain: return "dns_no_domain";
        case Errc::dns_no_data: return "dns_no_data";
        case Errc::null_mx: return "null_mx";
        case Errc::mail_loop: return "mail_loop";
        case Errc::config: return "config";
        case Errc::disk_failed: return "disk_failed";
        case Errc::disk_full: return "disk_full";
        case Errc::corrupt: return "corrupt";
        case Errc::locked: return "locked";
        case Errc::not_found: return "not_found";
        case Errc::unsupported: return "unsupported";
        case Errc::auth_unavailable: return "auth_unavailable";
    }
    UNREACHABLE();
}

std::string Error::text() const {
    std::string out = name_of(code);
    if (!detail.empty()) out.append(": ").append(detail);
    return out;
}

}  // namespace sluice
