#include "supervisor/step.h"

#ifdef KHO_STEPS

#include <glib.h>
#include <signal.h>

static const char *const names[STEP_N] = {
    [STEP_START_DETACHED] = "start-detached",
    [STEP_START_PLANNED] = "start-planned",
    [STEP_START_LOCKED] = "start-locked",
    [STEP_START_COLLECTED] = "start-collected",
    [STEP_START_FORKED] = "start-forked",
    [STEP_START_NAMED] = "start-named",
    [STEP_START_LAUNCHED] = "start-launched",
    [STEP_START_GREETED] = "start-greeted",
    [STEP_START_DESCRIBED] = "start-described",
    [STEP_START_RUNNING] = "start-running",
    [STEP_START_PUBLISHED] = "start-published",
    [STEP_ADOPT_LOCKED] = "adopt-locked",
    [STEP_ADOPT_SERVING] = "adopt-serving",
    [STEP_ADOPT_ASKED] = "adopt-asked",
    [STEP_END_BEGUN] = "end-begun",
    [STEP_END_REAPED] = "end-reaped",
    [STEP_END_REMOVED] = "end-removed",
};

void
step_reach(Step step)
{
    if (g_strcmp0(g_getenv("KHO_VM_STOP_AT"), names[step]) == 0)
        raise(SIGSTOP);
}

void
step_print_all(void)
{
    for (int i = 0; i < STEP_N; i++)
        g_print("%s\n", names[i]);
}

#endif
