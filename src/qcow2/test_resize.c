/* Growing and shrinking; random sizes are test_model.c's. */
#include "qcow2/test_io.h"

/* Growing over a longer backing file: the new part is zeros from the moment it is there, whatever tables it
 * takes. Version 2 has no flag for zeros and takes clusters of them. */
static void
test_grow_over_backing(gconstpointer version)
{
    static const guint64 sizes[][3] = {
        { 8 * KIB, 24 * KIB, 100 * KIB },   /* one table; the backing file longer than the new size */
        { 30 * KIB, 500 * KIB, 200 * KIB }, /* more tables, a longer L1 table, the backing file in between */
        { 8 * KIB, 30 * KIB, 4 * KIB },     /* the backing file shorter than the disk */
    };

    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const Qcow2CreateOptions options = { .guest_bytes = sizes[i][0],
                                             .cluster_bytes = 512,
                                             .version = GPOINTER_TO_UINT(version),
                                             .backing_file = "b",
                                             .backing_format = "raw" };
        RunKind hidden = options.version == 2 ? RUN_DATA : RUN_ZERO;
        g_autoptr(BlkStore) store = test_create(&options);
        FormatImage *image = test_open(store);
        guint64 end = MAX(MIN(sizes[i][1], sizes[i][2]), sizes[i][0]);

        test_fill(image, 0, 1000, 1);
        image->backing_bytes = sizes[i][2];
        g_assert_true(image->ops->resize(image, sizes[i][1], FALSE, NULL, NULL));
        test_close(image);
        test_clean(store, 0);
        image = test_open(store);
        for (guint64 at = sizes[i][0]; at < sizes[i][1];) {
            Run run;
            g_assert_true(image->ops->map(image, guest_off(at), sizes[i][1] - at, &run, NULL));
            g_assert_cmpint(run.kind, ==, at < end ? hidden : RUN_HOLE);
            at += run.bytes;
        }
        test_expect(image, sizes[i][0], sizes[i][1] - sizes[i][0], 0);
        test_close(image);
    }
}

/* Shrinking gives the file's end back. */
static void
test_shrink_cuts(void)
{
    g_autoptr(BlkStore) store = test_create(&(Qcow2CreateOptions){ .guest_bytes = 64 * MIB });
    FormatImage *image = test_open(store);
    guint64 before, after;

    test_fill(image, 0, 40 * MIB, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(blk_size(store, &before, NULL));
    g_assert_true(image->ops->resize(image, MIB, TRUE, NULL, NULL));
    g_assert_true(blk_size(store, &after, NULL));
    g_assert_cmpuint(after, <, before - 38 * MIB);
    test_expect(image, 0, MIB, 1);
    g_assert_true(image->ops->resize(image, 64 * MIB, FALSE, NULL, NULL));
    test_expect(image, 0, MIB, 1);
    test_expect(image, MIB, 10 * MIB, 0);
    test_fill(image, 20 * MIB, MIB, 2);
    test_close(image);
    test_clean(store, 0);
}

/* What is freed before the file's last cluster in use goes back, too: nothing of it is left in the file. */
static void
test_shrink_gives_back(void)
{
    g_autoptr(BlkStore) store = test_create(&(Qcow2CreateOptions){ .guest_bytes = 64 * MIB });
    FormatImage *image = test_open(store);
    guint8 gone[512];
    guint64 bytes;

    test_fill(image, MIB, 9 * MIB, 0xab);
    test_fill(image, 0, MIB, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(image->ops->resize(image, MIB, TRUE, NULL, NULL));
    test_expect(image, 0, MIB, 1);
    test_close(image);
    test_clean(store, 0);

    memset(gone, 0xab, sizeof gone);
    g_assert_true(blk_size(store, &bytes, NULL));
    g_assert_cmpuint(bytes, >, 10 * MIB);
    g_autofree guint8 *file = g_malloc(bytes);
    g_assert_true(blk_pread(store, 0, file, bytes, NULL));
    for (guint64 at = 0; at + sizeof gone <= bytes; at += sizeof gone)
        g_assert_cmpint(memcmp(file + at, gone, sizeof gone), !=, 0);
}

/* A cancel before the header is written leaves the disk as it was, and the file as long. */
static void
test_shrink_cancelled(void)
{
    g_autoptr(BlkStore) store = test_create(&(Qcow2CreateOptions){ .guest_bytes = 64 * MIB });
    FormatImage *image = test_open(store);
    const gint yes = 1;
    KhoJob job = { .cancelled = &yes };
    g_autoptr(GError) error = NULL;
    guint64 before, after;

    test_fill(image, 0, 40 * MIB, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(blk_size(store, &before, NULL));
    g_assert_false(image->ops->resize(image, MIB, TRUE, &job, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
    g_assert_cmpuint(image->guest_bytes, ==, 64 * MIB);
    test_expect(image, 0, 40 * MIB, 1);
    g_assert_true(blk_size(store, &after, NULL));
    g_assert_cmpuint(after, ==, before);
    test_close(image);
    test_clean(store, 0);
}

/* Down to nothing, which takes no L1 table at all, and up again. */
static void
test_shrink_to_nothing(void)
{
    g_autoptr(BlkStore) store = test_create(&(Qcow2CreateOptions){ .guest_bytes = 8 * MIB });
    FormatImage *image = test_open(store);

    test_fill(image, 0, 3 * MIB, 1);
    g_assert_true(image->ops->resize(image, 0, TRUE, NULL, NULL));
    test_close(image);
    test_clean(store, 0);
    image = test_open(store);
    g_assert_cmpuint(image->guest_bytes, ==, 0);
    g_assert_true(image->ops->resize(image, 8 * MIB, FALSE, NULL, NULL));
    test_expect(image, 0, 8 * MIB, 0);
    test_close(image);
    test_clean(store, 0);
}

/* Smaller must be allowed by name, and a version 2 image with snapshots keeps its size. */
static void
test_refuses(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 64 * MIB, .version = 2 };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    g_autoptr(GError) smaller = NULL, snapshots = NULL, large = NULL;

    g_assert_false(image->ops->resize(image, MIB, FALSE, NULL, &smaller));
    g_assert_error(smaller, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_false(image->ops->resize(image, G_MAXUINT64 / 2, FALSE, NULL, &large));
    g_assert_error(large, KHO_ERROR, KHO_ERROR_NO_SPACE);
    g_assert_true(qcow2_snapshot_create(image, "s", 1, NULL));
    g_assert_false(image->ops->resize(image, 65 * MIB, FALSE, NULL, &snapshots));
    g_assert_error(snapshots, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_cmpuint(image->guest_bytes, ==, 64 * MIB);
    test_close(image);
    test_clean(store, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/resize/cuts", test_shrink_cuts);
    g_test_add_func("/qcow2/resize/gives-back", test_shrink_gives_back);
    g_test_add_func("/qcow2/resize/cancelled", test_shrink_cancelled);
    g_test_add_func("/qcow2/resize/nothing", test_shrink_to_nothing);
    g_test_add_data_func("/qcow2/resize/backing/version-2", GUINT_TO_POINTER(2), test_grow_over_backing);
    g_test_add_data_func("/qcow2/resize/backing/version-3", GUINT_TO_POINTER(3), test_grow_over_backing);
    g_test_add_func("/qcow2/resize/refuses", test_refuses);
    return g_test_run();
}
