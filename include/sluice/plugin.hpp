// SPDX-License-Identifier: Apache-2.0
#ifndef SLUICE_PLUGIN_HPP
#define SLUICE_PLUGIN_HPP

// Native plugins in C++17: plugin.h without pointers and sizes. Nothing here is more than plugin.h; what it says of
// threads, time and ownership holds.
//
//     class Router {
//     public:
//         explicit Router(sluice::plugins::Host host) { host.listen<&Router::get_mx>(SLUICE_HOOK_GET_MX); }
//         sluice::plugins::Answer get_mx(const sluice::plugins::Call& call) {
//             using sluice::plugins::Answer;
//             return call.domain() == "example.test" ? Answer::to("192.0.2.1:25") : Answer::go_on();
//         }
//     };
//     SLUICE_CXX_PLUGIN(Router, "1.0")
//
// The constructor is the plugin's init() and may throw; the destructor is its shutdown().

#include <sluice/plugin.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::plugins {

inline std::string_view view(sluice_text text) {
    return text.data == nullptr ? std::string_view() : std::string_view(text.data, text.size);
}
inline sluice_text text(std::string_view of) { return {of.data(), of.size()}; }

// "user@domain" as it was written, but without quotes; empty for the null path.
inline std::string address_text(const sluice_address& address) {
    std::string whole(view(address.local));
    if (address.domain.size > 0) whole.append("@").append(view(address.domain));
    return whole;
}

// What a plugin answers. Value.
class Answer {
public:
    static Answer go_on() { return Answer(SLUICE_CONT); }
    static Answer of(std::int32_t code) { return Answer(code); }
    // Later, by a ticket.
    static Answer pending() { return Answer(SLUICE_PENDING); }
    // get_mx: this host, a text as in relay_dest_domains.ini; and_to() adds others.
    static Answer to(std::string next_hop) { return Answer(SLUICE_OK).and_to(std::move(next_hop)); }
    static Answer deny(std::string reason) { return Answer(SLUICE_DENY).because(std::move(reason)); }
    static Answer deny_for_now(std::string reason) { return Answer(SLUICE_DENYSOFT).because(std::move(reason)); }
    // Hooks of mail in: yes, with these words of the reply, or the usual ones. queue: the plugin has the message.
    static Answer accept(std::string words = {}) { return Answer(SLUICE_OK).because(std::move(words)); }
    // capabilities: lines that EHLO is answered with besides, ended by LF.
    static Answer offer(std::string lines) { return Answer(SLUICE_CONT).because(std::move(lines)); }
    // send_email: not before that.
    static Answer put_off(std::chrono::milliseconds delay) { return Answer(SLUICE_DELAY).in(delay); }
    // deferred: the next attempt then.
    static Answer retry_in(std::chrono::milliseconds delay) { return Answer(SLUICE_DENYSOFT).in(delay); }

    Answer& and_to(std::string next_hop) {
        next_hops_.push_back(std::move(next_hop));
        return *this;
    }
    // Members of the todo's notes, as the text of a JSON object.
    Answer& with_notes(std::string json) {
        notes_ = std::move(json);
        return *this;
    }
    Answer& with_tls() {
        flags_ |= SLUICE_FORCE_TLS;
        return *this;
    }
    // Hooks of mail in: the code of the reply that refuses, and whether the client may send to any domain.
    Answer& with_code(std::uint32_t reply_code) {
        reply_code_ = reply_code;
        return *this;
    }
    Answer& with_relaying(bool allowed) {
        flags_ = (flags_ & ~std::uint32_t{SLUICE_RELAY | SLUICE_DO_NOT_RELAY}) | (allowed ? SLUICE_RELAY : SLUICE_DO_NOT_RELAY);
        return *this;
    }
    // A header field below the others, or above them.
    Answer& with_header(std::string name, std::string value, bool first = false) {
        headers_.push_back({std::move(name), std::move(value), first});
        return *this;
    }
    std::int32_t code() const { return code_; }

