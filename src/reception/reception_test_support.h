#pragma once

// What the tests and the fuzz target of reception put in place of the rest of the engine.

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "async/shard.h"
#include "async/task_group.h"
#include "reception/reception.h"
#include "reception/rules.h"
#include "reception/session.h"

namespace sluice::reception {

// Takes every message at once, or fails as told. Shard-owned.
class FakeAcceptance final : public Acceptance {
public:
    Task<Result<>> accept(mail::MessagePtr message) override {
        if (failure) co_return fail(*failure, "as the test says");
        messages.push_back(std::move(message));
        co_return Result<>();
    }
    std::optional<std::string> refusal() const override {
        ++asked;
        return refusing_at == 0 || refusing_at == asked ? refusing : std::nullopt;
    }
    std::optional<std::string> no_room_after(std::uint64_t octets) const override {
        noted += octets;
        return noted > room ? std::optional<std::string>("memory is at its bound") : std::nullopt;
    }

    std::vector<mail::MessagePtr> messages;
    std::optional<Errc> failure;
    std::optional<std::string> refusing;
    std::uint32_t refusing_at = 0;  // only when asked for the n-th time
    mutable std::uint32_t asked = 0;
    std::uint64_t room = std::numeric_limits<std::uint64_t>::max();
    mutable std::uint64_t noted = 0;
};

// Keeps what was refused and counts what was accepted.
class FakeRecorder final : public event::Recorder {
public:
    void record(const event::Accepted&) override { ++accepted; }
    void record(const event::Refused& fact) override {
        refused.push_back(std::string(fact.stage) + " " + std::string(fact.reply));
    }
    void record(const event::Delivered&) override {}
    void record(const event::Deferred&) override {}
    void record(const event::Bounced&) override {}
    void record(const event::Expired&) override {}
    void record(const event::Removed&) override {}
    void record(const event::PolicyChanged&) override {}
    void record(const event::PossibleDuplicate&) override {}

    int accepted = 0;
    std::vector<std::string> refused;
};

// Keeps lines as "origin sentence key=value ...".
class FakeLog final : public event::Log {
public:
    bool enabled(event::Level) const override { return true; }
    void write(event::Level, std::string_view, std::string_view origin, std::string_view sentence,
               std::initializer_list<event::Field> fields) override {
        std::string line(origin);
        line.append(" ").append(sentence);
        for (const event::Field& field : fields) line.append(" ").append(field.key).append("=").append(field.value);
        lines.push_back(std::move(line));
    }
    std::vector<std::string> lines;
};

// Settings that relay for loopback, as a fresh instance does.
inline config::Settings test_settings() {
    config::Settings settings;
    settings.me = "mx.test";
    settings.relay.acl = true;
    settings.relay.acl_allow = {"127.0.0.0/8", "::1"};
    settings.outbound.received_header = "disabled";
    return settings;
}

// Everything that a session needs around it, on one loop that the test drives.
struct TestWorld {
    async::Shard shard{"test"};
    ManualClock clock{instant_from_ms(1'800'000'000'000)};
    spool::IdSource ids{clock, MessageId{}};
    FakeAcceptance acceptance;
    FakeRecorder recorder;
    FakeLog log;
    Census census;

    Surroundings surroundings() { return {shard, clock, ids, acceptance, recorder, log, &census}; }

    // Runs the loop on this thread until all tasks of the group have ended.
    void run(const async::TaskGroup& group) {
        while (group.size() > 0) shard.loop().run_one();
    }
};

// Short waits, so that a test of a deadline is short.
inline Patience test_patience() {
    Patience patience;
    patience.proxy_wait = std::chrono::milliseconds(50);
    patience.auth_delay_first = std::chrono::milliseconds(1);
    patience.auth_delay_max = std::chrono::milliseconds(4);
    patience.linger = std::chrono::milliseconds(200);
    return patience;
}

inline RulesPtr test_rules(config::Settings settings) {
    auto rules = make_rules(std::make_shared<const config::Settings>(std::move(settings)));
    if (!rules) return nullptr;
    auto tuned = std::make_shared<Rules>(**rules);
    tuned->patience = test_patience();
    return tuned;
}

}  // namespace sluice::reception
