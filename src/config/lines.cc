#include "config/lines.h"

#include "base/text.h"

namespace sluice::config {
namespace {

constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

}  // namespace

std::vector<std::string_view> split_lines(std::string_view text) {
    if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const std::size_t end = text.find_first_of("\r\n");
        lines.push_back(text.substr(0, end));
        if (end == std::string_view::npos) break;
        const bool pair = text.substr(end, 2) == "\r\n";
        text.remove_prefix(end + (pair ? 2 : 1));
    }
    return lines;
}

bool is_blank_or_comment(std::string_view line) {
    const std::string_view text = trim(line);
    return text.empty() || text.front() == ';' || text.front() == '#';
}

Values parse_list(std::string_view text) {
    Values values;
    int number = 0;
    for (const std::string_view line : split_lines(text)) {
        ++number;
        if (!is_blank_or_comment(line)) values.push_back({std::string(trim(line)), number});
    }
    return values;
}

Values parse_value(std::string_view text) {
    Values values = parse_list(text);
    if (values.size() > 1) values.resize(1);
    return values;
}

std::vector<std::string> parse_verbatim(std::string_view text) {
    std::vector<std::string> lines;
    for (const std::string_view line : split_lines(text))
        lines.emplace_back(line);
    return lines;
}

}  // namespace sluice::config
