/* The snapshot table: what it lists, what its bounds are, and that a view shows what a snapshot holds. Random
 * life with snapshots is test_model.c's. */
#include "qcow2/snapshot.h"
#include "qcow2/test_io.h"

#define CLUSTER 65536

static BlkStore *
make(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 64 * MIB };
    BlkStore *store = test_create(&options);
    FormatImage *image = test_open(store);

    test_fill(image, 0, 2 * CLUSTER, 1);
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "first", 1700000000, 0, -1 }, NULL));
    test_fill(image, CLUSTER, CLUSTER, 2);
    g_assert_true(image->ops->resize(image, 65 * MIB, FALSE, NULL, NULL));
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "second", 1700000001, 0, -1 }, NULL));
    test_fill(image, 0, CLUSTER, 3);
    test_close(image);
    test_clean(store, 0);
    return store;
}

static void
test_listed(void)
{
    g_autoptr(BlkStore) store = make();
    FormatImage *image = test_open_flags(store, 0);
    FormatInfo info;

    g_assert_true(image->ops->info(image, &info, NULL));
    g_assert_cmpuint(info.snapshots->len, ==, 2);
    const FormatSnapshot *s = info.snapshots->pdata[0];
    g_assert_cmpuint(s->id, ==, 1);
    g_assert_cmpstr(s->name, ==, "first");
    g_assert_cmpuint(s->guest_bytes, ==, 64 * MIB);
    g_assert_cmpint(s->date_s, ==, 1700000000);
    g_assert_cmpint(s->icount, ==, -1);
    s = info.snapshots->pdata[1];
    g_assert_cmpstr(s->id_text, ==, "2");
    g_assert_cmpuint(s->guest_bytes, ==, 65 * MIB);
    g_ptr_array_unref(info.snapshots);
    test_close(image);
}

static void
test_views(void)
{
    g_autoptr(BlkStore) store = make();
    FormatImage *image = test_open_flags(store, 0);
    g_autoptr(GError) error = NULL;

    FormatImage *first = qcow2_snapshot_open_view(image, 0, NULL);
    g_assert_cmpuint(first->guest_bytes, ==, 64 * MIB);
    test_expect(first, 0, 2 * CLUSTER, 1);
    FormatImage *second = qcow2_snapshot_open_view(image, 1, NULL);
    g_assert_cmpuint(second->guest_bytes, ==, 65 * MIB);
    test_expect(second, 0, CLUSTER, 1);
    test_expect(second, CLUSTER, CLUSTER, 2);
    test_expect(image, 0, CLUSTER, 3);
    test_close(first);
    test_close(second);
    g_assert_null(qcow2_snapshot_open_view(image, 2, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    test_close(image);
}

/* Offsets from the start of the table's first entry. */
static const struct {
    const char *name;
    gsize off;
    guint64 word;
    const char *says;
} rows[] = {
    { "l1-unaligned", 0, 0x50001, "L1 offset" },
    { "l1-past-end", 0, G_GUINT64_CONSTANT(0xffffffffffff0000), "L1 offset" },
    { "l1-in-header", 0, 0, "L1 offset" },
    { "l1-too-long", 8, G_GUINT64_CONSTANT(0x00400001) << 32 | 1 << 16 | 5, "L1 entries" },
    { "extra-too-long", 32, 1025, "extra data" },
    { "size-negative", 48, G_MAXUINT64, "disk size" },
};

static void
test_bounds(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(BlkStore) store = make();
    Qcow2Header h = test_header(store);
    g_autoptr(GError) error = NULL;

    test_set_word(store, h.snapshots_off + rows[i].off, rows[i].word);
    g_assert_null(qcow2_snapshots_read(store, &h, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, rows[i].says));
    g_assert_nonnull(strstr(error->message, "entry 0"));
}

/* A snapshot whose L1 table is shorter than its disk is listed, and not opened. */
static void
test_short_l1(void)
{
    g_autoptr(BlkStore) store = make();
    Qcow2Header h = test_header(store);
    g_autoptr(GError) error = NULL;

    test_set_word(store, h.snapshots_off + 48, 100 * GIB);
    FormatImage *image = test_open_flags(store, 0);
    g_assert_null(qcow2_snapshot_open_view(image, 0, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    test_close(image);
}

/* Unknown extra data is kept when the table is written again. */
static void
test_extra_kept(void)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    guint8 extra[40];
    Qcow2Snapshot s = { .l1_off = 0x30000,
                        .l1_entries = 1,
                        .id = (char *) "7",
                        .name = (char *) "n",
                        .icount = 5,
                        .guest_bytes = MIB };

    for (gsize i = 0; i < sizeof extra; i++)
        extra[i] = (guint8) (i + 1);
    be64_store(extra, 0);
    be64_store(extra + 8, MIB);
    be64_store(extra + 16, 5);
    s.extra = g_bytes_new(extra, sizeof extra);
    g_byte_array_set_size(bytes, 0x40000);
    memset(bytes->data, 0, bytes->len);
    qcow2_snapshot_encode(&s, bytes);
    g_bytes_unref(s.extra);
    g_assert_cmpuint(bytes->len % 8, ==, 0);

    g_autoptr(BlkStore) store = blk_mem_new(bytes->data, bytes->len, "table");
    const Qcow2Header h = { .cluster_bits = 16, .snapshots = 1, .snapshots_off = 0x40000 };
    guint64 table_bytes;
    g_autoptr(GPtrArray) read = qcow2_snapshots_read(store, &h, &table_bytes, NULL);
    g_assert_nonnull(read);
    g_assert_cmpuint(table_bytes, ==, bytes->len - 0x40000);
    const Qcow2Snapshot *seen = read->pdata[0];
    gsize len;
    gconstpointer kept = g_bytes_get_data(seen->extra, &len);
    g_assert_cmpmem(kept, len, extra, sizeof extra);
    g_assert_cmpint(seen->icount, ==, 5);
    g_assert_cmpstr(seen->id, ==, "7");
}

/* A snapshot that cannot be made leaves everything as it was. */
static void
test_counts_full(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = MIB, .cluster_bytes = 4096, .refcount_bits = 2 };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    g_autoptr(GError) error = NULL;

    test_fill(image, 0, 100000, 9);
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "a", 1, 0, -1 }, NULL));
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "b", 1, 0, -1 }, NULL));
    g_assert_false(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "c", 1, 0, -1 }, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NO_SPACE);
    test_expect(image, 0, 100000, 9);
    test_close(image);
    test_clean(store, 0);
    g_assert_cmpuint(test_header(store).snapshots, ==, 2);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/snapshot/listed", test_listed);
    g_test_add_func("/qcow2/snapshot/views", test_views);
    g_test_add_func("/qcow2/snapshot/short-l1", test_short_l1);
    g_test_add_func("/qcow2/snapshot/extra-kept", test_extra_kept);
    g_test_add_func("/qcow2/snapshot/counts-full", test_counts_full);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/snapshot/bounds/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_bounds);
    }
    return g_test_run();
}
