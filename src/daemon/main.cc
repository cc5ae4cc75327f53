#include "cli/run.h"
#include "daemon/serve.h"
#include "daemon/simulate.h"

int main(int argc, char** argv) { return sluice::cli::run(argc, argv, sluice::daemon::serve, sluice::daemon::add_simulate_command); }
