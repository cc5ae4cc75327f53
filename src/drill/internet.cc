#include "drill/internet.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <cstdlib>
#include <filesystem>

#include "async/blocking.h"
#include "async/signal.h"
#include "base/assert.h"
#include "drill/host_session.h"
#include "drill/virtual_time.h"

namespace sluice::drill {
namespace {

using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using CertificatePtr = std::unique_ptr<X509, decltype(&X509_free)>;

// Signatures of Ed25519 always have the same size: what travels does not depend on chance.
KeyPtr new_key() { return {EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), &EVP_PKEY_free}; }

void extend(X509* certificate, X509* issuer, int kind, const char* value) {
    X509V3_CTX context{};
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
    ASSERT(extension != nullptr);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

// Without issuer: an authority. Times are fixed, as the world's time is made up.
CertificatePtr new_certificate(EVP_PKEY* key, X509* issuer, EVP_PKEY* issuer_key, const char* until, int serial) {
    CertificatePtr certificate(X509_new(), &X509_free);
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial);
    ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate.get()), "20200101000000Z");
    ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate.get()), until);
    X509_NAME* subject = X509_get_subject_name(certificate.get());
    const auto* text = reinterpret_cast<const unsigned char*>(issuer != nullptr ? "host" : "authority");
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, text, -1, -1, 0);
    X509* parent = issuer != nullptr ? issuer : certificate.get();
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(parent));
    X509_set_pubkey(certificate.get(), key);
    if (issuer == nullptr) extend(certificate.get(), parent, NID_basic_constraints, "critical,CA:TRUE");
    if (issuer != nullptr) extend(certificate.get(), parent, NID_subject_alt_name, "DNS:*.mx.test,DNS:engine.test");
    X509_sign(certificate.get(), issuer_key, nullptr);
    return certificate;
}

void write_files(const std::string& name, X509* certificate, EVP_PKEY* key) {
    std::FILE* file = std::fopen((name + ".crt").c_str(), "w");
    ASSERT(file != nullptr);
    PEM_write_X509(file, certificate);
    std::fclose(file);
    file = std::fopen((name + ".key").c_str(), "w");
    ASSERT(file != nullptr);
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
}

std::shared_ptr<net::TlsContext> server_context(const std::string& name) {
    net::TlsOptions options;
    options.certificates = {name + ".crt"};
    options.keys = {name + ".key"};
    auto context = net::TlsContext::server(options);
    ASSERT(context.has_value());
    return *context;
}

}  // namespace

Credentials Credentials::make() {
    std::string directory = (std::filesystem::temp_directory_path() / "drill-XXXXXX").string();
    ASSERT(::mkdtemp(directory.data()) != nullptr);
    const KeyPtr authority_key = new_key();
    const CertificatePtr authority = new_certificate(authority_key.get(), nullptr, authority_key.get(), "20990101000000Z", 1);
    const KeyPtr key = new_key();
    const CertificatePtr good = new_certificate(key.get(), authority.get(), authority_key.get(), "20990101000000Z", 2);
    const CertificatePtr expired = new_certificate(key.get(), authority.get(), authority_key.get(), "20210101000000Z", 3);
    write_files(directory + "/authority", authority.get(), authority_key.get());
    write_files(directory + "/good", good.get(), key.get());
    write_files(directory + "/expired", expired.get(), key.get());
    Credentials credentials;
    credentials.directory_ = directory;
    credentials.authority_file = directory + "/authority.crt";
    credentials.certificate_file = directory + "/good.crt";
    credentials.key_file = directory + "/good.key";
    credentials.good = server_context(directory + "/good");
    credentials.expired = server_context(directory + "/expired");
    return credentials;
}

Credentials::~Credentials() {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
}

bool is_local_source(const net::IpAddress& address) { return address.text().starts_with("11.9.") || address.text().starts_with("2a00:9:"); }

// ---- hosts --------------------------------------------------------------------------------------------------------

Internet::Internet(
    async::Executor executor, const Plan& plan, const Credentials& credentials, Ledger& ledger, std::uint64_t seed)
    : executor_(executor), plan_(plan), credentials_(credentials), ledger_(ledger), random_(seed), tasks_(executor) {
    std::uint32_t number = 0;
    for (const auto& [name, host_plan] : plan.hosts) {
        ++number;
        Host& host = hosts_[name];
        host.name = name;
        host.plan = host_plan;
        const std::string text = host_plan.ipv6 ? "2a00:1::" + std::to_string(number) : "11.1.0." + std::to_string(number);
        host.address = *net::IpAddress::parse(text);
        by_address_[host.address] = &host;
    }
    for (const auto& [name, domain] : plan.domains) {
        for (const auto& [host, preference] : domain.mx) in_charge_[name].insert(host);
        if (domain.mx.empty()) in_charge_[name].insert(name);
    }
}

