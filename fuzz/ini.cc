#include "config/ini.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "config/lines.h"

// Whatever the bytes: every entry has a key, lines count upwards within the file, and no text gains line
// ends.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice::config;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    const auto lines = static_cast<int>(split_lines(text).size());

    const Ini ini = parse_ini(text);
    int last = 0;
    for (const IniEntry& entry : ini.entries) {
        ASSERT(!entry.key.empty());
        ASSERT(entry.line >= last && entry.line > 0 && entry.line <= lines);
        ASSERT(entry.key.find_first_of(" =\r\n") == std::string::npos);
        ASSERT(entry.value.find_first_of("\r\n") == std::string::npos);
        ASSERT(entry.has_value || entry.value.empty());
        last = entry.line;
    }
    for (const Value& section : ini.sections)
        ASSERT(section.text.find(']') == std::string::npos);
    for (const Value& bad : ini.bad)
        ASSERT(!bad.text.empty() && bad.line <= lines);

    const Values list = parse_list(text);
    ASSERT(list.size() <= static_cast<std::size_t>(lines));
    ASSERT(parse_value(text).size() == (list.empty() ? 0U : 1U));
    return 0;
}
