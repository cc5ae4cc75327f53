#include "daemon/queue_import.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "event/event_test_support.h"


namespace sluice::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view todo =
    "\n{\n\t\"queue_time\": 1700000000123,\n\t\"domain\": \"dst.test\",\n\t\"rcpt_to\": [{\"original\": \"<b@dst.test>\", \"original_host\": "
    "\"dst.test\", \"host\": \"dst.test\", \"user\": \"b\"}],\n\t\"mail_from\": {\"original\": \"<a@src.test>\", \"original_host\": "
    "\"src.test\", \"host\": \"src.test\", \"user\": \"a\"},\n\t\"notes\": {\"k\": 1},\n\t\"uuid\": \"U.1.1\",\n\t\"force_tls\": true\n}\n";

std::string queue_file(std::string_view message, std::string_view head = todo) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(head.size() >> shift & 0xFF));
    return bytes.append(head).append(message);
}

class NoEvents final : public event::SilentRecorder {
public:
    using SilentRecorder::record;
    void record(const event::Accepted&) override { ++accepted; }
    int accepted = 0;
};

// Passes on to a spool, but refuses so many batches first, as a disk that fails does.
class Reluctant final : public spool::Spool {
public:
    explicit Reluctant(std::unique_ptr<spool::Spool> inner) : inner_(std::move(inner)) {}
    void append(spool::Batch batch, spool::CommitListener* listener, std::uint64_t ticket) override {
        if (refusals == 0 || listener == nullptr) return inner_->append(std::move(batch), listener, ticket);
        --refusals;
        std::vector<spool::Committed> refused{{ticket, fail(Errc::disk_failed, "the disk is broken")}};
        listener->committed(refused);
    }
    Result<mail::MessagePtr> load(MessageId id) override { return inner_->load(id); }
    spool::Status status() const override { return inner_->status(); }
    spool::Pulse pulse() const override { return inner_->pulse(); }
    bool accepting() const override { return inner_->accepting(); }
    void close() override { inner_->close(); }
    int refusals = 0;

private:
    std::unique_ptr<spool::Spool> inner_;
};

// A journal in a folder of its own, and what an engine on it would know.
class Place {
public:
    explicit Place(fs::path folder) : folder_(std::move(folder)) {
        spool::Options options;
        options.directory = (folder_ / "journal").string();
        options.segment_bytes = 4 << 20;
        options.reserve_bytes = 1 << 20;
        options.free_bytes_min = 0;
        const auto on_item = [this](const spool::RecoveredItem& item) {
            items[item.id] = {item.attempts, item.next, std::string(item.domain)};
        };
        spool_ = std::make_unique<Reluctant>(std::move(*spool::Spool::open(options, on_item, report)));
        ids_ = std::make_unique<spool::IdSource>(clock_, report.last_id);
        spool::Batch erasures;
        marks.recover(report.policies, erasures);
        if (!erasures.empty()) spool_->append(std::move(erasures), nullptr, 0);
    }
    ~Place() { spool_->close(); }

    struct Item {
        std::uint16_t attempts;
        Instant next;
        std::string domain;
    };

    // `on_durable` runs when the messages are on disk and their files still there.
    control::Import import(const std::function<void()>& on_durable = {}) {
        ImportTarget target{
            *spool_, *ids_, clock_, images, events,
            [&](std::vector<queue::Event>& queued) {
                for (queue::Event& event : queued) admitted.push_back(std::get<queue::Admit>(std::move(event)));
                queued.clear();
                if (on_durable) on_durable();
            },
            [this] { return full_for-- > 0 ? std::optional<std::string>("the queue is at its bound") : std::nullopt; },
            [] { return std::make_shared<const config::Settings>(); }};
        control::ImportRequest request;
        request.directory = (folder_ / "queue").string();
        request.force = true;
        QueueImport import(request, &target, marks, nullptr, [&](const control::Import& now) {
            if (now.state == control::Import::State::waiting) waited_for = now.problem;
            if (now.state == control::Import::State::waiting && cancels) import_->cancel();
        });
        import_ = &import;
        return import.run();
    }
    void refuse(int batches) { spool_->refusals = batches; }

    mail::MessagePtr load(MessageId id) { return spool_->load(id).value_or(nullptr); }
    const SystemClock& clock() const { return clock_; }

