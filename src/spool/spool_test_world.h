#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "spool/journal_spool.h"

namespace sluice::spool {

// What the spool's tests share.

inline mail::MessagePtr test_message(
    std::uint64_t id, std::size_t content_bytes, std::vector<mail::ItemSpec> items = {{"d.test", {0}}}
) {
    auto message = std::make_shared<mail::Message>();
    message->id = MessageId{id};
    message->arrival = instant_from_ms(1'000'000 + static_cast<std::int64_t>(id));
    message->envelope.reverse_path = {"sender" + std::to_string(id), "s.test"};
    message->envelope.envid = "env" + std::to_string(id);
    std::uint32_t recipients = 0;
    for (const mail::ItemSpec& item : items) {
        for (const std::uint32_t index : item.recipients)
            recipients = std::max(recipients, index + 1);
    }
    for (std::uint32_t i = 0; i < recipients; ++i) {
        message->envelope.recipients.push_back(
            {{"rcpt" + std::to_string(i), "d.test"}, mail::notify_failure, "rfc822;x"}
        );
    }
    message->items = std::move(items);
    message->trace = "Received: from a.test by b.test; " + std::to_string(id) + "\r\n";
    message->content.assign(content_bytes, static_cast<char>('a' + id % 26));
    message->traits.line_max = 78;
    message->notes = "{\"n\":" + std::to_string(id) + "}";
    message->tenant = "tenant" + std::to_string(id % 3);
    message->job = "job" + std::to_string(id);
    message->transport = "bulk";
    message->lifetime = std::chrono::seconds(id % 2 * 3'600);
    message->marks = {{"notes.n", std::to_string(id)}, {"header.x-list", "x"}};
    if (id % 3 != 0) message->envelope.mt_priority = static_cast<std::int8_t>(static_cast<int>(id % 19) - 9);
    message->priority = static_cast<std::uint8_t>(id % 8);
    message->origin = "smtp 192.0.2.1";
    message->auth_user = "user";
    return message;
}

inline void expect_same(const mail::Message& a, const mail::Message& b) {
    EXPECT_EQ(a.id, b.id);
    EXPECT_EQ(a.arrival, b.arrival);
    EXPECT_EQ(a.envelope, b.envelope);
    EXPECT_EQ(a.items, b.items);
    EXPECT_EQ(a.trace, b.trace);
    EXPECT_EQ(a.content, b.content);
    EXPECT_EQ(a.traits, b.traits);
    EXPECT_EQ(a.notes, b.notes);
    EXPECT_EQ(a.tenant, b.tenant);
    EXPECT_EQ(a.job, b.job);
    EXPECT_EQ(a.transport, b.transport);
    EXPECT_EQ(a.lifetime, b.lifetime);
    EXPECT_EQ(a.marks, b.marks);
    EXPECT_EQ(a.priority, b.priority);
    EXPECT_EQ(a.origin, b.origin);
    EXPECT_EQ(a.auth_user, b.auth_user);
}

// What failed is tried again at once.
inline Tuning quick_tuning() {
    Tuning tuning;
    tuning.retry_after = Duration(0);
    tuning.disk_check = Duration(0);
    return tuning;
}

inline OutcomeRecord delivered(
    std::uint64_t id, std::uint32_t item = 0, std::vector<std::uint32_t> recipients = {0}
) {
    OutcomeRecord record;
    record.item = ItemId{MessageId{id}, item};
    record.outcome = Outcome::delivered;
    record.recipients = std::move(recipients);
    record.at = instant_from_ms(2'000'000);
    return record;
}

// Collects completions and lets a test wait for them. Thread-safe.
class Listener final : public CommitListener {
public:
    void committed(std::span<Committed> commits) override {
        const std::lock_guard lock(mutex_);
        ++calls_;
        for (Committed& commit : commits)
            results_.emplace(commit.ticket, std::move(commit.result));
        changed_.notify_all();
    }
    Result<> wait(std::uint64_t ticket) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return results_.contains(ticket); });
        return results_.at(ticket);
    }
    std::size_t calls() const {
        const std::lock_guard lock(mutex_);
        return calls_;
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::uint64_t, Result<>> results_;
    std::size_t calls_ = 0;
};

// A directory that goes away with the test.
class TemporaryDirectory {
public:
    TemporaryDirectory() {
        std::string name = (std::filesystem::temp_directory_path() / "spool-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) std::abort();
        path_ = name;
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

// What recovery told, owning its texts.
struct ToldItem {
    std::vector<std::uint32_t> pending;
    std::string domain, tenant, last_reply, changes;
    RecoveredItem item;
};
using Told = std::map<ItemId, ToldItem>;

inline std::function<void(const RecoveredItem&)> tell_into(Told& told) {
    return [&told](const RecoveredItem& item) {
        const bool fresh = told.emplace(
                                   item.id,
                                   ToldItem{
                                       {item.pending.begin(), item.pending.end()},
                                       std::string(item.domain),
                                       std::string(item.tenant),
                                       std::string(item.last_reply),
                                       std::string(item.changes),
                                       item
                                   }
        )
                               .second;
        EXPECT_TRUE(fresh) << "told twice: " << item.id.text();
    };
}

// A spool with a listener; append() waits for its sync.
class OpenSpool {
public:
    OpenSpool(Disk& disk, const Options& options, const Tuning& tuning = {}) {
        auto opened = JournalSpool::open(disk, options, tuning, tell_into(told), report);
        if (opened) {
            spool = std::move(*opened);
        } else {
            error = opened.error();
        }
    }
    Result<> append(Batch batch) {
        const std::uint64_t ticket = ++ticket_;
        spool->append(std::move(batch), &listener, ticket);
        return listener.wait(ticket);
    }
    Result<> append(Record record) {
        Batch batch;
        batch.push_back(std::move(record));
        return append(std::move(batch));
    }

    Told told;
    RecoveryReport report;
    std::optional<Error> error;
    Listener listener;
    std::unique_ptr<Spool> spool;

private:
    std::uint64_t ticket_ = 0;
};

inline Options small_options(const std::string& directory) {
    Options options;
    options.directory = directory;
    options.segment_bytes = 64 << 10;
    options.reserve_bytes = 32 << 10;
    options.free_bytes_min = 0;
    return options;
}

}  // namespace sluice::spool
