/* A crash while bitmaps follow the disk, or are changed themselves, leaves none that tells less than it
 * should. */
#include "crash/sweeps.h"

static void
test_bitmaps(void)
{
    CrashOptions options = { .random_states = 60 };
    g_auto(CrashReport) report;

    options.random_states *= sweep_factor();
    crash_report_init(&report);
    sweep_bitmaps(&options, &report);
    sweep_assert("bitmaps", &report, 500);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/bitmaps", test_bitmaps);
    return g_test_run();
}
