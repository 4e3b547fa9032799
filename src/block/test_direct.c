/* What every store promises is tested with the others (test_stores.c): here is what lies behind it. Each test
 * runs with the kernel's queue, where there is one, and then with that forbidden, by threads. */
#include "block/direct.h"

#include "base/aio.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_BYTES ((guint64) 24 << 20)

static char *path;

static BlkStore *
new_direct(void)
{
    int fd = fd_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);

    g_assert_cmpint(fd, >=, 0);
    return blk_direct_new(blk_file_new(fd, path, TRUE), 0);
}

static void
assert_file(const guint8 *want, guint64 len)
{
    gsize got;
    g_autofree char *bytes = fd_read_file(path, FILE_BYTES + 1, &got, NULL);

    g_assert_cmpmem(bytes, got, want, len);
}

/* Where a write begins and how long it is: whole windows, parts of them, pages, and what is not aligned. */
static void
pick(guint64 *off, guint64 *len)
{
    static const guint64 units[] = { 1 << 20, 128 << 10, 64 << 10, 4096, 512, 1 };
    guint64 unit = units[g_test_rand_int_range(0, G_N_ELEMENTS(units))];

    *len = unit * (guint64) g_test_rand_int_range(1, unit < 4096 ? 400 : 5);
    *off = unit * ((guint64) g_test_rand_int() % ((FILE_BYTES - *len) / unit + 1));
}

/* Reads as the oracle at every moment; the file does after a flush. */
static void
test_random(void)
{
    g_autoptr(BlkStore) store = new_direct();
    g_autofree guint8 *oracle = g_malloc0(FILE_BYTES), *bytes = g_malloc(FILE_BYTES);

    g_assert_true(blk_truncate(store, FILE_BYTES, NULL));
    for (guint i = 0; i < 400; i++) {
        guint64 off, len;
        guint what = (guint) g_test_rand_int_range(0, 20);

        pick(&off, &len);
        if (what == 0) {
            g_assert_true(blk_zero(store, off, len, BLK_ZERO_MAY_PUNCH, NULL));
            memset(oracle + off, 0, len);
        } else if (what < 4) {
            g_assert_true(blk_pread(store, off, bytes, len, NULL));
            g_assert_cmpmem(bytes, len, oracle + off, len);
        } else if (what == 4) {
            g_assert_true(blk_flush(store, NULL));
            assert_file(oracle, FILE_BYTES);
        } else {
            memset(bytes, (int) i + 1, len);
            g_assert_true(blk_pwrite(store, off, bytes, len, NULL));
            memcpy(oracle + off, bytes, len);
        }
    }
    g_assert_true(blk_flush(store, NULL));
    assert_file(oracle, FILE_BYTES);
    g_assert_true(blk_direct_is_used(store));
}

/* A file that grows as it is written has its true length for whoever asks or reads, whatever waits, and on
 * the disk after a flush. */
static void
test_growing(void)
{
    g_autoptr(BlkStore) store = new_direct();
    g_autofree guint8 *oracle = g_malloc0(FILE_BYTES), *bytes = g_malloc(FILE_BYTES);
    guint64 end = 0, size, off, len;
    gsize got;

    for (guint i = 0; i < 200; i++) {
        pick(&off, &len);
        if (g_test_rand_int_range(0, 3) > 0) {
            off = MIN(end, FILE_BYTES - len);
            end = MAX(end, off + len);
        } else {
            off = MIN(off, end);
            len = MIN(len, end - off);
        }
        memset(bytes, (int) i + 1, len);
        g_assert_true(blk_pwrite(store, off, bytes, len, NULL));
        memcpy(oracle + off, bytes, len);
        g_assert_true(blk_size(store, &size, NULL));
        g_assert_cmpuint(size, ==, end);
        off = end - MIN(end, len);
        g_assert_true(blk_pread_upto(store, off, bytes, len + MIB, &got, NULL));
        g_assert_cmpmem(bytes, got, oracle + off, end - off);
        if (g_test_rand_int_range(0, 20) == 0) {
            g_assert_true(blk_flush(store, NULL));
            assert_file(oracle, end);
        }
    }
    g_assert_true(blk_flush(store, NULL));
    assert_file(oracle, end);
    g_assert_true(blk_direct_is_used(store));
}

/* What still waits belongs to the size, and is in the file once the store is gone. */
static void
test_end(void)
{
    BlkStore *store = new_direct();
    g_autofree guint8 *bytes = g_malloc(MIB);
    guint64 size;

    memset(bytes, 3, MIB);
    g_assert_true(blk_pwrite(store, 0, bytes, 64 * KIB, NULL));
    g_assert_true(blk_size(store, &size, NULL));
    g_assert_cmpuint(size, ==, 64 * KIB);
    g_assert_true(blk_truncate(store, 4 * KIB, NULL));
    g_assert_true(blk_size(store, &size, NULL));
    g_assert_cmpuint(size, ==, 4 * KIB);
    g_assert_true(blk_pwrite(store, 0, bytes, 64 * KIB, NULL));
    blk_free(store);
    assert_file(bytes, 64 * KIB);
}

static gpointer
write_half(gpointer data)
{
    g_autofree guint8 *bytes = g_malloc(128 * KIB);

    memset(bytes, 7, 128 * KIB);
    for (guint64 at = 128 * KIB; at < FILE_BYTES; at += 256 * KIB)
        g_assert_true(blk_pwrite(data, at, bytes, 128 * KIB, NULL));
    return NULL;
}

