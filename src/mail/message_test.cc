#include "mail/message.h"

#include <gtest/gtest.h>

namespace sluice::mail {
namespace {

std::vector<Recipient> recipients(std::initializer_list<std::string_view> texts) {
    std::vector<Recipient> all;
    for (const std::string_view text : texts) {
        Recipient recipient;
        recipient.address = *parse_address(text);
        all.push_back(std::move(recipient));
    }
    return all;
}

TEST(SplitItems, OnePerDomainInOrderOfFirstAppearance) {
    const auto items = split_items(
        recipients({"a@b.test", "c@a.test", "d@B.TEST", "e@xn--bcher-kva.example", "f@bücher.example"}), false
    );
    const std::vector<ItemSpec> expected = {
        {"b.test", {0, 2}}, {"a.test", {1}}, {"xn--bcher-kva.example", {3, 4}}
    };
    EXPECT_EQ(items, expected);
}

TEST(SplitItems, AlwaysSplitMakesOnePerRecipient) {
    const auto items = split_items(recipients({"a@b.test", "c@b.test", "a@b.test"}), true);
    const std::vector<ItemSpec> expected = {{"b.test", {0}}, {"b.test", {1}}, {"b.test", {2}}};
    EXPECT_EQ(items, expected);
    EXPECT_TRUE(split_items({}, true).empty());
}

}  // namespace
}  // namespace sluice::mail
