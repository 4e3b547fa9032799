#include "qcow2/guard.h"

#include <string.h>

#define CLUSTERS 5000

static gboolean
oracle_holds(const gboolean *marked, guint64 first, guint64 n)
{
    for (guint64 i = first; i < MIN(first + n, CLUSTERS); i++)
        if (marked[i])
            return TRUE;
    return FALSE;
}

static void
test_random(void)
{
    Qcow2Guard guard = { 0 };
    g_autofree gboolean *marked = g_new0(gboolean, CLUSTERS);

    for (guint i = 0; i < 20000; i++) {
        guint64 n = 1 + (guint64) g_test_rand_int_range(0, i % 10 == 0 ? 600 : 3);
        guint64 first = (guint64) g_test_rand_int_range(0, (gint) (CLUSTERS - n));
        gboolean held = oracle_holds(marked, first, n);

        g_assert_cmpint(qcow2_guard_holds(&guard, first, n), ==, held);
        if (g_test_rand_bit()) {
            qcow2_guard_unmark(&guard, first, n);
            memset(marked + first, 0, n * sizeof *marked);
        } else if (n < 4) {
            g_assert_cmpint(qcow2_guard_mark(&guard, first, n), ==, !held);
            for (guint64 k = first; k < first + n; k++)
                marked[k] = TRUE;
        }
    }
    qcow2_guard_clear(&guard);
    g_assert_false(qcow2_guard_holds(&guard, 0, CLUSTERS));
}

/* What was never reached holds nothing, however far it lies. */
static void
test_far(void)
{
    Qcow2Guard guard = { 0 };
    guint64 far = G_GUINT64_CONSTANT(1) << 30;

    g_assert_false(qcow2_guard_holds(&guard, far, 1000));
    qcow2_guard_unmark(&guard, far, 1000);
    g_assert_true(qcow2_guard_mark(&guard, far, 1));
    g_assert_false(qcow2_guard_holds(&guard, 0, far));
    g_assert_true(qcow2_guard_holds(&guard, 0, far + 1));
    g_assert_false(qcow2_guard_holds(&guard, far + 1, G_GUINT64_CONSTANT(1) << 40));
    qcow2_guard_clear(&guard);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/guard/random", test_random);
    g_test_add_func("/qcow2/guard/far", test_far);
    return g_test_run();
}
