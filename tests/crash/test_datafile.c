/* A crash while a disk is written whose data lies in a file of its own costs nothing that was flushed,
 * whichever of both files what reached. */
#include "crash/datafile.h"
#include "crash/sweeps.h"

static void
test_data_file(void)
{
    CrashOptions options = { .random_states = 6 };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep_data_file(&options, &report);
    sweep_assert("data file", &report, 500);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/data-file", test_data_file);
    return g_test_run();
}
