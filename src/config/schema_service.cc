#include <algorithm>
#include <array>

#include "config/schema.h"
#include "config/syntax.h"

namespace sluice::config {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

// Haraka's levels by number.
constexpr std::array<std::string_view, 10> levels{"emerg",  "alert", "crit",  "error",    "warn",
                                                  "notice", "info",  "debug", "protocol", "data"};

// A word, also as in "LOGINFO", or Haraka's number.
std::optional<int> level_of(std::string_view text) {
    if (const auto number = parse_number<int>(text)) {
        return *number >= 0 && *number <= 9 ? number : std::nullopt;
    }
    if (istarts_with(text, "log")) text.remove_prefix(3);
    const auto found = std::find_if(levels.begin(), levels.end(), [&](std::string_view word) {
        return iequals(word, text);
    });
    if (found == levels.end()) return std::nullopt;
    return static_cast<int>(found - levels.begin());
}

Kind log_level() {
    Kind kind;
    kind.words =
        "one of `data`, `protocol`, `debug`, `info`, `notice`, `warn`, `error`, `crit`, `alert`, `emerg`";
    kind.assign = [expected = kind.words](Settings& settings, const Values& given) -> Complaints {
        if (given.back().text.empty()) return {};
        const auto level = level_of(given.back().text);
        if (!level) {
            Complaint wrong(given.back(), expected);
            wrong.consequence = "the default is used";
            return {wrong};
        }
        settings.log.level = *level;
        return {};
    };
    kind.show = [](const Settings& settings) {
        return std::string(levels[static_cast<std::size_t>(settings.log.level)]);
    };
    return kind;
}

void add_log(std::vector<Setting>& table) {
    using L = LogSettings;
    const Section main("log.ini", "main");
    table.insert(
        table.end(),
        {
            with_legacy_file(
                lenient(main.live("level", log_level(), "The least important lines that are printed.")),
                "loglevel"
            ),
            with_legacy_file(
                main.live(
                    "timestamps", truth(at(&Settings::log, &L::timestamps)), "Begin each line with the time."
                ),
                "log_timestamps"
            ),
            main.live(
                "format",
                choice<LogFormat>(
                    at(&Settings::log, &L::format), {{"default", LogFormat::standard},
                                                     {"logfmt", LogFormat::logfmt},
                                                     {"json", LogFormat::json}}
                ),
                "How a line looks."
            ),
            main.restart(
                "events", boolean(at(&Settings::log, &L::events)),
                "Write every event to DIR/log/events.jsonl."
            ),
            main.restart(
                "events_bytes_max",
                bytes(at(&Settings::log, &L::events_bytes_max), {64 << 10, std::uint64_t{1} << 40}),
                "A larger event file is rotated."
            ),
            main.restart(
                "events_files_max",
                number(at(&Settings::log, &L::events_files_max), Bounds<std::uint32_t>{1, 10'000}),
                "Event files that are kept, the current one included."
            ),
        }
    );
}

void add_dns(std::vector<Setting>& table) {
    using D = DnsSettings;
    const Section dns("net-utils.ini", "dns");
    table.insert(
        table.end(),
        {
            dns.live(
                "timeout",
                duration(at(&Settings::dns, &D::timeout), {Milliseconds(100), minutes(5)}, Milliseconds(1)),
                "For one question; afterwards the item is deferred."
            ),
            dns.live(
                "tries", number(at(&Settings::dns, &D::tries), Bounds<int>{1, 10}),
                "How often a server is asked."
            ),
            dns.live(
                "servers",
                list(
                    at(&Settings::dns, &D::servers), "`address` or `address:port`",
                    [](std::string_view text) -> std::optional<std::string> {
                        const auto endpoint = parse_endpoint(text, 53);
                        if (!endpoint || !endpoint->path.empty()) return std::nullopt;
                        return endpoint->text();
                    }
                ),
                "Resolvers to ask; the system's when empty."
            ),
            dns.live(
                "cache_ttl_max", duration(at(&Settings::dns, &D::cache_ttl_max), {seconds(0), hours(24 * 7)}),
                "The longest time that an answer is kept."
            ),
            dns.live(
                "cache_ttl_min", duration(at(&Settings::dns, &D::cache_ttl_min), {seconds(0), hours(1)}),
                "The shortest."
            ),
            dns.live(
                "trust_anchor_file", text(at(&Settings::dns, &D::trust_anchor_file)),
                "File of DS or DNSKEY records, absolute, from which answers are validated here (DNSSEC). "
                "When empty, that is left to the resolvers."
            ),
        }
    );
}

void add_spool(std::vector<Setting>& table) {
    using S = SpoolSettings;
    const Section main("spool.ini", "main");
    const auto size = [](std::uint64_t S::* field, std::uint64_t low, std::uint64_t high) {
        return bytes(at(&Settings::spool, field), {low, high});
    };
    constexpr std::uint64_t mib = 1 << 20, gib = 1 << 30;
    table.push_back(whole_file(
        "queue_dir", Format::value, text(at(&Settings::spool, &S::directory)), Effect::restart,
        "Folder of the journal, absolute or relative to the instance. Default: DIR/queue."
    ));
    table.insert(
        table.end(),
        {
            main.restart(
                "segment_bytes", size(&S::segment_bytes, mib, 16 * gib), "Size of a segment of the journal."
            ),
            main.restart(
                "reserve_bytes", size(&S::reserve_bytes, mib, 16 * gib),
                "Disk space kept to record outcomes when the disk is full."
            ),
            main.restart(
                "free_bytes_min", size(&S::free_bytes_min, 0, 1024 * gib),
                "Accepting stops with 452 when the disk has less free space."
            ),
            main.live(
                "queued_messages_max",
                number(
                    at(&Settings::spool, &S::queued_messages_max), Bounds<std::uint64_t>{1, 1'000'000'000}
                ),
                "Accepting stops with 452 when more messages are queued."
            ),
            main.live(
                "memory_bytes_max", size(&S::memory_bytes_max, 0, 1024 * gib),
                "Accepting stops with 452 when the process is larger, and long content under way with 421; 0: half of what the "
                "process may use, which is the memory of the machine or the limit of its control group."
            ),
            main.live(
                "fresh_bytes_max", size(&S::fresh_bytes_max, mib, 1024 * gib),
                "Memory for bodies of messages that wait for their first attempt."
            ),
            main.restart(
                "sync", boolean(at(&Settings::spool, &S::sync)),
                "A 250 means that the message survives a power cut. `false` gives that up for speed."
            ),
        }
    );
}

}  // namespace

std::vector<Setting> service_schema() {
    std::vector<Setting> table;
    add_log(table);
    add_dns(table);
    add_spool(table);
    return table;
}

}  // namespace sluice::config
