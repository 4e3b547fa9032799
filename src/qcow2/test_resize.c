/* Growing and shrinking; random sizes are test_model.c's. */
#include "block/fault.h"
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

/* A disk that was filled past its old end and taken back is what it was, and so is its file. */
static void
test_extend_taken_back(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 100 * KIB,
                                         .cluster_bytes = 512,
                                         .refcount_bits = 64 };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    guint64 before, after;

    test_fill(image, 0, 30 * KIB, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(blk_size(store, &before, NULL));
    g_autoptr(GBytes) was = blk_mem_snapshot(store);
    for (guint round = 0; round < 2; round++) {
        g_assert_true(image->ops->extend(image, 700 * KIB, NULL));
        test_fill(image, 100 * KIB, 600 * KIB, 2);
        g_assert_true(image->ops->flush(image, NULL));
        if (round == 0)
            g_assert_true(image->ops->resize(image, 100 * KIB, TRUE, NULL, NULL));
        else
            test_close(image); /* the other way to give up */
        if (round == 1)
            image = test_open(store);
        test_expect(image, 0, 30 * KIB, 1);
        g_assert_true(image->ops->flush(image, NULL));
        g_assert_true(blk_size(store, &after, NULL));
        g_assert_cmpuint(after, ==, before);
        test_clean(store, 0);
    }
    g_autoptr(GBytes) is = blk_mem_snapshot(store);
    g_assert_true(g_bytes_equal(was, is));
    test_close(image);
}

/* Nobody else sees the space before its size is published. */
static void
test_extend_published(void)
{
    g_autoptr(BlkStore) store =
        test_create(&(Qcow2CreateOptions){ .guest_bytes = MIB, .cluster_bytes = 4096 });
    FormatImage *image = test_open(store);

    g_assert_true(image->ops->extend(image, 20 * MIB, NULL));
    test_fill(image, MIB, 19 * MIB, 0);
    g_assert_true(image->ops->flush(image, NULL));
    FormatImage *other = test_open_flags(store, 0);
    g_assert_cmpuint(other->guest_bytes, ==, MIB);
    test_close(other);
    g_assert_true(image->ops->resize(image, 20 * MIB, FALSE, NULL, NULL));
    test_close(image);
    test_clean(store, 0);
    image = test_open(store);
    for (guint64 at = MIB; at < 20 * MIB;) {
        Run run;
        g_assert_true(image->ops->map(image, guest_off(at), 20 * MIB - at, &run, NULL));
        g_assert_cmpint(run.kind, ==, RUN_DATA);
        at += run.bytes;
    }
    test_close(image);
}

static const struct {
    const char *name;
    Qcow2CreateOptions create;
    guint64 backing_bytes, to_bytes;
    gboolean snapshot;
} full[] = {
    { "grow-over-backing",
      { .guest_bytes = 40 * KIB, .cluster_bytes = 512, .backing_file = "b", .backing_format = "raw" },
      3 * MIB,
      3 * MIB },
    { "grow-over-backing-v2",
      { .guest_bytes = 40 * KIB,
        .cluster_bytes = 512,
        .version = 2,
        .backing_file = "b",
        .backing_format = "raw" },
      300 * KIB,
      300 * KIB },
    { "grow-narrow-blocks",
      { .guest_bytes = 40 * KIB, .cluster_bytes = 512, .refcount_bits = 64 },
      0,
      6 * MIB },
    { "shrink", { .guest_bytes = 200 * KIB, .cluster_bytes = 512 }, 0, 21 * KIB },
    { "shrink-snapshot", { .guest_bytes = 200 * KIB, .cluster_bytes = 512 }, 0, 21 * KIB, TRUE },
    { "grow-snapshot", { .guest_bytes = 200 * KIB + 512, .cluster_bytes = 1024 }, 0, 6 * MIB, TRUE },
};

/* A file that can grow up to @limit only. FALSE when that was enough. */
static gboolean
resize_in(gsize i, GBytes *bytes, guint64 limit)
{
    g_autoptr(BlkStore) store =
        blk_mem_new(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), full[i].name);
    g_autoptr(BlkStore) small = blk_fault_new(store, FAULT_NO_SPACE, limit, TRUE);
    g_autoptr(GError) error = NULL;

    store->writable = small->writable = TRUE;
    FormatImage *image = test_open(small);
    guint64 from = image->guest_bytes;
    image->backing_bytes = full[i].backing_bytes;
    gboolean done = image->ops->resize(image, full[i].to_bytes, TRUE, NULL, &error);
    g_assert_true(done || g_error_matches(error, KHO_ERROR, KHO_ERROR_NO_SPACE));
    g_assert_cmpuint(image->guest_bytes, ==, done ? full[i].to_bytes : from);
    image->ops->close(image, NULL);
    test_clean(store, 0);
    image = test_open(store);
    g_assert_cmpuint(image->guest_bytes, ==, done ? full[i].to_bytes : from);
    test_expect(image, 0, MIN(from, full[i].to_bytes), 1);
    test_fill(image, 0, MIN(from, full[i].to_bytes), 2); /* a count past the file's end would show now */
    test_close(image);
    test_clean(store, 0);
    return !done;
}

/* A resize that finds no space leaves the old disk, and no leaks, whichever write it is that fails. */
static void
test_full(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(BlkStore) store = test_create(&full[i].create);
    FormatImage *image = test_open(store);
    guint64 bytes;

    test_fill(image, 0, full[i].create.guest_bytes, 1);
    if (full[i].snapshot)
        g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "s", 1, 0, -1 }, NULL));
    test_close(image);
    g_assert_true(blk_size(store, &bytes, NULL));
    g_autoptr(GBytes) all = blk_mem_snapshot(store);
    guint64 limit = bytes;
    while (resize_in(i, all, limit))
        limit += full[i].create.cluster_bytes;
    g_assert_cmpuint(limit, >, bytes);
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
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "s", 1, 0, -1 }, NULL));
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
    g_test_add_func("/qcow2/resize/taken-back", test_extend_taken_back);
    g_test_add_func("/qcow2/resize/published", test_extend_published);
    for (gsize i = 0; i < G_N_ELEMENTS(full); i++) {
        g_autofree char *name = g_strdup_printf("/qcow2/resize/full/%s", full[i].name);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_full);
    }
    g_test_add_func("/qcow2/resize/nothing", test_shrink_to_nothing);
    g_test_add_data_func("/qcow2/resize/backing/version-2", GUINT_TO_POINTER(2), test_grow_over_backing);
    g_test_add_data_func("/qcow2/resize/backing/version-3", GUINT_TO_POINTER(3), test_grow_over_backing);
    g_test_add_func("/qcow2/resize/refuses", test_refuses);
    return g_test_run();
}
