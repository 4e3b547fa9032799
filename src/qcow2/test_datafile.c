/* Images whose data lies in a file of its own: where it goes, what is refused, and what check finds. */
#include "block/record.h"
#include "qcow2/repair.h"
#include "qcow2/test_io.h"

#define CLUSTER 4096

typedef struct {
    BlkStore *store, *data;
    FormatImage *image;
} Fixture;

static void
reopen(Fixture *f)
{
    if (f->image)
        test_close(f->image);
    f->image = test_open(f->store);
    f->image->ops->set_data(f->image, test_window_new(f->data));
}

static void
setup(Fixture *f, gconstpointer raw)
{
    const Qcow2CreateOptions options = {
        .guest_bytes = MIB, .cluster_bytes = CLUSTER, .data_file = "data", .data_file_raw = raw != NULL
    };

    f->store = test_create(&options);
    f->data = blk_mem_new(NULL, 0, "data");
    f->data->writable = TRUE;
    reopen(f);
}

static void
teardown(Fixture *f, gconstpointer raw)
{
    if (f->image)
        test_close(f->image);
    blk_free(f->store);
    blk_free(f->data);
}

static void
expect_data(Fixture *f, guint64 at, guint8 value)
{
    guint8 byte;

    g_assert_true(blk_pread_padded(f->data, at, &byte, 1, NULL));
    g_assert_cmphex(byte, ==, value);
}

/* Rule: a cluster lies at its guest offset in the data file, COPIED and counted nowhere. */
static void
test_places(Fixture *f, gconstpointer raw)
{
    guint64 before, after;

    g_assert_true(blk_size(f->store, &before, NULL));
    test_fill(f->image, 0, 10, 0x11);
    test_fill(f->image, 7 * CLUSTER + 5, 2 * CLUSTER, 0x22);
    test_fill(f->image, 8 * CLUSTER, 1, 0x33);
    expect_data(f, 9, 0x11);
    expect_data(f, 7 * CLUSTER + 5, 0x22);
    expect_data(f, 8 * CLUSTER, 0x33);
    reopen(f);
    test_expect(f->image, 0, 10, 0x11);
    test_expect(f->image, 8 * CLUSTER + 1, CLUSTER, 0x22);
    g_assert_cmphex(test_word(f->store, test_l2_off(f->store, 0)), ==, QCOW2_ENTRY_COPIED);
    g_assert_cmphex(test_word(f->store, test_l2_off(f->store, 8 * CLUSTER)), ==,
                    QCOW2_ENTRY_COPIED | 8 * CLUSTER);
    g_assert_true(blk_size(f->store, &after, NULL));
    g_assert_cmpuint(after, <=, before + 2 * CLUSTER); /* an L2 table, and no data */
    test_clean(f->store, 0);
}

