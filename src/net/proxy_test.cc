#include "net/proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::net {
namespace {

using namespace std::string_literals;

const std::string signature = "\r\n\r\n\0\r\nQUIT\n"s;

std::string v2(unsigned char command, unsigned char family, const std::string& body) {
    std::string header = signature;
    header += static_cast<char>(command);
    header += static_cast<char>(family);
    header += static_cast<char>(body.size() >> 8);
    header += static_cast<char>(body.size() & 0xff);
    return header + body;
}

const std::string v4_body = "\xC0\x00\x02\x01\xC0\x00\x02\x02\xDC\x04\x00\x19"s;
const std::string v6_body = "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"s +
                            "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"s + "\xDC\x04\x00\x19"s;
std::string unix_body(const std::string& source, const std::string& destination) {
    std::string body(216, '\0');
    body.replace(0, source.size(), source);
    body.replace(108, destination.size(), destination);
    return body;
}

struct Good {
    std::string bytes;
    const char* source;  // null: local
    const char* destination;
};

std::vector<Good> good_headers() {
    return {
        {"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n", "192.0.2.1:56324", "192.0.2.2:25"},
        {"PROXY TCP6 2001:db8::1 2001:db8::2 56324 25\r\n", "[2001:db8::1]:56324", "[2001:db8::2]:25"},
        {"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 56324 25\r\n", "192.0.2.1:56324", "192.0.2.2:25"},
        {"PROXY UNKNOWN\r\n", nullptr, nullptr},
        {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", nullptr, nullptr},
        {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
         "65535\r\n",
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
        {v2(0x21, 0x11, v4_body), "192.0.2.1:56324", "192.0.2.2:25"},
        {v2(0x21, 0x21, v6_body), "[2001:db8::1]:56324", "[2001:db8::2]:25"},
        {v2(0x21, 0x11, v4_body + "\x04\x00\x03"s + "abc"), "192.0.2.1:56324", "192.0.2.2:25"},
        {v2(0x20, 0x00, ""), nullptr, nullptr},
        {v2(0x20, 0x11, v4_body), nullptr, nullptr},
        {v2(0x20, 0x77, "x"), nullptr, nullptr},
        {v2(0x21, 0x00, "whatever"), nullptr, nullptr},
        {v2(0x21, 0x31, unix_body("/run/a", "/run/b")), "/run/a", "/run/b"},
        {v2(0x21, 0x31, unix_body("", "/run/b")), nullptr, nullptr},
    };
}

TEST(ProxyHeader, PP_2_PP_3_ReadsBothVersionsAtEveryFragmentation) {
    for (const Good& row : good_headers()) {
        for (std::size_t size = 0; size < row.bytes.size(); ++size) {
            const auto parsed = parse_proxy_header(row.bytes.substr(0, size));
            ASSERT_TRUE(parsed) << parsed.error().text() << " at " << size << " of " << row.bytes;
            ASSERT_FALSE(parsed->has_value()) << size;
        }
        const auto parsed = parse_proxy_header(row.bytes);
        ASSERT_TRUE(parsed && parsed->has_value()) << row.bytes;
        EXPECT_EQ((*parsed)->size, row.bytes.size());
        EXPECT_EQ((*parsed)->local, row.source == nullptr);
        if (row.source == nullptr) continue;
        EXPECT_EQ((*parsed)->source.text(), row.source);
        EXPECT_EQ((*parsed)->destination.text(), row.destination);
    }
}

TEST(ProxyHeader, PP_5_LeavesTheClientsBytesAlone) {
    for (const Good& row : good_headers()) {
        const auto parsed = parse_proxy_header(row.bytes + "EHLO x\r\n");
        ASSERT_TRUE(parsed && parsed->has_value());
        EXPECT_EQ((*parsed)->size, row.bytes.size());
    }
}

TEST(ProxyHeader, PP_4_RefusesGarbage) {
    const std::string rows[] = {
        "EHLO x\r\n",
        "GET / HTTP/1.0\r\n",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "\n",
        "P\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4 256.0.0.1 192.0.2.2 1 25\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 70000 25\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 70000\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 25 7\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 25\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 25\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 25\r\n",
        "PROXY TCP4 ::1 ::1 1 25\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 25\r\n",
        "PROXY TCP4 192.0.2.1 2001:db8::1 1 25\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 25\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 25\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 25\rX",
        "PROXY UNKNOWN " + std::string(94, 'x'),
        "PROXY UNKNOWN " + std::string(92, 'x') + "\r\n",
        "\r\n\r\nX",
        signature + "\x11",
        signature + "\x22",
        signature + "\x31",
        v2(0x21, 0x11, v4_body.substr(1)),
        v2(0x21, 0x21, v4_body),
        v2(0x21, 0x31, v6_body),
        v2(0x21, 0x12, v4_body),
        v2(0x21, 0x41, v4_body),
        v2(0x21, 0x11, std::string(4081, 'x')),
    };
    for (const std::string& row : rows)
        EXPECT_FALSE(parse_proxy_header(row)) << row;
}

TEST(ProxyHeader, PP_2_TheLongestLineIs107Bytes) {
    const auto parsed = parse_proxy_header("PROXY UNKNOWN " + std::string(91, 'x') + "\r\n");
    ASSERT_TRUE(parsed && parsed->has_value());
    EXPECT_EQ((*parsed)->size, 107U);
}

TEST(ProxyHeader, PP_4_RefusesTheOtherVersionWhereOneIsExpected) {
    const std::string v1 = "PROXY UNKNOWN\r\n";
    const std::string other = v2(0x20, 0, "");
    EXPECT_TRUE(parse_proxy_header(v1, ProxyVersions::only_v1));
    EXPECT_TRUE(parse_proxy_header(other, ProxyVersions::only_v2));
    for (std::size_t size = 1; size <= v1.size(); ++size) {
        EXPECT_FALSE(parse_proxy_header(v1.substr(0, size), ProxyVersions::only_v2));
    }
    EXPECT_FALSE(parse_proxy_header(other, ProxyVersions::only_v1));
}

}  // namespace
}  // namespace sluice::net
