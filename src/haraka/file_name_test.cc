#include "haraka/file_name.h"

#include <gtest/gtest.h>

namespace sluice::haraka {
namespace {

TEST(FileName, SevenPartsAreThePresentForm) {
    const FileName name = parse_file_name("1700000000123_1700000064123_3_4711_aB3dE9_42_mx1.example.org");
    ASSERT_EQ(name.kind, NameKind::queued);
    EXPECT_EQ(name.arrival_ms, 1'700'000'000'123);
    EXPECT_EQ(name.next_attempt_ms, 1'700'000'064'123);
    EXPECT_EQ(name.attempts, 3U);
    EXPECT_EQ(name.pid, 4711);
    EXPECT_EQ(name.host, "mx1.example.org");
    EXPECT_EQ(name.identity, "1700000000123_aB3dE9");
}

TEST(FileName, TheIdentitySurvivesWhatHarakaRenames) {
    const FileName before = parse_file_name("1700000000123_1700000000123_0_4711_aB3dE9_42_mx1");
    const FileName after = parse_file_name("1700000000123_1700000064000_1_4811_aB3dE9_77_mx1");
    EXPECT_EQ(before.identity, after.identity);
    EXPECT_NE(before.identity, parse_file_name("1700000000123_1700000000123_0_4711_aB3dE8_42_mx1").identity);
}

TEST(FileName, FourPartsAreTheOldForm) {
    const FileName name = parse_file_name("1484878079415_2_12345_8888.mta1.example.com");
    ASSERT_EQ(name.kind, NameKind::queued);
    EXPECT_EQ(name.arrival_ms, 0);
    EXPECT_EQ(name.next_attempt_ms, 1'484'878'079'415);
    EXPECT_EQ(name.attempts, 2U);
    EXPECT_EQ(name.pid, 12345);
    EXPECT_EQ(name.host, "mta1.example.com");
    EXPECT_EQ(name.identity, "1484878079415_2_12345_8888.mta1.example.com");
}

TEST(FileName, TimesThatWereComputedAreTakenAsHarakaReadsThem) {
    EXPECT_EQ(parse_file_name("1_1700000064099.9999_1_1_aB3dE9_1_mx").next_attempt_ms, 1'700'000'064'099);
    const FileName never = parse_file_name("1700000000123_NaN_1_1_aB3dE9_1_mx");
    EXPECT_EQ(never.kind, NameKind::queued) << "Haraka would never try it again";
    EXPECT_EQ(never.next_attempt_ms, 0);
    EXPECT_EQ(parse_file_name("1_2_99999999999_1_aB3dE9_1_mx").attempts, 4'294'967'295U);
}

TEST(FileName, HostNamesAreUnescapedHoweverOftenTheyWereEscaped) {
    EXPECT_EQ(parse_file_name("1_2_0_1_aB3dE9_1_my\\137host").host, "my_host");
    EXPECT_EQ(parse_file_name("1_2_0_1_aB3dE9_1_my\\057137host").host, "my_host");
    EXPECT_EQ(parse_file_name("1_2_0_1_aB3dE9_1_c\\072\\057x").host, "c:\\x");
}

TEST(FileName, WhatIsBeingWrittenOrPutAsideIsNotQueued) {
    EXPECT_EQ(parse_file_name("__tmp__.1_2_0_1_aB3dE9_1_mx").kind, NameKind::temporary);
    EXPECT_EQ(parse_file_name(".1_2_0_1_aB3dE9_1_mx").kind, NameKind::temporary);
    EXPECT_EQ(parse_file_name("error.1_2_0_1_aB3dE9_1_mx").kind, NameKind::corrupt);
}

TEST(FileName, EverythingElseIsUnknown) {
    for (const char* name : {"", "plain", "0000000042.seg", "lock", "1_2_3_4_5", "1_2_3_4_5_6_7_8", "x_2_0_1_aB3dE9_1_mx",
                             "1_-2_0_1_aB3dE9_1_mx", "1_2_0_1_a/dE9_1_mx", "1_2_0_1_aB3dE9__mx", "1_2_0_1_aB3dE9_1_", "1_2_0_1",
                             "1_2_3_.mx", "99999999999999999999_2_0_1_aB3dE9_1_mx", "1_.5_0_1_aB3dE9_1_mx"}) {
        EXPECT_EQ(parse_file_name(name).kind, NameKind::unknown) << name;
    }
}

}  // namespace
}  // namespace sluice::haraka
