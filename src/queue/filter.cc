#include "queue/filter.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/nearest.h"
#include "base/text.h"

namespace sluice::queue {
namespace {

using Kind = Column::Kind;

constexpr std::size_t text_max = 64 * 1024;
constexpr std::size_t terms_max = 64;
constexpr std::size_t shown_max = 60;
constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
// So that no sum of such numbers overflows.
constexpr std::int64_t number_max = std::int64_t{1} << 50;

constexpr std::array<std::pair<const char*, Kind>, 16> kinds{{
    {"state", Kind::state},
    {"age", Kind::age},
    {"next", Kind::next},
    {"attempts", Kind::attempts},
    {"attempt", Kind::attempt},
    {"size", Kind::size},
    {"priority", Kind::priority},
    {"recipients", Kind::recipients},
    {"reply", Kind::reply},
    {"replycode", Kind::reply_code},
    {"via", Kind::via},
    {"suspension", Kind::suspension},
    {"id", Kind::id},
    {"sender", Kind::sender},
    {"recipient", Kind::recipient},
    {"subject", Kind::subject},
}};
// What people say, and what it is called in policies.
constexpr std::array<std::pair<std::string_view, policy::Field>, 4> short_names{{
    {"domain", policy::Field::recipientdomain},
    {"tenant", policy::Field::tenantid},
    {"job", policy::Field::jobid},
    {"transport", policy::Field::transportid},
}};
constexpr std::array<const char*, 4> state_names{"scheduled", "ready", "sending", "held"};

std::string shown(std::string_view text) {
    return printable(text.size() <= shown_max ? std::string(text) : std::string(text.substr(0, shown_max)) + "...");
}

tl::unexpected<Error> refuse(std::string_view name, std::string sentence, const std::string& suggestion = {}) {
    std::string detail = std::string(name) + ": " + std::move(sentence);
    if (!suggestion.empty()) detail += " (did you mean `" + suggestion + "`?)";
    return fail(Errc::bad_input, std::move(detail));
}

policy::FieldType type_of(const Column& column) {
    return column.kind == Kind::field ? policy::type_of(column.field) : policy::FieldType::text;
}

// ---- words -----------------------------------------------------------------------------------------------------

struct Word {
    std::string text;
    bool in_quotes = false;
};

// Takes one filter apart, from left to right.
class Scanner {
public:
    explicit Scanner(std::string_view text) : rest_(text) {}

    // False at the end.
    bool next_term() {
        const auto blank = [](char c) { return is_space(c) || c == '\n' || c == '\r'; };
        while (!rest_.empty() && blank(rest_.front())) rest_.remove_prefix(1);
        return !rest_.empty();
    }
    std::string_view name() { return take_while([](char c) { return is_alnum(c) || c == '.' || c == '_' || c == '-'; }); }
    std::string_view op() { return take_while([](char c) { return c == '=' || c == '!' || c == '<' || c == '>' || c == '~'; }); }
    // The next of the values; nothing when its end is missing.
    std::optional<Word> value() {
        if (rest_.starts_with('"') || rest_.starts_with('\'')) return in_quotes();
        if (rest_.starts_with('/')) return expression();
        const std::string_view word = take_while([](char c) { return !is_space(c) && c != ',' && c != '\n' && c != '\r'; });
        return Word{std::string(word), false};
    }
    bool comma() {
        if (!rest_.starts_with(',')) return false;
        rest_.remove_prefix(1);
        return true;
    }
    bool at_blank() const { return rest_.empty() || is_space(rest_.front()) || rest_.front() == '\n' || rest_.front() == '\r'; }
    std::string_view rest() const { return rest_; }

private:
    template <class Belongs>
    std::string_view take_while(Belongs belongs) {
        std::size_t length = 0;
        while (length < rest_.size() && belongs(rest_[length])) ++length;
        const std::string_view taken = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return taken;
    }
    // A backslash takes the meaning from a quote or backslash behind it.
    std::optional<Word> in_quotes() {
        const char quote = rest_.front();
        Word word{"", true};
        for (std::size_t i = 1; i < rest_.size(); ++i) {
            const char c = rest_[i];
            if (c == quote) {
                rest_.remove_prefix(i + 1);
                return word;
            }
            const bool escapes = c == '\\' && i + 1 < rest_.size() && (rest_[i + 1] == quote || rest_[i + 1] == '\\');
            if (escapes) ++i;
            word.text += rest_[i];
        }
        return std::nullopt;
    }
    // Up to the slash that ends it, which blanks or commas may precede.
    std::optional<Word> expression() {
        for (std::size_t i = 1; i < rest_.size(); ++i) {
            if (rest_[i] == '\\') {
                ++i;
                continue;
            }
            const bool ends = rest_[i] == '/' && (i + 1 == rest_.size() || rest_[i + 1] == ',' || is_space(rest_[i + 1]));
            if (!ends) continue;
            Word word{std::string(rest_.substr(0, i + 1)), false};
            rest_.remove_prefix(i + 1);
            return word;
        }
        return std::nullopt;
    }

