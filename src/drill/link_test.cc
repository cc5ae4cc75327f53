#include "drill/link.h"

#include <gtest/gtest.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <string>

#include "async/task_group.h"
#include "drill/life.h"
#include "drill/virtual_time.h"

namespace sluice::drill {
namespace {

// Two ends on one loop; time passes when nobody can move.
class LinkTest : public testing::Test {
protected:
    LinkTest() { VirtualTime::begin(1'795'000'000'000); }

    LinkPtr link() {
        const net::Endpoint near(net::IpAddress::v4(0x0B090001), 40'000);
        const net::Endpoint far(net::IpAddress::v4(0x0B010001), 25);
        return Link::make(loop.get_executor(), loop.get_executor(), near, far, LinkTerms());
    }
    void run() {
        while (tasks.size() > 0) {
            if (loop.poll_one() > 0) continue;
            VirtualTime::advance_to(next_timer_of(loop));
        }
    }
    static Task<> say(net::Stream& stream, std::string text) { co_await stream.write(text); }
    static Task<> hear(net::Stream& stream, std::string& heard, std::optional<Errc>& ended) {
        std::array<char, 7> some;
        while (true) {
            const auto size = co_await stream.read_some(some);
            if (!size) {
                ended = size.error().code;
                co_return;
            }
            heard.append(some.data(), *size);
        }
    }
    static Task<> close(net::Stream& stream) { co_await stream.close(); }

    boost::asio::io_context loop{1};
    async::TaskGroup tasks{loop.get_executor()};
    std::string heard;
    std::optional<Errc> ended;
};

TEST_F(LinkTest, OctetsArriveInOrderAfterAWhileAndThenTheEnd) {
    const LinkPtr one = link();
    const net::StreamPtr near = one->take_near();
    const net::StreamPtr far = one->take_far();
    const std::int64_t began = VirtualTime::now_ns();
    tasks.spawn(say(*near, "first, "));
    tasks.spawn(say(*near, "second"));
    tasks.spawn(close(*near));
    tasks.spawn(hear(*far, heard, ended));
    run();
    EXPECT_EQ(heard, "first, second");
    EXPECT_EQ(ended, Errc::link_closed);
    EXPECT_GE(VirtualTime::now_ns() - began, 1'000'000);
    EXPECT_LE(VirtualTime::now_ns() - began, 100'000'000);
    EXPECT_EQ(one->read_by_far(), heard.size());
}

TEST_F(LinkTest, AResetLosesWhatIsOnItsWay) {
    const LinkPtr one = link();
    const net::StreamPtr near = one->take_near();
    const net::StreamPtr far = one->take_far();
    tasks.spawn(say(*far, "lost"));
    tasks.spawn(hear(*near, heard, ended));
    while (loop.poll_one() > 0) {
    }
    one->reset();
    run();
    EXPECT_EQ(heard, "");
    EXPECT_EQ(ended, Errc::link_closed);
    EXPECT_LT(one->read_by_near(), one->written_by_far());
}

TEST_F(LinkTest, InABlackHoleOnlyTheDeadlinePasses) {
    const LinkPtr one = link();
    const net::StreamPtr near = one->take_near();
    const net::StreamPtr far = one->take_far();
    one->swallow();
    near->set_timeout(std::chrono::minutes(10));
    const std::int64_t began = VirtualTime::now_ns();
    tasks.spawn(say(*far, "swallowed"));
    tasks.spawn(hear(*near, heard, ended));
    run();
    EXPECT_EQ(ended, Errc::timed_out);
    EXPECT_EQ(VirtualTime::now_ns() - began, 600'000'000'000);
}

}  // namespace
}  // namespace sluice::drill
