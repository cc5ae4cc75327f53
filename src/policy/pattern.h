#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/hash/hash.h>
#include <re2/re2.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "policy/field.h"
#include "policy/network.h"

namespace sluice::policy {

// What a value of a field may be, as one entry of a policy file says it. Immutable.
struct Pattern {
    enum class Kind : std::uint8_t {
        literal,  // this text
        any,      // `*`: every text
        suffix,   // `*.example.org`: every domain below; not the domain itself
        regex,    // `/expression/`: found anywhere in the text; for domains whatever the case
        network,  // an address or a prefix
        range,    // `3`, `2..4`, `>=3`, `<3`
    };
    Kind kind = Kind::literal;
    std::string text;  // normal form: domains in lower case, suffixes without `*.`, expressions without `/`
    std::shared_ptr<const RE2> regex;
    Network network;
    std::uint32_t from = 0, to = std::numeric_limits<std::uint32_t>::max();  // both belong to the range

    // bad_input, with what was expected, when the text says nothing for this type of field.
    static Result<Pattern> parse(FieldType type, std::string_view text);
    bool matches(std::string_view value) const;
    // Every text that `other` matches is matched by this; false also when that cannot be told.
    bool covers(const Pattern& other) const;
    // Some text is matched by both, as far as can be told.
    bool meets(const Pattern& other) const;
    std::string shown() const;
};

// The normal form of a text of this type, in which equal things are equal texts: domains in lower case without the final dot,
// addresses as they are written by inet_ntop().
std::string normal(FieldType type, std::string_view text);

// Tells which of several groups of patterns a text belongs to; the first group in order wins. A text costs one look-up for
// literals, one for each label for suffixes, and the expressions and prefixes of groups before the best so
// far. Immutable once every group is in it.
class Matcher {
public:
    static constexpr std::uint32_t nothing = ~std::uint32_t{0};

    void add(const Pattern& pattern, std::uint32_t group);
    std::uint32_t match(std::string_view text) const;
    bool matches(std::string_view text) const { return match(text) != nothing; }

private:
    struct Slow {
        Pattern pattern;
        std::uint32_t group;
    };
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const { return absl::Hash<std::string_view>{}(text); }
    };
    using Texts = absl::flat_hash_map<std::string, std::uint32_t, Hash, std::equal_to<>>;
    static void note(Texts& texts, const std::string& text, std::uint32_t group);

    Texts literals_, suffixes_;
    std::vector<Slow> networks_, others_;  // in the order of their groups
    std::uint32_t any_ = nothing;
};

}  // namespace sluice::policy