/* Rule: zeros keep the place, and a raw data file has them itself. */
static void
test_zeros(Fixture *f, gconstpointer raw)
{
    guint64 done;
    Run run;

    test_fill(f->image, 0, 4 * CLUSTER, 0x55);
    g_assert_true(f->image->ops->zero(f->image, guest_off(CLUSTER), CLUSTER, &done, NULL));
    g_assert_cmpuint(done, ==, CLUSTER);
    g_assert_true(f->image->ops->map(f->image, guest_off(CLUSTER), CLUSTER, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_ZERO);
    g_assert_true(run.allocated);
    g_assert_cmpuint(run.host.bytes, ==, CLUSTER);
    if (raw)
        expect_data(f, CLUSTER + 1, 0);
    test_fill(f->image, CLUSTER + 100, 1, 0x66);
    test_expect(f->image, CLUSTER, 100, 0);
    expect_data(f, CLUSTER + 100, 0x66);
    g_assert_true(f->image->ops->zero(f->image, guest_off(0), CLUSTER, &done, NULL));
    reopen(f);
    test_expect(f->image, 0, CLUSTER, 0);
    test_expect(f->image, 2 * CLUSTER, 2 * CLUSTER, 0x55);
    test_clean(f->store, 0);
}

static void
test_refused(Fixture *f, gconstpointer raw)
{
    g_autoptr(GError) snapshot = NULL, view = NULL, backing = NULL, closed = NULL;
    FormatImage *alone = test_open(f->store);
    Place place;

    g_assert_false(qcow2_snapshot_create(f->image, &(FormatSnapshotNew){ "s", 1, 0, -1 }, &snapshot));
    g_assert_error(snapshot, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_null(qcow2_snapshot_open_view(f->image, 0, &view));
    g_assert_error(view, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_true(f->image->ops->set_backing(f->image, "b", "raw", TRUE, &backing) == (raw == NULL));
    g_assert_true(!raw || g_error_matches(backing, KHO_ERROR, KHO_ERROR_INVALID));
    /* Without its data file it can be described and mapped, not written. */
    g_assert_false(alone->ops->prepare(alone, guest_off(0), 1, &place, &closed));
    g_assert_error(closed, KHO_ERROR, KHO_ERROR_INVALID);
    test_close(alone);
}

/* Rule: a cluster anywhere else than at its guest offset is a contradiction; the flag for a raw file stays
 * while it is written. */
static void
test_wrong_place(Fixture *f, gconstpointer raw)
{
    g_autoptr(GError) error = NULL;
    FormatCheck found = { 0 };
    Run run;

    test_fill(f->image, 0, 3 * CLUSTER, 0x77);
    reopen(f);
    g_assert_cmphex(test_header(f->store).autoclear, ==, raw ? QCOW2_AUTOCLEAR_RAW_DATA_FILE : 0);
    test_set_word(f->store, test_l2_off(f->store, CLUSTER), QCOW2_ENTRY_COPIED | 2 * CLUSTER);
    g_assert_true(qcow2_check_file(f->store, &found, NULL, NULL));
    g_assert_cmpuint(found.corruptions, ==, 1);
    reopen(f);
    g_assert_false(f->image->ops->map(f->image, guest_off(CLUSTER), 1, &run, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    f->image->ops->close(g_steal_pointer(&f->image), NULL);
}

/* Rule: an entry without COPIED is found, read, and mended. */
static void
test_copied_missing(Fixture *f, gconstpointer raw)
{
    FormatCheck found = { 0 };

    test_fill(f->image, 0, 3 * CLUSTER, 0x77);
    reopen(f);
    test_set_word(f->store, test_l2_off(f->store, CLUSTER), CLUSTER);
    g_assert_true(qcow2_check_file(f->store, &found, NULL, NULL));
    g_assert_cmpuint(found.corruptions, ==, 1);
    reopen(f);
    test_expect(f->image, CLUSTER, CLUSTER, 0x77);
    g_assert_true(f->image->ops->check(f->image, FORMAT_REPAIR_ALL, &found, NULL));
    g_assert_cmpuint(found.corruptions, ==, 0);
    test_fill(f->image, CLUSTER + 1, 1, 0x78);
    test_expect(f->image, CLUSTER, 1, 0x77);
    test_expect(f->image, CLUSTER + 1, 1, 0x78);
    test_clean(f->store, 0);
}

/* Rule: the data file is as long as the disk at least, ends with it when the disk shrinks, and what comes
 * back reads as zeros. */
static void
test_sizes(Fixture *f, gconstpointer raw)
{
    guint64 bytes;

    test_fill(f->image, 0, MIB, 0x44);
    g_assert_true(f->image->ops->resize(f->image, MIB / 2 - 512, TRUE, NULL, NULL));
    g_assert_true(blk_size(f->data, &bytes, NULL));
    g_assert_cmpuint(bytes, ==, MIB / 2 - 512);
    g_assert_true(f->image->ops->resize(f->image, MIB, FALSE, NULL, NULL));
    g_assert_true(blk_size(f->data, &bytes, NULL));
    g_assert_cmpuint(bytes, >=, MIB);
    test_expect(f->image, 0, MIB / 2 - 512, 0x44);
    test_expect(f->image, MIB / 2 - 512, MIB / 2 + 512, 0);
    expect_data(f, MIB / 2 - 512, 0);
    test_clean(f->store, 0);
}

/* Rule: what the data file held behind the disk's end is durably gone before the header shows it as the
 * disk's.
 */
static void
test_growth_order(Fixture *f, gconstpointer raw)
{
    static const guint8 junk[2 * CLUSTER] = { 0xee };
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(BlkStore) tables = blk_record_new(f->store, log);
    g_autoptr(BlkStore) data = blk_record_new(f->data, log);
    gboolean owed = FALSE, shown = FALSE;

    test_fill(f->image, 0, MIB, 0x44);
    g_assert_true(f->image->ops->resize(f->image, MIB - 512, TRUE, NULL, NULL));
    test_close(f->image);
    g_assert_true(blk_pwrite(f->data, MIB - 512, junk, sizeof junk, NULL));
    f->image = test_open(tables);
    f->image->ops->set_data(f->image, test_window_new(data));
    g_assert_true(f->image->ops->resize(f->image, 2 * MIB, FALSE, NULL, NULL));
    for (guint i = 0; i < log->len; i++) {
        const BlkEvent *event = log->pdata[i];
        if (event->below == f->data)
            owed = event->kind != BLK_EVENT_FLUSH;
        else if (event->kind == BLK_EVENT_WRITE && event->off == 0) {
            g_assert_false(owed);
            shown = TRUE;
        }
    }
    g_assert_true(shown);
    test_expect(f->image, MIB - 512, 512, 0);
    test_close(g_steal_pointer(&f->image));
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(Fixture *f, gconstpointer raw);
    } tests[] = {
        { "places", test_places },
        { "zeros", test_zeros },
        { "refused", test_refused },
        { "wrong-place", test_wrong_place },
        { "COPIED", test_copied_missing },
        { "sizes", test_sizes },
        { "growth-order", test_growth_order },
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        for (guint raw = 0; raw < 2; raw++) {
            g_autofree char *path =
                g_strdup_printf("/qcow2/data-file/%s%s", tests[i].name, raw ? "/raw" : "");
            g_test_add(path, Fixture, raw ? "raw" : NULL, setup, tests[i].run, teardown);
        }
    return g_test_run();
}
