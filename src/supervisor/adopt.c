/* Taking over the QEMU of a kho-vm that died: found by status.json, verified by its start time and the boot,
 * and asked what it does once it answers. Clients are served from the first moment, whether QEMU answers or
 * not. */
#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "supervisor/broker.h"
#include "supervisor/link.h"
#include "supervisor/output.h"
#include "supervisor/step.h"
#include "supervisor/successor.h"
#include "supervisor/supervisor.h"
#include "supervisor/unplug.h"
#include "vm/folder.h"

#include <string.h>
#include <unistd.h>

/* A QEMU that is just ending, or was never let go, frees `alive` within milliseconds. */
#define ENDING_MS       2000
#define LOOK_AGAIN_MS   5
#define FAIL_TIMEOUT_MS 3000

/* Removes what is left of a machine whose QEMU has ended; FALSE while `alive` is held. */
static gboolean
clear_up(Supervisor *s, GError **error)
{
    s->alive = vm_folder_lock(s->folder, VM_FILE_ALIVE, error);
    if (s->alive < 0)
        return FALSE;
    if (s->log)
        vm_log_end(s->log, "crashed", "QEMU and its kho-vm both ended without a word");
    s->phase = PHASE_OVER;
    return vm_folder_remove(s->folder, s->run_path, error);
}

static gboolean
fail_unknown(Supervisor *s, const GError *why, GError **error)
{
    g_autoptr(GArray) holders = vm_folder_holders(s->folder, VM_FILE_ALIVE);
    g_autoptr(GString) pids = g_string_new(NULL);

    for (guint i = 0; i < holders->len; i++)
        g_string_append_printf(pids, " %d", (int) g_array_index(holders, ProcId, i).pid);
    return fail(error, KHO_ERROR_BUSY, "cannot tell which QEMU runs in %s: %s (look at process%s)",
                s->run_path, why ? why->message : "who holds its lock cannot be seen",
                pids->len ? pids->str : " unknown");
}

/* The status as the dead kho-vm left it, now in this one's name. A machine is not left alone for its log. */
static gboolean
take_status(Supervisor *s, GError **error)
{
    VmStatus *found = vm_status_read(s->folder, error);
    ProcId self;

    if (!found)
        return FALSE;
    vm_status_free(s->status);
    s->status = found;
    s->log = vm_log_open(found->log_path, NULL);
    if (!s->log)
        s->log = vm_log_open_later(found->log_path);
    if (!proc_identify(proc_own_pid(), &self, error))
        return FALSE;
    found->supervisor_pid = self.pid;
    found->supervisor_start = self.start_ticks;
    g_free(found->version);
    found->version = g_strdup(KHO_VERSION);
    return TRUE;
}

/* The process that status.json names, or who goes on for it. */
static gboolean
find_qemu(Supervisor *s)
{
    ProcId qemu;
    ProcId old;

    vm_status_process(s->status, &qemu, &old);
    s->qemu = proc_open(&qemu, NULL);
    return s->qemu >= 0 || successor_take(s);
}

static gboolean
take_over(Supervisor *s, GError **error)
{
    gboolean unfinished = strcmp(s->status->state, VM_STATE_STARTING) == 0;

    vm_log(s->log, "adopting QEMU (process %d), whose kho-vm died", (int) s->status->pid);
    s->output = output_new(s->folder, s->log, error);
    s->broker = s->output ? broker_new(s, error) : NULL;
    if (!s->broker)
        return FALSE;
    guest_publish(s);
    death_watch(s);
    step_reach(STEP_ADOPT_SERVING);
    if (unfinished) {
        vm_log(s->log, "its start was never finished");
        death_begin(s, "failed", FALSE, FAIL_TIMEOUT_MS);
        return TRUE; /* answered when it is gone */
    }
    s->phase = PHASE_RUNNING;
    unplug_load(s);
    gint64 silent_ms = s->status->silent_since_ms > 0 ? clock_wall_ms() - s->status->silent_since_ms : 0;
    s->monitor = monitor_new(s->folder, (guint64) MAX(silent_ms, 0), &link_hooks, s);
    supervisor_answer(s, NULL);
    return TRUE;
}

/* A QEMU is taken over, or what is left of one cleared up. */
static gboolean
take_or_clear(Supervisor *s, GError **error)
{
    gint64 deadline_ms = deadline_in(ENDING_MS);
    g_autoptr(GError) unknown = NULL;
    gboolean known = take_status(s, &unknown);

    for (;;) {
        g_autoptr(GError) why = NULL;
        if (known && find_qemu(s))
            return take_over(s, error);
        if (clear_up(s, &why))
            return TRUE;
        if (deadline_left(deadline_ms) == 0)
            return fail_unknown(s, unknown, error);
        clock_pause(LOOK_AGAIN_MS);
    }
}

/* A machine stays its owner's when root looks at it: what is made for it from now on (sockets, log) is that
 * user's too, and so is the right to speak to it. */
static gboolean
become_owner(const Supervisor *s, GError **error)
{
    struct stat st;

    if (!fd_stat(s->folder, &st, s->run_path, error))
        return FALSE;
    return geteuid() != 0 || st.st_uid == 0 || proc_become(st.st_uid, st.st_gid, error);
}

gboolean
adopt_begin(Supervisor *s, GError **error)
{
    g_autoptr(GError) why = NULL;
    gboolean held, exists;

    s->folder = vm_folder_open(s->run_path, FALSE, &why);
    if (s->folder >= 0 && become_owner(s, &why)
        && vm_folder_is_locked(s->folder, VM_FILE_ALIVE, &held, &exists, &why))
        s->supervisor_lock = vm_folder_lock(s->folder, VM_FILE_SUPERVISOR, &why);
    if (s->supervisor_lock < 0) {
        /* Nothing is there any more, or another kho-vm was faster: both are what the caller wanted. */
        s->phase = PHASE_OVER;
        if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)
            || g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    step_reach(STEP_ADOPT_LOCKED);
    return take_or_clear(s, error);
}
