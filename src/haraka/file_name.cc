#include "haraka/file_name.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "base/text.h"

namespace sluice::haraka {
namespace {

constexpr std::size_t parts_now = 7;
constexpr std::size_t parts_before = 4;
constexpr std::array<std::pair<std::string_view, char>, 3> escapes{{{"\\057", '\\'}, {"\\072", ':'}, {"\\137", '_'}}};

// A time that somebody computed may have a fraction, which Haraka does not read.
std::optional<std::int64_t> whole_number(std::string_view text) {
    if (const std::size_t point = text.find('.'); point != std::string_view::npos && point > 0) {
        const std::string_view fraction = text.substr(point + 1);
        if (!std::all_of(fraction.begin(), fraction.end(), is_digit)) return std::nullopt;
        text = text.substr(0, point);
    }
    if (!std::all_of(text.begin(), text.end(), is_digit)) return std::nullopt;
    return parse_number<std::int64_t>(text);
}

// A plugin that answers a deferral without a number makes Haraka write NaN; such a file is never tried again there.
std::optional<std::int64_t> next_attempt(std::string_view text) {
    return text == "NaN" ? std::optional<std::int64_t>(0) : whole_number(text);
}

std::string unescaped_once(std::string_view host) {
    std::string text;
    while (!host.empty()) {
        const auto* const found = std::find_if(
            escapes.begin(), escapes.end(), [&](const auto& escape) { return host.starts_with(escape.first); });
        text += found == escapes.end() ? host.front() : found->second;
        host.remove_prefix(found == escapes.end() ? 1 : found->first.size());
    }
    return text;
}

// Every renaming escapes the host name once more.
std::string unescaped(std::string_view host) {
    std::string text(host);
    for (std::string shorter = unescaped_once(text); shorter.size() < text.size(); shorter = unescaped_once(text)) {
        text = std::move(shorter);
    }
    return text;
}

// Nothing stands for a part that is none.
struct Parts {
    std::optional<std::int64_t> arrival, next, attempts, pid;
};

bool fill(FileName& name, const Parts& parts) {
    if (!parts.arrival || !parts.next || !parts.attempts || !parts.pid) return false;
    name.kind = NameKind::queued;
    name.arrival_ms = *parts.arrival;
    name.next_attempt_ms = *parts.next;
    name.attempts = static_cast<std::uint32_t>(
        std::min<std::int64_t>(*parts.attempts, std::numeric_limits<std::uint32_t>::max()));
    name.pid = *parts.pid;
    return true;
}

void read_present_form(FileName& name, const std::vector<std::string_view>& parts) {
    const std::string_view uid = parts[4];
    const bool is_uid = !uid.empty() && std::all_of(uid.begin(), uid.end(), is_alnum);
    if (!is_uid || !whole_number(parts[5]) || parts[6].empty()) return;
    if (!fill(name, {whole_number(parts[0]), next_attempt(parts[1]), whole_number(parts[2]), whole_number(parts[3])})) return;
    name.host = unescaped(parts[6]);
    name.identity = std::string(parts[0]) + "_" + std::string(uid);
}

void read_old_form(FileName& name, const std::vector<std::string_view>& parts, std::string_view whole) {
    const std::size_t point = parts[3].find('.');
    if (point == std::string_view::npos || !whole_number(parts[3].substr(0, point))) return;
    if (!fill(name, {std::int64_t{0}, next_attempt(parts[0]), whole_number(parts[1]), whole_number(parts[2])})) return;
    name.host = unescaped(parts[3].substr(point + 1));
    name.identity = std::string(whole);
}

}  // namespace

FileName parse_file_name(std::string_view name) {
    FileName read;
    if (name.starts_with("__tmp__.") || name.starts_with('.')) {
        read.kind = NameKind::temporary;
    } else if (name.starts_with("error.")) {
        read.kind = NameKind::corrupt;
    } else if (const std::vector<std::string_view> parts = split(name, '_'); parts.size() == parts_now) {
        read_present_form(read, parts);
    } else if (parts.size() == parts_before) {
        read_old_form(read, parts, name);
    }
    return read;
}

}  // namespace sluice::haraka
