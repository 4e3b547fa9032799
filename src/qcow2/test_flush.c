/* What a flush promises and costs, deferred refcounts, and what the first write does. */
#include "block/fault.h"
#include "qcow2/test_io.h"

#define CLUSTER 65536

static BlkStore *
make(guint version, gboolean lazy)
{
    const Qcow2CreateOptions options = { .guest_bytes = 64 * MIB,
                                         .version = version,
                                         .lazy_refcounts = lazy };

    return test_create(&options);
}

static TestWindow *
window_of(FormatImage *image)
{
    return (TestWindow *) image->file;
}

/* New mappings take two barriers, data in place one, a published zero one; an unpublished image one at its
 * end. */
static void
test_barriers(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open(store);
    guint64 done;

    test_fill(image, 0, CLUSTER, 1);
    g_assert_cmpuint(window_of(image)->flushes, ==, 0);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_cmpuint(window_of(image)->flushes, ==, 2);
    test_fill(image, 0, CLUSTER, 2);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_cmpuint(window_of(image)->flushes, ==, 3);
    g_assert_true(image->ops->zero(image, guest_off(0), CLUSTER, &done, NULL));
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_cmpuint(window_of(image)->flushes, ==, 5);
    test_close(image);

    image = test_open_flags(store, FORMAT_WRITABLE | FORMAT_UNPUBLISHED);
    test_fill(image, 0, 40 * MIB, 1);
    g_assert_cmpuint(window_of(image)->flushes, ==, 0);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_cmpuint(window_of(image)->flushes, ==, 1);
    test_close(image);
    test_clean(store, 0);
}

/* After a failed barrier nobody knows what is on disk: nothing more is written, and what was there is whole.
 */
static void
test_failed_barrier(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open(store);
    g_autoptr(GError) first = NULL, second = NULL, closing = NULL;
    Place place;

    test_fill(image, 0, CLUSTER, 1);
    window_of(image)->fail_flush = TRUE;
    g_assert_false(image->ops->flush(image, &first));
    g_assert_error(first, KHO_ERROR, KHO_ERROR_IO);
    window_of(image)->fail_flush = FALSE;
    g_assert_false(image->ops->prepare(image, guest_off(MIB), 1, &place, &second));
    g_assert_nonnull(strstr(second->message, "earlier flush failed"));
    g_assert_false(image->ops->close(image, &closing));
    g_assert_error(closing, KHO_ERROR, KHO_ERROR_IO);
    test_clean(store, 8);
}

/* With lazy refcounts the counts stay behind under the dirty mark, and a clean end takes both back. */
static void
test_lazy(void)
{
    g_autoptr(BlkStore) store = make(3, TRUE);
    FormatImage *image = test_open(store);

    g_assert_cmpuint(test_header(store).incompat, ==, 0);
    test_fill(image, 0, CLUSTER, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_cmpuint(window_of(image)->flushes, ==, 2);
    g_assert_cmpuint(test_header(store).incompat, ==, QCOW2_INCOMPAT_DIRTY);
    g_autoptr(BlkStore) crashed = test_copy(store);
    test_close(image);
    g_assert_cmpuint(test_header(store).incompat, ==, 0);
    test_clean(store, 0);

    image = test_open(crashed);
    test_expect(image, 0, CLUSTER, 1);
    test_fill(image, MIB, CLUSTER, 2); /* rebuilds first */
    test_close(image);
    g_assert_cmpuint(test_header(crashed).incompat, ==, 0);
    test_clean(crashed, 0);
    image = test_open(crashed);
    test_expect(image, 0, CLUSTER, 1);
    test_expect(image, MIB, CLUSTER, 2);
    test_close(image);
}

/* A writer that does not maintain bitmaps takes their mark away, and only then writes. */
static void
test_autoclear(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);

    test_set_word(store, 88, G_GUINT64_CONSTANT(1) << 17 | QCOW2_AUTOCLEAR_BITMAPS);
    FormatImage *image = test_open(store);
    test_close(image);
    g_assert_cmpuint(test_header(store).autoclear, !=, 0); /* nothing was written */
    image = test_open(store);
    test_fill(image, 0, 1, 1);
    g_assert_cmpuint(test_header(store).autoclear, ==, 0);
    test_close(image);
}

