// Segments of the journal: whatever the octets are, reading a segment ends, allocates no more than the file
// suggests, and what it accepts makes sense to everything behind it.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "spool/fake_disk.h"
#include "spool/ledger.h"
#include "spool/record_codec.h"
#include "spool/segment_scan.h"

using namespace sluice;
using namespace sluice::spool;

namespace {

void apply_all(std::string_view facts) {
    Ledger ledger;
    ledger.add_segment(1, 1 << 20);
    FactReader reader(facts);
    while (const auto fact = reader.next()) {
        static_cast<void>(ledger.apply(1, *fact));
        static_cast<void>(ledger.matters(1, *fact));
    }
    ledger.end_of_recovery();
    static_cast<void>(ledger.matter_bytes(1));
}

void decode_any(std::string_view body) {
    static_cast<void>(decode_message(body));
    MessageSummary summary;
    static_cast<void>(decode_summary(body, summary));
    OutcomeView outcome;
    static_cast<void>(decode_outcome(body, outcome));
    ScheduleView schedule;
    static_cast<void>(decode_schedule(body, schedule));
    HoldView hold;
    static_cast<void>(decode_hold(body, hold));
    PolicyView policy;
    static_cast<void>(decode_policy(body, policy));
    DecidedView decided;
    static_cast<void>(decode_decided(body, decided));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    FakeDisk disk;
    disk.overwrite("/s/0000000001.seg", std::string(input));
    const auto file = disk.open("/s/0000000001.seg", OpenMode::read);
    ASSERT(file.has_value());

    ScanPlan plan;
    plan.segment = 1;
    plan.tail = true;
    if (const auto header = read_segment_header(**file); header) plan.header = *header;
    if (const auto scan = scan_segment(**file, plan); scan) {
        ASSERT(scan->end <= size + 2 * sector_bytes);
        apply_all(scan->facts);
    }
    if (const auto trailer = read_trailer(**file, 1); trailer && *trailer) {
        if (const auto index = read_index(**file, **trailer)) apply_all(*index);
    }
    // Checksums keep a fuzzer out of what lies behind them, so it may also go there directly.
    apply_all(input);
    decode_any(input);
    return 0;
}
