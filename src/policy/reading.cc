#include "policy/reading.h"

namespace sluice::policy {
namespace {

constexpr std::size_t tag_max = 32;
constexpr std::size_t property_max = 1'024;

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

}  // namespace sluice::policy