/* Two writers that take turns in every window. */
static void
test_writers(void)
{
    g_autoptr(BlkStore) store = new_direct();
    g_autofree guint8 *bytes = g_malloc(128 * KIB), *want = g_malloc(FILE_BYTES);

    memset(want, 7, FILE_BYTES);
    memset(bytes, 9, 128 * KIB);
    GThread *other = g_thread_new("half", write_half, store);
    for (guint64 at = 0; at < FILE_BYTES; at += 256 * KIB) {
        g_assert_true(blk_pwrite(store, at, bytes, 128 * KIB, NULL));
        memcpy(want + at, bytes, 128 * KIB);
    }
    g_thread_join(other);
    g_assert_true(blk_flush(store, NULL));
    assert_file(want, FILE_BYTES);
}

/* A write that fails when nobody waits for it fails what comes after, and every flush. */
static void
test_late_error(void)
{
    BlkStore *store = new_direct();
    g_autofree guint8 *bytes = g_malloc0(MIB);
    struct rlimit old, small = { 2 * MIB, RLIM_INFINITY };
    gboolean failed = FALSE;

    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
    small.rlim_max = old.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
    for (guint64 at = 0; at < 8 * MIB; at += MIB) {
        g_autoptr(GError) error = NULL;
        failed |= !blk_pwrite(store, at, bytes, MIB, &error);
        g_assert_true(!failed || strstr(error->message, path));
    }
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(blk_flush(store, &error));
        g_assert_nonnull(strstr(error->message, path));
    }
    blk_free(store);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
}

/* Small files never go that way. */
static void
test_small(void)
{
    int fd = fd_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);
    g_autoptr(BlkStore) store = blk_direct_new(blk_file_new(fd, path, TRUE), MIB);
    g_autofree guint8 *bytes = g_malloc0(MIB);

    g_assert_true(blk_pwrite(store, 0, bytes, MIB, NULL));
    g_assert_true(blk_flush(store, NULL));
    g_assert_false(blk_direct_is_used(store));
    g_assert_true(blk_pwrite(store, MIB, bytes, MIB, NULL));
    g_assert_true(blk_direct_is_used(store));
}

/* What the store below can share, it can: never before what was written there has left the windows. */
static void
test_share(void)
{
    BlkStore *below = blk_mem_new(NULL, 0, "below");
    blk_mem_share(below);
    g_autoptr(BlkStore) memory = blk_direct_new(below, 0), file = new_direct();
    g_autofree guint8 *bytes = g_malloc(256 * KIB), *got = g_malloc(256 * KIB);
    gboolean done;

    memset(bytes, 3, 256 * KIB);
    g_assert_true(blk_pwrite(file, 0, bytes, 256 * KIB, NULL));
    g_assert_true(blk_share(memory, 4096, &(BlkShared){ file, 8192, 64 * KIB }, &done, NULL) && done);
    g_assert_true(blk_pread(memory, 4096, got, 64 * KIB, NULL));
    g_assert_cmpmem(got, 64 * KIB, bytes, 64 * KIB);
    /* The file system may or may not: what was written is whole in either case. */
    g_assert_true(blk_share(file, 0, &(BlkShared){ file, 128 * KIB, 64 * KIB }, &done, NULL));
    g_assert_true(blk_flush(file, NULL));
    assert_file(bytes, 256 * KIB);
}

static void
test_forbidden(void)
{
    static const int call[] = { SYS_io_uring_setup };
    SeccompFilter filter;

    seccomp_begin(&filter);
    seccomp_act(&filter, call, 1, SECCOMP_RET_ERRNO | EPERM);
    g_assert_cmpint(seccomp_end(&filter, 0), ==, 0);
    g_autoptr(Aio) aio = aio_new(1);
    g_assert_false(aio_is_uring(aio));
}

/* Without the kernel's queue, and where no thread can be made either: a child, since it is for good, and the
 * first of all, since GLib keeps threads for later. */
static void
test_alone(void)
{
    static const int calls[] = {
        SYS_io_uring_setup,
        SYS_clone3,
#ifdef SYS_clone
        SYS_clone,
#endif
    };
    SeccompFilter filter;
    int status;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        seccomp_begin(&filter);
        seccomp_act(&filter, calls, G_N_ELEMENTS(calls), SECCOMP_RET_ERRNO | EAGAIN);
        g_assert_cmpint(seccomp_end(&filter, 0), ==, 0);
        test_random();
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestFunc run;
    } tests[] = { { "random", test_random },   { "growing", test_growing },       { "end", test_end },
                  { "writers", test_writers }, { "late-error", test_late_error }, { "small", test_small },
                  { "share", test_share } };

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL), ==, 0);
    g_autofree char *folder = g_dir_make_tmp("kho-direct-XXXXXX", NULL);
    path = g_build_filename(folder, "file", NULL);
    g_test_add_func("/direct/alone/random", test_alone);
    for (guint with = 0; with < 2; with++) {
        for (gsize t = 0; t < G_N_ELEMENTS(tests); t++) {
            g_autofree char *name =
                g_strdup_printf("/direct/%s/%s", with ? "threads" : "kernel", tests[t].name);
            g_test_add_func(name, tests[t].run);
        }
        if (with == 0) /* from here on */
            g_test_add_func("/direct/forbidden/setup", test_forbidden);
    }
    int status = g_test_run();
    g_unlink(path);
    g_rmdir(folder);
    g_free(path);
    return status;
}
