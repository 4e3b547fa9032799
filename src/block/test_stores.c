/* What every kind of store promises, run over each kind; then what only files have. */
#include "block/blk.h"
#include "block/direct.h"

#include "base/fd.h"
#include "base/num.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

static char *folder, *path;

static BlkStore *
new_mem(void)
{
    return blk_mem_new(NULL, 0, "mem");
}

static BlkStore *
new_file(void)
{
    g_autoptr(GError) error = NULL;
    int fd = fd_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600, &error);

    g_assert_no_error(error);
    return blk_file_new(fd, path, TRUE);
}

static BlkStore *
new_direct(void)
{
    return blk_direct_new(new_file(), 0);
}

typedef BlkStore *(*NewStore)(void);

static guint64
size_of(BlkStore *store)
{
    guint64 size = G_MAXUINT64;

    g_assert_true(blk_size(store, &size, NULL));
    return size;
}

static void
assert_bytes(BlkStore *store, guint64 off, const char *want, gsize len)
{
    g_autofree char *buf = g_malloc(len);
    g_autoptr(GError) error = NULL;

    g_assert_true(blk_pread(store, off, buf, len, &error));
    g_assert_no_error(error);
    g_assert_cmpmem(buf, len, want, len);
}

static void
test_bytes(gconstpointer make)
{
    g_autoptr(BlkStore) store = ((NewStore) make)();
    char buf[6];

    g_assert_cmpuint(size_of(store), ==, 0);
    g_assert_true(blk_pwrite(store, 5, "abc", 3, NULL)); /* the gap before it reads as zeros */
    g_assert_cmpuint(size_of(store), ==, 8);
    assert_bytes(store, 0, "\0\0\0\0\0abc", 8);
    g_assert_false(blk_pread(store, 4, buf, 5, NULL));
    g_assert_true(blk_pread_padded(store, 4, buf, 6, NULL));
    g_assert_cmpmem(buf, 6, "\0abc\0\0", 6);
    memset(buf, 1, sizeof buf);
    g_assert_true(blk_pread_padded(store, 4000, buf, 6, NULL));
    g_assert_cmpmem(buf, 6, "\0\0\0\0\0\0", 6);
    g_assert_true(blk_flush(store, NULL));
}

static void
test_truncate(gconstpointer make)
{
    g_autoptr(BlkStore) store = ((NewStore) make)();

    g_assert_true(blk_pwrite(store, 0, "abcdef", 6, NULL));
    g_assert_true(blk_truncate(store, 3, NULL));
    g_assert_true(blk_truncate(store, 6, NULL)); /* what comes back is zeros, not the old bytes */
    assert_bytes(store, 0, "abc\0\0\0", 6);
}

static void
test_zero(gconstpointer make)
{
    static const BlkZeroMode modes[] = { BLK_ZERO_MAY_PUNCH, BLK_ZERO_RESERVE };
    static const struct {
        guint64 off, len;
    } rows[] = {
        { 0, 1 }, { 100, 5000 }, { 4096, 8192 }, { 65000, 1000 }, { 65536, 4096 }, { 70000, 100000 }
    };

    for (gsize m = 0; m < G_N_ELEMENTS(modes); m++)
        for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
            g_autoptr(BlkStore) store = ((NewStore) make)();
            g_autoptr(GError) error = NULL;
            guint64 size = MAX(65536, rows[i].off + rows[i].len);
            g_autofree char *want = g_malloc0(size);

            memset(want, 0xaa, 65536);
            g_assert_true(blk_pwrite(store, 0, want, 65536, NULL));
            g_assert_true(blk_zero(store, rows[i].off, rows[i].len, modes[m], &error));
            g_assert_no_error(error);
            memset(want + rows[i].off, 0, rows[i].len);
            g_assert_cmpuint(size_of(store), ==, size);
            assert_bytes(store, 0, want, size);
        }
}

/* The extents tile the store, and a hole reads as zeros. */
static void
test_extents(gconstpointer make)
{
    g_autoptr(BlkStore) store = ((NewStore) make)();
    g_autofree char *ones = g_malloc(65536), *zeros = g_malloc0(1 << 20);
    BlkExtent extent = { BLK_EXTENT_HOLE, 0 };

    memset(ones, 1, 65536);
    g_assert_true(blk_truncate(store, 1 << 20, NULL));
    g_assert_true(blk_pwrite(store, 256 << 10, ones, 65536, NULL));
    g_assert_true(blk_pwrite(store, 512 << 10, ones, 65536, NULL));
    for (guint64 at = 0; at < 1 << 20; at += extent.bytes) {
        g_assert_true(blk_extent(store, at, 300 << 10, &extent, NULL));
        g_assert_cmpuint(extent.bytes, <=, 300 << 10);
        if (extent.kind == BLK_EXTENT_HOLE)
            assert_bytes(store, at, zeros, extent.bytes);
    }
}

