/* A crash while a disk is written, zeroed and has its snapshots changed costs nothing that was flushed. */
#include "crash/sweeps.h"

static void
test_write(void)
{
    CrashOptions options = { .random_states = 24 };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep_plan(&plan_write, &options, &report);
    sweep_assert("write", &report, 2000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/write", test_write);
    return g_test_run();
}
