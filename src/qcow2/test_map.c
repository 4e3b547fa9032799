/* Mapping: runs are joined, and entries that lie are refused with their place, for reading and for writing.
 */
#include "qcow2/test_io.h"

#define CLUSTER 65536
#define AT      (5 * CLUSTER) /* the guest cluster whose entry is broken */

static BlkStore *
make(guint version)
{
    const Qcow2CreateOptions options = { .guest_bytes = 64 * MIB, .version = version };
    BlkStore *store = test_create(&options);
    FormatImage *image = test_open(store);

    test_fill(image, 4 * CLUSTER, 4 * CLUSTER, 0xab);
    test_close(image);
    return store;
}

static void
test_runs(void)
{
    g_autoptr(BlkStore) store = make(3);
    FormatImage *image = test_open(store);
    Run run;

    g_assert_true(image->ops->map(image, guest_off(100), 64 * MIB - 100, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_HOLE);
    g_assert_cmpuint(run.bytes, ==, 4 * CLUSTER - 100);
    g_assert_true(image->ops->map(image, guest_off(AT + 10), 64 * MIB - AT - 10, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_DATA);
    g_assert_cmpuint(run.bytes, ==, 3 * CLUSTER - 10);
    g_assert_true(run.allocated);
    g_assert_true(image->ops->map(image, guest_off(AT), 7, &run, NULL));
    g_assert_cmpuint(run.bytes, ==, 7);
    guint64 done;
    g_assert_true(image->ops->zero(image, guest_off(AT), CLUSTER, &done, NULL));
    g_assert_cmpuint(done, ==, CLUSTER);
    g_assert_true(image->ops->map(image, guest_off(AT), 3 * CLUSTER, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_ZERO);
    g_assert_cmpuint(run.bytes, ==, CLUSTER);
    g_assert_false(run.allocated);
    test_close(image);
    test_clean(store, 0);
}

static const struct {
    const char *name;
    guint version;
    guint64 entry; /* in place of AT's; bits 9 to 55 of 0 keep the offset */
    const char *says;
} rows[] = {
    { "past-end", 3, QCOW2_ENTRY_COPIED | G_GUINT64_CONSTANT(0x00ff000000000000), "past the end" },
    { "unaligned", 3, QCOW2_ENTRY_COPIED | 0x50200, "not aligned" },
    { "reserved-low", 3, QCOW2_ENTRY_COPIED | 0x50002, "reserved" },
    { "reserved-high", 3, G_GUINT64_CONSTANT(1) << 60 | 0x50000, "reserved" },
    { "zero-flag-in-version-2", 2, QCOW2_ENTRY_COPIED | 0x50001, "reserved" },
    { "copied-hole", 3, QCOW2_ENTRY_COPIED, "without an offset" },
    { "compressed-past-end", 3, QCOW2_ENTRY_COMPRESSED | G_GUINT64_CONSTANT(0x7f000000), "past the end" },
    { "compressed-copied", 3, QCOW2_ENTRY_COPIED | QCOW2_ENTRY_COMPRESSED | 0x50000, "COPIED" },
    { "compressed-in-header", 3, QCOW2_ENTRY_COMPRESSED | 0x200, "header" },
};

static void
test_lies(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(BlkStore) store = make(rows[i].version);
    g_autoptr(GError) reading = NULL, writing = NULL, later = NULL;
    Run run = { .bytes = 77 };
    Place place;

    test_set_word(store, test_l2_off(store, AT), rows[i].entry);
    FormatImage *image = test_open(store);
    g_assert_false(image->ops->map(image, guest_off(AT + 1), 100, &run, &reading));
    g_assert_error(reading, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(reading->message, rows[i].says));
    g_assert_nonnull(strstr(reading->message, "guest offset 327680"));
    g_assert_nonnull(strstr(reading->message, "L1 index 0, L2 index 5"));
    g_assert_cmpuint(run.bytes, ==, 77);
    /* What comes before it is still read; nothing is written any more. */
    test_expect(image, 4 * CLUSTER, CLUSTER, 0xab);
    g_assert_false(image->ops->prepare(image, guest_off(0), 100, &place, &later));
    g_assert_error(later, KHO_ERROR, KHO_ERROR_CORRUPT);
    test_close(image);

    image = test_open(store);
    g_assert_false(image->ops->prepare(image, guest_off(AT), 100, &place, &writing));
    g_assert_error(writing, KHO_ERROR, KHO_ERROR_CORRUPT);
    test_close(image);
}

/* COPIED without a table: QEMU reads a hole there and so must we, and a write makes a table. */
static void
test_copied_without_table(void)
{
    g_autoptr(BlkStore) store = make(3);
    Qcow2Header h = test_header(store);
    guint8 byte = 1;
    Run run;

    test_set_word(store, h.l1_off, QCOW2_ENTRY_COPIED);
    FormatImage *image = test_open(store);
    g_assert_true(image->ops->map(image, guest_off(100), 64 * MIB - 100, &run, NULL));
    g_assert_cmpint(run.kind, ==, RUN_HOLE);
    g_assert_cmpuint(run.bytes, ==, 64 * MIB - 100);
    g_assert_true(test_read(image, AT, &byte, 1, NULL));
    g_assert_cmpuint(byte, ==, 0);
    test_fill(image, AT, CLUSTER, 0x5a);
    test_expect(image, AT, CLUSTER, 0x5a);
    test_close(image);
}

/* An L1 entry that lies, and data that is mapped to where metadata is. */
static void
test_metadata(void)
{
    g_autoptr(BlkStore) store = make(3);
    Qcow2Header h = test_header(store);
    guint64 l1 = test_word(store, h.l1_off);
    g_autoptr(GError) past = NULL, over = NULL, twice = NULL;
    Place place;
    Run run;

    test_set_word(store, h.l1_off, QCOW2_ENTRY_COPIED | G_GUINT64_CONSTANT(0xff0000000000));
    FormatImage *image = test_open_flags(store, 0);
    g_assert_false(image->ops->map(image, guest_off(AT), 100, &run, &past));
    g_assert_error(past, KHO_ERROR, KHO_ERROR_CORRUPT);
    test_close(image);

    test_set_word(store, h.l1_off, l1);
    test_set_word(store, test_l2_off(store, AT), QCOW2_ENTRY_COPIED | h.l1_off);
    image = test_open(store);
    g_assert_false(image->ops->prepare(image, guest_off(AT), 100, &place, &over));
    g_assert_error(over, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(over->message, "metadata"));
    test_close(image);

    test_set_word(store, h.l1_off, QCOW2_ENTRY_COPIED | h.reftable_off);
    test_set_word(store, 72, 0); /* the writer before has marked it corrupt */
    image = test_open(store);
    g_assert_false(image->ops->prepare(image, guest_off(AT), 100, &place, &twice));
    g_assert_error(twice, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(twice->message, "other metadata"));
    test_close(image);
}

/* A cluster of metadata with refcount 0 is never handed out. */
static void
test_guard(void)
{
    g_autoptr(BlkStore) store = make(3);
    Qcow2Header h = test_header(store);
    guint64 block = test_word(store, h.reftable_off);
    guint64 l2 = test_word(store, h.l1_off) & QCOW2_ENTRY_OFFSET;
    g_autoptr(GError) error = NULL;
    guint8 zero[2] = { 0 };
    Place place;

    g_assert_true(blk_pwrite(store, block + l2 / CLUSTER * 2, zero, 2, NULL));
    FormatImage *image = test_open(store);
    g_assert_false(image->ops->prepare(image, guest_off(0), CLUSTER, &place, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "refcount 0"));
    test_close(image);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/map/runs", test_runs);
    g_test_add_func("/qcow2/map/copied-without-table", test_copied_without_table);
    g_test_add_func("/qcow2/map/metadata", test_metadata);
    g_test_add_func("/qcow2/map/guard", test_guard);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/map/lies/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_lies);
    }
    return g_test_run();
}
