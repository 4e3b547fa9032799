/* The reference map: sparse counts, limits, and walking what was referenced. */
#include "qcow2/refmap.h"

static void
test_counts(void)
{
    g_autoptr(Qcow2RefMap) map = qcow2_refmap_new();
    const guint64 far = G_GUINT64_CONSTANT(1) << 47;

    g_assert_cmpuint(qcow2_refmap_end(map), ==, 0);
    g_assert_true(qcow2_refmap_add(map, 5, QCOW2_REF_L2, 2));
    g_assert_true(qcow2_refmap_add(map, 5, QCOW2_REF_DATA, 2));
    g_assert_false(qcow2_refmap_add(map, 5, QCOW2_REF_DATA, 2)); /* two is what the refcount can hold */
    g_assert_true(qcow2_refmap_add(map, far, QCOW2_REF_DATA, 1));
    g_assert_cmpuint(qcow2_refmap_count(map, 5), ==, 2);
    g_assert_cmpuint(qcow2_refmap_kinds(map, 5), ==, QCOW2_REF_L2 | QCOW2_REF_DATA);
    g_assert_cmpuint(qcow2_refmap_count(map, 4), ==, 0);
    g_assert_cmpuint(qcow2_refmap_count(map, far + 100), ==, 0);
    g_assert_cmpuint(qcow2_refmap_end(map), ==, far + 1);
}

static void
test_next(void)
{
    static const guint64 clusters[] = { 1000000, 0, 63, 64, 5, 130 };
    static const guint64 sorted[] = { 0, 5, 63, 64, 130, 1000000 };
    g_autoptr(Qcow2RefMap) map = qcow2_refmap_new();
    guint64 at = 0;

    g_assert_cmpuint(qcow2_refmap_next(map, 0), ==, G_MAXUINT64);
    for (gsize i = 0; i < G_N_ELEMENTS(clusters); i++)
        g_assert_true(qcow2_refmap_add(map, clusters[i], QCOW2_REF_DATA, 1));
    for (gsize i = 0; i < G_N_ELEMENTS(sorted); i++) {
        at = qcow2_refmap_next(map, at);
        g_assert_cmpuint(at, ==, sorted[i]);
        at++;
    }
    g_assert_cmpuint(qcow2_refmap_next(map, at), ==, G_MAXUINT64);
    g_assert_cmpuint(qcow2_refmap_next(map, 6), ==, 63); /* back again */
    g_assert_cmpuint(qcow2_refmap_next(map, 0), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/refmap/counts", test_counts);
    g_test_add_func("/refmap/next", test_next);
    return g_test_run();
}
