#include "dns/unbound.h"

#include <sys/resource.h>
#include <unbound.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/this_coro.hpp>

#include "base/assert.h"
#include "base/text.h"
#include "dns/rdata.h"
#include "net/wait_token.h"

namespace sluice::dns {
namespace {

constexpr int class_in = 1;
constexpr int rcode_nxdomain = 3;
constexpr std::uint16_t dns_port = 53;
// A longer chain of aliases is somebody's mistake or attack (DNS-3).
constexpr std::size_t aliases_max = 11;

const char* text_of_rcode(int rcode) {
    constexpr std::array<const char*, 6> names{"NOERROR",  "FORMERR", "SERVFAIL",
                                               "NXDOMAIN", "NOTIMP",  "REFUSED"};
    const auto index = static_cast<std::size_t>(rcode);
    return rcode >= 0 && index < names.size() ? names[index] : "an unknown response code";
}

Result<> check(int status, const std::string& doing) {
    if (status == UB_NOERROR) return {};
    return fail(Errc::dns_temporary, "resolver cannot " + doing + ": " + ub_strerror(status));
}

Finding without_records(
    Errc code, const Question& question, const std::string& reason, std::chrono::seconds ttl
) {
    return Finding{fail(code, question.text() + ": " + reason), ttl, false};
}

// One record more of the answer.
Result<> add_record(RecordType type, std::string_view rdata, Records& records) {
    if (type == RecordType::mx) {
        TRY(MxRecord mx, parse_mx(rdata));
        records.mx.push_back(std::move(mx));
        return {};
    }
    TRY(const net::IpAddress address, type == RecordType::a ? parse_a(rdata) : parse_aaaa(rdata));
    records.addresses.push_back(address);
    return {};
}

void keep_what_fits(Records& records) {
    const auto order = [](const MxRecord& record) { return std::tie(record.preference, record.host); };
    std::ranges::sort(records.mx, {}, order);
    const auto same = std::ranges::unique(records.mx, {}, order);
    records.mx.erase(same.begin(), same.end());
    if (records.mx.size() > mx_records_max) records.mx.resize(mx_records_max);

    std::ranges::sort(records.addresses);
    const auto twice = std::ranges::unique(records.addresses);
    records.addresses.erase(twice.begin(), twice.end());
    if (records.addresses.size() > addresses_max) records.addresses.resize(addresses_max);
}

std::string_view message_of(const ub_result& result) {
    if (result.answer_packet == nullptr || result.answer_len <= 0) return {};
    return {static_cast<const char*>(result.answer_packet), static_cast<std::size_t>(result.answer_len)};
}

Result<> check_aliases(const ub_result& result) {
    if (message_of(result).empty()) return {};
    TRY(const std::size_t aliases, count_aliases(message_of(result)));
    if (aliases > aliases_max) return fail(Errc::too_large, "the chain of aliases is too long");
    return {};
}

// An empty answer denies that such records exist, unless it only points elsewhere (a lame server, DNS-6).
Finding read_denial(const Question& question, const ub_result& result, std::chrono::seconds ttl) {
    const auto referral = is_referral(message_of(result));
    if (!message_of(result).empty() && referral.value_or(true)) {
        const std::string reason = "the DNS server does not answer but refers to others";
        return without_records(Errc::dns_temporary, question, reason, std::chrono::seconds(0));
    }
    return without_records(Errc::dns_no_data, question, "no such records", ttl);
}

Result<Records> read_records(RecordType type, const ub_result& result) {
    TRY_VOID(check_aliases(result));
    Records records;
    for (std::size_t i = 0; result.data[i] != nullptr; ++i) {
        if (result.len[i] < 0) return fail(Errc::bad_input, "record of negative length");
        TRY_VOID(add_record(
            type, std::string_view(result.data[i], static_cast<std::size_t>(result.len[i])), records
        ));
    }
    keep_what_fits(records);
    return records;
}

// The number of seconds as the library's option wants it; at least one.
std::string whole_seconds(config::Milliseconds time) {
    return std::to_string(std::max<std::int64_t>(1, std::chrono::floor<std::chrono::seconds>(time).count()));
}

// "192.0.2.1:5353" becomes "192.0.2.1@5353".
Result<std::string> server_text(const std::string& server) {
    const auto endpoint = net::Endpoint::parse(server, dns_port);
    if (!endpoint || !endpoint->path.empty()) {
        return fail(Errc::dns_temporary, "DNS server \"" + printable(server) + "\" is not an IP address");
    }
    return endpoint->address.text() + "@" + std::to_string(endpoint->port);
}

void on_answer(void* asker, int status, ub_result* result) {
    auto& who = *static_cast<UnboundContext::Asker*>(asker);
    if (status != UB_NOERROR || result == nullptr) {
        const std::string reason = std::string("resolver failed: ") + ub_strerror(status);
        who.told(without_records(Errc::dns_temporary, who.question(), reason, std::chrono::seconds(0)));
    } else {
        who.told(read_result(who.question(), *result));
    }
    ub_resolve_free(result);
}

// Every question under way is a socket: with few descriptors, few at once, and the others wait.
rlim_t sockets_max() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
    return std::clamp<rlim_t>(limit.rlim_cur / 32, 8, 256);
}

}  // namespace

const char* name_of(RecordType type) {
    switch (type) {
        case RecordType::a:
            return "A";
        case RecordType::mx:
            return "MX";
        case RecordType::aaaa:
            return "AAAA";
    }
    UNREACHABLE();
}

