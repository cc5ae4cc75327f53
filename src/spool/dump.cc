#include "spool/dump.h"

#include <algorithm>

#include "base/text.h"
#include "spool/file_journal.h"
#include "spool/record_codec.h"

namespace sluice::spool {
namespace {

// Builds one JSON object. Values that are not text are given as they are to be printed.
class JsonLine {
public:
    JsonLine& text(std::string_view key, std::string_view value) {
        name(key);
        out_ += '"';
        append_json_escaped(out_, value);
        out_ += '"';
        return *this;
    }
    JsonLine& plain(std::string_view key, std::string_view value) {
        name(key);
        out_ += value;
        return *this;
    }
    template <class Number>
    JsonLine& number(std::string_view key, Number value) {
        return plain(key, std::to_string(value));
    }
    JsonLine& truth(std::string_view key, bool value) { return plain(key, value ? "true" : "false"); }
    JsonLine& numbers(std::string_view key, const std::vector<std::uint32_t>& values) {
        std::string list;
        for (const std::uint32_t value : values)
            list += (list.empty() ? "" : ",") + std::to_string(value);
        return plain(key, "[" + list + "]");
    }
    std::string take() { return std::move(out_) + "}"; }

private:
    void name(std::string_view key) {
        out_ += out_.size() == 1 ? "\"" : ",\"";
        out_ += key;
        out_ += "\":";
    }
    std::string out_ = "{";
};

std::string plain_address(const mail::Address& address) {
    return address.is_null() ? std::string() : address.local + "@" + address.domain;
}

const char* name_of_outcome(Outcome outcome) {
    switch (outcome) {
        case Outcome::delivered:
            return "delivered";
        case Outcome::bounced:
            return "bounced";
        case Outcome::expired:
            return "expired";
        case Outcome::removed:
            return "removed";
    }
    return "unknown";
}

std::string items_of(const mail::Message& message) {
    std::string list;
    for (const mail::ItemSpec& item : message.items) {
        JsonLine line;
        line.text("domain", item.domain).numbers("recipients", item.recipients);
        list += (list.empty() ? "" : ",") + line.take();
    }
    return "[" + list + "]";
}

std::string recipients_of(const mail::Message& message) {
    std::string list;
    for (const mail::Recipient& recipient : message.envelope.recipients) {
        list += list.empty() ? "\"" : ",\"";
        append_json_escaped(list, plain_address(recipient.address));
        list += '"';
    }
    return "[" + list + "]";
}

std::string marks_of(const mail::Message& message) {
    std::string object;
    for (const mail::Mark& mark : message.marks) {
        object += object.empty() ? "\"" : ",\"";
        append_json_escaped(object, mark.field);
        object += "\":\"";
        append_json_escaped(object, mark.value);
        object += '"';
    }
    return "{" + object + "}";
}

Result<> describe_message(std::string_view body, JsonLine& line) {
    TRY(const mail::MessagePtr message, decode_message(body));
    line.text("type", "message")
        .text("id", message->id.text())
        .text("arrival", rfc3339(to_ms(message->arrival)));
    line.number("size", message->size()).text("sender", plain_address(message->envelope.reverse_path));
    line.plain("recipients", recipients_of(*message)).plain("items", items_of(*message));
    line.text("tenant", message->tenant).text("job", message->job).text("transport", message->transport);
    line.number("priority", int{message->priority});
    if (message->lifetime.count() != 0) line.number("lifetime", message->lifetime.count());
    if (!message->marks.empty()) line.plain("marks", marks_of(*message));
    line.text("origin", message->origin).text("notes", message->notes);
    return {};
}

Result<> describe_outcome(std::string_view body, JsonLine& line) {
    OutcomeView outcome;
    TRY_VOID(decode_outcome(body, outcome));
    line.text("type", "outcome")
        .text("item", outcome.item.text())
        .text("outcome", name_of_outcome(outcome.outcome));
    line.numbers("recipients", outcome.recipients)
        .text("at", rfc3339(to_ms(outcome.at)))
        .text("by", outcome.by);
    line.number("message_segment", outcome.segment);
    return {};
}

Result<> describe_schedule(std::string_view body, JsonLine& line) {
    ScheduleView schedule;
    TRY_VOID(decode_schedule(body, schedule));
    line.text("type", "schedule")
        .text("item", schedule.item.text())
        .number("attempts", int{schedule.attempts});
    line.text("next", rfc3339(to_ms(schedule.next))).truth("delay_notified", schedule.delay_notified);
    line.text("last_reply", schedule.last_reply);
    return {};
}

Result<> describe(const Fact& fact, std::string_view body, JsonLine& line) {
    switch (fact.type) {
        case RecordType::message:
            return describe_message(body, line);
        case RecordType::outcome:
            return describe_outcome(body, line);
        case RecordType::schedule:
            return describe_schedule(body, line);
        case RecordType::hold: {
            HoldView hold;
            TRY_VOID(decode_hold(body, hold));
            line.text("type", "hold")
                .text("item", hold.item.text())
                .truth("held", hold.held)
                .text("by", hold.by);
            if (!hold.changes.empty()) line.text("changes", hold.changes);
            return {};
        }
        case RecordType::policy: {
            PolicyView policy;
            TRY_VOID(decode_policy(body, policy));
            line.text("type", "policy").text("key", policy.key).text("value", policy.value);
            return {};
        }
        case RecordType::decided: {
            DecidedView decided;
            TRY_VOID(decode_decided(body, decided));
            line.text("type", "decided")
                .text("id", decided.message.text())
                .numbers("recipients", decided.recipients);
            return {};
        }
    }
    return fail(Errc::unsupported, "unknown record type");
}

// One walk over all segments, oldest first.
class Surveyor {
public:
    Surveyor(std::string directory, const std::function<void(const std::string&)>* line)
        : directory_(std::move(directory)), line_(line) {}

