#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "event/event_log.h"
#include "event/metrics.h"
#include "event/text_log.h"

namespace sluice::event {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

// A folder that goes with the test.
class Event : public testing::Test {
protected:
    Event() {
        char name[] = "/tmp/sluice-event-XXXXXX";
        folder_ = ::mkdtemp(name);
    }
    ~Event() override { std::filesystem::remove_all(folder_); }

    std::unique_ptr<LineWriter> open(std::uint64_t rotate_bytes = 0, std::size_t waiting_max = 1 << 20) {
        LineTarget target;
        target.path = folder_ + "/lines";
        target.rotate_bytes = rotate_bytes;
        target.files_max = 2;
        target.waiting_bytes_max = waiting_max;
        return std::move(LineWriter::open(target).value());
    }
    std::vector<std::string> lines(const std::string& name = "lines") const {
        std::ifstream file(folder_ + "/" + name);
        std::vector<std::string> out;
        for (std::string line; std::getline(file, line);) out.push_back(line);
        return out;
    }
    std::string folder_;
};

mail::Message hostile_message() {
    mail::Message message;
    message.id = MessageId{42};
    message.envelope.reverse_path = {"a\"b", "x.test"};
    mail::Recipient recipient;
    recipient.address = {"quote\"},\"event\":\"forged", "y.test"};
    message.envelope.recipients.push_back(recipient);
    message.items.push_back({"y.test", {0}});
    message.content = "Subject: x\r\n\r\n";
    return message;
}

TEST_F(Event, LOG_1_OneRecordStaysOneValidLine) {
    const mail::Message message = hostile_message();
    const std::vector<std::uint32_t> recipients{0};
    Metrics metrics;
    const auto writer = open();
    EventLog log(writer.get(), metrics);
    Delivered fact{ItemFact{message, ItemId{message.id, 0}, recipients}};
    fact.reply = "250 ok\r\n\x1b[31m\xFF\",\"event\":\"forged";
    fact.status = "2.0.0";
    log.record(fact);
    writer->flush(1000);

    ASSERT_THAT(lines(), SizeIs(1));
    const auto object = boost::json::parse(lines()[0]).as_object();
    EXPECT_EQ(object.at("event").as_string(), "delivered");
    EXPECT_EQ(object.at("item").as_string(), "000000000001a.1");
    EXPECT_EQ(object.at("domain").as_string(), "y.test");
    EXPECT_THAT(std::string(object.at("reply").as_string()), HasSubstr("forged"));
}

TEST_F(Event, MetricsCountRecipientsNotMessages) {
    const mail::Message message = hostile_message();
    const std::vector<std::uint32_t> recipients{0};
    Metrics metrics;
    EventLog log(nullptr, metrics);
    log.record(Delivered{ItemFact{message, ItemId{message.id, 0}, recipients}});
    log.record(Deferred{ItemFact{message, ItemId{message.id, 0}, recipients}, 0});
    metrics.set("sluice_queue_items", "Items", 7);
    const std::string text = metrics.text();
    EXPECT_THAT(text, HasSubstr("sluice_delivered_recipients_total 1\n"));
    EXPECT_THAT(text, HasSubstr("sluice_deferred_recipients_total 1\n"));
    EXPECT_THAT(text, HasSubstr("sluice_queue_items 7\n"));
}

TEST_F(Event, LinesAreWrittenInOrderAndRotated) {
    const auto writer = open(100);
    writer->append(std::string(80, 'a') + "\n");
    writer->flush(1000);
    writer->append(std::string(80, 'b') + "\n");
    writer->flush(1000);
    writer->append("c\n");
    writer->flush(1000);
    EXPECT_THAT(lines(), ElementsAre("c"));
    EXPECT_THAT(lines("lines.1"), ElementsAre(std::string(80, 'a'), std::string(80, 'b')));
}

TEST_F(Event, TheCurrentFileCountsAmongThoseThatAreKept) {
    const auto writer = open(10);
    std::ofstream(folder_ + "/lines.2") << "from when more were kept\n";
    std::ofstream(folder_ + "/lines.3") << "likewise\n";
    for (const char* line : {"first line\n", "second line\n", "third line\n"}) {
        writer->append(line);
        writer->flush(1000);
    }
    EXPECT_THAT(lines("lines.1"), ElementsAre("third line"));
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/lines.2"));
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/lines.3"));
}

TEST_F(Event, LOG_2_AStuckReaderNeverBlocksAndLossIsCounted) {
    const std::string fifo = folder_ + "/fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
    LineTarget target;
    target.path = fifo;
    target.waiting_bytes_max = 256 * 1024;
    auto writer = std::move(LineWriter::open(target).value());
    const std::string line = std::string(1023, 'x') + "\n";
    for (int i = 0; i < 10'000; ++i) writer->append(line);
    EXPECT_GT(writer->dropped(), 0U);
    ::close(reader);
}

TEST_F(Event, FM_45_APipeNeedsNoReaderAndGetsAllThatWaited) {
    const std::string fifo = folder_ + "/fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    LineTarget target;
    target.path = fifo;
    target.rotate_bytes = 10;  // of files only: a pipe stays where its readers expect it
    auto writer = std::move(LineWriter::open(target).value());
    writer->append("first\n");
    writer->flush(1000);
    writer->append("second\n");
    writer->flush(1000);
    const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
    char text[64];
    const ssize_t count = ::read(reader, text, sizeof text);
    ::close(reader);
    EXPECT_EQ(std::string(text, static_cast<std::size_t>(std::max<ssize_t>(count, 0))), "first\nsecond\n");
    EXPECT_EQ(writer->dropped(), 0U);
}

TEST_F(Event, LOG_2_AStuckReaderCannotKeepTheProcessFromEnding) {
    const std::string fifo = folder_ + "/fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const int reader = ::open(fifo.c_str(), O_RDWR | O_NONBLOCK);
    LineTarget target;
    target.path = fifo;
    auto writer = std::move(LineWriter::open(target).value());
    writer->append(std::string(200'000, 'x') + "\n");
    writer.reset();
    ::close(reader);
}

TEST_F(Event, LOG_1_ALineThatDidNotFitLeavesNoHalf) {
    const auto writer = open();
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const rlimit tight{1000, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
    const std::string line = "{" + std::string(398, 'x');
    for (int i = 0; i < 3; ++i) writer->append(line + "\n");
    writer->flush(5000);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    writer->append("{}\n");
    writer->flush(5000);
    EXPECT_THAT(lines(), ElementsAre(line, line, "{}", HasSubstr("\"event\":\"lines_lost\"")));
    EXPECT_NO_THROW(boost::json::parse(lines().back()));
}

TEST_F(Event, LOG_1_NoLineContinuesOneThatACrashCutShort) {
    std::ofstream(folder_ + "/lines") << "whole\nha";
    const auto writer = open();
    writer->append("next\n");
    writer->flush(5000);
    EXPECT_THAT(lines(), ElementsAre("whole", "next"));
}

TEST_F(Event, OnlyLinksOfRootAndOurOwnAreFollowed) {
    std::ofstream(folder_ + "/elsewhere") << "whole\nha";
    ASSERT_EQ(::symlink("elsewhere", (folder_ + "/second").c_str()), 0);
    ASSERT_EQ(::symlink((folder_ + "/second").c_str(), (folder_ + "/lines").c_str()), 0);
    auto writer = open();
    writer->append("next\n");
    writer->flush(5000);
    EXPECT_THAT(lines("elsewhere"), ElementsAre("whole", "next"));
    writer.reset();
    LineTarget target;
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    target.path = "/proc/self/fd/" + std::to_string(ends[1]);
    EXPECT_TRUE(LineWriter::open(target)) << "a pipe has no path";
    ::close(ends[0]);
    ::close(ends[1]);
    ASSERT_EQ(::symlink("round", (folder_ + "/round").c_str()), 0);
    target.path = folder_ + "/round";
    EXPECT_FALSE(LineWriter::open(target));
    if (::geteuid() != 0) return;
    target.path = folder_ + "/lines";
    ASSERT_EQ(::lchown((folder_ + "/second").c_str(), 65534, 65534), 0);
    EXPECT_FALSE(LineWriter::open(target));
    EXPECT_THAT(lines("elsewhere"), ElementsAre("whole", "next"));
}

TEST_F(Event, FormatsOfTheLogAreHarakas) {
    const auto writer = open();
    config::LogSettings settings;
    settings.level = 5;
    TextLog log(*writer, settings);
    log.notice("outbound", "delivered", {{"domain", "x.test"}, {"response", "ok \"quoted\"\r\n"}, {"delay", 3}});
    log.info("core", "not at this level");
    settings.format = config::LogFormat::logfmt;
    log.configure(settings);
    log.warn("core", "careful");
    settings.format = config::LogFormat::json;
    log.configure(settings);
    log.error("core", "bad", {{"why", "x"}});
    writer->flush(1000);
    EXPECT_THAT(
        lines(), ElementsAre(
                     R"([NOTICE] [-] [outbound] delivered domain=x.test response="ok \"quoted\"\\x0d\\x0a" delay=3)",
                     "level=WARN uuid=- source=core message=careful",
                     R"({"level":"ERROR","uuid":"-","source":"core","message":"bad","why":"x"})"));
}

}  // namespace
}  // namespace sluice::event