Internet::~Internet() = default;

bool Internet::serves(const std::string& host, const std::string& domain) const {
    const auto found = in_charge_.find(domain);
    return found != in_charge_.end() && found->second.contains(host);
}

LinkTerms Internet::terms() {
    LinkTerms terms;
    terms.latency_min_ns = 100'000;
    terms.latency_max_ns = std::max<std::int64_t>(plan_.latency_max_ms, 1) * 1'000'000;
    terms.read_bytes_max = plan_.read_bytes_max;
    terms.seed = random_.next();
    return terms;
}

Mood Internet::pick_mood(const Host& host) {
    if (healed_) return Mood::obedient;
    return host.plan.moods[random_.below(host.plan.moods.size())];
}

// Connects an engine: its executor is known when it asks.
class EngineNetwork final : public net::Network {
public:
    explicit EngineNetwork(Internet& internet) : internet_(internet) {}
    Task<Result<net::StreamPtr>> connect(net::ConnectOptions options) override {
        const async::Executor engine = co_await boost::asio::this_coro::executor;
        co_return co_await internet_.connect(engine, std::move(options));
    }

private:
    Internet& internet_;
};

std::unique_ptr<net::Network> Internet::network() { return std::make_unique<EngineNetwork>(*this); }

Task<Result<net::StreamPtr>> Internet::connect(async::Executor engine, net::ConnectOptions options) {
    const std::string where = options.remote.text();
    if (options.bind && !is_local_source(*options.bind)) co_return fail(Errc::bad_source, "source of " + where);
    const std::chrono::milliseconds took(static_cast<std::int64_t>(1 + random_.below(static_cast<std::uint64_t>(plan_.latency_max_ms) + 1)));
    const bool waited = co_await async::sleep_for(took);
    if (!waited) co_return fail(Errc::cancelled, where);
    const auto found = by_address_.find(options.remote.address);
    if (found == by_address_.end()) co_return fail(Errc::unreachable, where + ": nobody is there");
    Host& host = *found->second;
    const Mood mood = pick_mood(host);
    if (mood == Mood::refuses_connections) co_return fail(Errc::refused, where);
    if (mood == Mood::unreachable) {
        const bool patient = co_await async::sleep_for(options.timeout);
        co_return fail(patient ? Errc::timed_out : Errc::cancelled, where);
    }
    const net::Endpoint source(options.bind.value_or(*net::IpAddress::parse(host.plan.ipv6 ? "2a00:9::1" : "11.9.0.1")), 40'000);
    const LinkPtr link = Link::make(engine, executor_, source, options.remote, terms());
    std::erase_if(links_, [](const LinkPtr& one) { return one->near_is_gone(); });
    links_.push_back(link);
    if (!tasks_.closing()) {
        tasks_.spawn(serve(host, mood, link));
    }
    ledger_.trace("connected to " + host.name + " which " + name_of(mood));
    co_return link->take_near();
}

Task<> Internet::serve(Host& host, Mood mood, LinkPtr link) {
    HostSession session(*this, host, mood, link, link->take_far());
    co_await session.serve();
}

std::size_t Internet::open_links() {
    std::erase_if(links_, [](const LinkPtr& one) { return one->near_is_gone(); });
    return links_.size();
}

std::size_t Internet::talking_links() {
    std::erase_if(talking_, [](const LinkPtr& one) { return one->near_is_gone(); });
    return talking_.size();
}

void Internet::talks(const LinkPtr& link) {
    if (std::find(talking_.begin(), talking_.end(), link) != talking_.end()) return;
    talking_.push_back(link);
    const std::size_t count = talking_links();
    if (talking_max_ != 0 && count > talking_max_) ledger_.violate("the engine talks on " + std::to_string(count) + " connections at once");
}

void Internet::reset_all() {
    for (const LinkPtr& link : links_) link->reset();
    links_.clear();
}

void Internet::reset_one() {
    if (open_links() == 0) return;
    const LinkPtr link = links_[random_.below(links_.size())];
    if (random_.chance(0.3)) {
        link->swallow();
    } else {
        link->reset();
    }
}

// ---- names --------------------------------------------------------------------------------------------------------

// Answers the questions of one resolver, as the moods of the domains have it.
class Names final : public dns::Context {
public:
    Names(Internet& internet, async::Executor executor) : internet_(internet), executor_(executor), news_(executor) {}

    Result<int> ask(Asker& asker) override {
        const int number = ++last_;
        const dns::Question& question = asker.question();
        const std::int64_t answered = internet_.never_answers(question) ? VirtualTime::never : VirtualTime::now_ns() + internet_.delay_ns();
        open_[number] = {&asker, answered};
        news_.set();
        return number;
    }
    void cancel(int number) override { open_.erase(number); }
    Task<> serve() override;
    void stop() override {
        stopping_ = true;
        news_.set();
    }

private:
    struct Open {
        Asker* asker;
        std::int64_t answered_ns;
    };
    Task<> wait_until(std::int64_t when_ns);

    Internet& internet_;
    async::Executor executor_;
    async::Signal news_;
    std::map<int, Open> open_;
    int last_ = 0;
    bool stopping_ = false;
};

Task<> Names::wait_until(std::int64_t when_ns) {
    const std::chrono::nanoseconds left(when_ns - VirtualTime::now_ns());
    co_await async::sleep_for(std::chrono::ceil<std::chrono::milliseconds>(left));
    news_.set();
}

Task<> Names::serve() {
    async::TaskGroup alarms(executor_);
    while (!stopping_) {
        std::int64_t next = VirtualTime::never;
        for (auto at = open_.begin(); at != open_.end();) {
            if (at->second.answered_ns > VirtualTime::now_ns()) {
                next = std::min(next, at->second.answered_ns);
                ++at;
                continue;
            }
            Asker& asker = *at->second.asker;
            at = open_.erase(at);
            asker.told(internet_.answer(asker.question()));
        }
        if (next != VirtualTime::never) alarms.spawn(wait_until(next));
        co_await news_.wait();
    }
    co_await alarms.close();
}

dns::MakeContext Internet::names() {
    return [this](async::Executor executor, const config::DnsSettings&) { return std::make_unique<Names>(*this, executor); };
}

std::int64_t Internet::delay_ns() { return static_cast<std::int64_t>(1 + random_.below(80)) * 1'000'000; }

bool Internet::never_answers(const dns::Question& question) {
    const auto domain = plan_.domains.find(question.name);
    if (healed_ || domain == plan_.domains.end()) return false;
    const DnsMood mood = domain->second.dns;
    return mood == DnsMood::silent || (mood == DnsMood::slow && random_.chance(0.3));
}

dns::Finding Internet::answer(const dns::Question& question) {
    const auto no = [&](Errc code, std::int64_t ttl) { return dns::Finding{fail(code, question.text()), std::chrono::seconds(ttl)}; };
    const auto domain = plan_.domains.find(question.name);
    if (domain != plan_.domains.end() && question.type == dns::RecordType::mx) {
        const DomainPlan& plan = domain->second;
        DnsMood mood = healed_ ? DnsMood::fine : plan.dns;
        if (mood == DnsMood::flaky) mood = random_.chance(0.5) ? DnsMood::temporary : DnsMood::fine;
        if (mood == DnsMood::temporary) return no(Errc::dns_temporary, 0);
        if (mood == DnsMood::no_domain) return no(Errc::dns_no_domain, 60);
        if (plan.mx.empty()) return no(Errc::dns_no_data, 60);
        dns::Records records;
        const bool some = mood == DnsMood::changing && plan.mx.size() > 1;
        for (const auto& [host, preference] : plan.mx) {
            if (!some || random_.chance(0.6)) records.mx.push_back({preference, host});
        }
        if (records.mx.empty()) records.mx.push_back({plan.mx.front().second, plan.mx.front().first});
        std::sort(records.mx.begin(), records.mx.end(), [](const auto& a, const auto& b) {
            return std::pair(a.preference, a.host) < std::pair(b.preference, b.host);
        });
        return dns::Finding{std::move(records), std::chrono::seconds(plan.ttl_s)};
    }
    const auto host = hosts_.find(question.name);
    if (host == hosts_.end()) return no(domain != plan_.domains.end() ? Errc::dns_no_data : Errc::dns_no_domain, 60);
    const bool asks_v6 = question.type == dns::RecordType::aaaa;
    if (question.type == dns::RecordType::mx || asks_v6 != host->second.plan.ipv6) return no(Errc::dns_no_data, 60);
    dns::Records records;
    records.addresses.push_back(host->second.address);
    return dns::Finding{std::move(records), std::chrono::seconds(300)};
}

}  // namespace sluice::drill