    Result<JournalSurvey> run() {
        TRY(const std::vector<std::string> names, disk_->list(directory_));
        std::vector<Look> looks;
        for (const std::string& name : names) {
            const auto segment = parse_segment_name(name);
            if (!segment) continue;
            TRY(std::optional<Look> look, look_at(name, *segment));
            if (look) looks.push_back(std::move(*look));
        }
        for (std::size_t i = 0; i < looks.size(); ++i) {
            const Look* const next = i + 1 < looks.size() ? &looks[i + 1] : nullptr;
            TRY_VOID(survey(looks[i], next));
            if (i > 0) check_gap(looks[i - 1], looks[i], next);
        }
        return std::move(survey_);
    }

private:
    struct Look {
        std::string name;
        std::uint32_t segment = 0;
        std::shared_ptr<File> file;
        std::optional<SegmentHeader> header;
        std::uint64_t bytes = 0;
        std::uint64_t next_sequence = 0;
        bool header_damaged = false;
    };

    void problem(std::string sentence, bool harmless = false) {
        survey_.problems.push_back({harmless, std::move(sentence)});
    }

    // Nothing for a file that was prepared and not begun, or that reclaiming removed meanwhile.
    Result<std::optional<Look>> look_at(const std::string& name, std::uint32_t segment) {
        using Looked = std::optional<Look>;
        auto file = disk_->open(directory_ + "/" + name, OpenMode::read);
        if (!file && file.error().code == Errc::not_found) return Looked();
        if (!file) return fail(std::move(file).error());
        Look look{name, segment, std::move(*file), std::nullopt, 0};
        TRY(look.bytes, look.file->size());
        auto header = read_segment_header(*look.file);
        if (!header && header.error().code != Errc::corrupt) {
            return fail(header.error().code, name + ": " + header.error().detail);
        }
        if (!header) {
            look.header_damaged = true;
        } else if (*header && (*header)->segment != segment) {
            return Looked();
        } else {
            look.header = *header;
        }
        return Looked(std::move(look));
    }

