/* Places: what is written where, who waits for whom, and what a flush promises and costs. */
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

static void
test_kinds(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open(store);
    Place a, b;

    /* New: whole clusters. */
    g_assert_true(image->ops->prepare(image, guest_off(100), CLUSTER, &a, NULL));
    g_assert_false(a.in_place);
    g_assert_cmpuint(a.at.bytes, ==, 0);
    g_assert_cmpuint(a.bytes, ==, 2 * CLUSTER);
    /* Held and not published: others get other clusters. */
    g_assert_true(image->ops->prepare(image, guest_off(MIB), CLUSTER, &b, NULL));
    g_assert_cmpuint(b.host.bytes, >=, a.host.bytes + a.bytes);
    image->ops->abandon(image, &b);
    g_assert_true(blk_zero(image->file, a.host.bytes, a.bytes, BLK_ZERO_RESERVE, NULL));
    g_assert_true(image->ops->commit(image, &a, NULL));
    /* Mapped: in place, to the byte. */
    g_assert_true(image->ops->prepare(image, guest_off(100), 3 * CLUSTER, &b, NULL));
    g_assert_true(b.in_place);
    g_assert_cmpuint(b.at.bytes, ==, 100);
    g_assert_cmpuint(b.host.bytes, ==, a.host.bytes + 100);
    g_assert_cmpuint(b.bytes, ==, 2 * CLUSTER - 100);
    g_assert_true(image->ops->commit(image, &b, NULL));
    test_close(image);
    test_clean(store, 0);
}

