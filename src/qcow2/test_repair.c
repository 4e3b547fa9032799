/* Repair: each row damages one thing in a good image with a snapshot; afterwards the check is clean and the
 * guest reads what it wrote. */
#include "qcow2/image.h"
#include "qcow2/test_io.h"

#define CLUSTER 4096

typedef void (*Damage)(BlkStore *store, const Qcow2Header *h);

static BlkStore *
make(guint refcount_bits)
{
    const Qcow2CreateOptions options = { .guest_bytes = 8 * MIB,
                                         .cluster_bytes = CLUSTER,
                                         .refcount_bits = refcount_bits };
    BlkStore *store = test_create(&options);
    FormatImage *image = test_open(store);

    test_fill(image, 0, MIB, 1);
    g_assert_true(qcow2_snapshot_create(image, &(FormatSnapshotNew){ "s", 1, 0, -1 }, NULL));
    test_fill(image, MIB / 2, MIB, 2);
    test_close(image);
    return store;
}

static void
look(FormatImage *image)
{
    test_expect(image, 0, MIB / 2, 1);
    test_expect(image, MIB / 2, MIB, 2);
    test_expect(image, 3 * MIB / 2, MIB, 0);
    FormatImage *view = qcow2_snapshot_open_view(image, 0, NULL);
    test_expect(view, 0, MIB, 1);
    test_close(view);
}

static guint64
block_off(BlkStore *store, const Qcow2Header *h)
{
    return test_word(store, h->reftable_off);
}

static void
fill_block(BlkStore *store, const Qcow2Header *h, guint8 value)
{
    guint8 bytes[CLUSTER];

    memset(bytes, value, sizeof bytes);
    g_assert_true(blk_pwrite(store, block_off(store, h), bytes, sizeof bytes, NULL));
}

static void
counts_zero(BlkStore *store, const Qcow2Header *h)
{
    fill_block(store, h, 0);
}

static void
counts_high(BlkStore *store, const Qcow2Header *h)
{
    fill_block(store, h, 0x77);
}

static void
no_block(BlkStore *store, const Qcow2Header *h)
{
    test_set_word(store, h->reftable_off, 0);
}

static void
block_elsewhere(BlkStore *store, const Qcow2Header *h)
{
    test_set_word(store, h->reftable_off, h->l1_off);
}

static void
block_past_end(BlkStore *store, const Qcow2Header *h)
{
    test_set_word(store, h->reftable_off, G_GUINT64_CONSTANT(0x123456789000));
}

static void
copied_lost(BlkStore *store, const Qcow2Header *h)
{
    guint64 off = test_l2_off(store, MIB);

    test_set_word(store, off, test_word(store, off) & ~QCOW2_ENTRY_COPIED);
}

/* The dangerous way round: a write in place would change the snapshot. */
static void
copied_wrong(BlkStore *store, const Qcow2Header *h)
{
    guint64 off = test_l2_off(store, 0);

    test_set_word(store, off, test_word(store, off) | QCOW2_ENTRY_COPIED);
}

static void
marked_corrupt(BlkStore *store, const Qcow2Header *h)
{
    test_set_word(store, 72, QCOW2_INCOMPAT_CORRUPT);
}

static void
marked_dirty(BlkStore *store, const Qcow2Header *h)
{
    test_set_word(store, 72, QCOW2_INCOMPAT_DIRTY);
    fill_block(store, h, 0);
}

static const struct {
    const char *name;
    Damage damage;
} rows[] = {
    { "counts-zero", counts_zero },
    { "counts-high", counts_high },
    { "no-block", no_block },
    { "block-elsewhere", block_elsewhere },
    { "block-past-end", block_past_end },
    { "copied-lost", copied_lost },
    { "copied-wrong", copied_wrong },
    { "marked-corrupt", marked_corrupt },
    { "marked-dirty", marked_dirty },
};