Finding read_result(const Question& question, const ub_result& result) {
    const std::chrono::seconds ttl(std::max(0, result.ttl));
    const std::chrono::seconds not_kept(0);
    if (result.bogus != 0) {  // before all else: such an answer may carry data (DNS-9)
        const std::string why = result.why_bogus != nullptr ? printable(result.why_bogus) : "no reason given";
        return without_records(Errc::dns_temporary, question, "DNSSEC validation failed: " + why, not_kept);
    }
    if (result.nxdomain != 0 && result.rcode == rcode_nxdomain) {
        return without_records(Errc::dns_no_domain, question, "no such domain", ttl);
    }
    if (result.rcode != 0) {
        const std::string reason = std::string("the DNS server answers ") + text_of_rcode(result.rcode);
        return without_records(Errc::dns_temporary, question, reason, not_kept);
    }
    if (result.havedata == 0) return read_denial(question, result, ttl);

    auto records = read_records(question.type, result);
    if (!records) {
        const std::string reason = "malformed answer: " + records.error().detail;
        return without_records(Errc::dns_temporary, question, reason, not_kept);
    }
    return Finding{std::move(records), ttl, result.secure != 0};
}

UnboundContext::UnboundContext(async::Executor executor, const config::DnsSettings& settings)
    : context_(ub_ctx_create()), usable_(set_up(settings)), answers_(executor) {
    if (!usable_) return;
    boost::system::error_code error;
    answers_.assign(ub_fd(context_), error);
    if (error) usable_ = fail(Errc::dns_temporary, "resolver cannot watch its answers: " + error.message());
}

UnboundContext::~UnboundContext() {
    if (answers_.is_open()) answers_.release();  // the descriptor is the library's to close
    if (context_ != nullptr) ub_ctx_delete(context_);
}

Result<> UnboundContext::set_up(const config::DnsSettings& settings) {
    if (context_ == nullptr)
        return fail(Errc::dns_temporary, "resolver cannot start: out of memory or descriptors");
    TRY_VOID(check(ub_ctx_async(context_, 1), "use a thread"));
    TRY_VOID(set_options(settings));
    TRY_VOID(set_servers(settings));
    if (!settings.trust_anchor_file.empty()) {
        const char* file = settings.trust_anchor_file.c_str();
        // The library would only notice later, and not say which file.
        if (::access(file, R_OK) != 0)
            return fail(Errc::dns_temporary, std::string("resolver cannot read ") + file);
        TRY_VOID(
            check(ub_ctx_add_ta_file(context_, file), "read trust anchors from " + settings.trust_anchor_file)
        );
    }
    return forget_local_zones();
}

Result<> UnboundContext::set_options(const config::DnsSettings& settings) {
    const std::string ttl_max = whole_seconds(settings.cache_ttl_max);
    const rlim_t sockets = sockets_max();
    const std::array<std::pair<const char*, std::string>, 9> options{{
        {"do-not-query-localhost:", "no"},  // servers are often on this machine
        {"cache-max-ttl:", ttl_max},        // the library's cache keeps nothing longer than ours
        {"cache-max-negative-ttl:", ttl_max},
        {"outgoing-range:", std::to_string(sockets)},  // the library's default of 16 is too narrow a door for bulk
        {"num-queries-per-thread:", "1024"},
        {"outgoing-num-tcp:", std::to_string(std::min<rlim_t>(sockets, 16))},
        {"infra-host-ttl:", "60"},  // after an outage of the servers, notice soon that it is over (DNS-6)
        {"infra-keep-probing:", "yes"},
        {"max-query-restarts:", std::to_string(aliases_max)},
    }};
    for (const auto& [name, value] : options) {
        TRY_VOID(check(ub_ctx_set_option(context_, name, value.c_str()), std::string("set ") + name));
    }
    return {};
}

Result<> UnboundContext::set_servers(const config::DnsSettings& settings) {
    if (settings.servers.empty()) return check(ub_ctx_resolvconf(context_, nullptr), "read /etc/resolv.conf");
    for (const std::string& server : settings.servers) {
        TRY(const std::string address, server_text(server));
        TRY_VOID(check(ub_ctx_set_fwd(context_, address.c_str()), "use the server " + address));
    }
    return {};
}

// The library answers for some names by itself; here the servers decide what exists.
Result<> UnboundContext::forget_local_zones() {
    for (const char* zone : {"localhost.", "test.", "invalid.", "home.arpa."}) {
        TRY_VOID(check(ub_ctx_zone_remove(context_, zone), std::string("forget its zone ") + zone));
    }
    return {};
}

Result<int> UnboundContext::ask(Asker& asker) {
    if (!usable_) return fail(usable_.error());
    const Question& question = asker.question();
    // What cannot be written on the wire cannot exist. The library would call it a lack of memory.
    if (!is_presentable_name(question.name)) {
        return fail(Errc::dns_no_domain, printable(question.text()) + ": not a domain name");
    }
    int number = 0;
    const int status = ub_resolve_async(
        context_, question.name.c_str(), static_cast<int>(question.type), class_in, &asker, on_answer, &number
    );
    TRY_VOID(check(status, "ask for " + question.text()));
    return number;
}

void UnboundContext::cancel(int number) {
    ub_cancel(context_, number);
}

Task<> UnboundContext::serve() {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    while (usable_ && !stopping_) {
        const auto [error] = co_await answers_.async_wait(boost::asio::posix::descriptor_base::wait_read, net::as_values);
        if (error || stopping_) co_return;
        usable_ = check(ub_process(context_), "read its answers");
    }
}

void UnboundContext::stop() {
    stopping_ = true;
    boost::system::error_code ignored;
    if (answers_.is_open()) answers_.cancel(ignored);
}

}  // namespace sluice::dns
