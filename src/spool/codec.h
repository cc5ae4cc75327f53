#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace sluice::spool {

// The journal's primitive values: fixed numbers are little-endian, `number` is a LEB128 varint, `text` is a
// varint length and the octets. Whatever the machine, the bytes are the same.

// Appends to a string. Borrows it.
class Encoder {
public:
    explicit Encoder(std::string& out) : out_(out) {}

    void u8(std::uint8_t value) { out_.push_back(static_cast<char>(value)); }
    void u16(std::uint16_t value) { fixed(value); }
    void u32(std::uint32_t value) { fixed(value); }
    void u64(std::uint64_t value) { fixed(value); }
    void number(std::uint64_t value) {
        while (value >= 0x80) {
            u8(static_cast<std::uint8_t>(value | 0x80));
            value >>= 7;
        }
        u8(static_cast<std::uint8_t>(value));
    }
    void text(std::string_view value) {
        number(value.size());
        out_.append(value);
    }

private:
    template <class Number>
    void fixed(Number value) {
        char bytes[sizeof(Number)];
        for (char& byte : bytes) {
            byte = static_cast<char>(value & 0xFF);
            value = static_cast<Number>(sizeof(Number) == 1 ? 0 : value >> 8);
        }
        out_.append(bytes, sizeof bytes);
    }
    std::string& out_;
};

// Reads what Encoder wrote. After running past the end, or into a malformed varint, ok() is false and every
// further value is zero or empty; so callers may read a whole structure and ask once. Texts borrow from the
// input.
class Decoder {
public:
    explicit Decoder(std::string_view in) : rest_(in) {}

    bool ok() const { return ok_; }
    std::string_view rest() const { return rest_; }

    std::uint8_t u8() { return fixed<std::uint8_t>(); }
    std::uint16_t u16() { return fixed<std::uint16_t>(); }
    std::uint32_t u32() { return fixed<std::uint32_t>(); }
    std::uint64_t u64() { return fixed<std::uint64_t>(); }
    std::uint64_t number() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            const std::uint64_t byte = u8();
            value |= (byte & 0x7F) << shift;
            if (byte < 0x80) return ok_ ? value : 0;
        }
        ok_ = false;
        return 0;
    }
    // A varint that must fit 32 bits.
    std::uint32_t number32() {
        const std::uint64_t value = number();
        if (value > UINT32_MAX) ok_ = false;
        return ok_ ? static_cast<std::uint32_t>(value) : 0;
    }
    std::string_view bytes(std::uint64_t length) {
        if (length > rest_.size()) ok_ = false;
        if (!ok_) return {};
        const std::string_view taken = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return taken;
    }
    std::string_view text() { return bytes(number()); }

private:
    template <class Number>
    Number fixed() {
        const std::string_view taken = bytes(sizeof(Number));
        Number value = 0;
        for (std::size_t i = taken.size(); i-- > 0;) {
            value = static_cast<Number>(
                (sizeof(Number) == 1 ? 0 : value << 8) | static_cast<unsigned char>(taken[i])
            );
        }
        return value;
    }
    std::string_view rest_;
    bool ok_ = true;
};

}  // namespace sluice::spool
