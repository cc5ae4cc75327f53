#include "cli/run.h"
#include "daemon/serve.h"

int main(int argc, char** argv) { return sluice::cli::run(argc, argv, sluice::daemon::serve); }
