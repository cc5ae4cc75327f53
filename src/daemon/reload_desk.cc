#include "daemon/reload_desk.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "base/assert.h"

namespace sluice::daemon {

ReloadDesk::ReloadDesk() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { ASSERT(event_ >= 0); }

ReloadDesk::~ReloadDesk() { ::close(event_); }

void ReloadDesk::ask(Done done) {
    {
        const std::scoped_lock lock(mutex_);
        if (!closed_) {
            waiting_.push_back(std::move(done));
            ::eventfd_write(event_, 1);
            return;
        }
    }
    done(std::nullopt);
}

void ReloadDesk::answer(config::Watch& watch) {
    const std::vector<Done> asked = take(false);
    if (asked.empty()) return;
    const std::optional<config::Reload> reload = watch.reload();
    for (const Done& done : asked) done(reload);
}

void ReloadDesk::close() {
    for (const Done& done : take(true)) done(std::nullopt);
}

std::vector<ReloadDesk::Done> ReloadDesk::take(bool close) {
    const std::scoped_lock lock(mutex_);
    closed_ |= close;
    eventfd_t count = 0;
    ::eventfd_read(event_, &count);
    return std::exchange(waiting_, {});
}

}  // namespace sluice::daemon