static void
test_read_only(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open_flags(store, 0);
    g_autoptr(GError) error = NULL;
    Place place;

    g_assert_false(image->ops->prepare(image, guest_off(0), 1, &place, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
    test_close(image);
}

/* A write that finds no space for its tables leaves no counts raised on disk, so nothing leaks. */
static void
test_full_leaks_nothing(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 200 * KIB, .cluster_bytes = 512 };
    g_autoptr(BlkStore) first = test_create(&options);
    FormatImage *image = test_open(first);
    guint64 bytes;
    gboolean done = FALSE;

    test_fill(image, 0, options.guest_bytes, 1);
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "s", 1, 0, -1 }, NULL));
    for (guint64 at = 0; at < 96 * KIB; at += 32 * KIB)
        test_fill(image, at, 4 * KIB, 2); /* takes what the snapshot left free */
    test_close(image);
    g_assert_true(blk_size(first, &bytes, NULL));
    g_autoptr(GBytes) all = blk_mem_snapshot(first);
    for (guint64 limit = bytes; !done; limit += 512) {
        g_autoptr(BlkStore) store = blk_mem_new(g_bytes_get_data(all, NULL), bytes, "full");
        g_autoptr(BlkStore) small = blk_fault_new(store, FAULT_NO_SPACE, limit, TRUE);
        guint8 data[512] = { 3 };
        store->writable = small->writable = TRUE;
        image = test_open(small);
        done = test_write(image, 100 * KIB, data, sizeof data, NULL);
        done = image->ops->close(image, NULL) && done;
        test_clean(store, 0);
        image = test_open(store); /* with space again: a count past the file's end would show now */
        test_fill(image, 128 * KIB, 16 * KIB, 4);
        test_close(image);
        test_clean(store, 0);
        g_assert_true(done || limit < bytes + 64 * KIB);
    }
}

/* A bitmap directory that makes no sense: nothing is written, since it would be written over. A stale one is
 * nobody's. */
static void
test_bitmaps(void)
{
    static const guint8 extension[32] = { 0x23, 0x85, 0x28, 0x75, 0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0,
                                          0,    0,    0,    0,    0, 0, 0, 32, 0, 0, 0, 0, 0, 1, 0, 0 };
    g_autoptr(BlkStore) store = make(3, FALSE);
    g_autoptr(GError) error = NULL;
    guint8 byte = 1;

    g_assert_true(blk_pwrite(store, QCOW2_FIELDS_BYTES, extension, sizeof extension, NULL));
    test_set_word(store, 88, QCOW2_AUTOCLEAR_BITMAPS);
    g_autoptr(GBytes) before = blk_mem_snapshot(store);
    FormatImage *image = test_open(store);
    g_assert_false(test_write(image, 0, &byte, 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "bitmap 0"));
    g_assert_false(image->ops->resize(image, 2 * MIB, TRUE, NULL, NULL));
    g_assert_false(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "s", 1, 0, -1 }, NULL));
    test_close(image);
    g_autoptr(GBytes) after = blk_mem_snapshot(store);
    g_assert_true(g_bytes_equal(before, after));

    test_set_word(store, 88, 0);
    image = test_open(store);
    test_fill(image, 0, 1, 1);
    test_close(image);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/flush/barriers", test_barriers);
    g_test_add_func("/qcow2/flush/failed", test_failed_barrier);
    g_test_add_func("/qcow2/flush/lazy", test_lazy);
    g_test_add_func("/qcow2/open/autoclear", test_autoclear);
    g_test_add_func("/qcow2/open/bitmaps", test_bitmaps);
    g_test_add_func("/qcow2/open/read-only", test_read_only);
    g_test_add_func("/qcow2/flush/full", test_full_leaks_nothing);
    return g_test_run();
}
