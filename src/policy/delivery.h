#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/problem.h"
#include "policy/match.h"
#include "policy/policy_set.h"

namespace sluice::policy {

enum class TlsDemand : std::uint8_t { disabled, optional, optional_verify, require, require_verify };
enum class FamilyChoice : std::uint8_t { any, ipv4, ipv6, prefer_ipv4, prefer_ipv6 };

// How deliveries are made where a condition holds; what is absent is as the settings of the instance say. Value.
struct DeliverySettings {
    struct Retry {
        Duration after{0};
        bool notify = false;  // tell the sender of the delay
        friend bool operator==(const Retry&, const Retry&) = default;
    };
    std::optional<TlsDemand> tls;
    std::optional<bool> pooling, evictable;
    std::optional<Duration> idle_timeout;
    std::optional<std::uint32_t> transactions;      // of a session
    std::optional<Duration> connect_timeout;
    std::map<std::string, Duration> state_timeouts;  // by SMTP state: "BANNER", "EHLO", ...
    std::optional<std::uint32_t> retry_count;
    std::vector<Retry> retries;                      // the last one repeats
    std::optional<Duration> lifetime;
    std::optional<FamilyChoice> family;

    bool any() const { return *this != DeliverySettings{}; }
    // What a connection is like that was opened under these settings: those with equal texts can stand in for each other. Empty where
    // nothing differs from the settings of the instance.
    std::string session_text() const;
    bool verifies_tls() const { return tls == TlsDemand::optional_verify || tls == TlsDemand::require_verify; }
    friend bool operator==(const DeliverySettings&, const DeliverySettings&) = default;
};
using DeliverySettingsPtr = std::shared_ptr<const DeliverySettings>;

// All of delivery.yaml. Immutable.
struct DeliveryFile {
    struct Condition {
        Match match;
        DeliverySettings settings;
        int line = 0;
    };
    FieldTable fields;  // those of the policy set, and more
    std::vector<Condition> conditions;
    DeliverySettings fallback;
    std::string text;  // the file, to tell whether it changed

    // Settings have places: the default ones 0, then those of the conditions in their order.
    std::size_t places() const { return conditions.size() + 1; }
    const DeliverySettings& at(std::size_t place) const { return place == 0 ? fallback : conditions[place - 1].settings; }
    // Of the first condition that holds, or else the default ones.
    std::size_t place_of(const FieldTexts& texts) const;
    const DeliverySettings& settings_of(const FieldTexts& texts) const { return at(place_of(texts)); }
    // All fields that some condition asks for.
    FieldSet used_fields() const;
};
using DeliveryFilePtr = std::shared_ptr<const DeliveryFile>;

// `set` has the lists that patterns refer to. Nothing exactly when a problem is an error.
std::optional<DeliveryFile> parse_delivery(std::string_view text, const std::string& file, const PolicySet& set, Problems& problems);

}  // namespace sluice::policy
