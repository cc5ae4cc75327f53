#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "drill/link.h"
#include "event/events.h"
#include "event/log.h"
#include "mail/message.h"
#include "spool/spool.h"

namespace sluice::drill {

// A message as its client gave it.
struct Sent {
    std::string reverse_path;  // empty: null
    std::vector<std::string> recipients;
    std::uint8_t notify = 0;   // bits of mail::Notify, for all
    std::string content;
    bool acknowledged = false;
};

// A message as a host took it.
struct Taken {
    std::string host;
    std::string reverse_path;
    std::vector<std::string> recipients;
    std::string content;       // dots removed
    LinkPtr link;
    std::shared_ptr<std::uint64_t> reply_ends;  // octets of the link when its reply was said; 0: not said (yet)
    bool says_so = true;       // the host answers 250, and properly
};

// Keeps the books of a run from what clients and hosts saw and what the engine recorded, and checks them against what the
// engine promises (section 1 of the design). The first violation is kept in words. One for a run, across all lives.
class Ledger final : public event::Recorder, public event::Log {
public:
    using ServesDomain = std::function<bool(const std::string& host, const std::string& domain)>;
    explicit Ledger(ServesDomain serves) : serves_(std::move(serves)) {}

    // ---- clients and hosts
    std::uint64_t sent(Sent message);  // its number, which its content must carry: see mark()
    static std::string mark(std::uint64_t number) { return "X-Drill: " + std::to_string(number) + "\r\n"; }
    std::uint64_t next_number() const { return sent_.size(); }
    void acknowledged(std::uint64_t number);
    void taken(Taken message);
    void violate(const std::string& what);
    void trace(std::string_view what);  // part of the run's hash

    // ---- the engine's life
    // What was recorded before `durable_since` has reached the disk; the process has died.
    void died(std::int64_t durable_before_ns);
    void recovered(const spool::RecoveredItem& item);
    void booted();      // after the last recovered()
    void boot_failed() { found_.clear(); }
    void corrupt_reported() { ++corrupt_; }

    void record(const event::Accepted& fact) override;
    void record(const event::Refused& fact) override;
    void record(const event::Delivered& fact) override;
    void record(const event::Deferred& fact) override;
    void record(const event::Bounced& fact) override;
    void record(const event::Expired& fact) override;
    void record(const event::Removed& fact) override;
    void record(const event::PolicyChanged&) override {}
    void record(const event::PossibleDuplicate& fact) override;

    bool enabled(event::Level level) const override { return level <= (verbose ? event::Level::protocol : event::Level::warn); }
    void write(
        event::Level level, std::string_view session, std::string_view origin, std::string_view sentence,
        std::initializer_list<event::Field> fields) override;

    // ---- the end
    void settle_accounts();
    const std::optional<std::string>& violation() const { return violation_; }
    std::uint64_t hash() const { return hash_; }
    struct Counts {
        std::uint64_t messages = 0, acknowledged = 0, delivered = 0, bounced = 0, removed = 0, duplicates = 0, deferred = 0,
            dsns = 0, refused = 0;
    };
    const Counts& counts() const { return counts_; }

    bool verbose = false;
    // The disk has failed in this world: the spool may say so as an error, but never that something is damaged.
    bool disk_has_failed = false;

private:
    enum class End : std::uint8_t { open, delivered, bounced, removed };
    // What is known of one recipient of one message.
    struct Fate {
        struct Commit {
            LinkPtr link;
            std::shared_ptr<std::uint64_t> reply_ends;
            bool says_so;
            std::uint32_t life;
        };
        std::vector<Commit> commits;
        End end = End::open;
        std::int64_t ended_ns = 0;
        std::uint32_t ended_life = 0;
        bool possible_duplicate = false;
        MessageId dsn;
        bool durable = false;  // the end has survived a crash
        bool ever_delivered = false, ever_bounced = false;
    };
    struct Book {
        Sent sent;
        MessageId id;
        std::map<std::string, Fate> fates;
        bool is_dsn = false;
        std::uint64_t about = 0;  // DSN: the message that it is about
        bool lost = false;        // DSN: a crash took it together with what it tells
    };

    Book* book_of(const event::ItemFact& fact);
    void check_survival(Book& book);
    void check_end(const Book& book);
    void each_recipient(const event::ItemFact& fact, const std::function<void(Book&, const std::string&, Fate&)>& visit);
    void end_as(const event::ItemFact& fact, End end, MessageId dsn);
    void check_content(const Taken& message, const Book& book);
    void taken_dsn(const Taken& message);
    void check_duplicate(const std::string& who, const Fate& fate);
    static std::optional<std::uint64_t> number_in(std::string_view content);
    bool reply_was_read(const Fate::Commit& commit) const;

    ServesDomain serves_;
    std::vector<std::unique_ptr<Book>> sent_;        // by number
    std::map<MessageId, std::unique_ptr<Book>> dsns_;
    std::map<MessageId, Book*> by_id_;
    std::map<MessageId, std::set<std::uint32_t>> found_;  // by the recovery of this life
    std::int64_t durable_before_ns_ = 0;
    std::uint32_t life_ = 0;
    std::uint64_t corrupt_ = 0;
    std::optional<std::string> violation_;
    std::uint64_t hash_ = 14695981039346656037ULL;
    Counts counts_;
};

}  // namespace sluice::drill