    // Calls `use` with the structure of plugin.h, which lives that long.
    template <class Use>
    auto use(Use&& use) const {
        std::vector<sluice_mx> mx(next_hops_.size());
        for (std::size_t i = 0; i < mx.size(); ++i) {
            mx[i] = sluice_mx{};
            mx[i].size = sizeof(sluice_mx);
            mx[i].next_hop = text(next_hops_[i]);
        }
        std::vector<sluice_header> headers(headers_.size());
        for (std::size_t i = 0; i < headers.size(); ++i) {
            headers[i] = {sizeof(sluice_header), headers_[i].first ? 1u : 0u, text(headers_[i].name), text(headers_[i].value)};
        }
        sluice_answer answer{};
        answer.size = sizeof answer;
        answer.code = code_;
        answer.reason = text(reason_);
        answer.delay_ms = delay_.count();
        answer.mx = mx.data();
        answer.mx_count = mx.size();
        answer.notes = text(notes_);
        answer.flags = flags_;
        answer.headers = headers.data();
        answer.header_count = headers.size();
        answer.reply_code = reply_code_;
        return use(answer);
    }

private:
    explicit Answer(std::int32_t code) : code_(code) {}
    Answer& because(std::string reason) {
        reason_ = std::move(reason);
        return *this;
    }
    Answer& in(std::chrono::milliseconds delay) {
        delay_ = delay;
        return *this;
    }

    std::int32_t code_;
    std::string reason_, notes_;
    std::chrono::milliseconds delay_{0};
    struct Header {
        std::string name, value;
        bool first;
    };

    std::vector<std::string> next_hops_;
    std::vector<Header> headers_;
    std::uint32_t flags_ = 0, reply_code_ = 0;
};

// What a hook is told. Borrows, unless it is a KeptEvent.
class Event {
public:
    explicit Event(const sluice_event* event) : event_(event) {}

    const sluice_event& raw() const { return *event_; }
    // In hooks of mail out.
    const sluice_item& item() const { return *event_->item; }
    // In hooks of mail in: null where there is none, or where the engine is older than these.
    const sluice_connection* connection() const { return SLUICE_HAS(event_, connection) ? event_->connection : nullptr; }
    const sluice_transaction* transaction() const { return SLUICE_HAS(event_, transaction) ? event_->transaction : nullptr; }
    const sluice_recipient* rcpt() const { return SLUICE_HAS(event_, rcpt) ? event_->rcpt : nullptr; }
    // What plugin.h calls text.
    std::string_view parameter() const { return SLUICE_HAS(event_, text) ? view(event_->text) : std::string_view(); }
    std::string_view refused_by() const { return SLUICE_HAS(event_, refused_by) ? view(event_->refused_by) : std::string_view(); }
    std::string_view id() const { return view(item().id); }
    std::string_view domain() const { return view(item().domain); }
    std::uint32_t attempts() const { return item().attempts; }
    std::string_view reason() const { return view(event_->reason); }
    std::string_view host_name() const { return view(event_->host_name); }
    std::string_view ip() const { return view(event_->ip); }
    std::string_view response() const { return view(event_->response); }
    std::chrono::milliseconds delay() const { return std::chrono::milliseconds(event_->delay_ms); }
    std::vector<sluice_recipient> recipients() const {
        std::uint32_t count = event_->item != nullptr ? item().recipient_count : 0;
        if (transaction() != nullptr) count = transaction()->recipient_count;
        std::vector<sluice_recipient> all(count);
        for (std::uint32_t i = 0; i < all.size(); ++i) {
            all[i] = sluice_recipient{};
            all[i].size = sizeof(sluice_recipient);
            event_->host->recipient(event_, i, &all[i]);
        }
        return all;
    }
    // JSON objects.
    std::string_view notes() const { return view(event_->host->notes(event_, 0)); }
    std::string_view live_notes() const { return view(event_->host->notes(event_, 1)); }
    sluice_content content() const { return event_->host->content(event_); }

protected:
    const sluice_event* event_;
};

// An event that lasts as long as this. Value.
class KeptEvent : public Event {
public:
    explicit KeptEvent(const Event& event) : Event(event.raw().host->keep(&event.raw())) {}
    KeptEvent(const KeptEvent& other) : Event(other.event_ == nullptr ? nullptr : other.raw().host->keep(other.event_)) {}
    KeptEvent(KeptEvent&& other) noexcept : Event(std::exchange(other.event_, nullptr)) {}
    KeptEvent& operator=(KeptEvent other) noexcept {
        std::swap(event_, other.event_);
        return *this;
    }
    ~KeptEvent() {
        if (event_ != nullptr) event_->host->release(event_);
    }
};

