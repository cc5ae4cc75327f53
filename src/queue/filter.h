#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "policy/field.h"
#include "policy/pattern.h"

namespace sluice::queue {

// Something that can be asked of every queued item. Value.
struct Column {
    enum class Kind : std::uint8_t {
        field,       // a field of policies: `field` says which
        state,
        age,         // since the message was accepted
        next,        // until the next try; nothing when it is due or held
        attempts,    // failed ones
        attempt,     // the number of the next one, as policies count them
        size,        // octets of the message
        priority,
        recipients,  // how many
        reply,       // what the last attempt came to
        reply_code,  // of it the codes: "451 4.7.1"
        via,         // the next hop that an operator chose
        suspension,  // ready: the id of one whose end it waits for; empty: it waits for none
        id,          // of the message, or of the item
        sender,      // in the message itself, as are the next two
        recipient,
        subject,
    };
    Kind kind = Kind::field;
    policy::Field field{};

    bool is_number() const { return kind >= Kind::age && kind <= Kind::recipients; }
    bool is_time() const { return kind == Kind::age || kind == Kind::next; }
    // Known only to who reads the message from disk.
    bool is_in_message() const { return kind >= Kind::sender; }
    friend bool operator==(const Column&, const Column&) = default;

    // `fields` are those of the policies in force. bad_input: "NAME: sentence", with the name that was probably meant.
    static Result<Column> parse(std::string_view name, const policy::FieldTable& fields);
    std::string name(const policy::FieldTable& fields) const;
};

// Selects items: `domain=*.example.org age>2h attempts>=3 reply~greylist`. Terms stand side by side and all of them hold; values with commas between
// them mean any of these. Immutable.
//
//   texts     NAME=PATTERN  NAME!=PATTERN  NAME~PART  NAME!~PART; patterns as in policy files, parts whatever the case
//   numbers   NAME=3  NAME=2..4  NAME!=3  NAME<3  NAME<=3  NAME>3  NAME>=3; sizes as 10k or 2M, times as 90s, 2h, 1d12h
//
// A value with blanks or commas in it stands in quotes.
class Filter {
public:
    struct Range {
        std::int64_t from, to;  // both belong to it
    };
    struct Term {
        Column column;
        bool negated = false;
        std::vector<policy::Pattern> patterns;
        std::vector<std::string> parts;  // in lower case
        std::vector<Range> ranges;       // times in milliseconds

        bool holds(std::string_view text) const;
        bool holds(std::int64_t number) const;
    };

    // bad_input: "NAME: sentence" or "where: sentence".
    static Result<Filter> parse(std::string_view text, const policy::FieldTable& fields);

    const std::vector<Term>& terms() const { return terms_; }
    bool is_empty() const { return terms_.empty(); }
    // Some term asks for what only the message itself says.
    bool needs_message() const;

private:
    std::vector<Term> terms_;
};

// A value as it stands in a filter: in quotes where it must.
std::string quoted(std::string_view value);
// "1d12h", "90s", as filters write it; whole units only.
std::string duration_text(Duration duration);
// Codes at the beginning of a reply: "451 4.7.1"; of what is no reply the word before the colon: "timed_out".
std::string_view reply_code(std::string_view reply);

}  // namespace sluice::queue