    std::map<ItemId, Item> items;  // recovered
    spool::RecoveryReport report;
    ImportMarks marks;
    plugin::Images images{"plugin image "};
    NoEvents events;
    std::vector<queue::Admit> admitted;
    int full_for = 0;        // questions
    bool cancels = false;    // when the import waits
    std::string waited_for;

private:
    fs::path folder_;
    QueueImport* import_ = nullptr;  // while there is one
    SystemClock clock_;
    std::unique_ptr<Reluctant> spool_;
    std::unique_ptr<spool::IdSource> ids_;
};

class QueueImportTest : public testing::Test {
protected:
    QueueImportTest() {
        folder_ = fs::path(testing::TempDir()) / ("import-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
        fs::remove_all(folder_);
        fs::create_directories(folder_ / "queue");
    }
    ~QueueImportTest() override { fs::remove_all(folder_); }

    void put(const std::string& name, const std::string& bytes) { std::ofstream(folder_ / "queue" / name, std::ios::binary) << bytes; }
    std::size_t files() const { return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_ / "queue"), {})); }
    std::string name_of(int number, const std::string& next = "1700000000123", int attempts = 0) const {
        return "1700000000123_" + next + "_" + std::to_string(attempts) + "_999999999_uid" + std::to_string(100 + number) + "_1_mx";
    }

    fs::path folder_;
};

TEST_F(QueueImportTest, AFileBecomesAMessageOfOneItemAndGoes) {
    Place place(folder_);
    const std::int64_t next = wall_clock_ms() + 3'600'000;
    put(name_of(1, std::to_string(next), 3), queue_file("Subject: x\r\n\r\n..dot\r\n"));
    const control::Import import = place.import();
    EXPECT_EQ(import.state, control::Import::State::done) << import.problem;
    EXPECT_EQ(import.imported, 1U);
    EXPECT_EQ(import.left, 0U);
    EXPECT_EQ(files(), 0U);
    EXPECT_EQ(place.marks.size(), 0U);
    EXPECT_EQ(place.events.accepted, 1);

    ASSERT_EQ(place.admitted.size(), 1U);
    const queue::Admit& admit = place.admitted.front();
    EXPECT_EQ(admit.attempts, 3);
    EXPECT_EQ(admit.domain, "dst.test");
    EXPECT_NEAR(static_cast<double>(place.clock().wall_ms(admit.due)), static_cast<double>(next), 1000);
    const mail::MessagePtr message = place.load(admit.id.message);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->content, "Subject: x\r\n\r\n.dot\r\n");
    EXPECT_EQ(message->trace, "") << "nothing is added";
    EXPECT_TRUE(message->traits.has_leading_dot);
    EXPECT_EQ(message->notes, R"({"k":1})");
    EXPECT_EQ(message->origin, "haraka U.1.1");
    EXPECT_EQ(message->envelope.recipients.front().address.text(), "b@dst.test");
    EXPECT_NEAR(static_cast<double>(place.clock().wall_ms(message->arrival)), 1'700'000'000'123.0, 1000);
    EXPECT_EQ(place.images.get(admit.id), R"({"force_tls":true})");
}

TEST_F(QueueImportTest, TheScheduleIsInTheJournal) {
    const std::int64_t next = wall_clock_ms() + 3'600'000;
    put(name_of(1, std::to_string(next), 3), queue_file("\r\nx\r\n"));
    put(name_of(2), queue_file("\r\ny\r\n"));
    { EXPECT_EQ(Place(folder_).import().imported, 2U); }
    Place again(folder_);
    ASSERT_EQ(again.items.size(), 2U);
    int waiting = 0;
    for (const auto& [id, item] : again.items) {
        EXPECT_EQ(item.domain, "dst.test");
        if (item.attempts != 3) continue;
        ++waiting;
        EXPECT_NEAR(static_cast<double>(again.clock().wall_ms(item.next)), static_cast<double>(next), 2000);
    }
    EXPECT_EQ(waiting, 1);
    EXPECT_EQ(again.images.get(again.items.begin()->first), "") << "only what the spool gives to it";
    EXPECT_EQ(again.marks.size(), 0U);
}

