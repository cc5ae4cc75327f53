#pragma once

#include <sluice/plugin.h>

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "delivery/hooks.h"
#include "mail/message.h"
#include "reception/hooks.h"

namespace sluice::plugin {

inline sluice_text text_of(std::string_view text) { return {text.data(), text.size()}; }
// Absent when it is empty.
inline sluice_text some_text_of(std::string_view text) { return text.empty() ? sluice_text{} : text_of(text); }
inline std::string_view view_of(const sluice_text& text) {
    return text.data == nullptr ? std::string_view() : std::string_view(text.data, text.size);
}

// A hook of the interface. Value.
struct NativeHook {
    const char* name;  // "get_mx"
    // By which of the engine's questions it is called; neither: along with others.
    std::optional<delivery::Hook> outbound;
    std::optional<reception::Hook> inbound;
    bool waits;     // somebody waits for the answer
    bool decides;   // silence is a refusal for now
    bool last_word; // and so is an exception
};
// Null when there is none of this number.
const NativeHook* native_hook(std::int32_t number);
// "get_mx"; null when there is none of this number.
const char* name_of_hook(std::int32_t number);

// What native plugins are told: a structure of sluice/plugin.h and all that it points to. Immutable, apart from what is made
// when somebody asks; kept copies are shared by threads.
class NativeEvent : public sluice_event {
public:
    NativeEvent(const NativeEvent&) = delete;
    NativeEvent& operator=(const NativeEvent&) = delete;
    virtual ~NativeEvent() = default;

    void set_hook(std::int32_t number) { hook = number; }
    // Which plugin is called.
    void set_host(const sluice_host& of) { host = &of; }
    // A copy on the heap, with one owner; of a copy, another owner.
    const NativeEvent* keep() const;
    bool is_kept() const { return owners_ > 0; }
    // The message that a crash of the plugin would be about, and what logs call it.
    virtual MessageId message_id() const = 0;
    virtual std::string_view log_id() const = 0;

    // The functions of sluice_host that tell about an event.
    static const sluice_event* keep(const sluice_event* event);
    static void release(const sluice_event* event);
    static int recipient(const sluice_event* event, std::uint32_t index, sluice_recipient* recipient);
    static sluice_text notes(const sluice_event* event, int live);
    static sluice_content content(const sluice_event* event);

protected:
    NativeEvent() : sluice_event{} {}
    struct Copy {};
    NativeEvent(Copy, const NativeEvent& original) : sluice_event(original), owners_(1) {}

private:
    virtual const NativeEvent* copy() const = 0;
    virtual std::optional<sluice_recipient> recipient_at(std::uint32_t index) const = 0;
    virtual const std::string& notes_text(bool live) const = 0;
    virtual sluice_content message_content() const = 0;

    mutable std::atomic<int> owners_ = 0;  // of a kept event
};

// Of an item. For an attempt that is to begin it is made without allocating.
class NativeItemEvent final : public NativeEvent {
public:
    // `image`: what plugins noted earlier, or empty.
    NativeItemEvent(const queue::Work& work, mail::MessagePtr message, std::string image, const Clock& clock);
    NativeItemEvent(std::int32_t number, const delivery::Hearing& about, std::string image, const Clock& clock);

    MessageId message_id() const override { return message_->id; }
    std::string_view log_id() const override { return id_; }

private:
    struct Decided {
        std::string status, response;
        std::uint16_t code = 0;
    };

    NativeItemEvent(Copy, const NativeItemEvent& original);
    const NativeEvent* copy() const override { return new NativeItemEvent(Copy{}, *this); }
    std::optional<sluice_recipient> recipient_at(std::uint32_t index) const override;
    const std::string& notes_text(bool live) const override;
    sluice_content message_content() const override;
    void point();

    sluice_item item_facts_{};
    const mail::MessagePtr message_;
    const std::string id_, image_;
    const std::vector<std::uint32_t> own_recipients_;  // where the item's are not those
    const std::vector<std::uint32_t>* recipients_;
    std::vector<Decided> decided_;  // one for each recipient, after an attempt
    std::string host_name_, ip_, response_, reason_;
    mutable std::string notes_, live_notes_;  // as they were asked for; of kept events from the beginning
};

sluice_address address_of(const mail::Address& address);

}  // namespace sluice::plugin
