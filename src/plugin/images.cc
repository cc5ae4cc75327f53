#include "plugin/images.h"

#include <boost/json/serialize.hpp>
#include <string_view>
#include <utility>

#include "plugin/json_members.h"

namespace sluice::plugin {
namespace {

boost::json::object parse_object(const std::string& text) {
    boost::system::error_code error;
    boost::json::value parsed = parse_json(text.empty() ? "{}" : text, error);
    return !error && parsed.is_object() ? std::move(parsed.get_object()) : boost::json::object();
}

}  // namespace

bool Images::recover(const std::vector<spool::PolicyRecord>& records) {
    bool any = false;
    for (const spool::PolicyRecord& record : records) {
        if (!std::string_view(record.key).starts_with(prefix_)) continue;
        const auto item = ItemId::parse(std::string_view(record.key).substr(prefix_.size()));
        if (!item) continue;
        images_.with([&](auto& images) {
            images[*item] = Image{record.value, true, true, {}};
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
            images[item] = Image{std::move(text), false, true, {}};
        }
        count_ = images.size();
    });
}

bool Images::note(ItemId item, const std::string& given, const boost::json::object& notes) {
    boost::json::object parts = parse_object(get(item));
    const boost::json::value* known = parts.if_contains("notes");
    boost::json::object all = known != nullptr && known->is_object() ? known->get_object() : parse_object(given);
    for (const auto& [name, value] : notes) all[name] = value;
    parts["notes"] = std::move(all);
    // What the notes of the message were before there was an image.
    if (!parts.contains("live")) parts["live"] = parse_object(given);
    std::string text = boost::json::serialize(parts);
    if (text.size() > notes_bytes_max) return false;
    set(item, std::move(text));
    images_.with([&](auto& images) {
        for (const auto& [name, value] : notes) images[item].noted[name] = value;
    });
    return true;
}

std::string Images::take_noted(ItemId item) {
    return images_.with([&](auto& images) {
        const auto found = images.find(item);
        if (found == images.end() || found->second.noted.empty()) return std::string();
        return boost::json::serialize(std::exchange(found->second.noted, {}));
    });
}

void Images::forget(ItemId item) {
    if (empty()) return;
    images_.with([&](auto& images) {
        images.erase(item);
        count_ = images.size();
    });
}

void Images::record(ItemId item, bool decided, spool::Batch& batch) {
    if (empty()) return;  // where no plugin notes anything, settlements cost nothing
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
