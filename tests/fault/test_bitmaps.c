/* For every n, the n-th write or flush fails while bitmaps follow the disk or are changed: what can be
 * believed afterwards is right, and success is told only where all is as it should be. */
#include "crash/sweeps.h"

static void
test_writes(gconstpointer for_ever)
{
    fault_bitmaps(FAULT_NTH_WRITE, for_ever != NULL);
}

static void
test_torn(gconstpointer for_ever)
{
    fault_bitmaps(FAULT_TORN, for_ever != NULL);
}

static void
test_flushes(gconstpointer for_ever)
{
    fault_bitmaps(FAULT_NTH_FLUSH, for_ever != NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/fault/bitmaps/write-once", NULL, test_writes);
    g_test_add_data_func("/fault/bitmaps/write-for-ever", GINT_TO_POINTER(1), test_writes);
    g_test_add_data_func("/fault/bitmaps/torn-once", NULL, test_torn);
    g_test_add_data_func("/fault/bitmaps/torn-for-ever", GINT_TO_POINTER(1), test_torn);
    g_test_add_data_func("/fault/bitmaps/flush-once", NULL, test_flushes);
    g_test_add_data_func("/fault/bitmaps/flush-for-ever", GINT_TO_POINTER(1), test_flushes);
    return g_test_run();
}
