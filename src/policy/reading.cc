#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr std::size_t tag_max = 32;
constexpr std::size_t property_max = 1'024;
constexpr std::size_t id_max = 128;
constexpr std::size_t remark_max = 1'024;

}  // namespace

Properties Reading::properties(const YAML::Node& node) {
    Properties found;
    for (const Entry& entry : entries(node, "properties")) {
        std::optional<std::string> value = text(entry.value, "properties: " + shortened(entry.key));
        if (!value) continue;
        if (value->size() + entry.key.size() > property_max) {
            error(entry.value, "properties: expected at most " + std::to_string(property_max) + " octets of key and value");
            continue;
        }
        found.emplace_back(entry.key, std::move(*value));
    }
    return found;
}

std::optional<std::string> Reading::tag(const YAML::Node& node) {
    std::optional<std::string> word = text(node, "tag");
    if (!word || word->size() <= tag_max) return word;
    error(node, "tag: expected at most " + std::to_string(tag_max) + " characters");
    return std::nullopt;
}

std::optional<std::string> Reading::id(const YAML::Node& node) {
    std::optional<std::string> word = text(node, "id");
    if (!word) return word;
    const bool plain = std::all_of(word->begin(), word->end(), [](char c) { return c > ' ' && c < 0x7f; });
    if (!word->empty() && word->size() <= id_max && plain) return word;
    error(node, "id: expected 1 to " + std::to_string(id_max) + " printable ASCII characters without blanks");
    return std::nullopt;
}

std::optional<std::string> Reading::remark(const YAML::Node& node, const std::string& what) {
    std::optional<std::string> words = text(node, what);
    if (!words || words->size() <= remark_max) return words;
    error(node, what + ": expected at most " + std::to_string(remark_max) + " octets");
    return std::nullopt;
}

std::optional<Instant> Reading::instant(const YAML::Node& node, const std::string& what) {
    constexpr std::uint64_t last = std::uint64_t{1} << 53;
    const std::optional<std::uint64_t> ms = count(node, what, last);
    return ms ? std::optional(instant_from_ms(static_cast<std::int64_t>(*ms))) : std::nullopt;
}

}  // namespace sluice::policy
