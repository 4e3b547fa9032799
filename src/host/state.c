/* Words of states, and which verb makes sense in which state. */
#include "base/error.h"
#include "host/machine.h"

#include <string.h>

static const char *const words[KHO_DOMAIN_N_STATES] = {
    [KHO_DOMAIN_NOSTATE] = "no state",     [KHO_DOMAIN_RUNNING] = "running",
    [KHO_DOMAIN_BLOCKED] = "idle",         [KHO_DOMAIN_PAUSED] = "paused",
    [KHO_DOMAIN_SHUTDOWN] = "in shutdown", [KHO_DOMAIN_SHUTOFF] = "shut off",
    [KHO_DOMAIN_CRASHED] = "crashed",      [KHO_DOMAIN_PMSUSPENDED] = "pmsuspended",
};

const char *
kho_domain_state_word(KhoDomainState state)
{
    g_return_val_if_fail((guint) state < KHO_DOMAIN_N_STATES, words[KHO_DOMAIN_NOSTATE]);
    return words[state];
}

/* Reasons in the order of libvirt's numbers, from 0, for each state. */
static const char *const reasons_running[] = {
    "unknown",       "booted",   "migrated",           "restored",
    "from snapshot", "unpaused", "migration canceled", "save canceled",
    "event wakeup",  "crashed",  "post-copy",          NULL
};
static const char *const reasons_paused[] = {
    "unknown",   "user",        "migrating",     "saving",           "dumping",
    "I/O error", "watchdog",    "from snapshot", "shutting down",    "creating snapshot",
    "crashed",   "starting up", "post-copy",     "post-copy failed", NULL
};
static const char *const reasons_shutdown[] = { "unknown", "user", NULL };
static const char *const reasons_shutoff[] = { "unknown", "shutdown", "destroyed",     "crashed", "migrated",
                                               "saved",   "failed",   "from snapshot", "daemon",  NULL };
static const char *const reasons_crashed[] = { "unknown", "panicked", NULL };
static const char *const reasons_none[] = { "unknown", NULL };

static const char *const *const reasons[KHO_DOMAIN_N_STATES] = {
    [KHO_DOMAIN_NOSTATE] = reasons_none,      [KHO_DOMAIN_RUNNING] = reasons_running,
    [KHO_DOMAIN_BLOCKED] = reasons_none,      [KHO_DOMAIN_PAUSED] = reasons_paused,
    [KHO_DOMAIN_SHUTDOWN] = reasons_shutdown, [KHO_DOMAIN_SHUTOFF] = reasons_shutoff,
    [KHO_DOMAIN_CRASHED] = reasons_crashed,   [KHO_DOMAIN_PMSUSPENDED] = reasons_none,
};

gint
kho_domain_reason_number(KhoDomainState state, const char *reason)
{
    g_return_val_if_fail((guint) state < KHO_DOMAIN_N_STATES, 0);
    for (gint i = 0; reason && reasons[state][i]; i++)
        if (strcmp(reasons[state][i], reason) == 0)
            return i;
    return 0;
}

gboolean
machine_state_is_active(KhoDomainState state)
{
    return state != KHO_DOMAIN_SHUTOFF;
}

#define IN(state) (1u << KHO_DOMAIN_##state)

/* A guest that is paused or has crashed does not see the power button, so that asking it would only look like
 * success. */
static const struct {
    guint states;
    const char *cure_off, *cure_paused,
        *cure_other; /* what to do where the machine is in no state of these */
} verbs[MACHINE_N_VERBS] = {
    [MACHINE_START] = { IN(SHUTOFF), NULL, "resume lets it go on", "destroy it first to start it anew" },
    [MACHINE_SHUTDOWN] = { IN(RUNNING) | IN(SHUTDOWN), "nothing is to be shut down",
                           "resume it first, or destroy it", "destroy it" },
    [MACHINE_REBOOT] = { IN(RUNNING) | IN(SHUTDOWN), "start it first", "resume it first, or reset it",
                         "reset it" },
    [MACHINE_RESET] = { IN(RUNNING) | IN(PAUSED) | IN(SHUTDOWN) | IN(CRASHED) | IN(PMSUSPENDED),
                        "start it first", NULL, NULL },
    [MACHINE_DESTROY] = { IN(RUNNING) | IN(PAUSED) | IN(SHUTDOWN) | IN(CRASHED) | IN(PMSUSPENDED),
                          "nothing is to be ended", NULL, NULL },
    [MACHINE_SUSPEND] = { IN(RUNNING) | IN(SHUTDOWN) | IN(PAUSED), "start it first", NULL,
                          "there is nothing to suspend" },
    [MACHINE_RESUME] = { IN(PAUSED) | IN(CRASHED), "start it first", NULL, "it need not be resumed" },
    [MACHINE_SNAPSHOT] = { IN(SHUTOFF) | IN(RUNNING) | IN(PAUSED) | IN(SHUTDOWN), NULL, NULL,
                           "reset or destroy it first" },
    [MACHINE_CONSOLE] = { IN(RUNNING) | IN(PAUSED) | IN(SHUTDOWN) | IN(CRASHED) | IN(PMSUSPENDED),
                          "start it first", NULL, NULL },
    [MACHINE_SAVE] = { IN(RUNNING) | IN(PAUSED) | IN(SHUTDOWN), "it has no memory to save", NULL,
                       "its memory is not worth saving" },
};

gboolean
machine_state_admits(MachineVerb verb, const char *name, KhoDomainState state, GError **error)
{
    if (verbs[verb].states & 1u << state)
        return TRUE;
    if (state == KHO_DOMAIN_SHUTOFF)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is not running: %s", name, verbs[verb].cure_off);
    if (verb == MACHINE_START && state == KHO_DOMAIN_RUNNING)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is running already", name);
    if (verb == MACHINE_RESUME && state == KHO_DOMAIN_RUNNING)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is running: %s", name, verbs[verb].cure_other);
    return fail(error, KHO_ERROR_INVALID, "machine '%s' is %s: %s", name, words[state],
                state == KHO_DOMAIN_PAUSED ? verbs[verb].cure_paused : verbs[verb].cure_other);
}
