/* A crash while an image gets another layout leaves the old one or the new one, and its contents. */
#include "crash/sweeps.h"

static void
test_amend(void)
{
    CrashOptions options = { .random_states = 60 };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep_plan(&plan_amend, &options, &report);
    sweep_assert("amend", &report, 2000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/amend", test_amend);
    return g_test_run();
}
