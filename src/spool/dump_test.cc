#include "spool/dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "spool/spool_test_world.h"

namespace sluice::spool {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class DumpTest : public testing::Test {
protected:
    DumpTest() {
        OpenSpool world(*disk_, small_options(directory_.path()));
        const std::vector<mail::ItemSpec> items = {{"a.test", {0}}, {"b.test", {1}}};
        EXPECT_TRUE(world.append(MessageRecord{test_message(7, 2000, items)}));
        EXPECT_TRUE(world.append({delivered(7, 1, {1}), PolicyRecord{"key\n", "value\""}}));
        EXPECT_TRUE(
            world.append(ScheduleRecord{ItemId{MessageId{7}, 0}, 2, instant_from_ms(0), false, "451 later"})
        );
        EXPECT_TRUE(world.append(HoldRecord{ItemId{MessageId{7}, 0}, true, "operator"}));
    }
    std::string segment_path() const { return directory_.path() + "/0000000001.seg"; }
    void flip_bit(std::size_t offset) {
        std::fstream file(segment_path(), std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(static_cast<std::streamoff>(offset));
        const int byte = file.get() ^ 1;
        file.seekp(static_cast<std::streamoff>(offset));
        file.put(static_cast<char>(byte));
    }

    TemporaryDirectory directory_;
    std::unique_ptr<Disk> disk_ = make_system_disk();
};

TEST_F(DumpTest, ShowsEverySegmentAndRecordAsOneLine) {
    std::vector<std::string> lines;
    const auto survey =
        dump_journal(directory_.path(), [&](const std::string& line) { lines.push_back(line); });
    ASSERT_TRUE(survey) << survey.error().text();
    EXPECT_THAT(
        lines,
        ElementsAre(
            HasSubstr(R"({"segment":"0000000001.seg","epoch":1,"first_sequence":1,"sealed":true)"),
            testing::AllOf(
                HasSubstr(R"("type":"message","id":"0000000000007")"),
                HasSubstr(R"("recipients":["rcpt0@d.test")"),
                HasSubstr(R"({"domain":"b.test","recipients":[1]})")
            ),
            HasSubstr(R"("type":"outcome","item":"0000000000007.2","outcome":"delivered","recipients":[1])"),
            HasSubstr(R"("type":"policy","key":"key\u000a","value":"value\"")"),
            HasSubstr(R"("type":"schedule","item":"0000000000007.1","attempts":2)"),
            HasSubstr(R"("type":"hold","item":"0000000000007.1","held":true,"by":"operator")")
        )
    );
    EXPECT_TRUE(survey->sound());
    EXPECT_EQ(survey->records, 5u);
    EXPECT_EQ(survey->messages, 1u);
}

TEST_F(DumpTest, VerifyOfAWholeJournalIsSound) {
    const auto survey = verify_journal(directory_.path());
    ASSERT_TRUE(survey);
    EXPECT_THAT(survey->problems, IsEmpty());
    EXPECT_TRUE(survey->sound());
    EXPECT_EQ(survey->segments, 1u);
}

TEST_F(DumpTest, VerifyNamesFileAndOffsetOfEveryDamage) {
    flip_bit(20);          // the segment header
    flip_bit(512 + 2000);  // the message's content
    const auto survey = verify_journal(directory_.path());
    ASSERT_TRUE(survey);
    EXPECT_FALSE(survey->sound());
    std::vector<std::string> sentences;
    for (const JournalProblem& problem : survey->problems)
        sentences.push_back(problem.sentence);
    EXPECT_THAT(sentences, Contains(HasSubstr("0000000001.seg: damaged segment header at offset 0")));
    EXPECT_THAT(sentences, Contains(HasSubstr("0000000001.seg: damaged batch at offset 512")));
}

TEST_F(DumpTest, VerifyChecksTheIndex) {
    { const OpenSpool another_segment(*disk_, small_options(directory_.path())); }
    const auto bytes = std::filesystem::file_size(segment_path());
    flip_bit(bytes - 512 - 500);
    const auto survey = verify_journal(directory_.path());
    ASSERT_TRUE(survey);
    ASSERT_EQ(survey->problems.size(), 1u);
    EXPECT_THAT(survey->problems[0].sentence, HasSubstr("the index at offset"));
    EXPECT_FALSE(survey->sound());
}

// FM-07: the engine died while it sealed.
TEST_F(DumpTest, AnUnfinishedIndexOfTheNewestSegmentIsNoDamage) {
    const auto bytes = std::filesystem::file_size(segment_path());
    flip_bit(bytes - 512 - 500);
    const auto survey = verify_journal(directory_.path());
    ASSERT_TRUE(survey);
    EXPECT_EQ(survey->problems.size(), 1u);
    EXPECT_TRUE(survey->sound());
}

TEST_F(DumpTest, NeitherTakesTheLockNorChangesAnything) {
    OpenSpool running(*disk_, small_options(directory_.path()));
    ASSERT_FALSE(running.error);
    ASSERT_TRUE(running.append(MessageRecord{test_message(8, 100)}));
    const auto before = std::filesystem::last_write_time(segment_path());
    const auto survey = verify_journal(directory_.path());
    ASSERT_TRUE(survey);
    EXPECT_TRUE(survey->sound());
    EXPECT_EQ(survey->messages, 2u);
    EXPECT_EQ(std::filesystem::last_write_time(segment_path()), before);
}

TEST_F(DumpTest, AMissingDirectoryIsAnError) {
    const auto survey = verify_journal(directory_.path() + "/nowhere");
    ASSERT_FALSE(survey);
    EXPECT_EQ(survey.error().code, Errc::not_found);
}

}  // namespace
}  // namespace sluice::spool
