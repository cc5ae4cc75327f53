#include "cli/run.h"
#include "daemon/serve.h"

extern "C" {
// Read by jemalloc, where it is linked: freed memory goes back to the kernel after some seconds also from threads that
// allocate nothing any more, such as the one that recovered a million items.
extern const char* const malloc_conf;
const char* const malloc_conf = "background_thread:true";
}

int main(int argc, char** argv) { return sluice::cli::run(argc, argv, sluice::daemon::serve); }
