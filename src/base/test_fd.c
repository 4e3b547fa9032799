/* The wrapped system calls: whole transfers, space, extents, sizes, locks. */
#include "base/fd.h"

#include <kho/error.h>

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char *folder, *path;
    int fd;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->folder = g_dir_make_tmp("kho-fd-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->folder, "file", NULL);
    f->fd = fd_open(f->path, O_RDWR | O_CREAT | O_EXCL, 0600, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    fd_clear(&f->fd);
    g_unlink(f->path);
    g_rmdir(f->folder);
    g_free(f->path);
    g_free(f->folder);
}

static void
test_transfers(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    char buf[8] = { 0 };
    gsize len = 0;

    g_assert_cmpint(fcntl(f->fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    g_assert_true(fd_pwrite_full(f->fd, "abcdef", 6, 2, f->path, &error));
    g_assert_true(fd_pread_full(f->fd, buf, 4, 2, f->path, &error));
    g_assert_cmpstr(buf, ==, "abcd");
    g_assert_false(fd_pread_full(f->fd, buf, 4, 5, f->path, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_IO);
    g_assert_nonnull(strstr(error->message, "ends at byte 8"));
    g_clear_error(&error);
    g_assert_true(fd_pread_upto(f->fd, buf, 4, 5, &len, f->path, &error));
    g_assert_cmpmem(buf, len, "def", 3);
    g_assert_true(fd_pread_upto(f->fd, buf, 4, 9, &len, f->path, &error));
    g_assert_cmpuint(len, ==, 0);

    g_autofree char *all = fd_read_file(f->path, 8, &len, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(all, len, "\0\0abcdef", 8);
    g_assert_null(fd_read_file(f->path, 7, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_clear_error(&error);

    g_assert_true(fd_sync(f->fd, f->path, &error));
    g_assert_true(fd_sync_data(f->fd, f->path, &error));
    g_assert_true(fd_sync_parent(f->path, &error));
    g_assert_true(fd_close(&f->fd, f->path, &error));
    g_assert_cmpint(f->fd, ==, -1);
}

static void
test_missing(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *none = g_build_filename(f->folder, "none", NULL);

    g_assert_cmpint(fd_open(none, O_RDONLY, 0, &error), ==, -1);
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, none));
}

/* Punching and zeroing must read as zeros wherever the file system says that it did them. */
static void
test_space(Fixture *f, gconstpointer data)
{
    static const FdSpace ways[] = { FD_SPACE_PUNCH, FD_SPACE_ZERO };
    g_autoptr(GError) error = NULL;
    gboolean done = FALSE;
    guint64 size = 0;

    g_assert_true(fd_space(f->fd, FD_SPACE_RESERVE, 0, 65536, &done, f->path, &error));
    g_assert_true(fd_size(f->fd, &size, f->path, &error));
    g_assert_cmpuint(size, ==, done ? 65536 : 0);
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        guint8 bytes[8192], want[8192] = { 0 };
        memset(bytes, 0xaa, sizeof bytes);
        memset(want, 0xaa, 4096);
        g_assert_true(fd_pwrite_full(f->fd, bytes, sizeof bytes, 0, f->path, &error));
        g_assert_true(fd_space(f->fd, ways[i], 4096, 4096, &done, f->path, &error));
        if (!done)
            memset(want, 0xaa, sizeof want);
        g_assert_true(fd_pread_full(f->fd, bytes, sizeof bytes, 0, f->path, &error));
        g_assert_cmpmem(bytes, sizeof bytes, want, sizeof want);
    }
    g_assert_no_error(error);
}

static void
test_extents(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    guint64 at = 77;

    g_assert_true(fd_truncate(f->fd, 1 << 20, f->path, &error));
    g_assert_true(fd_seek_extent(f->fd, TRUE, 0, 1 << 20, &at, f->path, &error));
    g_assert_cmpuint(at, ==, 1 << 20);
    g_assert_true(fd_pwrite_full(f->fd, "x", 1, 512 << 10, f->path, &error));
    g_assert_true(fd_seek_extent(f->fd, TRUE, 0, 1 << 20, &at, f->path, &error));
    g_assert_cmpuint(at, >, 0);
    g_assert_cmpuint(at, <=, 512 << 10);
    g_assert_true(fd_seek_extent(f->fd, FALSE, 512 << 10, 1 << 20, &at, f->path, &error));
    g_assert_cmpuint(at, >, 512 << 10);
    g_assert_no_error(error);
}

static void
test_size_refuses(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    fd_auto int null = fd_open("/dev/null", O_RDONLY, 0, NULL);
    guint64 size = 77;

    g_assert_false(fd_size(null, &size, "/dev/null", &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_cmpuint(size, ==, 77);
    g_clear_error(&error);
    g_assert_false(fd_truncate(f->fd, G_MAXUINT64, f->path, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
}

/* OFD locks conflict between descriptions of one process too, which is what a test can see. */
static void
test_locks(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    fd_auto int other = fd_open(f->path, O_RDWR, 0, &error);
    gboolean held = TRUE;

    g_assert_true(fd_lock_range(f->fd, 100, 1, FALSE, f->path, &error));
    g_assert_true(fd_lock_probe(other, 100, 1, FALSE, &held, f->path, &error));
    g_assert_false(held);
    g_assert_true(fd_lock_probe(other, 100, 1, TRUE, &held, f->path, &error));
    g_assert_true(held);
    g_assert_false(fd_lock_range(other, 100, 1, TRUE, f->path, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
    g_clear_error(&error);
    g_assert_true(fd_lock_range(other, 101, 1, TRUE, f->path, &error));
    g_assert_true(fd_unlock_range(f->fd, 100, 1, f->path, &error));
    g_assert_true(fd_lock_range(other, 100, 1, TRUE, f->path, &error));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/fd/transfers", Fixture, NULL, set_up, test_transfers, tear_down);
    g_test_add("/fd/missing", Fixture, NULL, set_up, test_missing, tear_down);
    g_test_add("/fd/space", Fixture, NULL, set_up, test_space, tear_down);
    g_test_add("/fd/extents", Fixture, NULL, set_up, test_extents, tear_down);
    g_test_add("/fd/size-refuses", Fixture, NULL, set_up, test_size_refuses, tear_down);
    g_test_add("/fd/locks", Fixture, NULL, set_up, test_locks, tear_down);
    return g_test_run();
}