static void
test_all(gconstpointer data)
{
    static const guint widths[] = { 2, 16, 64 };

    /* The second half without room for the references: they are counted in windows. */
    for (gsize w = 0; w < 2 * G_N_ELEMENTS(widths); w++) {
        g_autoptr(BlkStore) store = make(widths[w % G_N_ELEMENTS(widths)]);
        Qcow2Header h = test_header(store);
        g_autoptr(GError) error = NULL;
        FormatCheck found = { 0 };

        rows[GPOINTER_TO_SIZE(data)].damage(store, &h);
        FormatImage *image = test_open(store);
        qcow2_image(image)->check_room_bytes = w / G_N_ELEMENTS(widths);
        image->ops->check(image, FORMAT_REPAIR_ALL, &found, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(found.corruptions, ==, 0);
        g_assert_cmpuint(found.leaks, ==, 0);
        look(image);
        test_fill(image, 4 * MIB, 10000, 3); /* it takes writes again */
        test_close(image);
        test_clean(store, 0);
        g_assert_cmpuint(test_header(store).incompat, ==, 0);
    }
}

static void
test_leaks_only(void)
{
    g_autoptr(BlkStore) store = make(16);
    Qcow2Header h = test_header(store);
    guint64 block = block_off(store, &h);
    FormatCheck found = { 0 };

    g_assert_true(blk_truncate(store, 1010 * CLUSTER, NULL));
    test_set_word(store, block + 2000, G_GUINT64_CONSTANT(0x0001000100020001)); /* clusters 1000 to 1003 */
    FormatImage *image = test_open(store);
    g_assert_true(image->ops->check(image, FORMAT_REPAIR_NONE, &found, NULL));
    g_assert_cmpuint(found.leaks, ==, 4);
    g_assert_true(image->ops->check(image, FORMAT_REPAIR_LEAKS, &found, NULL));
    g_assert_cmpuint(found.leaks, ==, 0);
    g_assert_cmpuint(found.leaks_fixed, ==, 4);
    look(image);
    test_close(image);
    test_clean(store, 0);
    g_assert_cmpuint(test_header(store).reftable_off, ==, h.reftable_off); /* nothing was moved */
}

/* A count of 2 where there is one reference, and rightly no COPIED: both are mended, in this order. */
static void
test_leak_in_use(void)
{
    g_autoptr(BlkStore) store = make(16);
    Qcow2Header h = test_header(store);
    guint64 l2 = test_word(store, h.l1_off) & ~QCOW2_ENTRY_COPIED;
    static const guint8 two[] = { 0, 2 };
    FormatCheck found = { 0 };

    test_set_word(store, h.l1_off, l2);
    g_assert_true(blk_pwrite(store, block_off(store, &h) + l2 / CLUSTER * 2, two, sizeof two, NULL));
    FormatImage *image = test_open(store);
    g_assert_true(image->ops->check(image, FORMAT_REPAIR_LEAKS, &found, NULL));
    g_assert_cmpuint(found.corruptions, ==, 0);
    g_assert_cmpuint(found.leaks_fixed, ==, 1);
    look(image);
    test_close(image);
    test_clean(store, 0);
    g_assert_cmpuint(test_word(store, h.l1_off), ==, l2 | QCOW2_ENTRY_COPIED);
}

/* An image marked corrupt is read, and not written before it is repaired. */
static void
test_corrupt_refuses(void)
{
    g_autoptr(BlkStore) store = make(16);
    g_autoptr(GError) error = NULL;
    Place place;

    test_set_word(store, 72, QCOW2_INCOMPAT_CORRUPT);
    FormatImage *image = test_open(store);
    look(image);
    g_assert_false(image->ops->prepare(image, guest_off(0), 1, &place, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "repair"));
    test_close(image);
}

/* Data mapped to where the L2 table lies. */
static void
map_to_table(BlkStore *store, const Qcow2Header *h)
{
    guint64 l2 = test_word(store, h->l1_off) & ~QCOW2_ENTRY_COPIED;

    test_set_word(store, l2 + 8 * 200, l2 | QCOW2_ENTRY_COPIED);
}

/* A writer that meets a contradiction leaves the mark for all others, over all that it had committed before;
 * a reader leaves the image as it is, and version 2 has no place for it. The mark goes with a repair that
 * leaves nothing to find, and not before. */
static void
test_corrupt_is_marked(gconstpointer version)
{
    guint bits = GPOINTER_TO_UINT(version) == 2 ? 0 : QCOW2_INCOMPAT_CORRUPT;
    const Qcow2CreateOptions options = { .guest_bytes = 8 * MIB,
                                         .cluster_bytes = CLUSTER,
                                         .version = GPOINTER_TO_UINT(version) };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    FormatCheck found = { 0 };
    g_autoptr(GError) error = NULL;
    Place place;

    test_fill(image, 0, CLUSTER, 1);
    test_close(image);
    Qcow2Header h = test_header(store);
    map_to_table(store, &h);

    image = test_open_flags(store, 0);
    g_assert_false(image->ops->check(image, FORMAT_REPAIR_ALL, &found, NULL));
    test_close(image);
    g_assert_cmpuint(test_header(store).incompat, ==, 0);

    image = test_open(store);
    test_fill(image, CLUSTER, CLUSTER, 2);
    g_assert_false(image->ops->prepare(image, guest_off(200 * CLUSTER), 1, &place, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_cmpuint(test_header(store).incompat, ==, 0);
    test_close(image);
    g_assert_cmpuint(test_header(store).incompat, ==, bits);

    image = test_open(store);
    test_expect(image, 0, CLUSTER, 1);
    test_expect(image, CLUSTER, CLUSTER, 2);
    g_assert_true(image->ops->check(image, FORMAT_REPAIR_ALL, &found, NULL)); /* cannot tell whose it is */
    g_assert_cmpuint(found.corruptions, >, 0);
    test_close(image);
    g_assert_cmpuint(test_header(store).incompat, ==, bits);

    test_set_word(store, (test_word(store, test_header(store).l1_off) & ~QCOW2_ENTRY_COPIED) + 8 * 200, 0);
    image = test_open(store);
    g_assert_true(image->ops->check(image, FORMAT_REPAIR_ALL, &found, NULL));
    g_assert_cmpuint(found.corruptions, ==, 0);
    test_fill(image, 200 * CLUSTER, CLUSTER, 3);
    test_close(image);
    g_assert_cmpuint(test_header(store).incompat, ==, 0);
    test_clean(store, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/repair/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_all);
    }
    g_test_add_func("/qcow2/repair/leaks-only", test_leaks_only);
    g_test_add_func("/qcow2/repair/leak-in-use", test_leak_in_use);
    g_test_add_func("/qcow2/repair/corrupt-refuses", test_corrupt_refuses);
    for (guint version = 2; version <= 3; version++) {
        g_autofree char *path = g_strdup_printf("/qcow2/repair/corrupt-is-marked/version-%u", version);
        g_test_add_data_func(path, GUINT_TO_POINTER(version), test_corrupt_is_marked);
    }
    return g_test_run();
}
