#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "spool/format.h"

namespace sluice::spool {

// What a segment's index says about one record: of a message the place and the summary, of the others all of
// it. Value; `body` borrows.
struct Fact {
    RecordType type = RecordType::message;
    std::uint64_t offset = 0;  // of the record header in the segment file
    std::uint32_t length = 0;  // of the whole record body
    std::string_view body;     // the summary of a message; the record body of everything else
};

// An index is a run of facts in the order of their records. The same text is built while a segment is
// written, stored when it is sealed, and rebuilt by a scan when it was not: recovery has one way to read them
// all.
void append_fact(std::string& index, const Fact& fact);

// Reads facts until the end or until the text makes no sense (then ok() is false). Borrows.
class FactReader {
public:
    explicit FactReader(std::string_view index) : rest_(index) {}
    std::optional<Fact> next();
    bool ok() const { return ok_; }

private:
    std::string_view rest_;
    bool ok_ = true;
};

}  // namespace sluice::spool
