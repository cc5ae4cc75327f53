#include "peer/blast.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "async/shard.h"
#include "async/task_group.h"
#include "peer/blast_session.h"

namespace sluice::peer {
namespace {

struct BlastThread {
    explicit BlastThread(std::uint32_t index) : shard("blast-" + std::to_string(index)), tasks(shard.executor()) {}
    async::Shard shard;
    async::TaskGroup tasks;
    BlastThreadResult result;
};

double percentile(const std::vector<float>& sorted, double fraction) {
    if (sorted.empty()) return 0;
    const auto index = static_cast<std::size_t>(fraction * static_cast<double>(sorted.size() - 1));
    return static_cast<double>(sorted[index]);
}

BlastReport report_of(const BlastShared& shared, std::vector<std::unique_ptr<BlastThread>>& threads, double seconds) {
    BlastReport report;
    report.accepted = shared.accepted;
    report.refused_temporary = shared.refused_temporary;
    report.refused_permanent = shared.refused_permanent;
    report.lost = shared.lost;
    report.connections = shared.connections;
    report.connect_failures = shared.connect_failures;
    report.seconds = seconds;
    std::vector<float> latencies;
    for (const auto& thread : threads) {
        latencies.insert(latencies.end(), thread->result.latencies_ms.begin(), thread->result.latencies_ms.end());
        if (report.first_refusal.empty()) report.first_refusal = thread->result.first_refusal;
    }
    std::sort(latencies.begin(), latencies.end());
    report.latency_ms_p50 = percentile(latencies, 0.5);
    report.latency_ms_p90 = percentile(latencies, 0.9);
    report.latency_ms_p99 = percentile(latencies, 0.99);
    report.latency_ms_max = percentile(latencies, 1.0);
    return report;
}

}  // namespace

Result<BlastReport> blast(const BlastOptions& options) {
    BlastShared shared{options};
    if (options.starttls || options.implicit_tls) {
        net::TlsOptions tls;
        tls.resumption = options.resumption;
        TRY(shared.tls, net::TlsContext::client(tls));
    }
    if (!options.ledger.empty()) {
        shared.ledger_fd = ::open(options.ledger.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (shared.ledger_fd < 0) return fail(Errc::disk_failed, options.ledger + ": " + std::generic_category().message(errno));
    }
    std::vector<std::unique_ptr<BlastThread>> threads;
    for (std::uint32_t i = 0; i < options.threads; ++i) threads.push_back(std::make_unique<BlastThread>(i));
    for (std::uint32_t i = 0; i < options.sessions; ++i) {
        BlastThread& thread = *threads[i % options.threads];
        thread.tasks.spawn(run_blast_session(shared, thread.result));
    }
    shared.start = std::chrono::steady_clock::now();
    for (const auto& thread : threads) thread->shard.start();
    for (const auto& thread : threads) thread->shard.stop();  // the loop ends when the last session has
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - shared.start;
    if (shared.ledger_fd >= 0) ::close(shared.ledger_fd);
    return report_of(shared, threads, took.count());
}

}  // namespace sluice::peer
