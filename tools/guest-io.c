/* What tools/bench-guest runs in a guest, and on the host beside it: reads or writes a disk, past every cache
 * of the system that it runs in, for some time, and says how much. guest-io DISK read|write seq|random
 * BLOCK-BYTES SECONDS DISK-BYTES A sequential run goes over the disk once at most. Prints "BLOCKS
 * NANOSECONDS"; what was written is flushed within the time. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int
die(const char *what)
{
    fprintf(stderr, "guest-io: %s: %s\n", what, strerror(errno));
    return 1;
}

int
main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "guest-io DISK read|write seq|random BLOCK-BYTES SECONDS DISK-BYTES\n");
        return 2;
    }
    int writes = strcmp(argv[2], "write") == 0, random = strcmp(argv[3], "random") == 0;
    size_t block = strtoul(argv[4], NULL, 10);
    uint64_t limit_ns = strtoul(argv[5], NULL, 10) * 1000000000u,
             blocks = strtoull(argv[6], NULL, 10) / block;
    uint64_t state = 88172645463325252u, done = 0;
    int fd = open(argv[1], (writes ? O_RDWR : O_RDONLY) | O_DIRECT);
    void *bytes;

    if (fd < 0 || posix_memalign(&bytes, 4096, block) != 0)
        return die(argv[1]);
    memset(bytes, 0x5a, block);
    uint64_t begin = now_ns();
    for (; now_ns() - begin < limit_ns && (random || done < blocks); done++) {
        off_t off = (off_t) ((random ? next_random(&state) % blocks : done) * block);
        ssize_t n = writes ? pwrite(fd, bytes, block, off) : pread(fd, bytes, block, off);
        if (n != (ssize_t) block)
            return die(writes ? "write" : "read");
    }
    if (writes && fdatasync(fd) != 0)
        return die("flush");
    printf("%" PRIu64 " %" PRIu64 "\n", done, now_ns() - begin);
    return 0;
}