// Names a call that is answered later, from any thread. Value.
class Ticket {
public:
    Ticket(const sluice_host* host, sluice_ticket number) : host_(host), number_(number) {}
    // Whether this answer counts: the first one that is in time does.
    bool answer(const Answer& answer) const {
        return answer.use([this](const sluice_answer& raw) { return host_->answer(host_, number_, &raw) == 1; });
    }

private:
    const sluice_host* host_;
    sluice_ticket number_;
};

// One call of a hook.
class Call : public Event {
public:
    Call(sluice_call* call, const sluice_event* event) : Event(event), call_(call) {}
    // For an answer that comes after the hook has returned Answer::pending().
    Ticket later() const { return {event_->host, event_->host->later(call_)}; }

private:
    sluice_call* call_;
};

// A file of config/. Moves.
class Config {
public:
    struct Entry {
        int line;
        std::string_view section, key, value;
    };
    Config(const sluice_host* host, sluice_config* config) : host_(host), config_(config) {}
    Config(Config&& other) noexcept : host_(other.host_), config_(std::exchange(other.config_, nullptr)) {}
    Config(const Config&) = delete;
    Config& operator=(const Config&) = delete;
    Config& operator=(Config&&) = delete;
    ~Config() { host_->config_free(config_); }

    // The last value of a key; nothing: there is none. In "main", and for JSON without a section.
    std::optional<std::string_view> get(const char* key, const char* section = nullptr) const {
        const sluice_text found = host_->config_get(config_, section, key);
        if (found.data == nullptr) return std::nullopt;
        return view(found);
    }
    std::vector<Entry> entries() const {
        std::vector<Entry> all;
        sluice_config_entry entry{};
        entry.size = sizeof entry;
        for (std::size_t i = 0; host_->config_entry(config_, i, &entry) == 0; ++i) {
            all.push_back({entry.line, view(entry.section), view(entry.key), view(entry.value)});
        }
        return all;
    }

private:
    const sluice_host* host_;
    sluice_config* config_;
};

// The engine, as one plugin sees it. Value.
class Host {
public:
    explicit Host(const sluice_host* host) : host_(host) {}

    const sluice_host& raw() const { return *host_; }
    std::string_view name() const { return host_->name; }
    std::string_view directory() const { return host_->directory; }
    // Levels are Haraka's: 3 error, 4 warn, 5 notice, 6 info, 7 debug.
    void log(int level, std::string_view line) const { host_->log(host_, level, text(line)); }
    Config config(const char* name, int type) const {
        char why[256] = "";
        sluice_config* config = host_->config(host_, name, type, why, sizeof why);
        if (config == nullptr) throw std::runtime_error(why);
        return {host_, config};
    }
    // In the constructor only. `method` takes a Call and returns an Answer.
    template <auto method>
    void listen(std::int32_t number, std::int32_t priority = 0, std::uint32_t flags = 0) const {
        if (host_->listen(host_, number, &run<method>, priority, flags) != 0) {
            throw std::runtime_error("this engine has no hook " + std::to_string(number) + ", or priority or flags are wrong");
        }
    }

private:
    template <class Class>
    static Class class_of(Answer (Class::*)(const Call&));
    template <auto method>
    static std::int32_t run(void* state, sluice_call* call, const sluice_event* event) noexcept {
        using Plugin = decltype(class_of(method));
        try {
            const Answer answer = (static_cast<Plugin*>(state)->*method)(Call(call, event));
            const auto reply = [&](const sluice_answer& raw) { return event->host->reply(call, &raw); };
            return answer.code() == SLUICE_PENDING ? SLUICE_PENDING : answer.use(reply);
        } catch (const std::exception& error) {
            event->host->log(event->host, 3, text(error.what()));
        } catch (...) {
            event->host->log(event->host, 3, text("an exception in a hook"));
        }
        return SLUICE_CONT;
    }

    const sluice_host* host_;
};

// The functions of sluice_plugin for a class.
template <class Plugin>
int init(const sluice_host* host, void** state, char* why, std::size_t why_size) noexcept {
    try {
        *state = new Plugin(Host(host));
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(why, why_size, "%s", error.what());
    } catch (...) {
        std::snprintf(why, why_size, "%s", "an exception in the constructor");
    }
    return -1;
}

template <class Plugin>
void shutdown(void* state) noexcept {
    delete static_cast<Plugin*>(state);
}

}  // namespace sluice::plugins

#define SLUICE_CXX_PLUGIN(Plugin, version) \
    SLUICE_PLUGIN(version, &::sluice::plugins::init<Plugin>, &::sluice::plugins::shutdown<Plugin>);

#endif
