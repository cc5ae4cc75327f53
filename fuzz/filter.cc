#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "queue/filter.h"

// Whatever the octets: a filter, or an error that begins with a field. A filter can be asked anything, and a text that is quoted is found.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace sluice;
    using namespace sluice::queue;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    const policy::FieldTable fields;
    const Result<Filter> filter = Filter::parse(text, fields);
    if (!filter) {
        ASSERT(filter.error().code == Errc::bad_input && filter.error().detail.find(": ") != std::string::npos);
    } else {
        for (const Filter::Term& term : filter->terms()) {
            ASSERT(Column::parse(term.column.name(fields), fields) == term.column);
            term.holds(text);
            term.holds(std::int64_t{3});
        }
    }
    if (size > 1'000) return 0;
    const Result<Filter> literal = Filter::parse("tenant=" + quoted(text), fields);
    ASSERT(literal && literal->terms().size() == 1 && literal->terms()[0].holds(text));
    reply_code(text);
    return 0;
}
