#include "spool/facts.h"

#include "spool/codec.h"

namespace sluice::spool {

void append_fact(std::string& index, const Fact& fact) {
    Encoder encode(index);
    encode.u8(static_cast<std::uint8_t>(fact.type));
    encode.number(fact.offset);
    encode.number(fact.length);
    // Only a message's summary is shorter than its record.
    if (fact.type == RecordType::message) {
        encode.text(fact.body);
    } else {
        index.append(fact.body);
    }
}

std::optional<Fact> FactReader::next() {
    if (rest_.empty() || !ok_) return std::nullopt;
    Decoder decode(rest_);
    Fact fact;
    const std::uint8_t type = decode.u8();
    fact.offset = decode.number();
    fact.length = decode.number32();
    fact.type = static_cast<RecordType>(type);
    fact.body = fact.type == RecordType::message ? decode.text() : decode.bytes(fact.length);
    ok_ = decode.ok() && type >= 1 && type <= static_cast<std::uint8_t>(RecordType::decided);
    if (!ok_) return std::nullopt;
    rest_ = decode.rest();
    return fact;
}

}  // namespace sluice::spool