TEST_F(QueueImportTest, ADeathBetweenTheSyncAndTheRemovalRepeatsNothing) {
    for (int number = 0; number < 300; ++number) put(name_of(number), queue_file("\r\n" + std::to_string(number) + "\r\n"));
    const fs::path dead = fs::path(testing::TempDir()) / "import-dead";
    fs::remove_all(dead);
    {
        Place place(folder_);
        const control::Import import = place.import([&] {
            if (!fs::exists(dead)) fs::copy(folder_, dead, fs::copy_options::recursive);
        });
        EXPECT_EQ(import.imported, 300U);
    }
    // The world as it was at that moment.
    fs::remove_all(folder_);
    fs::rename(dead, folder_);
    Place revived(folder_);
    EXPECT_EQ(revived.items.size(), 256U) << "what one sync carries";
    EXPECT_EQ(revived.marks.size(), 256U);
    const control::Import import = revived.import();
    EXPECT_EQ(import.repeated, 256U);
    EXPECT_EQ(import.imported, 44U);
    EXPECT_EQ(revived.marks.size(), 0U);
    EXPECT_EQ(files(), 0U);
}

TEST_F(QueueImportTest, AMarkWhoseFileIsGoneIsErasedAtTheStart) {
    put(name_of(1), queue_file("\r\nx\r\n"));
    const fs::path dead = fs::path(testing::TempDir()) / "import-gone";
    fs::remove_all(dead);
    fs::create_directories(dead);
    {
        Place place(folder_);
        place.import([&] { fs::copy(folder_ / "journal", dead / "journal", fs::copy_options::recursive); });
    }
    // The path of the mark is the one of the first folder, whose file is removed by now.
    { EXPECT_EQ(Place(dead).marks.size(), 0U); }
    EXPECT_TRUE(Place(dead).report.policies.size() <= 1) << "at most the image";
    fs::remove_all(dead);
}

TEST_F(QueueImportTest, WhatHarakaRenamedMeanwhileIsKnown) {
    put(name_of(1), queue_file("\r\nx\r\n"));
    Place place(folder_);
    const control::Import import = place.import([&] {
        if (!fs::exists(folder_ / "queue" / name_of(1))) return;
        fs::rename(folder_ / "queue" / name_of(1), folder_ / "queue" / name_of(1, "1700000064000", 1));
    });
    EXPECT_EQ(import.imported, 1U);
    EXPECT_EQ(import.repeated, 1U) << "under its new name";
    EXPECT_EQ(import.left, 1U);
    EXPECT_EQ(files(), 0U);
    EXPECT_EQ(place.admitted.size(), 1U);
}

TEST_F(QueueImportTest, AFileThatChangesMeanwhileStays) {
    put(name_of(1), queue_file("\r\nx\r\n"));
    Place place(folder_);
    const control::Import import = place.import([&] { put(name_of(1), queue_file("\r\nanother\r\n")); });
    EXPECT_EQ(import.imported, 1U);
    EXPECT_EQ(import.left, 1U);
    EXPECT_EQ(files(), 1U);
}

TEST_F(QueueImportTest, WhatCannotBeReadIsLeftAndTold) {
    const std::string whole = queue_file("\r\nx\r\n");
    put(name_of(1), "");
    put(name_of(2), whole.substr(0, 60));
    put(name_of(3), queue_file("\r\nx\r\n", "{\"domain\":"));
    put("error." + name_of(4), whole);
    put("__tmp__." + name_of(5), whole);
    put("README", "x");
    put("0000000001.seg", "x");
    fs::create_directory(folder_ / "queue" / "quarantine");
    fs::create_symlink("/etc/passwd", folder_ / "queue" / name_of(6));
    put(name_of(7), whole);
    Place place(folder_);
    const control::Import import = place.import();
    EXPECT_EQ(import.state, control::Import::State::done) << import.problem;
    EXPECT_EQ(import.imported, 1U);
    EXPECT_EQ(import.temporary, 1U);
    std::map<std::string, control::LeftFile> left;
    for (const control::LeftFile& file : import.left_files) left[file.name] = file;
    EXPECT_EQ(left.size(), 6U);
    EXPECT_EQ(import.left, 6U);
    EXPECT_EQ(left[name_of(1)].reason, "the file is empty");
    EXPECT_NE(left[name_of(2)].reason.find("56 are there"), std::string::npos) << left[name_of(2)].reason;
    EXPECT_EQ(left[name_of(3)].offset, 4U + 10);
    EXPECT_NE(left["error." + name_of(4)].reason.find("put it aside"), std::string::npos);
    EXPECT_EQ(left["README"].reason, "not the name of a queue file");
    EXPECT_TRUE(left.contains(name_of(6)));
    EXPECT_EQ(files(), 9U);
    EXPECT_EQ(place.import().left, 6U) << "told again";
    EXPECT_EQ(place.admitted.size(), 1U);
}