    std::string_view rest_;
};

// ---- numbers ---------------------------------------------------------------------------------------------------

std::optional<std::int64_t> milliseconds_of(char unit) {
    switch (unit) {
        case 's': return 1'000;
        case 'm': return 60'000;
        case 'h': return 3'600'000;
        case 'd': return 86'400'000;
        case 'w': return 604'800'000;
        default: return std::nullopt;
    }
}

// "2h", "1d12h", "90" (seconds).
std::optional<std::int64_t> parse_time(std::string_view text) {
    std::int64_t sum = 0;
    if (text.empty()) return std::nullopt;
    while (!text.empty()) {
        std::size_t digits = 0;
        while (digits < text.size() && is_digit(text[digits])) ++digits;
        const auto number = parse_number<std::uint32_t>(text.substr(0, digits));
        if (!number) return std::nullopt;
        text.remove_prefix(digits);
        const auto unit = milliseconds_of(text.empty() ? 's' : ascii_lower(text.front()));
        if (!unit || (text.empty() && sum != 0)) return std::nullopt;
        if (!text.empty()) text.remove_prefix(1);
        sum += *unit * *number;
        if (sum > number_max) return std::nullopt;
    }
    return sum;
}

// "4096", "10k", "2M".
std::optional<std::int64_t> parse_size(std::string_view text) {
    std::int64_t unit = 1;
    if (!text.empty() && !is_digit(text.back())) {
        switch (ascii_lower(text.back())) {
            case 'k': unit = 1 << 10; break;
            case 'm': unit = 1 << 20; break;
            case 'g': unit = 1 << 30; break;
            default: return std::nullopt;
        }
        text.remove_suffix(1);
    }
    const auto number = parse_number<std::uint32_t>(text);
    if (!number) return std::nullopt;
    return unit * *number;
}

std::optional<std::int64_t> parse_amount(const Column& column, std::string_view text) {
    if (column.is_time()) return parse_time(text);
    if (column.kind == Kind::size) return parse_size(text);
    const auto number = parse_number<std::uint32_t>(text);
    if (!number) return std::nullopt;
    return std::int64_t{*number};
}

const char* amount_expected(const Column& column) {
    if (column.is_time()) return "a time like 90s, 15m, 2h or 1d12h is expected";
    if (column.kind == Kind::size) return "a size like 4096, 10k or 2M is expected";
    return "a number is expected";
}

Result<Filter::Range> parse_range(const Column& column, std::string_view name, std::string_view op, std::string_view value) {
    const std::size_t dots = value.find("..");
    if (dots != std::string_view::npos && (op == "=" || op == "!=")) {
        const auto from = parse_amount(column, value.substr(0, dots));
        const auto to = parse_amount(column, value.substr(dots + 2));
        if (!from || !to) return refuse(name, std::string(amount_expected(column)) + " on both sides of `..`, found `" + shown(value) + "`");
        if (*from > *to) return refuse(name, "the smaller one comes first in `" + shown(value) + "`");
        return Filter::Range{*from, *to};
    }
    const auto amount = parse_amount(column, value);
    if (!amount) return refuse(name, std::string(amount_expected(column)) + ", found `" + shown(value) + "`");
    if (op == "<") return Filter::Range{least, *amount - 1};
    if (op == "<=") return Filter::Range{least, *amount};
    if (op == ">") return Filter::Range{*amount + 1, most};
    if (op == ">=") return Filter::Range{*amount, most};
    return Filter::Range{*amount, *amount};
}

// ---- terms -----------------------------------------------------------------------------------------------------

Result<> add_number(Filter::Term& term, std::string_view name, std::string_view op, const std::string& value) {
    TRY(const Filter::Range range, parse_range(term.column, name, op, value));
    term.ranges.push_back(range);
    return {};
}

Result<> add_state(Filter::Term& term, std::string_view name, const std::string& value) {
    const std::string word = to_lower(value);
    if (std::find(state_names.begin(), state_names.end(), word) == state_names.end()) {
        return refuse(name, "one of scheduled, ready, sending, held is expected, found `" + shown(value) + "`",
                      nearest(word, {state_names.begin(), state_names.end()}));
    }
    policy::Pattern pattern;
    pattern.text = word;
    term.patterns.push_back(std::move(pattern));
    return {};
}

Result<> add_text(Filter::Term& term, std::string_view name, std::string_view op, Word value) {
    if (op == "~" || op == "!~") {
        if (value.text.empty()) return refuse(name, "a part of the text is expected behind `" + std::string(op) + "`");
        term.parts.push_back(to_lower(value.text));
        return {};
    }
    if (term.column.kind == Kind::state) return add_state(term, name, value.text);
    // In quotes a text stands for itself, as far as its type allows.
    const bool literal = value.in_quotes && type_of(term.column) == policy::FieldType::text;
    if (literal || value.text.empty()) {
        policy::Pattern pattern;
        pattern.text = std::move(value.text);
        term.patterns.push_back(std::move(pattern));
        return {};
    }
    if (value.text.front() == '@' || value.text.front() == '#') {
        return refuse(name, "lists and groups of policy files cannot stand here, found `" + shown(value.text) + "`; in quotes it is a text");
    }
    Result<policy::Pattern> pattern = policy::Pattern::parse(type_of(term.column), value.text);
    if (!pattern) return refuse(name, pattern.error().detail + ", found `" + shown(value.text) + "`");
    term.patterns.push_back(std::move(*pattern));
    return {};
}

Result<> check_op(const Column& column, std::string_view name, std::string_view op) {
    const auto is_one_of = [&](std::initializer_list<std::string_view> ops) { return std::find(ops.begin(), ops.end(), op) != ops.end(); };
    if (op.empty()) return refuse(name, "an operator is expected behind it, as in `" + std::string(name) + (column.is_number() ? ">3`" : "=...`"));
    if (column.is_number()) {
        if (is_one_of({"=", "!=", "<", "<=", ">", ">="})) return {};
        return refuse(name, "it is a number: one of = != < <= > >= is expected, found `" + shown(op) + "`");
    }
    if (column.kind == Kind::state) {
        if (is_one_of({"=", "!="})) return {};
        return refuse(name, "= or != is expected, found `" + shown(op) + "`");
    }
    if (is_one_of({"=", "!=", "~", "!~"})) return {};
    return refuse(name, "it is a text: one of = != ~ !~ is expected, found `" + shown(op) + "`");
}

Result<Filter::Term> parse_term(Scanner& scanner, const policy::FieldTable& fields) {
    const std::string_view name = scanner.name();
    if (name.empty()) return refuse("where", "a field's name is expected, found `" + shown(scanner.rest()) + "`");
    const std::string_view op = scanner.op();
    if (op.empty() && iequals(name, "or")) return refuse("where", "there is no `or`: values with commas between them mean any of them");
    Filter::Term term;
    TRY(term.column, Column::parse(name, fields));
    TRY_VOID(check_op(term.column, name, op));
    term.negated = op.starts_with('!');
    do {
        auto value = scanner.value();
        if (!value) return refuse(name, "the end of `" + shown(scanner.rest()) + "` is missing");
        if (value->text.empty() && !value->in_quotes) return refuse(name, "a value is expected; \"\" is the empty one");
        TRY_VOID(term.column.is_number() ? add_number(term, name, op, value->text) : add_text(term, name, op, std::move(*value)));
    } while (scanner.comma());
    if (!scanner.at_blank()) return refuse(name, "a blank or a comma is expected before `" + shown(scanner.rest()) + "`");
    return term;
}

}  // namespace

// ---- columns ---------------------------------------------------------------------------------------------------

Result<Column> Column::parse(std::string_view name, const policy::FieldTable& fields) {
    const std::string word = name.find('.') == std::string_view::npos ? to_lower(name) : std::string(name);
    for (const auto& [known, kind] : kinds) {
        if (word == known) return Column{kind, {}};
    }
    for (const auto& [known, field] : short_names) {
        if (word == known) return Column{Kind::field, field};
    }
    if (const auto field = fields.find(word)) return Column{Kind::field, *field};
    if (word.starts_with("notes.") || word.starts_with("header.")) {
        return refuse(shown(word), "no policy counts by it, so the queue does not know it");
    }
    std::vector<std::string> names = policy::FieldTable::names();
    for (const auto& known : kinds) names.emplace_back(known.first);
    for (const auto& known : short_names) names.emplace_back(known.first);
    return refuse(shown(name), "no field is called so", nearest(word, names));
}

std::string Column::name(const policy::FieldTable& fields) const {
    for (const auto& [known, other] : kinds) {
        if (kind == other) return known;
    }
    for (const auto& [known, other] : short_names) {
        if (field == other) return std::string(known);
    }
    return fields.name_of(field);
}

// ---- filters ---------------------------------------------------------------------------------------------------

bool Filter::Term::holds(std::string_view text) const {
    const auto matches = [&](const policy::Pattern& pattern) { return pattern.matches(text); };
    if (std::any_of(patterns.begin(), patterns.end(), matches)) return !negated;
    if (parts.empty()) return negated;
    const std::string lower = to_lower(text);
    const auto is_in = [&](const std::string& part) { return lower.find(part) != std::string::npos; };
    return std::any_of(parts.begin(), parts.end(), is_in) != negated;
}

bool Filter::Term::holds(std::int64_t number) const {
    const auto includes = [&](const Range& range) { return range.from <= number && number <= range.to; };
    return std::any_of(ranges.begin(), ranges.end(), includes) != negated;
}

Result<Filter> Filter::parse(std::string_view text, const policy::FieldTable& fields) {
    if (text.size() > text_max) return refuse("where", "at most " + std::to_string(text_max) + " octets are expected");
    Filter filter;
    Scanner scanner(text);
    while (scanner.next_term()) {
        if (filter.terms_.size() == terms_max) return refuse("where", "at most " + std::to_string(terms_max) + " terms are expected");
        TRY(Term term, parse_term(scanner, fields));
        filter.terms_.push_back(std::move(term));
    }
    return filter;
}

bool Filter::needs_message() const {
    return std::any_of(terms_.begin(), terms_.end(), [](const Term& term) { return term.column.is_in_message(); });
}

std::string quoted(std::string_view value) {
    const auto plain = [](char c) { return is_alnum(c) || c == '.' || c == '-' || c == '_' || c == '@' || c == ':' || c == '+' || c == '&'; };
    const bool is_sign = !value.empty() && (value.front() == '@' || value.front() == '#');
    if (!value.empty() && !is_sign && std::all_of(value.begin(), value.end(), plain)) return std::string(value);
    std::string out = "\"";
    for (const char c : value) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

std::string duration_text(Duration duration) {
    constexpr std::array<std::pair<std::int64_t, char>, 4> units{{{86'400, 'd'}, {3'600, 'h'}, {60, 'm'}, {1, 's'}}};
    std::int64_t seconds = std::max<std::int64_t>(duration.count() / 1'000, 0);
    std::string out;
    for (const auto& [length, letter] : units) {
        if (seconds < length) continue;
        out += std::to_string(seconds / length) + letter;
        seconds %= length;
    }
    return out.empty() ? "0s" : out;
}

std::string_view reply_code(std::string_view reply) {
    const auto is_code = [](char c) { return is_digit(c) || c == '.'; };
    if (reply.size() < 3 || !is_digit(reply[0]) || !is_digit(reply[1]) || !is_digit(reply[2])) return reply.substr(0, reply.find(':'));
    std::size_t end = 3;
    if (reply.size() > 4 && reply[3] == ' ' && is_digit(reply[4])) {
        std::size_t stop = 4;
        while (stop < reply.size() && is_code(reply[stop])) ++stop;
        const std::string_view enhanced = reply.substr(4, stop - 4);
        if (std::count(enhanced.begin(), enhanced.end(), '.') == 2) end = stop;
    }
    return reply.substr(0, end);
}

}  // namespace sluice::queue
