#include "plugin/images.h"

#include <string_view>
#include <utility>

namespace sluice::plugin {

bool Images::recover(const std::vector<spool::PolicyRecord>& records) {
    bool any = false;
    for (const spool::PolicyRecord& record : records) {
        if (!std::string_view(record.key).starts_with(prefix_)) continue;
        const auto item = ItemId::parse(std::string_view(record.key).substr(prefix_.size()));
        if (!item) continue;
        images_.with([&](auto& images) {
            images[*item] = Image{record.value, true, true};
            count_ = images.size();
        });
        any = true;
    }
    return any;
}

std::string Images::get(ItemId item) const {
    return images_.with([&](const auto& images) {
        const auto found = images.find(item);
        return found == images.end() ? std::string() : found->second.text;
    });
}

void Images::set(ItemId item, std::string text) {
    images_.with([&](auto& images) {
        Image& image = images[item];
        image.recorded = image.recorded && image.text == text;
        image.text = std::move(text);
        count_ = images.size();
    });
}

void Images::restore(ItemId item, std::string text) {
    images_.with([&](auto& images) {
        if (text.empty()) {
            images.erase(item);
        } else {
            images[item] = Image{std::move(text), false, true};
        }
        count_ = images.size();
    });
}

void Images::record(ItemId item, bool decided, spool::Batch& batch) {
    images_.with([&](auto& images) {
        const auto found = images.find(item);
        if (found == images.end()) return;
        Image& image = found->second;
        if (decided) {
            if (image.ever_recorded) batch.emplace_back(spool::PolicyRecord{key_of(item), {}});
            images.erase(found);
            count_ = images.size();
        } else if (!std::exchange(image.recorded, true)) {
            image.ever_recorded = true;
            batch.emplace_back(spool::PolicyRecord{key_of(item), image.text});
        }
    });
}

}  // namespace sluice::plugin
