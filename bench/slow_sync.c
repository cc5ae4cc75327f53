// Counts the flushes of the disk that a family of processes asks for, and can make each take longer, which stands for a
// slower disk than the one at hand. Loaded with LD_PRELOAD; bench/run compiles it into its own temporary folder.
//   SYNC_COUNT_FILE  a file of eight octets: the count, shared by all processes
//   SLOW_SYNC_US     microseconds more for each flush
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static _Atomic unsigned long *count;
static long slow_us;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *slow = getenv("SLOW_SYNC_US");
    slow_us = slow ? atol(slow) : 0;
    const char *path = getenv("SYNC_COUNT_FILE");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *shared = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED) count = shared;
    close(fd);
}

static void note_and_wait(void) {
    if (count) atomic_fetch_add(count, 1);
    struct timespec left = {slow_us / 1000000, slow_us % 1000000 * 1000};
    while (slow_us > 0 && nanosleep(&left, &left) != 0) {
    }
}

int fsync(int fd) {
    note_and_wait();
    return real_fsync(fd);
}

int fdatasync(int fd) {
    note_and_wait();
    return real_fdatasync(fd);
}
