/* A crash while a disk grows and shrinks leaves the old size or the new one, and every image sound. */
#include "crash/sweeps.h"

static void
test_resize(void)
{
    CrashOptions options = { .random_states = 60 };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep_plan(&plan_resize, &options, &report);
    sweep_assert("resize", &report, 2000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/resize", test_resize);
    return g_test_run();
}