    // A segment that was never begun leaves no gap between its neighbours.
    void check_gap(const Look& before, const Look& look, const Look* after) {
        const bool empty = !look.header && look.next_sequence == 0;
        if (!empty || after == nullptr || !after->header || before.segment + 1 != look.segment ||
            look.segment + 1 != after->segment)
            return;
        if (before.next_sequence >= after->header->first_sequence) return;
        problem(
            look.name + ": empty, but it held " +
            std::to_string(after->header->first_sequence - before.next_sequence) + " batches from sequence " +
            std::to_string(before.next_sequence)
        );
    }

    Result<> survey(Look& look, const Look* next) {
        ++survey_.segments;
        survey_.bytes += look.bytes;
        auto trailer = read_trailer(*look.file, look.segment);
        if (!trailer) return fail(trailer.error().code, look.name + ": " + trailer.error().detail);
        print_segment(look, trailer->has_value());
        auto scan = scan_segment(
            *look.file, plan_for(look, next, *trailer),
            [&](const Fact& fact, std::string_view body) { print_record(look.name, fact, body); }
        );
        if (!scan) return fail(scan.error().code, look.name + ": " + scan.error().detail);
        look.next_sequence = scan->next_sequence;
        if (look.header_damaged) {
            // A crash may leave the newest file with half a header, before any batch.
            const bool never_begun = next == nullptr && scan->batches == 0 && scan->corrupt_batches == 0;
            problem(look.name + ": damaged segment header at offset 0", never_begun);
        }
        for (std::string& sentence : scan->problems)
            problem(std::move(sentence), scan->corrupt_batches == 0);
        if (*trailer) compare_index(look, **trailer, *scan, next == nullptr);
        return {};
    }

    static ScanPlan plan_for(const Look& look, const Look* next, const std::optional<Trailer>& trailer) {
        ScanPlan plan;
        plan.name = look.name;
        plan.segment = look.segment;
        plan.header = look.header;
        plan.tail = next == nullptr && !trailer;
        if (trailer) {
            plan.sequence_end = trailer->next_sequence;
            plan.complete = true;
        } else if (next != nullptr && next->header) {
            plan.sequence_end = next->header->first_sequence;
            plan.complete = next->segment == look.segment + 1;
        }
        return plan;
    }

    // Index and trailer of the newest segment are not durable before both are: a crash may leave the one without the other.
    void compare_index(const Look& look, const Trailer& trailer, const Scan& scan, bool newest) {
        const auto index = read_index(*look.file, trailer);
        const std::string place = look.name + ": the index at offset " + std::to_string(trailer.index_offset);
        if (!index) {
            problem(place + ": " + index.error().detail, newest);
        } else if (scan.corrupt_batches == 0 && *index != scan.facts) {
            problem(place + " does not say what the batches hold");
        }
    }

    void print_segment(const Look& look, bool sealed) {
        if (line_ == nullptr) return;
        JsonLine line;
        line.text("segment", look.name);
        if (look.header)
            line.number("epoch", look.header->epoch).number("first_sequence", look.header->first_sequence);
        (*line_)(line.truth("sealed", sealed).number("bytes", look.bytes).take());
    }

    void print_record(const std::string& name, const Fact& fact, std::string_view body) {
        ++survey_.records;
        if (fact.type == RecordType::message) ++survey_.messages;
        JsonLine line;
        line.text("file", name).number("offset", fact.offset);
        if (const auto described = describe(fact, body, line); !described) {
            problem(
                name + ": record at offset " + std::to_string(fact.offset) + ": " + described.error().detail
            );
            return;
        }
        if (line_ != nullptr) (*line_)(line.take());
    }

    std::string directory_;
    const std::function<void(const std::string&)>* line_;
    std::unique_ptr<Disk> disk_ = make_system_disk();
    JournalSurvey survey_;
};

}  // namespace

bool JournalSurvey::sound() const {
    return std::all_of(problems.begin(), problems.end(), [](const JournalProblem& problem) {
        return problem.harmless;
    });
}

Result<JournalSurvey> dump_journal(
    const std::string& directory, const std::function<void(const std::string&)>& line
) {
    return Surveyor(directory, &line).run();
}

Result<JournalSurvey> verify_journal(const std::string& directory) {
    return Surveyor(directory, nullptr).run();
}

}  // namespace sluice::spool
