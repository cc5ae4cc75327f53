#include "config/ini.h"

#include <gmock/gmock.h>

#include "config/lines.h"

namespace sluice::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// "section.key=value@line", with "[]" after the key of an array and without "=" for a bare key.
std::vector<std::string> shown(const Ini& ini) {
    std::vector<std::string> out;
    for (const IniEntry& entry : ini.entries) {
        out.push_back(
            entry.section + "." + entry.key + (entry.is_array ? "[]" : "") +
            (entry.has_value ? "=" + entry.value : "") + "@" + std::to_string(entry.line)
        );
    }
    return out;
}

struct Row {
    const char* what;
    std::string text;
    std::vector<std::string> entries;
    Values bad = {};
};

class HarakaIni : public testing::TestWithParam<Row> {};

TEST_P(HarakaIni, IsReadAsHarakaReadsIt) {
    const Ini ini = parse_ini(GetParam().text);
    EXPECT_EQ(shown(ini), GetParam().entries);
    EXPECT_EQ(ini.bad, GetParam().bad);
}

INSTANTIATE_TEST_SUITE_P(
    Table, HarakaIni,
    testing::Values(
        Row{"Empty", "", {}}, Row{"BeforeAnySection", "a=1", {"main.a=1@1"}},
        Row{"Sections", "a=1\n[x]\nb=2\n[main]\nc=3\n", {"main.a=1@1", "x.b=2@3", "main.c=3@5"}},
        Row{"SectionWithBlanksAround", "  [x]  \na=1", {"x.a=1@2"}},
        Row{"SectionNameKeepsItsBlanks", "[ x y ]\na=1", {" x y .a=1@2"}},
        Row{"SectionWithRemarkIsNone", "[x] ; remark\na=1", {"main.a=1@2"}, {{"[x] ; remark", 1}}},
        Row{"BlanksAroundEverything", "  a  =  b c  \n", {"main.a=b c@1"}},
        Row{"TabsToo", "\ta\t=\tb\t\n", {"main.a=b@1"}}, Row{"BareKey", "a\n", {"main.a@1"}},
        Row{"EmptyValue", "a=\n", {"main.a=@1"}}, Row{"ValueWithEquals", "a=b=c\n", {"main.a=b=c@1"}},
        Row{"Array", "a[]=1\na[]=2\n", {"main.a[]=1@1", "main.a[]=2@2"}},
        Row{"EmptyArrayItem", "hosts[] =\n", {"main.hosts[]=@1"}},
        Row{"KeyCharacters", "j@x.y:z+1-2/3_4=v\n", {"main.j@x.y:z+1-2/3_4=v@1"}},
        Row{"Ipv6AddressIsAKey", "2001:db8::1\n", {"main.2001:db8::1@1"}},
        Row{"AddressRangeIsAKey", "10.0.0.0/8\n", {"main.10.0.0.0/8@1"}},
        Row{"BadKeyCharacter", "a b=1\nc=2\n", {"main.c=2@2"}, {{"a b=1", 1}}},
        Row{"NoKey", "=1\n", {}, {{"=1", 1}}}, Row{"BadCharacterInKey", "a*b=1\n", {}, {{"a*b=1", 1}}},
        Row{"SemicolonComment", "; a=1\n  ; b=2\nc=3\n", {"main.c=3@3"}},
        Row{"HashComment", "# a=1\nc=3\n", {"main.c=3@2"}},
        Row{"InlineRemarkBelongsToTheValue", "a=1 ; x\n", {"main.a=1 ; x@1"}},
        Row{"Continuation", "a=1,\\\n2,\\\n3\nb=4\n", {"main.a=1,2,3@1", "main.b=4@4"}},
        Row{"ContinuationWithBlankAfterBackslash", "a=1\\ \t\n2\n", {"main.a=12@1"}},
        Row{"ContinuationKeepsLeadingBlanks", "a=1\\\n  2\n", {"main.a=1  2@1"}},
        Row{"CommentInsideContinuation", "a=1\\\n; no\n\n2\n", {"main.a=12@1"}},
        Row{"SectionInsideContinuation", "a=1\\\n[x]\n2\n", {"x.a=12@1"}},
        Row{"ContinuationAtTheEnd", "a=1\\", {"main.a=1@1"}},
        Row{"CrLf", "a=1\r\n[x]\r\nb=2\r\n", {"main.a=1@1", "x.b=2@3"}},
        Row{"CrAlone", "a=1\rb=2\r", {"main.a=1@1", "main.b=2@2"}},
        Row{"ByteOrderMark", "\xEF\xBB\xBF[x]\na=1\n", {"x.a=1@2"}},
        Row{"JsonValue", R"(any={"nexthop":"[::1]:25"})", {R"(main.any={"nexthop":"[::1]:25"}@1)"}},
        Row{"Utf8Value", "a=Grüße\n", {"main.a=Grüße@1"}}, Row{"LoneBrackets", "[]=1\n", {"main.[]=1@1"}}
    ),
    [](const auto& row) { return std::string(row.param.what); }
);

TEST(HarakaIniSections, AreListedWithTheirLines) {
    EXPECT_THAT(parse_ini("[a]\n\n[b]\n").sections, ElementsAre(Value{"a", 1}, Value{"b", 3}));
}

TEST(HarakaLines, ListTakesWhatIsNeitherBlankNorComment) {
    EXPECT_THAT(
        parse_list("# one\n\n tls \r\n;two\nauth/flat_file # kept\n"),
        ElementsAre(Value{"tls", 3}, Value{"auth/flat_file # kept", 5})
    );
    EXPECT_THAT(parse_list(" \n\t\n#"), IsEmpty());
}

TEST(HarakaLines, ValueIsTheFirstSuchLine) {
    EXPECT_THAT(parse_value("; who\n\n mx.example.com \nother\n"), ElementsAre(Value{"mx.example.com", 3}));
    EXPECT_THAT(parse_value("; nothing\n"), IsEmpty());
}

TEST(HarakaLines, VerbatimKeepsEverything) {
    EXPECT_THAT(parse_verbatim("From: x \r\n\r\n; text\n\n"), ElementsAre("From: x ", "", "; text", ""));
    EXPECT_THAT(parse_verbatim("no end"), ElementsAre("no end"));
    EXPECT_THAT(parse_verbatim(""), IsEmpty());
}

}  // namespace
}  // namespace sluice::config
