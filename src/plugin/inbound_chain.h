#pragma once

#include <absl/container/flat_hash_map.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "plugin/inbound_hooks.h"
#include "plugin/native_host.h"
#include "plugin/native_visit.h"
#include "plugin/plan.h"
#include "reception/hooks.h"

namespace sluice::plugin {

// The hooks of mail in of one shard, answered by native plugins and the plugin host in one chain.
//
// What no native plugin listens to is the plugin host's, as if there were none. Where they do, a question of the engine's is
// taken apart into Haraka's hooks, and the plugin host is asked for its part of each. Shard-owned, except wants().
class InboundChain final : public reception::Hooks {
public:
    // `natives` is null in a world without processes.
    InboundChain(async::Executor executor, NativeHost* natives, Hosts& hosts, event::Log& log);

    bool wants(reception::Hook hook) const override { return node_.wants(hook) || (natives_ != nullptr && natives_->wants(hook)); }
    Task<reception::Answer> ask(reception::Hook hook, const reception::Occasion& occasion) override;
    void tell(reception::Hook hook, const reception::Occasion& occasion) override;

private:
    using Steps = std::vector<Step>;
    struct Planned {
        bool made = false;
        JavaScriptListenersPtr listeners;
        std::shared_ptr<const Steps> steps;
    };
    // What is to be remembered of a session, and of its transaction under way.
    struct Standing {
        bool told = false;             // the plugin host knows the session
        std::string rdns;
        std::uint32_t transaction = 0;
        std::size_t told_recipients = 0;  // with those that the plugin host has added itself
        boost::json::object notes;
        std::string notes_text;        // the same; empty: none
        boost::json::object untold;    // notes that the plugin host has not heard of
    };
    // What a hook came to.
    struct Verdict {
        reception::Answer::What what = reception::Answer::What::go_on;
        int code = 0;
        std::vector<std::string> text;
        std::string by;
        bool disconnect = false;
        bool over = false;  // nobody else is asked
        bool refuses() const;
        bool stops() const;  // and neither is anybody about the hooks that follow
    };
    struct Course;

    Standing& standing_of(const reception::Occasion& occasion);
    bool stands_in(reception::Hook hook) const;
    std::shared_ptr<const Steps> steps_of(std::int32_t number, const Course& course);

    Task<reception::Answer> ask_whole(Course& course);
    Task<reception::Answer> ask_opening(Course& course);
    Task<reception::Answer> ask_hello(Course& course);
    Task<reception::Answer> ask_rcpt(Course& course);
    Task<reception::Answer> ask_content(Course& course);
    Task<reception::Answer> ask_injected(Course& course);
    Task<Verdict> run(std::int32_t number, Course& course, std::string_view text = {});
    Task<Verdict> ask_native(const NativeListener& listener, Course& course, std::string_view text);
    Task<Verdict> ask_part(std::int32_t number, std::string part, Course& course);
    Verdict weigh(const NativeListener& listener, NativeReply& reply, Course& course);
    bool is_undone(const Verdict& refusal, std::int32_t number, const Course& course);
    void hear(std::int32_t number, const Course& course, const VisitDetails& details);
    void take_effects(const NativeListener& listener, NativeReply& reply, Course& course);
    void note(const NativeListener& listener, const NativeReply& reply, Course& course);
    void add_fields(const NativeListener& listener, NativeReply& reply, Course& course);
    void warn(const NativeListener& listener, const Course& course, const char* sentence, const std::string& reason);
    std::string news_for_host(Course& course);
    void host_was_told(Course& course);
    static void note_recipients(const reception::Answer& answer, Standing& standing);
    void absorb(HostAnswer& said, Course& course);
    void absorb_content(reception::Answer& answer, Course& course);
    static void absorb_envelope(const reception::Answer& from, Course& course);
    void tell_part(const Course& course, const boost::json::object& part);

    NativeHost* const natives_;
    InboundHooks node_;
    event::Log& log_;
    std::unique_ptr<NativeCaller> caller_;
    std::array<Planned, SLUICE_HOOK_DISCONNECT + 1> plans_;
    absl::flat_hash_map<std::string, std::unique_ptr<Standing>> sessions_;
};

}  // namespace sluice::plugin
