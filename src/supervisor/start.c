/* From a plan to a QEMU that runs. The order: the two locks; everything that can fail without QEMU (files,
 * fifo, sockets); QEMU behind a gate; status.json, so that QEMU can be found whoever dies; the gate opens;
 * the monitor. */
#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/spawn.h"
#include "supervisor/broker.h"
#include "supervisor/grant.h"
#include "supervisor/link.h"
#include "supervisor/monitor.h"
#include "supervisor/output.h"
#include "supervisor/step.h"
#include "supervisor/supervisor.h"
#include "vm/folder.h"
#include "vm/runtime.h"

#include <glib-unix.h>
#include <string.h>

#define START_QEMU_MS 60000
/* For a kho-vm that is just clearing up the same machine. */
#define LOCK_WAIT_MS  5000
#define LOOK_AGAIN_MS 5
/* QEMU that is ended before its guest ran has nothing to flush. */
#define FAIL_TIMEOUT_MS 3000

static void
status_from_plan(Supervisor *s)
{
    const VmPlan *plan = s->plan;
    ProcId self = { 0 };

    proc_identify(proc_own_pid(), &self, NULL);
    *s->status = (VmStatus){ .name = g_strdup(plan->name),
                             .uuid = g_strdup(plan->uuid),
                             .id = plan->id,
                             .state = g_strdup(VM_STATE_STARTING),
                             .reason = g_strdup("unknown"),
                             .since_ms = clock_wall_ms(),
                             .started_ms = clock_wall_ms(),
                             .boot_id = g_strdup(self.boot_id),
                             .supervisor_pid = self.pid,
                             .supervisor_start = self.start_ticks,
                             .version = g_strdup(KHO_VERSION),
                             .log_path = g_strdup(plan->log_path),
                             .on_poweroff = plan->on_poweroff,
                             .on_reboot = plan->on_reboot,
                             .on_crash = plan->on_crash };
}

static gboolean
read_plan(Supervisor *s, int fd, GError **error)
{
    gsize len;
    g_autofree char *text = fd_read_all(fd, VM_PLAN_MAX_BYTES, &len, "the plan", error);

    s->plan = text ? vm_plan_from_json(text, len, error) : NULL;
    if (!s->plan)
        return FALSE;
    if (strcmp(s->plan->run_path, s->run_path) != 0)
        return fail(error, KHO_ERROR_INVALID, "the plan is for %s, not %s", s->plan->run_path, s->run_path);
    status_from_plan(s);
    s->log = vm_log_open(s->plan->log_path, error);
    if (!s->log)
        g_prefix_error(error, "machine '%s': ", s->plan->name);
    return s->log != NULL;
}

/* One attempt at both locks, `supervisor` first (vm/folder.h). */
static gboolean
try_locks(Supervisor *s, GError **error)
{
    fd_auto int folder = vm_folder_open(s->run_path, TRUE, error);
    fd_auto int supervisor = folder < 0 ? -1 : vm_folder_lock(folder, VM_FILE_SUPERVISOR, error);
    fd_auto int alive = supervisor < 0 ? -1 : vm_folder_lock(folder, VM_FILE_ALIVE, error);

    if (alive < 0)
        return FALSE;
    s->folder = fd_steal(&folder);
    s->supervisor_lock = fd_steal(&supervisor);
    s->alive = fd_steal(&alive);
    vm_folder_empty(s->folder);
    return TRUE;
}

static gboolean
take_locks(Supervisor *s, GError **error)
{
    gint64 deadline_ms = deadline_in(LOCK_WAIT_MS);

    for (;;) {
        g_autoptr(GError) why = NULL;
        VmPresence presence = VM_PASSING;
        if (try_locks(s, &why))
            return TRUE;
        if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY)
            && !g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        if (!vm_runtime_probe(s->run_path, &presence, error))
            return FALSE;
        if (presence == VM_SUPERVISED || presence == VM_ORPHANED)
            return fail(error, KHO_ERROR_BUSY, "machine '%s' is running already", s->plan->name);
        if (deadline_left(deadline_ms) == 0)
            return fail(error, KHO_ERROR_BUSY,
                        "machine '%s' is being started or ended by another process (%s)", s->plan->name,
                        why->message);
        clock_pause(LOOK_AGAIN_MS);
    }
}

/* What QEMU inherits. The sources are closed by the end of the start: QEMU's image locks must end with QEMU.
 */
typedef struct {
    GArray *map;  /* of SpawnFd */
    GArray *mine; /* of int */
} Inherited;

static void
inherit(Inherited *in, int from, int to)
{
    g_array_append_val(in->map, ((SpawnFd){ from, to }));
}

static gboolean
inherit_own(Inherited *in, int from, int to)
{
    if (from < 0)
        return FALSE;
    g_array_append_val(in->mine, from);
    inherit(in, from, to);
    return TRUE;
}

