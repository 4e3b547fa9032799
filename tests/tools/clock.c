/* Preloaded into QEMU's programs where a test makes encrypted images. QEMU 7.2 measures a key derivation by
 * the processor time of a thread, for half a second at the least, and gives up where that comes in ticks:
 * here it comes in nanoseconds, and runs a thousand times as fast, so that it is measured at once and the
 * keys are cheap. */
#include <dlfcn.h>
#include <sys/resource.h>
#include <time.h>

#define TIMES_AS_FAST 1000

int
getrusage(__rusage_who_t who, struct rusage *usage)
{
    int (*real)(__rusage_who_t, struct rusage *) =
        (int (*)(__rusage_who_t, struct rusage *)) dlsym(RTLD_NEXT, "getrusage");
    struct timespec now;

    if (real(who, usage) != 0)
        return -1;
    if (who != RUSAGE_THREAD || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0)
        return 0;
    long long us = ((long long) now.tv_sec * 1000000000 + now.tv_nsec) * TIMES_AS_FAST / 1000;
    usage->ru_utime.tv_sec = us / 1000000;
    usage->ru_utime.tv_usec = us % 1000000;
    usage->ru_stime.tv_sec = 0;
    usage->ru_stime.tv_usec = 0;
    return 0;
}
