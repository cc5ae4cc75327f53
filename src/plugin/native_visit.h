#pragma once

#include <sluice/plugin.h>

#include <string>

#include "plugin/native_event.h"
#include "reception/hooks.h"

namespace sluice::plugin {

// What hooks of mail in are told beside the occasion. Views; they live as long as that.
struct VisitDetails {
    std::string_view rdns = {};   // empty: nobody looked
    std::string_view notes = {};  // of the transaction, JSON; empty: none
    std::string_view text = {};   // the parameter of the hook
    // deny
    std::string_view refused_by = {};
    std::int32_t refused_hook = 0, refused_code = 0;
};

// What native plugins are told of a session, its transaction and its message. Borrows all of that; a kept copy owns it.
class NativeVisit final : public NativeEvent {
public:
    NativeVisit(std::int32_t number, const reception::Occasion& about, const VisitDetails& details);

    MessageId message_id() const override { return about_->message; }
    std::string_view log_id() const override { return session_id_.empty() ? std::string_view(message_text_) : session_id_; }

private:
    // What a kept copy owns.
    struct Owned {
        reception::Occasion about;
        mail::Envelope envelope;
        mail::Recipient recipient;
        std::string content;
        std::string rdns, notes, text, refused_by;
    };

    NativeVisit(Copy, const NativeVisit& original);
    const NativeEvent* copy() const override { return new NativeVisit(Copy{}, *this); }
    std::optional<sluice_recipient> recipient_at(std::uint32_t index) const override;
    const std::string& notes_text(bool live) const override;
    sluice_content message_content() const override;
    void point();
    void point_connection();
    void point_transaction();

    std::unique_ptr<Owned> owned_;  // of a kept copy
    const reception::Occasion* about_;
    VisitDetails details_;
    std::string session_id_, message_text_;
    sluice_connection connection_facts_{};
    sluice_transaction transaction_facts_{};
    sluice_recipient rcpt_facts_{};
    mutable std::string notes_;  // as they were asked for; of a kept event from the beginning
};

}  // namespace sluice::plugin
