#include "daemon/import_desk.h"

#include <pthread.h>

#include <utility>

#include "daemon/engine.h"
#include "haraka/file_name.h"

namespace sluice::daemon {
namespace {

using State = control::Import::State;

bool holds_queue_files(const std::string& directory) {
    const Result<ImportFolder> folder = ImportFolder::open(directory, false);
    if (!folder) return false;
    bool found = false;
    const Result<> listed = folder->each_name([&](const std::string& file) {
        found = haraka::parse_file_name(file).kind == haraka::NameKind::queued;
        return !found;
    });
    return listed.has_value() && found;
}

}  // namespace

ImportDesk::ImportDesk(Engine& engine)
    : engine_(engine),
      target_{engine.machinery_->spool(),
              engine.machinery_->ids(),
              engine.machinery_->clock(),
              engine.machinery_->images(),
              *engine.events_,
              [&engine](std::vector<queue::Event>& events) { engine.machinery_->core().push_all(events); },
              [&engine]() -> std::optional<std::string> {
                  const spool::Spool& spool = engine.machinery_->spool();
                  if (!spool.accepting()) return spool.status().why_not;
                  return engine.machinery_->pressure().reason(spool);
              },
              [&engine] { return engine.settings(); }} {
    spool::Batch erasures;
    marks_.recover(engine.machinery_->recovery().policies, erasures);
    if (!erasures.empty()) target_.spool.append(std::move(erasures), nullptr, 0);
}

ImportDesk::~ImportDesk() { close(); }

void ImportDesk::close() {
    if (import_) import_->cancel();
    if (thread_.joinable()) thread_.join();
}

std::optional<control::Import> ImportDesk::last() const {
    return last_.with([](const auto& last) { return last; });
}

bool ImportDesk::is_running() const {
    const auto last = this->last();
    return last && (last->state == State::running || last->state == State::waiting);
}

void ImportDesk::import_own() {
    if (is_running()) return;
    control::ImportRequest request;
    request.directory = engine_.settings()->spool.directory;
    begin(std::move(request), true);
}

Result<control::Import> ImportDesk::start(control::ImportRequest request) {
    if (is_running()) {
        return fail(Errc::bad_input, "directory: an import of " + last()->directory + " is running; wait for its end, or cancel it");
    }
    if (const Result<ImportFolder> folder = ImportFolder::open(request.directory, !request.dry_run); !folder) {
        return fail(Errc::bad_input, "directory: " + folder.error().detail);
    }
    begin(std::move(request), false);
    return *last();
}

Result<control::Import> ImportDesk::cancel() {
    if (!is_running()) return fail(Errc::not_found, "no import is running");
    import_->cancel();
    return *last();
}

void ImportDesk::begin(control::ImportRequest request, bool own) {
    if (thread_.joinable()) thread_.join();
    control::Import begun;
    begun.directory = request.directory;
    begun.dry_run = request.dry_run;
    begun.started_ms = wall_clock_ms();
    last_.with([&](auto& last) { last = std::move(begun); });
    ImportTarget* const target = request.dry_run ? nullptr : &target_;
    event::Log* const log = request.dry_run ? nullptr : &engine_.log();
    import_ = std::make_unique<QueueImport>(std::move(request), target, marks_, log, [this](const control::Import& now) {
        last_.with([&](auto& last) { last = now; });
    });
    thread_ = std::thread([this, own] { run(*import_, own); });
}

void ImportDesk::run(QueueImport& import, bool own) {
    ::pthread_setname_np(::pthread_self(), "sluice-import");
    if (own && !holds_queue_files(last()->directory)) {
        last_.with([](auto& last) { last.reset(); });
        return;
    }
    const control::Import ended = import.run();
    if (ended.dry_run) return;
    if (ended.state == State::failed) {
        engine_.log().warn("import", "a queue is not imported", {{"directory", ended.directory}, {"reason", ended.problem}});
        return;
    }
    engine_.log().info(
        "import", ended.state == State::done ? "import ended" : "import interrupted",
        {{"directory", ended.directory}, {"imported", ended.imported}, {"repeated", ended.repeated}, {"left", ended.left}});
}

}  // namespace sluice::daemon
