#pragma once

#include <string>
#include <vector>

#include "base/problem.h"
#include "base/result.h"
#include "config/plugins.h"
#include "config/settings.h"
#include "config/sources.h"

namespace sluice::config {

// Reads a certificate with its chain and its private key. Errors: config, with a sentence that names the
// file.
struct CertificateFacts {
    std::string warning;  // expired or not yet valid; empty: neither
};
Result<CertificateFacts> check_pair(const std::string& certificate, const std::string& key);

// The files that they name.
std::vector<std::string> files_of(const InboundTlsSettings& tls);
std::vector<std::string> files_of(const OutboundTlsSettings& tls);

// Turns the file names of tls.ini into absolute paths of files that were read and fit together, and decides
// whether inbound TLS is on: plugin `tls` is listed, or a listener speaks implicit TLS (Haraka needs no
// plugin for that).
void resolve_tls(
    Settings& settings, const NativePlugins& plugins, const Sources& sources, Problems& problems
);

}  // namespace sluice::config
