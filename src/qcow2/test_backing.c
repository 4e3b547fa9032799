/* Rules held: any name that fits beside the old header can be set, again and again, and nothing else of the
 * header changes; what does not fit is refused before anything is written. */
#include "qcow2/backing.h"

#include "qcow2/qcow2.h"
#include "qcow2/test_io.h"

static void
assert_names(BlkStore *store, const char *file, const char *format)
{
    FormatImage *image = test_open_flags(store, 0);
    FormatInfo info;

    g_assert_true(image->ops->info(image, &info, NULL));
    g_assert_cmpstr(info.backing_file, ==, file);
    g_assert_cmpstr(info.backing_format, ==, format);
    g_free(info.backing_file);
    g_free(info.backing_format);
    g_ptr_array_unref(info.snapshots);
    test_close(image);
}

static void
set(BlkStore *store, const char *file, const char *format)
{
    FormatImage *image = test_open(store);
    g_autoptr(GError) error = NULL;

    qcow2_set_backing(image, file, format, FALSE, &error);
    g_assert_no_error(error);
    test_close(image);
    assert_names(store, file, format);
}

/* Every length that fits, forth and back, between clusters that hold data. */
static void
test_lengths(void)
{
    static const guint32 clusters[] = { 512, 1024, 4096, 65536 };

    for (gsize c = 0; c < G_N_ELEMENTS(clusters); c++) {
        g_autoptr(BlkStore) store =
            test_create(&(Qcow2CreateOptions){ .guest_bytes = 64 * KIB, .cluster_bytes = clusters[c] });
        FormatImage *image = test_open(store);
        test_fill(image, 0, 20 * KIB, 3);
        test_close(image);
        for (guint len = 1; len <= 1023; len = len * 2 + 1) {
            g_autofree char *name = g_strnfill(len, 'n');
            if (len + 150 > clusters[c])
                break;
            set(store, name, "raw");
            set(store, "other", "qcow2");
            if (len % 4 == 3)
                set(store, NULL, NULL);
        }
        image = test_open(store);
        test_expect(image, 0, 20 * KIB, 3);
        test_close(image);
        test_clean(store, 0);
    }
}

/* Marks that say something about the clusters stay: no cluster changes. */
static void
test_marks_stay(void)
{
    g_autoptr(BlkStore) store = test_create(
        &(Qcow2CreateOptions){ .guest_bytes = MIB, .backing_file = "a", .backing_format = "raw" });
    guint8 bits[16] = { 0 };
    Qcow2Header header;
    g_autofree guint8 *head = NULL;

    bits[7] = QCOW2_COMPAT_LAZY_REFCOUNTS;
    bits[15] = QCOW2_AUTOCLEAR_BITMAPS;
    g_assert_true(blk_pwrite(store, 80, bits, sizeof bits, NULL));
    set(store, "b", "qcow2");
    g_assert_true(qcow2_header_read(store, &header, &head, NULL));
    g_assert_cmpuint(header.autoclear, ==, QCOW2_AUTOCLEAR_BITMAPS);
    g_assert_cmpuint(header.compat, ==, QCOW2_COMPAT_LAZY_REFCOUNTS);
}

/* The names of features stay where there is room, and make room where there is none. */
static void
test_feature_names(void)
{
    static const struct {
        guint32 cluster_bytes;
        gboolean stay;
    } rows[] = { { 65536, TRUE }, { 512, FALSE } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(BlkStore) store = test_create(
            &(Qcow2CreateOptions){ .guest_bytes = 64 * KIB, .cluster_bytes = rows[i].cluster_bytes });
        g_autofree guint8 *head = NULL;
        Qcow2Header header;

        set(store, "disk.qcow2", "qcow2");
        g_assert_true(qcow2_header_read(store, &header, &head, NULL));
        g_autofree char *name = qcow2_feature_name(head, rows[i].cluster_bytes, header.header_bytes, 0, 0);
        g_assert_cmpstr(name, ==, rows[i].stay ? "dirty bit" : NULL);
    }
}

static void
test_refused(void)
{
    g_autoptr(BlkStore) store =
        test_create(&(Qcow2CreateOptions){ .guest_bytes = 64 * KIB, .cluster_bytes = 512 });
    g_autoptr(GBytes) before = blk_mem_snapshot(store);
    g_autofree char *wide = g_strnfill(480, 'n'), *longer = g_strnfill(1024, 'n');
    FormatImage *image = test_open(store);
    g_autoptr(GError) too_wide = NULL, too_long = NULL;

    g_assert_false(qcow2_set_backing(image, wide, "raw", FALSE, &too_wide));
    g_assert_error(too_wide, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_nonnull(strstr(too_wide->message, "does not fit"));
    g_assert_false(qcow2_set_backing(image, longer, "raw", FALSE, &too_long));
    g_assert_error(too_long, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_true(qcow2_set_backing(image, "fits", "raw", TRUE, NULL)); /* asked only */
    test_close(image);
    g_autoptr(GBytes) after = blk_mem_snapshot(store);
    g_assert_true(g_bytes_equal(before, after));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/backing/lengths", test_lengths);
    g_test_add_func("/qcow2/backing/marks-stay", test_marks_stay);
    g_test_add_func("/qcow2/backing/feature-names", test_feature_names);
    g_test_add_func("/qcow2/backing/refused", test_refused);
    return g_test_run();
}
