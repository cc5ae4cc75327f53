#include "config/tls_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/crc32c.h"
#include "base/text.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t pem_bytes_max = 4 << 20;
const std::string ini = "tls.ini";

template <class T, void (*Free)(T*)>
struct Freed {
    void operator()(T* object) const { Free(object); }
};
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX, SSL_CTX_free>>;
using Memory = std::unique_ptr<BIO, Freed<BIO, BIO_vfree>>;

Memory memory_of(const std::string& text) {
    return Memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// An encrypted key would otherwise make OpenSSL ask on the terminal.
int no_password(char*, int, int, void*) {
    return -1;
}

Result<std::string> read_pem(const std::string& path) {
    const auto text = read_text(path, pem_bytes_max);
    if (!text) return fail(Errc::config, path + " " + text.error().detail);
    if (!*text) return fail(Errc::config, path + " does not exist");
    return **text;
}

// Whether TLS can be set up with the file of `ca` or `dhparam`; any text will do for another key.
Result<> check_contents(const std::string& path, const std::string& key) {
    TRY(const std::string text, read_pem(path));
    const Context context(SSL_CTX_new(TLS_method()));
    std::string missing;
    if (key == "ca" && SSL_CTX_load_verify_file(context.get(), path.c_str()) != 1) missing = "no certificates in PEM form";
    if (key == "dhparam") {
        PrivateKey parameters(PEM_read_bio_Parameters(memory_of(text).get(), nullptr));
        if (parameters && SSL_CTX_set0_tmp_dh_pkey(context.get(), parameters.get()) == 1) static_cast<void>(parameters.release());
        else missing = "no DH parameters in PEM form that OpenSSL takes";
    }
    ERR_clear_error();
    if (missing.empty()) return {};
    return fail(Errc::config, path + " holds " + missing);
}

std::string absolute_in(const std::string& folder, const std::string& name) {
    return name.starts_with('/') ? name : folder + "/" + name;
}

bool exists(const std::string& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

// The PEM files under config/tls, in the order of their names.
std::vector<std::string> bundles_in(const std::string& folder) {
    std::vector<std::string> files;
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
        std::error_code ignored;
        if (entry->path().extension() == ".pem" && entry->is_regular_file(ignored))
            files.push_back(entry->path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
}

std::uint16_t port_of(const std::string& listener) {
    const auto endpoint = parse_endpoint(listener, 0);
    return endpoint ? endpoint->port : std::uint16_t{0};
}

class Resolver {
public:
    Resolver(Settings& settings, const Sources& sources, Problems& problems)
        : settings_(settings),
          sources_(sources),
          problems_(problems),
          folder_(settings.directory + "/config") {}

    void inbound(bool plugin_listed);
    void outbound();

private:
    bool speaks_tls(const std::string& listener) const;
    void refuse_demands_by_port();
    void report_no_certificate(bool implicit);
    void add_listed_pairs();
    void add_bundles();
    void check_ciphers(const std::string& section, const std::string& ciphers);
    // Makes `file` absolute; when it does not exist or is not what the key asks for, reports that (unless `quiet`) and empties it.
    enum class Missing { error, warning, quiet };
    void settle(std::string& file, const std::string& section, const std::string& key, Missing missing);
    // How a missing file of [outbound] is reported: one that comes from [main] was reported with inbound TLS.
    Missing outbound_missing(const std::string& key) const {
        return inbound_checked_ && outbound_section(key) == "main" ? Missing::quiet : Missing::warning;
    }
    void settle_client_certificate();
    int line(const std::string& section, const std::string& key) const {
        return sources_.line_of(ini, section, key);
    }
    // The section in which a key of [outbound] was given.
    std::string outbound_section(const std::string& key) const {
        return line("outbound", key) > 0 ? "outbound" : "main";
    }
    void error(int at, std::string message) { problems_.error(shown_name(ini), at, std::move(message)); }
    void warn(int at, std::string message) { problems_.warning(shown_name(ini), at, std::move(message)); }

    Settings& settings_;
    const Sources& sources_;
    Problems& problems_;
    std::string folder_;
    bool inbound_checked_ = false;
};

void Resolver::settle(
    std::string& file, const std::string& section, const std::string& key, Missing missing
) {
    if (file.empty()) return;
    file = absolute_in(folder_, file);
    if (const auto usable = check_contents(file, key); !usable) {
        const std::string message = key + ": " + usable.error().detail;
        if (missing == Missing::error) error(line(section, key), message);
        if (missing == Missing::warning) warn(line(section, key), message + "; it is left out");
        file.clear();
    }
}

void Resolver::check_ciphers(const std::string& section, const std::string& ciphers) {
    if (ciphers.empty()) return;
    const Context context(SSL_CTX_new(TLS_method()));
    if (!context || SSL_CTX_set_cipher_list(context.get(), ciphers.c_str()) == 1) return;
    ERR_clear_error();
    error(
        line(section, "ciphers"), "ciphers = " + printable(ciphers) + ": expected ciphers that OpenSSL knows"
    );
}

// The pairs of `cert` and `key`, or the default pair when its files exist.
void Resolver::add_listed_pairs() {
    InboundTlsSettings& tls = settings_.tls;
    std::vector<std::string> certificates, keys;
    certificates.swap(tls.certificates);
    keys.swap(tls.keys);
    const bool defaults = certificates.empty() && keys.empty();
    if (certificates.empty()) certificates = {"tls_cert.pem"};
    if (keys.empty()) keys = {"tls_key.pem"};
    if (defaults && !exists(folder_ + "/tls_cert.pem") && !exists(folder_ + "/tls_key.pem")) return;
    if (certificates.size() != keys.size()) {
        return error(
            line("main", "cert"), "cert: expected as many certificates as keys, found " +
                                      std::to_string(certificates.size()) + " and " +
                                      std::to_string(keys.size())
        );
    }
    for (std::size_t i = 0; i < certificates.size(); ++i) {
        const std::string certificate = absolute_in(folder_, certificates[i]);
        const std::string key = absolute_in(folder_, keys[i]);
        const auto facts = check_pair(certificate, key);
        if (!facts) {
            error(line("main", "cert"), facts.error().detail);
            continue;
        }
        if (!facts->warning.empty()) warn(line("main", "cert"), facts->warning);
        tls.certificates.push_back(certificate);
        tls.keys.push_back(key);
    }
}

void Resolver::add_bundles() {
    for (const std::string& bundle : bundles_in(folder_ + "/tls")) {
        const std::string shown = "config/tls/" + fs::path(bundle).filename().string();
        const auto facts = check_pair(bundle, bundle);
        if (!facts) {
            problems_.warning(
                shown, 0, "expected a certificate with its key: " + facts.error().detail + "; it is left out"
            );
            continue;
        }
        if (!facts->warning.empty()) problems_.warning(shown, 0, facts->warning);
        settings_.tls.certificates.push_back(bundle);
        settings_.tls.keys.push_back(bundle);
    }
}

bool Resolver::speaks_tls(const std::string& listener) const {
    const auto& ports = settings_.smtp.smtps_ports;
    return std::find(ports.begin(), ports.end(), port_of(listener)) != ports.end();
}

void Resolver::inbound(bool plugin_listed) {
    InboundTlsSettings& tls = settings_.tls;
    const std::vector<std::string>& listen = settings_.smtp.listen;
    const bool implicit = std::any_of(listen.begin(), listen.end(), [&](const std::string& listener) {
        return speaks_tls(listener);
    });
    if (!plugin_listed && !implicit) {
        tls = InboundTlsSettings();
        return;
    }
    inbound_checked_ = true;
    refuse_demands_by_port();
    const std::size_t problems_before = problems_.all().size();
    add_listed_pairs();
    const bool failed = problems_.all().size() > problems_before && tls.certificates.empty();
    add_bundles();
    if (tls.dh_params.empty() && exists(folder_ + "/dhparams.pem")) tls.dh_params = "dhparams.pem";
    settle(tls.dh_params, "main", "dhparam", Missing::warning);
    settle(tls.ca_file, "main", "ca", Missing::error);
    check_ciphers("main", tls.ciphers);
    tls.enabled = !tls.certificates.empty();
    if (!tls.enabled && !failed) report_no_certificate(implicit);
    if (plugin_listed) return;
    // STARTTLS is what the plugin offers; implicit TLS needs no plugin.
    for (const std::string& listener : listen)
        tls.no_starttls_ports.push_back(port_of(listener));
}

void Resolver::refuse_demands_by_port() {
    for (const Value& port : sources_.given(ini, "main", "requireAuthorized")) {
        if (port.text.empty()) continue;
        error(
            port.line,
            "requireAuthorized: expected nothing: certificates cannot be demanded by port; "
            "`rejectUnauthorized` demands them on all"
        );
    }
}

void Resolver::report_no_certificate(bool implicit) {
    const std::string remedy = "expected config/tls_cert.pem and config/tls_key.pem";
    if (implicit) {
        error(0, "a listener speaks TLS at once (`smtps_port`), but there is no certificate: " + remedy);
    } else {
        warn(0, "plugin `tls` is listed, but there is no certificate, so STARTTLS is not offered: " + remedy);
    }
}

// The pair that was named, or the default pair when both of its files exist. A client certificate is harmless
// and rarely asked for, so a missing one is left out; one that does not fit its key is a mistake.
void Resolver::settle_client_certificate() {
    OutboundTlsSettings& tls = settings_.outbound_tls;
    const bool named = !tls.certificate.empty() || !tls.key.empty();
    if (!named && !(exists(folder_ + "/tls_cert.pem") && exists(folder_ + "/tls_key.pem"))) return;
    if (tls.certificate.empty()) tls.certificate = "tls_cert.pem";
    if (tls.key.empty()) tls.key = "tls_key.pem";
    settle(tls.certificate, outbound_section("cert"), "cert", outbound_missing("cert"));
    settle(tls.key, outbound_section("key"), "key", outbound_missing("key"));
    if (!tls.certificate.empty() && !tls.key.empty()) {
        const auto facts = check_pair(tls.certificate, tls.key);
        if (facts) return;
        // Without plugin `tls` Haraka does not look at the default files, so what lies there need not be
        // usable.
        if (named) error(line(outbound_section("cert"), "cert"), facts.error().detail);
    }
    tls.certificate.clear();
    tls.key.clear();
}

void Resolver::outbound() {
    OutboundTlsSettings& tls = settings_.outbound_tls;
    settle_client_certificate();
    if (tls.dh_params.empty() && exists(folder_ + "/dhparams.pem")) tls.dh_params = "dhparams.pem";
    settle(tls.dh_params, outbound_section("dhparam"), "dhparam", outbound_missing("dhparam"));
    settle(tls.ca_file, outbound_section("ca"), "ca", Missing::error);
    check_ciphers(outbound_section("ciphers"), tls.ciphers);
}

}  // namespace

Result<CertificateFacts> check_pair(const std::string& certificate_path, const std::string& key_path) {
    TRY(const std::string certificate_text, read_pem(certificate_path));
    TRY(const std::string key_text, read_pem(key_path));
    const Certificate certificate(
        PEM_read_bio_X509(memory_of(certificate_text).get(), nullptr, no_password, nullptr)
    );
    const PrivateKey key(PEM_read_bio_PrivateKey(memory_of(key_text).get(), nullptr, no_password, nullptr));
    ERR_clear_error();
    if (!certificate) return fail(Errc::config, certificate_path + " holds no certificate in PEM form");
    if (!key) return fail(Errc::config, key_path + " holds no private key in PEM form without a password");
    const bool match = X509_check_private_key(certificate.get(), key.get()) == 1;
    ERR_clear_error();
    if (!match)
        return fail(
            Errc::config,
            "the key in " + key_path + " does not belong to the certificate in " + certificate_path
        );

    CertificateFacts facts;
    if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
        facts.warning = "the certificate in " + certificate_path + " has expired";
    } else if (X509_cmp_current_time(X509_get0_notBefore(certificate.get())) > 0) {
        facts.warning = "the certificate in " + certificate_path + " is not valid yet";
    }
    return facts;
}

std::vector<std::string> files_of(const InboundTlsSettings& tls) {
    std::vector<std::string> files = tls.certificates;
    files.insert(files.end(), tls.keys.begin(), tls.keys.end());
    files.insert(files.end(), {tls.dh_params, tls.ca_file});
    std::erase(files, "");
    return files;
}

std::vector<std::string> files_of(const OutboundTlsSettings& tls) {
    std::vector<std::string> files{tls.certificate, tls.key, tls.dh_params, tls.ca_file};
    std::erase(files, "");
    return files;
}

// Changes when a file gets other contents under the same name.
std::uint32_t crc_of(const std::vector<std::string>& files) {
    std::string all;
    for (const std::string& file : files) {
        all += file + "\n" + read_pem(file).value_or("");
    }
    return crc32c(all);
}

void resolve_tls(
    Settings& settings, const NativePlugins& plugins, const Sources& sources, Problems& problems
) {
    Resolver resolver(settings, sources, problems);
    resolver.inbound(plugins.tls);
    resolver.outbound();

    settings.tls.files_crc = crc_of(files_of(settings.tls));
    settings.outbound_tls.files_crc = crc_of(files_of(settings.outbound_tls));
}

}  // namespace sluice::config