/* A cluster under a zero flag that kept its space is written there. */
static void
test_reuse(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open(store);
    Place place;
    Run run;

    test_fill(image, 0, 3 * CLUSTER, 0x77);
    test_close(image);
    guint64 off = test_l2_off(store, CLUSTER), entry = test_word(store, off);
    test_set_word(store, off, entry | QCOW2_ENTRY_ZERO);

    image = test_open(store);
    g_assert_true(image->ops->map(image, guest_off(CLUSTER), CLUSTER, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_ZERO);
    g_assert_true(run.allocated);
    test_expect(image, CLUSTER, CLUSTER, 0);
    g_assert_true(image->ops->prepare(image, guest_off(CLUSTER), CLUSTER, &place, NULL));
    g_assert_false(place.in_place);
    g_assert_cmpuint(place.host.bytes, ==, entry & QCOW2_ENTRY_OFFSET);
    image->ops->abandon(image, &place);
    test_expect(image, CLUSTER, CLUSTER, 0);
    test_fill(image, CLUSTER + 5, 5, 0x12);
    test_expect(image, CLUSTER, 5, 0);
    test_expect(image, CLUSTER + 5, 5, 0x12);
    test_expect(image, CLUSTER + 10, CLUSTER - 10, 0);
    test_close(image);
    test_clean(store, 0);
}

typedef struct {
    FormatImage *image;
    guint64 at;
    guint8 value;
} Writer;

static gpointer
write_sectors(gpointer data)
{
    const Writer *w = data;

    for (guint i = 0; i < 64; i++)
        test_fill(w->image, w->at + (guint64) i * 4096, 512, w->value);
    return NULL;
}

/* Eight threads, each with a sector of its own in every 4 KiB: clusters are shared, no sector is lost. */
static void
test_threads(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open(store);
    Writer writers[8];
    GThread *threads[8];

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        writers[i] = (Writer){ image, (guint64) i * 512, (guint8) (i + 1) };
        threads[i] = g_thread_new("writer", write_sectors, &writers[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    for (guint64 sector = 0; sector < 64 * 8; sector++)
        test_expect(image, sector * 512, 512, (guint8) (sector % 8 + 1));
    test_close(image);
    test_clean(store, 0);
}

/* Zeros: version 3 flags them and frees the space, version 2 unmaps; part of a cluster is the caller's to
 * write. */
static void
test_zeros(gconstpointer data)
{
    guint version = (guint) GPOINTER_TO_INT(data);
    g_autoptr(BlkStore) store = make(version, FALSE);
    FormatImage *image = test_open(store);
    guint64 done;
    Run run;

    test_fill(image, 0, 4 * CLUSTER, 0x55);
    g_assert_true(image->ops->zero(image, guest_off(10), CLUSTER, &done, NULL));
    g_assert_cmpuint(done, ==, 0);
    g_assert_true(image->ops->zero(image, guest_off(CLUSTER), CLUSTER + 10, &done, NULL));
    g_assert_cmpuint(done, ==, CLUSTER);
    g_assert_true(image->ops->map(image, guest_off(CLUSTER), CLUSTER, &run, NULL));
    g_assert_cmpint(run.kind, ==, version == 3 ? RUN_ZERO : RUN_HOLE);
    g_assert_false(run.allocated);
    /* What reads as zeros is passed over, from its middle too. */
    g_assert_true(image->ops->zero(image, guest_off(CLUSTER + 9), 100, &done, NULL));
    g_assert_cmpuint(done, ==, 100);
    test_expect(image, 0, CLUSTER, 0x55);
    test_expect(image, CLUSTER, CLUSTER, 0);
    test_expect(image, 2 * CLUSTER, 2 * CLUSTER, 0x55);
    test_close(image);
    test_clean(store, 0);
}

/* With a backing file version 2 has no way to say zero. */
static void
test_zeros_over_backing(void)
{
    for (guint version = 2; version <= 3; version++) {
        const Qcow2CreateOptions options = {
            .guest_bytes = MIB, .version = version, .backing_file = "b", .backing_format = "raw"
        };
        g_autoptr(BlkStore) store = test_create(&options);
        FormatImage *image = test_open(store);
        guint64 done;
        Run run;

        g_assert_true(image->ops->zero(image, guest_off(0), MIB, &done, NULL));
        g_assert_cmpuint(done, ==, version == 2 ? 0 : MIB);
        g_assert_true(image->ops->map(image, guest_off(0), MIB, &run, NULL));
        g_assert_cmpint(run.kind, ==, version == 2 ? RUN_HOLE : RUN_ZERO);
        test_close(image);
        test_clean(store, 0);
    }
}

/* Growing over a longer backing file: the new part is zeros from the moment it is there, whatever tables it
 * takes. */
static void
test_grow_over_backing(void)
{
    static const guint64 sizes[][3] = {
        { 8 * KIB, 24 * KIB, 100 * KIB },   /* one table; the backing file longer than the new size */
        { 30 * KIB, 500 * KIB, 200 * KIB }, /* more tables, a longer L1 table, the backing file in between */
        { 8 * KIB, 30 * KIB, 4 * KIB },     /* the backing file shorter than the disk */
    };

    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const Qcow2CreateOptions options = {
            .guest_bytes = sizes[i][0], .cluster_bytes = 512, .backing_file = "b", .backing_format = "raw"
        };
        g_autoptr(BlkStore) store = test_create(&options);
        FormatImage *image = test_open(store);
        guint64 end = MAX(MIN(sizes[i][1], sizes[i][2]), sizes[i][0]);

        test_fill(image, 0, 1000, 1);
        image->backing_bytes = sizes[i][2];
        g_assert_true(image->ops->resize(image, sizes[i][1], FALSE, NULL));
        test_close(image);
        test_clean(store, 0);
        image = test_open(store);
        for (guint64 at = sizes[i][0]; at < sizes[i][1];) {
            Run run;
            g_assert_true(image->ops->map(image, guest_off(at), sizes[i][1] - at, &run, NULL));
            g_assert_cmpint(run.kind, ==, at < end ? RUN_ZERO : RUN_HOLE);
            at += run.bytes;
        }
        test_close(image);
    }
}

/* Shrinking gives the file's end back. */
static void
test_shrink_cuts(void)
{
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open(store);
    guint64 before, after;

    test_fill(image, 0, 40 * MIB, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(blk_size(store, &before, NULL));
    g_assert_true(image->ops->resize(image, MIB, TRUE, NULL));
    g_assert_true(blk_size(store, &after, NULL));
    g_assert_cmpuint(after, <, before - 38 * MIB);
    test_expect(image, 0, MIB, 1);
    g_assert_true(image->ops->resize(image, 64 * MIB, FALSE, NULL));
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
    g_autoptr(BlkStore) store = make(3, FALSE);
    FormatImage *image = test_open(store);
    guint8 gone[512];
    guint64 bytes;

    test_fill(image, MIB, 9 * MIB, 0xab);
    test_fill(image, 0, MIB, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(image->ops->resize(image, MIB, TRUE, NULL));
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

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/place/kinds", test_kinds);
    g_test_add_func("/qcow2/place/reuse", test_reuse);
    g_test_add_func("/qcow2/place/threads", test_threads);
    g_test_add_data_func("/qcow2/zero/version-2", GINT_TO_POINTER(2), test_zeros);
    g_test_add_data_func("/qcow2/zero/version-3", GINT_TO_POINTER(3), test_zeros);
    g_test_add_func("/qcow2/zero/backing", test_zeros_over_backing);
    g_test_add_func("/qcow2/resize/cuts", test_shrink_cuts);
    g_test_add_func("/qcow2/resize/gives-back", test_shrink_gives_back);
    g_test_add_func("/qcow2/resize/backing", test_grow_over_backing);
    g_test_add_func("/qcow2/flush/barriers", test_barriers);
    g_test_add_func("/qcow2/flush/failed", test_failed_barrier);
    g_test_add_func("/qcow2/flush/lazy", test_lazy);
    g_test_add_func("/qcow2/open/autoclear", test_autoclear);
    g_test_add_func("/qcow2/open/read-only", test_read_only);
    return g_test_run();
}
