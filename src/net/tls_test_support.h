#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

// Certificates made on the spot, for the tests of TLS.

namespace sluice::net {

struct FreeKey {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeCertificate {
    void operator()(X509* certificate) const { X509_free(certificate); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeKey>;
using CertificatePtr = std::unique_ptr<X509, FreeCertificate>;

// A key and a certificate for it. Value, movable.
struct Identity {
    KeyPtr key;
    CertificatePtr certificate;
};

inline void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX context{};
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    ASSERT_NE(extension, nullptr) << value;
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

// `names` as in OpenSSL's configuration ("DNS:a.test,IP:192.0.2.1"), empty for none. Without issuer:
// self-signed.
inline Identity make_identity(
    const std::string& common_name, const std::string& names, const Identity* issuer = nullptr,
    bool is_authority = false, KeyPtr key = KeyPtr(EVP_EC_gen("P-256"))
) {
    static long serial = 0;
    Identity identity{std::move(key), CertificatePtr(X509_new())};
    X509* certificate = identity.certificate.get();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 24 * 3600);
    X509_NAME* subject = X509_get_subject_name(certificate);
    const auto* text = reinterpret_cast<const unsigned char*>(common_name.c_str());
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, text, -1, -1, 0);
    X509* parent = issuer != nullptr ? issuer->certificate.get() : certificate;
    X509_set_issuer_name(certificate, X509_get_subject_name(parent));
    X509_set_pubkey(certificate, identity.key.get());
    if (is_authority) add_extension(certificate, parent, NID_basic_constraints, "critical,CA:TRUE");
    if (!names.empty()) add_extension(certificate, parent, NID_subject_alt_name, names);
    X509_sign(certificate, issuer != nullptr ? issuer->key.get() : identity.key.get(), EVP_sha256());
    return identity;
}

inline void append_certificate(const std::string& file, const Identity& identity) {
    std::FILE* out = std::fopen(file.c_str(), "a");
    PEM_write_X509(out, identity.certificate.get());
    std::fclose(out);
}

inline void write_key(const std::string& file, const Identity& identity, const char* passphrase = nullptr) {
    std::FILE* out = std::fopen(file.c_str(), "w");
    const EVP_CIPHER* cipher = passphrase != nullptr ? EVP_aes_128_cbc() : nullptr;
    PEM_write_PrivateKey(out, identity.key.get(), cipher, nullptr, 0, nullptr, const_cast<char*>(passphrase));
    std::fclose(out);
}

}  // namespace sluice::net
