// What the library's results mean, with results that no real server would give.

#include "dns/unbound.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unbound.h>

#include <algorithm>

namespace sluice::dns {
namespace {

using namespace std::string_literals;
using std::chrono::seconds;
using testing::HasSubstr;

const Question a_question{"a.test", RecordType::a};

// A result of the library made by hand.
struct MadeResult {
    explicit MadeResult(std::vector<std::string> rdata_) : rdata(std::move(rdata_)) {
        for (std::string& record : rdata) {
            data.push_back(record.data());
            lengths.push_back(static_cast<int>(record.size()));
        }
        data.push_back(nullptr);
        result.data = data.data();
        result.len = lengths.data();
        result.havedata = rdata.empty() ? 0 : 1;
        result.ttl = 300;
    }
    MadeResult(const MadeResult&) = delete;
    MadeResult& operator=(const MadeResult&) = delete;

    std::vector<std::string> rdata;
    std::vector<char*> data;
    std::vector<int> lengths;
    ub_result result{};
};

Errc code_of(const Finding& finding) {
    return finding.records.error().code;
}

TEST(Unbound, DNS_9_BogusIsTemporaryEvenWithData) {
    MadeResult made({"\xC0\0\2\1"s});
    std::string why = "signature\nexpired";
    made.result.bogus = 1;
    made.result.why_bogus = why.data();
    const Finding finding = read_result(a_question, made.result);
    EXPECT_EQ(code_of(finding), Errc::dns_temporary);
    EXPECT_THAT(
        finding.records.error().detail, HasSubstr("a.test A: DNSSEC validation failed: signature\\x0")
    );
    EXPECT_EQ(finding.ttl, seconds(0));
}

TEST(Unbound, C5321_15_OnlyNxdomainIsNoSuchDomain) {
    for (int rcode = 0; rcode < 4096; ++rcode) {
        MadeResult made({});
        made.result.rcode = rcode;
        made.result.nxdomain = rcode == 3 ? 1 : 0;
        const Errc expected = rcode == 0   ? Errc::dns_no_data
                              : rcode == 3 ? Errc::dns_no_domain
                                           : Errc::dns_temporary;
        ASSERT_EQ(code_of(read_result(a_question, made.result)), expected) << rcode;
    }
    MadeResult odd({});
    odd.result.rcode = 2;
    odd.result.nxdomain = 1;
    EXPECT_EQ(code_of(read_result(a_question, odd.result)), Errc::dns_temporary);
}

TEST(Unbound, DenialsAreKeptAndTroubleIsNot) {
    MadeResult none({});
    EXPECT_EQ(read_result(a_question, none.result).ttl, seconds(300));
    none.result.ttl = -5;
    EXPECT_EQ(read_result(a_question, none.result).ttl, seconds(0));
    none.result.ttl = 300;
    none.result.rcode = 5;
    EXPECT_EQ(read_result(a_question, none.result).ttl, seconds(0));
}

TEST(Unbound, DNS_1_OneMalformedRecordSpoilsTheAnswer) {
    MadeResult made({"\xC0\0\2\1"s, "\xC0\0\2"s});
    EXPECT_EQ(code_of(read_result(a_question, made.result)), Errc::dns_temporary);
    MadeResult negative({"\xC0\0\2\1"s});
    negative.lengths[0] = -1;
    EXPECT_EQ(code_of(read_result(a_question, negative.result)), Errc::dns_temporary);
}

TEST(Unbound, DNS_2_TheSameAddressesAreKeptWhateverTheirOrder) {
    std::vector<std::string> rdata;
    for (int i = 0; i < 1000; ++i)
        rdata.push_back("\xC0\0"s + static_cast<char>(i >> 8) + static_cast<char>(i));
    MadeResult forward(rdata);
    std::ranges::reverse(rdata);
    rdata.push_back(rdata.front());
    MadeResult backward(rdata);
    const Finding one = read_result(a_question, forward.result);
    const Finding other = read_result(a_question, backward.result);
    EXPECT_EQ(one.records->addresses.size(), addresses_max);
    EXPECT_EQ(one.records->addresses, other.records->addresses);
}

TEST(Unbound, DNS_3_ALongChainOfAliasesIsTemporary) {
    MadeResult made({"\xC0\0\2\1"s});
    std::string packet = "\0\0\x80\0\0\0\0\x0B\0\0\0\0"s;
    for (int i = 0; i < 11; ++i)
        packet += "\1a\0\0\5\0\1\0\0\0\1\0\3\1b\0"s;
    made.result.answer_packet = packet.data();
    made.result.answer_len = static_cast<int>(packet.size());
    EXPECT_TRUE(read_result(a_question, made.result).records);
    packet[7] = 12;
    packet += "\1a\0\0\5\0\1\0\0\0\1\0\3\1b\0"s;
    made.result.answer_packet = packet.data();
    made.result.answer_len = static_cast<int>(packet.size());
    EXPECT_EQ(code_of(read_result(a_question, made.result)), Errc::dns_temporary);
}

}  // namespace
}  // namespace sluice::dns
