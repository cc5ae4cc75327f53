#include "daemon/acceptance.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <vector>

#include "base/text.h"
#include "delivery/admission.h"

namespace sluice::daemon {
namespace {

constexpr std::int64_t sample_every_ms = 100;
constexpr const char* memory_sentence = "memory is at its bound";

std::uint64_t physical_memory() {
    return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// Not the wall clock: that may be set back, and then nothing would be sampled for as long.
std::int64_t steady_ms() {
    const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::milliseconds>(since_boot).count();
}

std::uint64_t read_resident() {
    std::FILE* file = std::fopen("/proc/self/statm", "re");
    if (file == nullptr) return 0;
    unsigned long long total = 0;
    unsigned long long resident = 0;
    const int fields = std::fscanf(file, "%llu %llu", &total, &resident);
    std::fclose(file);
    return fields == 2 ? resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

// The number in a file of a control group; nothing when there is none, or "max".
std::optional<std::uint64_t> read_limit(const std::string& path) {
    std::ifstream file(path);
    std::string text;
    return file >> text ? parse_number<std::uint64_t>(text) : std::nullopt;
}

// The least limit of a control group and those around it. `path` as /proc/self/cgroup says it, which begins with a slash.
std::uint64_t least_limit(const std::string& root, std::string path, const std::string& file) {
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    for (;;) {
        if (const auto limit = read_limit(root + path + "/" + file)) least = std::min(least, *limit);
        if (path.empty()) return least;
        path.erase(path.rfind('/'));
    }
}

// Lines are "number:controllers:path"; version 2 has the number 0 and names no controllers.
std::uint64_t group_memory_max() {
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const std::vector<std::string_view> parts = split(line, ':');
        if (parts.size() != 3 || !parts[2].starts_with('/')) continue;
        const std::string path = parts[2] == "/" ? std::string() : std::string(parts[2]);
        if (parts[1].empty()) {
            least = std::min(least, least_limit("/sys/fs/cgroup", path, "memory.max"));
        } else if (parts[1] == "memory") {
            least = std::min(least, least_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
        }
    }
    return least;
}

std::uint64_t own_memory_max() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return std::numeric_limits<std::uint64_t>::max();
    }
    return limit.rlim_cur;
}

}  // namespace

std::uint64_t default_memory_bytes_max() {
    return std::min({physical_memory(), group_memory_max(), own_memory_max()}) / 2;
}

Pressure::Pressure(const config::SpoolSettings& settings) : memory_bytes_max_(0), messages_max_(0) { configure(settings); }

void Pressure::configure(const config::SpoolSettings& settings) {
    memory_bytes_max_ = settings.memory_bytes_max != 0 ? settings.memory_bytes_max : default_memory_bytes_max();
    messages_max_ = settings.queued_messages_max;
}

std::uint64_t Pressure::resident_bytes() { return read_resident(); }

void Pressure::sample(const spool::Spool& spool) const {
    const std::int64_t now = steady_ms();
    std::int64_t last = sampled_at_ms_.load(std::memory_order_relaxed);
    if (now - last < sample_every_ms || !sampled_at_ms_.compare_exchange_strong(last, now)) return;
    received_ = 0;
    resident_ = read_resident();
    messages_ = spool.status().live_messages;
}

std::optional<std::string> Pressure::reason(const spool::Spool& spool) const {
    sample(spool);
    if (out_of_memory()) return memory_sentence;
    if (messages_ > messages_max_) return "the queue is at its bound";
    return std::nullopt;
}

std::optional<std::string> Pressure::no_room_after(std::uint64_t octets, const spool::Spool& spool) const {
    sample(spool);
    received_ += octets;
    return out_of_memory() ? std::optional<std::string>(memory_sentence) : std::nullopt;
}

std::vector<queue::Event> admissions(const mail::MessagePtr& message) {
    std::vector<queue::Event> events;
    events.reserve(message->items.size());
    for (std::uint32_t index = 0; index < message->items.size(); ++index) {
        events.emplace_back(delivery::admission(message, index));
    }
    return events;
}

SpoolAcceptance::SpoolAcceptance(
    async::Executor executor, spool::Spool& spool, CoreThread& core, const Pressure& pressure)
    : executor_(executor), spool_(spool), core_(core), pressure_(pressure), finished_(executor, [](auto& waiting) {
          for (Waiting* one : waiting) one->done.set();
      }) {}

Task<Result<>> SpoolAcceptance::accept(mail::MessagePtr message) {
    spool::Batch none;
    co_return co_await take(std::move(message), std::move(none));
}

Task<Result<>> SpoolAcceptance::take(mail::MessagePtr message, spool::Batch records) {
    Waiting waiting(std::move(message), executor_);
    if (waiting.message) records.emplace_back(spool::MessageRecord{waiting.message});
    spool_.append(std::move(records), this, reinterpret_cast<std::uint64_t>(&waiting));
    co_await waiting.done.wait();
    co_return std::move(waiting.result);
}

// The writer keeps the order: an empty batch is done when all before it is.
Task<Result<>> SpoolAcceptance::durable() {
    spool::Batch nothing;
    co_return co_await take(nullptr, std::move(nothing));
}

std::optional<std::string> SpoolAcceptance::refusal() const {
    if (!spool_.accepting()) return spool_.status().why_not;
    return pressure_.reason(spool_);
}

std::optional<std::string> SpoolAcceptance::no_room_after(std::uint64_t octets) const {
    return pressure_.no_room_after(octets, spool_);
}

void SpoolAcceptance::committed(std::span<spool::Committed> commits) {
    std::vector<queue::Event> events;
    std::vector<Waiting*> finished;
    events.reserve(commits.size());
    finished.reserve(commits.size());
    for (spool::Committed& commit : commits) {
        auto* waiting = reinterpret_cast<Waiting*>(commit.ticket);  // NOLINT(performance-no-int-to-ptr): take() made a ticket of it
        waiting->result = std::move(commit.result);
        if (waiting->result && waiting->message) {
            for (queue::Event& event : admissions(waiting->message)) events.push_back(std::move(event));
        }
        finished.push_back(waiting);
    }
    // The core first: whoever was told 250 finds the message in the queue.
    core_.push_all(events);
    finished_.push_all(finished);
}

}  // namespace sluice::daemon