static gboolean
collect_inherited(Supervisor *s, Inherited *in, GError **error)
{
    const VmPlan *plan = s->plan;
    int highest = plan->monitor_fd;

    for (guint i = 0; i < plan->files->len; i++) {
        const VmPlanFile *file = plan->files->pdata[i];
        highest = MAX(highest, file->fd);
        if (!inherit_own(in, grant_open_file(file->path, file->read_only, error), file->fd))
            return FALSE;
    }
    s->output = output_new(s->folder, s->log, error);
    if (!s->output || !inherit_own(in, output_open_for_qemu(s->folder, error), 1)
        || !inherit_own(in, sock_listen(s->folder, VM_FILE_MONITOR, error), plan->monitor_fd))
        return FALSE;
    inherit(in, g_array_index(in->mine, int, in->mine->len - 2), 2);
    inherit(in, s->alive, highest + 1);
    return TRUE;
}

/* QEMU's process is there and waits: from the moment it goes on, status.json names it. */
static gboolean
on_gate(pid_t pid, gpointer data, GError **error)
{
    Supervisor *s = data;
    ProcId qemu;

    step_reach(STEP_START_FORKED);
    if (!proc_identify(pid, &qemu, error))
        return FALSE;
    s->status->pid = qemu.pid;
    s->status->pid_start = qemu.start_ticks;
    if (!vm_status_write(s->status, s->folder, error))
        return FALSE;
    step_reach(STEP_START_NAMED);
    return TRUE;
}

static gboolean
spawn_qemu(Supervisor *s, GError **error)
{
    Inherited in = { .map = g_array_new(FALSE, FALSE, sizeof(SpawnFd)),
                     .mine = g_array_new(FALSE, FALSE, sizeof(int)) };
    SpawnChild child = { .pidfd = -1 };
    gboolean done = collect_inherited(s, &in, error);

    if (done) {
        step_reach(STEP_START_COLLECTED);
        SpawnSpec spec = { .argv = (const char *const *) s->plan->argv,
                           .fds = (const SpawnFd *) in.map->data,
                           .n_fds = in.map->len,
                           .new_session = TRUE,
                           .admit = on_gate,
                           .data = s };
        done = spawn_start(&spec, &child, error);
    }
    for (guint i = 0; i < in.mine->len; i++)
        fd_clear(&g_array_index(in.mine, int, i));
    g_array_unref(in.mine);
    g_array_unref(in.map);
    if (!done)
        return FALSE;
    s->qemu = child.pidfd;
    s->is_child = TRUE;
    return TRUE;
}

void
start_fail(Supervisor *s, const GError *why)
{
    if (!s->start_error)
        s->start_error = g_error_copy(why);
    death_begin(s, "failed", FALSE, FAIL_TIMEOUT_MS);
}

static gboolean
on_start_timeout(gpointer data)
{
    Supervisor *s = data;
    g_autoptr(GError) why = g_error_new(KHO_ERROR, KHO_ERROR_TIMEOUT,
                                        "QEMU of machine '%s' did not answer in time", s->plan->name);

    s->start_timer = 0;
    start_fail(s, why);
    return G_SOURCE_REMOVE;
}

/* The starter has ended, or wants no more. */
static gboolean
on_starter_left(gint fd, GIOCondition condition, gpointer data)
{
    Supervisor *s = data;
    g_autoptr(GError) why =
        g_error_new(KHO_ERROR, KHO_ERROR_CANCELLED, "the start of machine '%s' was cancelled", s->plan->name);

    s->answer_watch = 0;
    start_fail(s, why);
    return G_SOURCE_REMOVE;
}

static gboolean
run_plan(Supervisor *s, GError **error)
{
    g_autofree char *words = g_strjoinv(" ", s->plan->argv);

    vm_log_start(s->log, words);
    s->broker = broker_new(s, error);
    if (!s->broker || !spawn_qemu(s, error))
        return FALSE;
    step_reach(STEP_START_LAUNCHED);
    death_watch(s);
    s->start_timer = g_timeout_add(s->plan->start_timeout_ms ? s->plan->start_timeout_ms : START_QEMU_MS,
                                   on_start_timeout, s);
    s->answer_watch = g_unix_fd_add(s->answer, G_IO_IN | G_IO_HUP, on_starter_left, s);
    s->monitor = monitor_new(s->folder, 0, &link_hooks, s);
    return TRUE;
}

gboolean
start_begin(Supervisor *s, int plan_fd, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!read_plan(s, plan_fd, error))
        return FALSE;
    step_reach(STEP_START_PLANNED);
    if (!take_locks(s, error))
        return FALSE;
    step_reach(STEP_START_LOCKED);
    if (run_plan(s, &why))
        return TRUE;
    vm_log_end(s->log, "failed", why->message);
    vm_folder_remove(s->folder, s->run_path, NULL);
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "machine '%s': ", s->plan->name);
    return FALSE;
}
