#include "cli/commands.h"
#include "cli/run.h"
#include "daemon/queue_import.h"
#include "daemon/serve.h"
#include "daemon/simulate.h"

namespace {

void add_commands(CLI::App& app, sluice::cli::Session& session) {
    sluice::daemon::add_simulate_command(app, session);
    sluice::cli::add_import_command(
        app, session,
        {sluice::daemon::read_queue, [](const std::string& directory) { return sluice::daemon::haraka_at_work(directory); }});
}

}  // namespace

int main(int argc, char** argv) { return sluice::cli::run(argc, argv, sluice::daemon::serve, add_commands); }
