#pragma once

#include <sluice/plugin.h>

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "delivery/hooks.h"
#include "mail/message.h"

namespace sluice::plugin {

inline sluice_text text_of(std::string_view text) { return {text.data(), text.size()}; }
// Absent when it is empty.
inline sluice_text some_text_of(std::string_view text) { return text.empty() ? sluice_text{} : text_of(text); }
inline std::string_view view_of(const sluice_text& text) {
    return text.data == nullptr ? std::string_view() : std::string_view(text.data, text.size);
}

// Which of the engine's hooks a hook of the interface belongs to; nothing: there is none of this number.
std::optional<delivery::Hook> hook_of(std::int32_t number);
// "get_mx"; null when there is none of this number.
const char* name_of_hook(std::int32_t number);

// What native plugins are told of an item: the structures of sluice/plugin.h and all that they point to. An event of an
// attempt that is to begin is made without allocating. Immutable, apart from what is made when somebody asks; kept copies
// are shared by threads.
class NativeEvent final : public sluice_event {
public:
    // `image`: what plugins noted earlier, or empty.
    NativeEvent(const queue::Work& work, mail::MessagePtr message, std::string image, const Clock& clock);
    NativeEvent(std::int32_t number, const delivery::Hearing& about, std::string image, const Clock& clock);
    NativeEvent(const NativeEvent&) = delete;
    NativeEvent& operator=(const NativeEvent&) = delete;

    void set_hook(std::int32_t number) { hook = number; }
    // Which plugin is called.
    void set_host(const sluice_host& of) { host = &of; }
    // A copy on the heap, with one owner.
    const NativeEvent* keep() const;
    MessageId message_id() const { return message_->id; }
    bool is_kept() const { return owners_ > 0; }

    // The functions of sluice_host that tell about an event.
    static const sluice_event* keep(const sluice_event* event);
    static void release(const sluice_event* event);
    static int recipient(const sluice_event* event, std::uint32_t index, sluice_recipient* recipient);
    static sluice_text notes(const sluice_event* event, int live);
    static sluice_content content(const sluice_event* event);

private:
    struct Decided {
        std::string status, response;
        std::uint16_t code = 0;
    };
    struct Copy {};

    NativeEvent(Copy, const NativeEvent& original);
    void point();
    const std::string& notes_text(bool live) const;

    sluice_item item_facts_{};
    const mail::MessagePtr message_;
    const std::string id_, image_;
    const std::vector<std::uint32_t> own_recipients_;  // where the item's are not those
    const std::vector<std::uint32_t>* recipients_;
    std::vector<Decided> decided_;  // one for each recipient, after an attempt
    std::string host_name_, ip_, response_, reason_;
    mutable std::string notes_, live_notes_;  // as they were asked for; of kept events from the beginning
    mutable std::atomic<int> owners_ = 0;     // of a kept event
};

}  // namespace sluice::plugin
