/* The reference map: sparse counts, walking what was referenced, and windows where memory is short. */
#include "qcow2/refmap.h"

#define ROOM ((gsize) 64 << 20)

static void
test_counts(void)
{
    g_autoptr(Qcow2RefMap) map = qcow2_refmap_new(ROOM, 1);
    const guint64 far = G_GUINT64_CONSTANT(1) << 47;

    g_assert_cmpuint(qcow2_refmap_end(map), ==, 0);
    qcow2_refmap_add(map, 5, 1, QCOW2_REF_L2);
    g_assert_true(qcow2_refmap_is_plain(map, 5, 1));
    qcow2_refmap_add(map, 5, 1, QCOW2_REF_DATA);
    qcow2_refmap_add(map, far, 1, QCOW2_REF_DATA);
    g_assert_cmpuint(qcow2_refmap_count(map, 5), ==, 2);
    g_assert_cmpuint(qcow2_refmap_kinds(map, 5), ==, QCOW2_REF_L2 | QCOW2_REF_DATA);
    g_assert_false(qcow2_refmap_is_plain(map, 5, 2));
    g_assert_cmpuint(qcow2_refmap_count(map, 4), ==, 0);
    g_assert_true(qcow2_refmap_is_plain(map, 4, 0));
    g_assert_cmpuint(qcow2_refmap_count(map, far), ==, 1);
    g_assert_cmpuint(qcow2_refmap_count(map, far + 100), ==, 0);
    g_assert_cmpuint(qcow2_refmap_end(map), ==, far + 1);
}

/* More references than a cell holds. */
static void
test_many(void)
{
    g_autoptr(Qcow2RefMap) map = qcow2_refmap_new(ROOM, 1);
    const guint n = 20000;

    for (guint i = 0; i < n; i++)
        qcow2_refmap_add(map, 510, 4, QCOW2_REF_COMPRESSED); /* over the border of two pages */
    for (guint64 c = 510; c < 514; c++) {
        g_assert_cmpuint(qcow2_refmap_count(map, c), ==, n);
        g_assert_cmpuint(qcow2_refmap_kinds(map, c), ==, QCOW2_REF_COMPRESSED);
    }
    g_assert_cmpuint(qcow2_refmap_count(map, 509) + qcow2_refmap_count(map, 514), ==, 0);
}

static void
test_next(void)
{
    /* Far and near; the last page that is found without hashing, and the one after it. */
    static const guint64 clusters[] = {
        G_GUINT64_CONSTANT(1) << 40, 0, 511, 512, 5, 1300, 3 << 20, (1 << 27) - 1, 1 << 27
    };
    static const guint64 sorted[] = {
        0, 5, 511, 512, 1300, 3 << 20, (1 << 27) - 1, 1 << 27, G_GUINT64_CONSTANT(1) << 40
    };
    g_autoptr(Qcow2RefMap) map = qcow2_refmap_new(ROOM, 1);
    guint64 at = 0;

    g_assert_cmpuint(qcow2_refmap_next(map, 0), ==, G_MAXUINT64);
    for (gsize i = 0; i < G_N_ELEMENTS(clusters); i++)
        qcow2_refmap_add(map, clusters[i], 1, QCOW2_REF_DATA);
    for (gsize i = 0; i < G_N_ELEMENTS(sorted); i++) {
        at = qcow2_refmap_next(map, at);
        g_assert_cmpuint(at, ==, sorted[i]);
        at++;
    }
    g_assert_cmpuint(qcow2_refmap_next(map, at), ==, G_MAXUINT64);
    g_assert_cmpuint(qcow2_refmap_next(map, 6), ==, 511); /* back again */
    g_assert_cmpuint(qcow2_refmap_next(map, 0), ==, 0);
}

#define REFERENCES 30000

typedef struct {
    guint64 first, n;
    Qcow2RefKind kind;
} Reference;

static void
add_all(Qcow2RefMap *map, const Reference *references)
{
    for (guint i = 0; i < REFERENCES; i++)
        qcow2_refmap_add(map, references[i].first, references[i].n, references[i].kind);
}

/* Windows of a map without room say together what one with room says at once. */
static void
test_windows(gconstpointer spread)
{
    const guint64 span = G_GUINT64_CONSTANT(1) << GPOINTER_TO_UINT(spread), step = 4096;
    g_autofree Reference *references = g_new(Reference, REFERENCES);
    g_autoptr(Qcow2RefMap) whole = qcow2_refmap_new(G_MAXSIZE / 2, step);
    g_autoptr(Qcow2RefMap) map = qcow2_refmap_new(2 << 20, step);
    guint64 windows = 0, seen = 0;

    for (guint i = 0; i < REFERENCES; i++) {
        guint64 at = (guint64) (g_test_rand_double() * (double) span);
        guint64 near = (guint64) g_test_rand_int_range(0, 200);
        references[i] = (Reference){ i % 3 ? at : near, (guint64) g_test_rand_int_range(1, 20),
                                     i % 50 ? QCOW2_REF_DATA : QCOW2_REF_L2 };
    }
    add_all(whole, references);
    g_assert_cmpuint(qcow2_refmap_limit(whole), ==, G_MAXUINT64);
    for (guint64 from = 0; from != G_MAXUINT64; from = qcow2_refmap_limit(map), windows++) {
        qcow2_refmap_begin(map, from);
        add_all(map, references);
        g_assert_cmpuint(qcow2_refmap_from(map), ==, from);
        g_assert_cmpuint(qcow2_refmap_limit(map), >, from);
        g_assert_cmpuint(qcow2_refmap_end(map), ==, qcow2_refmap_end(whole));
        for (guint64 c = qcow2_refmap_next(map, from); c != G_MAXUINT64; c = qcow2_refmap_next(map, c + 1)) {
            g_assert_cmpuint(c, <, qcow2_refmap_limit(map));
            g_assert_cmpuint(qcow2_refmap_count(map, c), ==, qcow2_refmap_count(whole, c));
            g_assert_cmpuint(qcow2_refmap_kinds(map, c), ==, qcow2_refmap_kinds(whole, c));
            seen++;
        }
    }
    for (guint64 c = qcow2_refmap_next(whole, 0); c != G_MAXUINT64; c = qcow2_refmap_next(whole, c + 1))
        seen--;
    g_assert_cmpuint(seen, ==, 0);
    g_assert_cmpuint(windows, >, 4);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/refmap/counts", test_counts);
    g_test_add_func("/refmap/many", test_many);
    g_test_add_func("/refmap/next", test_next);
    g_test_add_data_func("/refmap/windows-near", GUINT_TO_POINTER(23), test_windows);
    g_test_add_data_func("/refmap/windows-far", GUINT_TO_POINTER(47), test_windows);
    return g_test_run();
}
