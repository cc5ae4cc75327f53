// engine_sim: runs the whole engine through made-up or described worlds, each in a process of its own. Exit code 0: all
// promises were kept.

#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>
#endif
#endif

#include "base/text.h"
#include "drill/plan.h"
#include "drill/world.h"

namespace {

using namespace sluice;

struct Wish {
    std::string file;
    std::optional<drill::Plan> described;
    bool verbose = false;
    bool hash = false;
    unsigned seconds_max = 600;
};

// What a child says of its run; goes through a pipe as it is.
struct Summary {
    bool kept = false;
    std::uint64_t messages = 0, acknowledged = 0, delivered = 0, bounced = 0, removed = 0, duplicates = 0, dsns = 0, lives = 0,
                  steps = 0, hash = 0;
    std::int64_t virtual_s = 0;
    double cpu_s = 0;
};

// With a sanitizer that knows: is there memory that nothing refers to any more?
bool leaks() {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return __lsan_do_recoverable_leak_check() != 0;
#endif
#endif
    return false;
}

std::string replay(std::uint64_t seed, const Wish& wish) {
    return "replay: engine_sim --seed " + std::to_string(seed) + (wish.file.empty() ? "" : " --scenario " + wish.file);
}

Summary run(std::uint64_t seed, const Wish& wish, const drill::Credentials& credentials) {
    // Not destroyed: what dead engines leave behind refers to it. The process ends soon.
    static drill::World* world = nullptr;
    world = new drill::World(wish.described ? *wish.described : drill::random_plan(seed), seed, credentials);
    if (wish.verbose) world->be_verbose();
    const drill::Report report = world->run();
    if (report.violation) {
        std::printf("seed %llu: VIOLATION: %s\n%s\n", static_cast<unsigned long long>(seed), report.violation->c_str(), replay(seed, wish).c_str());
        std::fflush(stdout);
    }
    const auto& counts = report.counts;
    timespec cpu{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return {!report.violation, counts.messages, counts.acknowledged, counts.delivered, counts.bounced, counts.removed,
            counts.duplicates, counts.dsns, report.lives, report.steps, report.hash, report.lasted_s,
            static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / 1e9};
}

void print(std::uint64_t seed, const Summary& s, const Wish& wish) {
    const auto n = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
    std::printf("seed %llu: %llu messages, %llu delivered, %llu bounced, %llu removed, %llu duplicates, %llu lives, %.1f virtual days, %.2f s",
                n(seed), n(s.messages), n(s.delivered), n(s.bounced), n(s.removed), n(s.duplicates), n(s.lives),
                static_cast<double>(s.virtual_s) / 86'400, s.cpu_s);
    if (wish.hash) std::printf(", trace %016llx", n(s.hash));
    std::printf("\n");
    std::fflush(stdout);
}

// Runs seeds in processes of their own, several at a time.
class Fleet {
public:
    Fleet(const Wish& wish, const drill::Credentials& credentials) : wish_(wish), credentials_(credentials) {}

    bool run_all(std::uint64_t from, std::uint64_t to, unsigned jobs) {
        std::uint64_t next = from;
        while (next <= to || !children_.empty()) {
            while (next <= to && children_.size() < jobs) start(next++);
            reap();
        }
        return failures_ == 0;
    }
    void print_total(bool each) const {
        if (each) return;
        std::printf("%llu seeds, %llu failures, %.1f virtual days, %llu messages, %llu delivered, %llu bounced, %llu duplicates, %llu notifications, %llu lives, %.0f s of CPU\n",
                    static_cast<unsigned long long>(done_), static_cast<unsigned long long>(failures_), static_cast<double>(total_.virtual_s) / 86'400,
                    static_cast<unsigned long long>(total_.messages), static_cast<unsigned long long>(total_.delivered), static_cast<unsigned long long>(total_.bounced),
                    static_cast<unsigned long long>(total_.duplicates), static_cast<unsigned long long>(total_.dsns), static_cast<unsigned long long>(total_.lives), total_.cpu_s);
    }
    bool print_each = false;
    std::map<std::uint64_t, std::uint64_t> hashes;

private:
    struct Child {
        std::uint64_t seed;
        int pipe;
    };
    void start(std::uint64_t seed) {
        int ends[2];
        if (::pipe(ends) != 0) std::abort();
        std::fflush(stdout);
        const pid_t pid = ::fork();
        if (pid == 0) {
            ::close(ends[0]);
            ::alarm(wish_.seconds_max);
            const Summary summary = run(seed, wish_, credentials_);
            const ssize_t written = ::write(ends[1], &summary, sizeof summary);
            std::fflush(stdout);
            if (leaks()) ::_exit(1);
            ::_exit(written == sizeof summary && summary.kept ? 0 : 1);
        }
        ::close(ends[1]);
        children_[pid] = {seed, ends[0]};
    }
    void reap() {
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, 0);
        const auto found = children_.find(pid);
        if (found == children_.end()) return;
        const Child child = found->second;
        children_.erase(found);
        Summary summary;
        const bool told = ::read(child.pipe, &summary, sizeof summary) == sizeof summary;
        ::close(child.pipe);
        ++done_;
        if (!told || !summary.kept) {
            ++failures_;
            if (!told) std::printf("seed %llu: DIED (status %d)\n%s\n", static_cast<unsigned long long>(child.seed), status, replay(child.seed, wish_).c_str());
        }
        if (told && print_each) print(child.seed, summary, wish_);
        hashes[child.seed] = summary.hash;
        total_.messages += summary.messages;
        total_.delivered += summary.delivered;
        total_.bounced += summary.bounced;
        total_.duplicates += summary.duplicates;
        total_.dsns += summary.dsns;
        total_.lives += summary.lives;
        total_.virtual_s += summary.virtual_s;
        total_.cpu_s += summary.cpu_s;
    }

    const Wish& wish_;
    const drill::Credentials& credentials_;
    std::map<pid_t, Child> children_;
    std::uint64_t done_ = 0, failures_ = 0;
    Summary total_;
};

std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_range(const std::string& text) {
    const std::size_t dots = text.find("..");
    const auto from = parse_number<std::uint64_t>(std::string_view(text).substr(0, dots));
    const auto to = dots == std::string::npos ? from : parse_number<std::uint64_t>(std::string_view(text).substr(dots + 2));
    if (!from || !to || *to < *from) return std::nullopt;
    return std::pair(*from, *to);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Runs the whole engine under virtual time, with a fake internet, a fake disk and crashes, and checks its promises."};
    std::optional<std::uint64_t> seed;
    std::string range;
    std::uint32_t fresh = 0;
    unsigned jobs = 1;
    bool twice = false;
    Wish wish;
    app.add_option("--seed", seed, "one seed");
    app.add_option("--seeds", range, "FROM..TO");
    app.add_option("--fresh", fresh, "so many seeds that nobody has run before");
    app.add_option("-j", jobs, "so many at once");
    app.add_option("--scenario", wish.file, "a scenario file instead of made-up worlds");
    app.add_flag("--verbose", wish.verbose, "prints what happens");
    app.add_flag("--hash", wish.hash, "prints the hash of everything that happened");
    app.add_flag("--twice", twice, "runs every seed twice, and fails unless the same happened");
    app.add_option("--timeout", wish.seconds_max, "real seconds for one seed");
    CLI11_PARSE(app, argc, argv);

    std::pair<std::uint64_t, std::uint64_t> seeds{seed.value_or(1), seed.value_or(1)};
    if (!range.empty()) {
        const auto parsed = parse_range(range);
        if (!parsed) {
            std::printf("--seeds: expected FROM..TO\n");
            return 2;
        }
        seeds = *parsed;
    }
    if (fresh > 0) {
        const auto now = static_cast<std::uint64_t>(std::time(nullptr)) * 1'000;
        seeds = {now, now + fresh - 1};
        std::printf("seeds %llu..%llu\n", static_cast<unsigned long long>(seeds.first), static_cast<unsigned long long>(seeds.second));
    }
    if (!wish.file.empty()) {
        std::ifstream in(wish.file);
        std::stringstream text;
        text << in.rdbuf();
        Result<drill::Plan> parsed = drill::parse_plan(text.str());
        if (!in || !parsed) {
            std::printf("%s: %s\n", wish.file.c_str(), parsed ? "cannot be read" : parsed.error().detail.c_str());
            return 2;
        }
        wish.described = std::move(*parsed);
    }
    const drill::Credentials credentials = drill::Credentials::make();
    Fleet fleet(wish, credentials);
    fleet.print_each = seeds.second - seeds.first < 50;
    bool kept = fleet.run_all(seeds.first, seeds.second, std::max(1U, jobs));
    fleet.print_total(false);
    if (twice) {
        Fleet again(wish, credentials);
        kept = again.run_all(seeds.first, seeds.second, std::max(1U, jobs)) && kept;
        for (const auto& [number, hash] : fleet.hashes) {
            if (again.hashes[number] == hash) continue;
            std::printf("seed %llu: not the same when run again\n", static_cast<unsigned long long>(number));
            kept = false;
        }
    }
    return kept ? 0 : 1;
}