TEST_F(QueueImportTest, WhatTheDiskRefusesIsTriedAgain) {
    for (int number = 0; number < 10; ++number) put(name_of(number), queue_file("\r\nx\r\n"));
    Place place(folder_);
    place.refuse(4);
    const control::Import import = place.import();
    EXPECT_EQ(import.state, control::Import::State::done) << import.problem;
    EXPECT_EQ(import.imported, 10U);
    EXPECT_EQ(place.waited_for, "the disk is broken");
    EXPECT_EQ(place.admitted.size(), 10U);
    EXPECT_EQ(place.marks.size(), 0U);
    EXPECT_EQ(place.images.get(ItemId{MessageId{0}, 0}), "");
    EXPECT_EQ(files(), 0U);
}

TEST_F(QueueImportTest, AFullQueueIsWaitedForAndTheWaitCanBeCancelled) {
    put(name_of(1), queue_file("\r\nx\r\n"));
    Place place(folder_);
    place.full_for = 1;
    EXPECT_EQ(place.import().imported, 1U);
    EXPECT_EQ(place.waited_for, "the queue is at its bound");

    put(name_of(2), queue_file("\r\ny\r\n"));
    place.full_for = 1'000'000;
    place.cancels = true;
    const control::Import import = place.import();
    EXPECT_EQ(import.state, control::Import::State::cancelled);
    EXPECT_EQ(import.imported, 0U);
    EXPECT_EQ(files(), 1U);
}

TEST_F(QueueImportTest, ADryRunOnlyReads) {
    put(name_of(1), queue_file("\r\nx\r\n"));
    put(name_of(2), "");
    const control::Import import = read_queue((folder_ / "queue").string());
    EXPECT_TRUE(import.dry_run);
    EXPECT_EQ(import.found, 2U);
    EXPECT_EQ(import.imported, 1U);
    EXPECT_EQ(import.left, 1U);
    EXPECT_EQ(files(), 2U);
}

TEST_F(QueueImportTest, AnInstanceDirectoryIsNotAQueueDirectory) {
    fs::create_directories(folder_ / "queue" / "config");
    fs::create_directories(folder_ / "queue" / "queue");
    const control::Import import = read_queue((folder_ / "queue").string());
    EXPECT_EQ(import.state, control::Import::State::failed);
    EXPECT_NE(import.problem.find("did you mean"), std::string::npos) << import.problem;
    EXPECT_EQ(read_queue("/nonexistent/queue").state, control::Import::State::failed);
}

TEST_F(QueueImportTest, TimesThatMakeNoSenseAreBounded) {
    Place place(folder_);
    put("9999999999999999_9999999999999999_4294967295_1_uidAAA_1_mx", queue_file("\r\nx\r\n", R"({"queue_time":9223372036854775807,"domain":"d.test","rcpt_to":["<a@d.test>"],"mail_from":"<>"})"));
    put("1_1_0_1_uidBBB_1_mx", queue_file("\r\nx\r\n", R"({"queue_time":-5,"domain":"d.test","rcpt_to":["<a@d.test>"],"mail_from":"<>"})"));
    EXPECT_EQ(place.import().imported, 2U);
    const Instant now = place.clock().now();
    for (const queue::Admit& admit : place.admitted) {
        EXPECT_LE(admit.arrival, now) << "engine time never runs ahead because of a file";
        EXPECT_GE(admit.arrival, now - std::chrono::hours(24 * 3651));
        EXPECT_LE(admit.due, now + std::chrono::hours(24 * 366));
    }
}

}  // namespace
}  // namespace sluice::daemon
