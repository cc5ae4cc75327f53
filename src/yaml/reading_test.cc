#include "yaml/reading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace sluice::yaml {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Reading, FieldsKeepWhatIsNotGiven) {
    Problems problems;
    Reading reading("f.yaml", problems);
    const Fields fields = reading.fields(reading.load("{a: 7, b: text, c: [x, y], d: 1.5, e: true, x-mine: {}}\n"), "map", {"a", "b", "c", "d", "e", "f"});
    std::uint8_t a = 1, f = 3;
    std::string b;
    std::vector<std::string> c;
    Duration d{0};
    bool e = false;
    std::optional<std::uint32_t> none;
    fields.read("a", a);
    fields.read("f", f);
    fields.read("b", b);
    fields.read("c", c);
    fields.read_seconds("d", d);
    fields.read("e", e);
    fields.read("f", none);
    EXPECT_EQ(a, 7);
    EXPECT_EQ(f, 3);
    EXPECT_EQ(b, "text");
    EXPECT_THAT(c, ElementsAre("x", "y"));
    EXPECT_EQ(d, Duration(1'500));
    EXPECT_TRUE(e);
    EXPECT_FALSE(none);
    EXPECT_TRUE(fields.list("f").empty());
    EXPECT_FALSE(reading.failed());
}

TEST(Reading, EveryMistakeIsNamedAndNothingIsChanged) {
    Problems problems;
    Reading reading("f.yaml", problems);
    const YAML::Node root = reading.load("small: 256\nminus: -1\nword: blu\nnumbre: 1\nlist: {}\n");
    const Fields fields = reading.fields(root, "map", {"small", "minus", "word", "number", "list"});
    std::uint8_t small = 1;
    std::uint32_t minus = 2;
    constexpr std::array colours = {"red", "blue"};
    fields.read("small", small);
    fields.read("minus", minus);
    EXPECT_EQ(reading.choice(fields["word"], "word", colours), std::nullopt);
    EXPECT_TRUE(fields.list("list").empty());
    fields.expect("number");
    EXPECT_EQ(small, 1);
    EXPECT_EQ(minus, 2U);
    std::string all;
    for (const Problem& problem : problems.all()) all += problem.text() + "\n";
    for (const char* const says : {"f.yaml:1: small: expected a number up to 255", "f.yaml:2: minus: expected a number", "f.yaml:3: word: expected one of red, blue",
                                   "(did you mean `blue`?)", "f.yaml:4: map: unknown key `numbre` (did you mean `number`?)", "f.yaml:5: list: expected a list",
                                   "map: expected `number`"}) {
        EXPECT_THAT(all, HasSubstr(says));
    }
}

}  // namespace
}  // namespace sluice::yaml
