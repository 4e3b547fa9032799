/* Places: what is written where, and who waits for whom. */
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

/* A run of @bytes from @at on is @kind, and has space or not. */
static void
expect_run(FormatImage *image, guint64 at, guint64 bytes, RunKind kind, gboolean allocated)
{
    Run run;

    g_assert_true(image->ops->map(image, guest_off(at), image->guest_bytes - at, &run, NULL));
    g_assert_cmpint(run.kind, ==, kind);
    g_assert_cmpint(run.allocated, ==, allocated);
    g_assert_cmpuint(run.bytes, ==, bytes);
}

/* Rule: with extended L2 entries places, runs and zeros are subclusters; a cluster's space comes with its
 * first subcluster of data and goes with the last; a cluster that moves takes all its data along. */
static void
test_subclusters(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 64 * MIB, .extended_l2 = TRUE };
    const guint64 sub = CLUSTER / 32;
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    guint64 done;
    Place a, b;

    g_assert_true(image->ops->prepare(image, guest_off(5 * sub + 7), sub, &a, NULL));
    g_assert_cmpuint(a.at.bytes, ==, 5 * sub);
    g_assert_cmpuint(a.bytes, ==, 2 * sub);
    image->ops->abandon(image, &a);
    test_fill(image, 5 * sub + 7, sub, 0x11);
    expect_run(image, 0, 5 * sub, RUN_HOLE, TRUE);
    expect_run(image, 5 * sub, 2 * sub, RUN_DATA, TRUE);
    expect_run(image, 7 * sub, 25 * sub, RUN_HOLE, TRUE);
    expect_run(image, CLUSTER, 64 * MIB - CLUSTER, RUN_HOLE, FALSE);
    /* More of the cluster: where it has its space. */
    g_assert_true(image->ops->prepare(image, guest_off(9 * sub), 1, &b, NULL));
    g_assert_false(b.in_place);
    g_assert_cmpuint(b.host.bytes % CLUSTER, ==, 9 * sub);
    image->ops->abandon(image, &b);

    /* A snapshot shares the cluster: what is written moves, with the data that is there. */
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "s", 1, 0, -1 }, NULL));
    g_assert_true(image->ops->prepare(image, guest_off(9 * sub), 1, &a, NULL));
    g_assert_cmpuint(a.at.bytes, ==, 5 * sub);
    g_assert_cmpuint(a.bytes, ==, 5 * sub);
    image->ops->abandon(image, &a);
    g_assert_true(image->ops->prepare(image, guest_off(2 * sub), CLUSTER, &a, NULL));
    g_assert_cmpuint(a.at.bytes, ==, 2 * sub);
    g_assert_cmpuint(a.bytes, ==, CLUSTER);
    image->ops->abandon(image, &a);
    test_fill(image, 3 * sub, 1, 0x22);
    test_expect(image, 5 * sub + 7, sub, 0x11);
    test_expect(image, 3 * sub, 1, 0x22);

    /* Zeros by subclusters, until nothing is left. */
    g_assert_true(image->ops->zero(image, guest_off(3 * sub), sub + 1, &done, NULL));
    g_assert_cmpuint(done, ==, sub); /* the next one moved with its neighbours, and is data */
    g_assert_true(image->ops->zero(image, guest_off(5 * sub + 1), sub, &done, NULL));
    g_assert_cmpuint(done, ==, 0);
    g_assert_true(image->ops->zero(image, guest_off(5 * sub), sub + 1, &done, NULL));
    g_assert_cmpuint(done, ==, sub);
    expect_run(image, 5 * sub, sub, RUN_ZERO, TRUE);
    expect_run(image, 6 * sub, sub, RUN_DATA, TRUE);
    g_assert_true(image->ops->zero(image, guest_off(0), CLUSTER, &done, NULL));
    g_assert_cmpuint(done, ==, CLUSTER);
    Run run;
    g_assert_true(image->ops->map(image, guest_off(6 * sub), sub, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_ZERO);
    g_assert_false(run.allocated);
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

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/place/kinds", test_kinds);
    g_test_add_func("/qcow2/place/reuse", test_reuse);
    g_test_add_func("/qcow2/place/subclusters", test_subclusters);
    g_test_add_func("/qcow2/place/threads", test_threads);
    g_test_add_data_func("/qcow2/zero/version-2", GINT_TO_POINTER(2), test_zeros);
    g_test_add_data_func("/qcow2/zero/version-3", GINT_TO_POINTER(3), test_zeros);
    g_test_add_func("/qcow2/zero/backing", test_zeros_over_backing);
    return g_test_run();
}
