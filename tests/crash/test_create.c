/* A crash while an image is made leaves no image or the whole one. */
#include "crash/sweeps.h"

static void
test_create(void)
{
    CrashOptions options = { .random_states = 40 * sweep_factor() };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep_create(&options, &report);
    sweep_assert("create", &report, 2000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/create", test_create);
    return g_test_run();
}
