/* Refcounts at work: where free clusters are found, and the refcount table when it must grow. */
#include "block/fault.h"
#include "qcow2/test_io.h"

/* 512-byte clusters with 64-bit counts: a block counts 64 clusters, one cluster of table 64 blocks: 2 MiB of
 * file. */
static const Qcow2CreateOptions tight = { .guest_bytes = 8 * MIB, .cluster_bytes = 512, .refcount_bits = 64 };

#define FILLED (KIB * 1900) /* with its tables just below 2 MiB of file */
#define MORE   (100 * KIB)

static void
test_growth(void)
{
    g_autoptr(BlkStore) store = test_create(&tight);
    FormatImage *image = test_open(store);

    for (guint64 at = 0; at < 8 * MIB; at += 100000)
        test_fill(image, at, MIN(100000, 8 * MIB - at), (guint8) (at / 100000 + 1));
    g_assert_cmpuint(test_header(store).reftable_clusters, >, 1);
    test_close(image);
    test_clean(store, 0);
    image = test_open(store);
    for (guint64 at = 0; at < 8 * MIB; at += 100000)
        test_expect(image, at, MIN(100000, 8 * MIB - at), (guint8) (at / 100000 + 1));
    test_close(image);
}

static BlkStore *
filled(void)
{
    BlkStore *store = test_create(&tight);
    FormatImage *image = test_open(store);

    test_fill(image, 0, FILLED, 1);
    test_close(image);
    g_assert_cmpuint(test_header(store).reftable_clusters, ==, 1);
    return store;
}

/* One write of many fails, in the middle of growing too: the disk stays whole, and the same image takes the
 * write when it is tried again, unless nobody can say what the header holds. */
static void
test_growth_faults(gconstpointer data)
{
    FaultKind kind = (FaultKind) GPOINTER_TO_INT(data);
    g_autoptr(BlkStore) golden = filled();
    g_autofree guint8 *bytes = g_malloc(MORE);
    guint64 grown = 0;

    memset(bytes, 2, MORE);
    for (guint64 n = 1;; n++) {
        g_autoptr(BlkStore) disk = test_copy(golden);
        BlkStore *flaky = blk_fault_new(disk, kind, n, FALSE);
        g_autoptr(GError) error = NULL;
        FormatImage *image = qcow2_format.open(flaky, FORMAT_WRITABLE, &error);
        g_assert_no_error(error);

        gboolean done = test_write(image, FILLED, bytes, MORE, &error) && image->ops->flush(image, &error);
        gboolean again =
            done || (test_write(image, FILLED, bytes, MORE, NULL) && image->ops->flush(image, NULL));
        gboolean closed = image->ops->close(image, NULL);
        test_clean(disk, 10000);
        grown += test_header(disk).reftable_clusters > 1;
        image = test_open_flags(disk, 0);
        test_expect(image, 0, FILLED, 1);
        if (again)
            test_expect(image, FILLED, MORE, 2);
        test_close(image);
        if (done && closed) {
            g_assert_cmpuint(n, >, 3);
            break;
        }
    }
    g_assert_cmpuint(grown, >, 0);
}

/* What was freed is used again, but not before the end of its last reference is durable. */
static void
test_reuse_after_barrier(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 64 * MIB };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    guint64 done;
    Place place;
    Run run;

    test_fill(image, 0, MIB, 1);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(image->ops->map(image, guest_off(0), MIB, &run, NULL));
    g_assert_true(image->ops->zero(image, guest_off(0), MIB, &done, NULL));
    g_assert_true(image->ops->prepare(image, guest_off(2 * MIB), MIB, &place, NULL));
    g_assert_cmpuint(place.host.bytes, >=, run.host.bytes + MIB);
    image->ops->abandon(image, &place);
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(image->ops->prepare(image, guest_off(2 * MIB), MIB, &place, NULL));
    g_assert_cmpuint(place.host.bytes, ==, run.host.bytes);
    image->ops->abandon(image, &place);
    test_close(image);
    test_clean(store, 0);
}

/* Holes in the file are filled, with as much as each takes. */
static void
test_first_fit(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 64 * MIB };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    guint64 done;
    Place place;

    test_fill(image, 0, MIB, 1);
    g_assert_true(image->ops->zero(image, guest_off(3 * 65536), 2 * 65536, &done, NULL));
    g_assert_true(image->ops->flush(image, NULL));
    g_assert_true(image->ops->prepare(image, guest_off(2 * MIB), MIB, &place, NULL));
    g_assert_cmpuint(place.bytes, ==, 2 * 65536);
    image->ops->abandon(image, &place);
    test_close(image);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/refcount/growth", test_growth);
    g_test_add_data_func("/qcow2/refcount/growth/write-fails", GINT_TO_POINTER(FAULT_NTH_WRITE),
                         test_growth_faults);
    g_test_add_data_func("/qcow2/refcount/growth/write-torn", GINT_TO_POINTER(FAULT_TORN),
                         test_growth_faults);
    g_test_add_data_func("/qcow2/refcount/growth/flush-fails", GINT_TO_POINTER(FAULT_NTH_FLUSH),
                         test_growth_faults);
    g_test_add_func("/qcow2/refcount/reuse-after-barrier", test_reuse_after_barrier);
    g_test_add_func("/qcow2/refcount/first-fit", test_first_fit);
    return g_test_run();
}
