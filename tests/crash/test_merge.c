/* A crash while two layers become one, or while a header is given another backing file, changes nothing that
 * is read through the overlay, and the merge can be made again. */
#include "crash/sweeps.h"

typedef void (*Sweep)(const CrashOptions *options, CrashReport *report);

static void
run(const char *verb, Sweep sweep, guint random_states)
{
    CrashOptions options = { .random_states = random_states };
    g_auto(CrashReport) report;

    crash_report_init(&report);
    sweep(&options, &report);
    sweep_assert(verb, &report, 2000);
}

static void
test_up(void)
{
    run("merge up", sweep_merge_up, 120);
}

static void
test_down(void)
{
    run("merge down", sweep_merge_down, 120);
}

static void
test_onto(void)
{
    run("rebase", sweep_merge_onto, 120);
}

static void
test_commit(void)
{
    run("commit", sweep_commit, 60);
}

static void
test_backing(void)
{
    run("set backing", sweep_backing, 10);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crash/merge/up", test_up);
    g_test_add_func("/crash/merge/down", test_down);
    g_test_add_func("/crash/merge/onto", test_onto);
    g_test_add_func("/crash/merge/commit", test_commit);
    g_test_add_func("/crash/merge/backing", test_backing);
    return g_test_run();
}
