/* A crash while a passphrase is added, removed or replaced leaves the old ones or the new ones. */
#include "crash/sweeps.h"

static void
test_keys(void)
{
    CrashOptions options = { .random_states = 80 };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep_keys(&options, &report);
    sweep_assert("change keys", &report, 100);
}

static void
test_volume_keys(void)
{
    CrashOptions options = { .random_states = 80 };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep_volume_keys(&options, &report);
    sweep_assert("change keys of a volume", &report, 100);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/keys", test_keys);
    g_test_add_func("/crash/volume-keys", test_volume_keys);
    return g_test_run();
}