static gpointer
write_stripe(gpointer data)
{
    BlkStore *store = data;

    for (guint64 i = 0; i < 64; i++)
        g_assert_true(blk_pwrite(store, (2 * i + 1) * 8192, "odd", 3, NULL));
    return NULL;
}

/* Growing by zeroing never cuts off what another thread writes further back. */
static void
test_threads(gconstpointer make)
{
    g_autoptr(BlkStore) store = ((NewStore) make)();
    GThread *writer = g_thread_new("writer", write_stripe, store);

    for (guint64 i = 0; i < 64; i++)
        g_assert_true(
            blk_zero(store, 2 * i * 8192, 8192, i & 1 ? BLK_ZERO_RESERVE : BLK_ZERO_MAY_PUNCH, NULL));
    g_thread_join(writer);
    for (guint64 i = 0; i < 64; i++)
        assert_bytes(store, (2 * i + 1) * 8192, "odd", 3);
}

/* The space of a reserved range is there; that of a punched one is given back (where the file system can). */
static void
test_file_space(void)
{
    g_autoptr(BlkStore) store = new_file();
    struct stat st;
    gboolean can_punch = FALSE;

    g_assert_true(blk_zero(store, 0, 1 << 20, BLK_ZERO_RESERVE, NULL));
    g_assert_true(fd_stat(blk_fd(store), &st, path, NULL));
    g_assert_cmpint(st.st_blocks * 512, >=, 1 << 20);
    g_assert_true(fd_space(blk_fd(store), FD_SPACE_PUNCH, 0, 4096, &can_punch, path, NULL));
    g_assert_true(blk_zero(store, 0, 1 << 20, BLK_ZERO_MAY_PUNCH, NULL));
    g_assert_true(fd_stat(blk_fd(store), &st, path, NULL));
    if (can_punch)
        g_assert_cmpint(st.st_blocks, ==, 0);
}

static void
test_file_open(void)
{
    g_autofree char *fifo = g_build_filename(folder, "fifo", NULL);
    g_autofree char *none = g_build_filename(folder, "none", NULL);
    const struct {
        const char *path;
        gint code;
    } rows[] = {
        { "/dev/null", KHO_ERROR_INVALID },
        { folder, KHO_ERROR_INVALID },
        { fifo, KHO_ERROR_INVALID },
        { none, KHO_ERROR_NOT_FOUND },
    };

    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(blk_file_open(rows[i].path, i & 1, &error));
        g_assert_error(error, KHO_ERROR, rows[i].code);
        g_assert_nonnull(strstr(error->message, rows[i].path));
    }
    g_unlink(fifo);

    blk_free(new_file());
    g_autoptr(BlkStore) store = blk_file_open(path, FALSE, NULL);
    g_assert_nonnull(store);
    g_assert_false(blk_pwrite(store, 0, "x", 1, NULL));
}

static void
test_mem(void)
{
    g_autoptr(BlkStore) store = blk_mem_new("abc", 3, "mem");
    g_autoptr(GBytes) before = blk_mem_snapshot(store);
    g_autoptr(GError) error = NULL;

    g_assert_true(blk_pwrite(store, 0, "X", 1, NULL));
    assert_bytes(store, 0, "Xbc", 3);
    g_assert_cmpmem(g_bytes_get_data(before, NULL), g_bytes_get_size(before), "abc", 3);
    g_assert_false(blk_truncate(store, TIB, &error)); /* sizes from images must not exhaust memory */
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NO_SPACE);
    g_assert_false(blk_pwrite(store, NUM_OFFSET_MAX - 1, "x", 1, NULL));
    g_assert_cmpuint(size_of(store), ==, 3);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        NewStore make;
    } kinds[] = { { "mem", new_mem }, { "file", new_file }, { "direct", new_direct } };
    static const struct {
        const char *name;
        GTestDataFunc run;
    } tests[] = {
        { "bytes", test_bytes },     { "truncate", test_truncate }, { "zero", test_zero },
        { "extents", test_extents }, { "threads", test_threads },
    };

    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("kho-blk-XXXXXX", NULL);
    path = g_build_filename(folder, "file", NULL);
    for (gsize k = 0; k < G_N_ELEMENTS(kinds); k++)
        for (gsize t = 0; t < G_N_ELEMENTS(tests); t++) {
            g_autofree char *name = g_strdup_printf("/stores/%s/%s", kinds[k].name, tests[t].name);
            g_test_add_data_func(name, (gconstpointer) kinds[k].make, tests[t].run);
        }
    g_test_add_func("/stores/file-space", test_file_space);
    g_test_add_func("/stores/file-open", test_file_open);
    g_test_add_func("/stores/mem-bounds", test_mem);
    int status = g_test_run();
    g_unlink(path);
    g_rmdir(folder);
    g_free(path);
    g_free(folder);
    return status;
}
