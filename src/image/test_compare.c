/* Rules held: the first difference is found wherever it lies and however many look for it; holes and zeros
 * are the same; what one place of one file holds is not read; what is measured is enough for what is then
 * written. */
#include "base/num.h"
#include "image/test_images.h"

#include <kho/image_compare.h>
#include <string.h>

#define DISK_BYTES (3 * MIB + 512)

static void
put(KhoImage *image, guint64 off, guint64 len, guint8 byte)
{
    g_autofree guint8 *bytes = g_malloc(len);

    memset(bytes, byte, len);
    g_assert_true(kho_image_write(image, off, bytes, len, NULL));
}

static KhoImageDifference
compare(KhoImage *a, KhoImage *b, gboolean strict, guint workers)
{
    const KhoImageCompare options = { .strict = strict, .workers = workers };
    g_autoptr(GError) error = NULL;
    KhoImageDifference found;

    g_assert_true(kho_image_compare(a, b, &options, &found, NULL, &error));
    g_assert_no_error(error);
    return found;
}

static void
test_first_difference(void)
{
    static const guint64 places[] = { 0, 511, 65535, 65536, MIB + 7, 2 * MIB, DISK_BYTES - 1 };

    for (gsize i = 0; i < G_N_ELEMENTS(places); i++)
        for (guint workers = 1; workers <= 4; workers += 3) {
            g_autoptr(KhoImage) a = test_new_qcow2(DISK_BYTES, 4096), b = test_new_raw(DISK_BYTES);

            put(a, 4000, 2 * MIB, 7);
            put(b, 4000, 2 * MIB, 7);
            g_assert_cmpint(compare(a, b, FALSE, workers).kind, ==, KHO_COMPARE_SAME);
            put(b, places[i], 1, 9);
            put(b, DISK_BYTES - 1, 1, 9); /* one further on is not the first */

            KhoImageDifference found = compare(a, b, FALSE, workers);
            g_assert_cmpint(found.kind, ==, KHO_COMPARE_CONTENT);
            g_assert_cmpuint(found.at_bytes, ==, num_align_down(places[i], 512));
        }
}

static void
test_sizes(void)
{
    g_autoptr(KhoImage) a = test_new_raw(DISK_BYTES), b = test_new_raw(DISK_BYTES + MIB);

    KhoImageDifference found = compare(a, b, FALSE, 0);
    g_assert_true(found.kind == KHO_COMPARE_SAME && found.sizes_differ);
    g_assert_cmpint(compare(a, b, TRUE, 0).kind, ==, KHO_COMPARE_SIZE);
    put(b, DISK_BYTES + 4096, 1, 1);
    found = compare(b, a, FALSE, 0);
    g_assert_true(found.kind == KHO_COMPARE_CONTENT && found.sizes_differ);
    g_assert_cmpuint(found.at_bytes, ==, num_align_down(DISK_BYTES + 4096, 512));
}

static void
test_strict(void)
{
    g_autoptr(KhoImage) a = test_new_qcow2(DISK_BYTES, 65536), b = test_new_qcow2(DISK_BYTES, 65536);

    put(a, MIB, 65536, 0); /* space that holds zeros */
    g_assert_cmpint(compare(a, b, FALSE, 0).kind, ==, KHO_COMPARE_SAME);
    KhoImageDifference found = compare(a, b, TRUE, 0);
    g_assert_cmpint(found.kind, ==, KHO_COMPARE_STATUS);
    g_assert_cmpuint(found.at_bytes, ==, MIB);
}

/* Written from the start to the end, an image is no longer than was measured. */
static void
test_measure_suffices(void)
{
    static const guint32 clusters[] = { 512, 4096, 65536, 2097152 };

    for (gsize i = 0; i < G_N_ELEMENTS(clusters); i++) {
        const KhoImageCreate options = { .format = "qcow2",
                                         .cluster_bytes = clusters[i],
                                         .size_bytes = DISK_BYTES };
        g_autoptr(KhoImage) image = test_new_qcow2(DISK_BYTES, clusters[i]);
        KhoImageMeasure empty, full;
        guint64 bytes = 0;

        g_assert_true(kho_image_measure(&options, NULL, &empty, NULL, NULL));
        g_assert_true(kho_image_flush(image, NULL) && blk_size(image->format->file, &bytes, NULL));
        g_assert_cmpuint(bytes, <=, empty.required_bytes);
        put(image, 0, DISK_BYTES, 1);
        g_assert_true(kho_image_measure(&options, image, &full, NULL, NULL));
        g_assert_cmpuint(full.required_bytes, ==, full.fully_allocated_bytes);
        g_assert_cmpuint(full.fully_allocated_bytes, ==, empty.fully_allocated_bytes);
        g_assert_true(kho_image_flush(image, NULL) && blk_size(image->format->file, &bytes, NULL));
        g_assert_cmpuint(bytes, <=, full.required_bytes);
    }
}

static void
test_measure_refuses(void)
{
    const KhoImageCreate options = { .format = "qcow2", .cluster_bytes = 512, .size_bytes = TIB << 10 };
    KhoImageMeasure measure = { .required_bytes = 77 };
    g_autoptr(GError) error = NULL;

    g_assert_false(kho_image_measure(&options, NULL, &measure, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_cmpuint(measure.required_bytes, ==, 77);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/compare/first-difference", test_first_difference);
    g_test_add_func("/image/compare/sizes", test_sizes);
    g_test_add_func("/image/compare/strict", test_strict);
    g_test_add_func("/image/measure/suffices", test_measure_suffices);
    g_test_add_func("/image/measure/refuses", test_measure_refuses);
    return g_test_run();
}
