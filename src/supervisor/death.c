/* Ending QEMU, and what follows its end, whoever caused it: the log says why, the run folder goes, those who
 * wait are told, kho-vm ends.
 *
 *   stage   by        next after a part of the time, when QEMU still lives
 *   ASK     `quit`    TERM; at once where QEMU does not answer
 *   TERM    SIGTERM   KILL; at once where QEMU is stopped by a signal
 *   KILL    SIGKILL   said in the log again and again: it hangs in the kernel
 *
 * Where it is to be graceful, there is no KILL, and a QEMU that does not answer gets no SIGTERM, which it
 * would heed when all have given up: then the `quit` that waits is taken back.
 *
 * The end of the process that was started as QEMU is the machine's only when nobody holds `alive` any more: a
 * script that started the real one may end before it. */
#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "supervisor/broker.h"
#include "supervisor/monitor.h"
#include "supervisor/output.h"
#include "supervisor/silence.h"
#include "supervisor/step.h"
#include "supervisor/successor.h"
#include "supervisor/supervisor.h"
#include "vm/folder.h"

#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

enum { ASK, TERM, KILL };

#define STAGES           3
#define KILL_PATIENCE_MS 10000
/* Other processes look at the locks now and then, for microseconds. */
#define LOCK_WAIT_MS 2000
/* How often to look for a holder of `alive` that cannot be seen. */
#define LOOK_AGAIN_MS 200

static gboolean on_patience(gpointer data);

static void
give_up_gracefully(Supervisor *s)
{
    g_autoptr(GError) why = NULL;
    gboolean told = !s->monitor || !monitor_forget(s->monitor, s);

    if (!silence_admits(s, &why) && told)
        g_prefix_error(&why, "QEMU was told to end, and may yet: ");
    else if (!why)
        fail(&why, KHO_ERROR_BUSY, "QEMU %s: destroy it without --graceful",
             told ? "was told to end, and has not yet" : "does not answer");
    vm_log(s->log, "%s", why->message);
    s->phase = PHASE_RUNNING;
    s->death.reason = NULL;
    broker_ended(s->broker, why);
}

static void
wait_for_end(Supervisor *s, guint timeout_ms)
{
    g_clear_handle_id(&s->end_timer, g_source_remove);
    s->end_timer = g_timeout_add(timeout_ms, on_patience, s);
}

static void
signal_qemu(Supervisor *s, int number, const char *name)
{
    g_autoptr(GError) why = NULL;

    vm_log(s->log, "sending QEMU %s", name);
    if (!proc_signal(s->qemu, number, &why))
        vm_log(s->log, "%s", why->message);
}

static void
enter_stage(Supervisor *s)
{
    gboolean stopped = proc_is_stopped((pid_t) s->status->pid);
    gboolean answers = s->monitor && silence_ms(s) == 0;

    if (s->death.stage == ASK
        && ((!answers && !s->death.graceful) || !s->monitor
            || !monitor_send(s->monitor, "quit", NULL, NULL, s)))
        s->death.stage = TERM;
    if (s->death.stage == TERM && stopped) {
        if (s->death.graceful) {
            give_up_gracefully(s);
            return;
        }
        s->death.stage = KILL;
    }
    switch (s->death.stage) {
    case ASK: wait_for_end(s, s->death.patience_ms); return;
    case TERM:
        if (answers || !s->death.graceful)
            signal_qemu(s, SIGTERM, "SIGTERM");
        wait_for_end(s, s->death.patience_ms);
        return;
    default:
        signal_qemu(s, SIGKILL, "SIGKILL");
        wait_for_end(s, KILL_PATIENCE_MS);
        return;
    }
}

static gboolean
on_patience(gpointer data)
{
    Supervisor *s = data;

    s->end_timer = 0;
    if (s->death.stage == TERM && s->death.graceful) {
        give_up_gracefully(s);
        return G_SOURCE_REMOVE;
    }
    if (s->death.stage < KILL)
        s->death.stage++;
    enter_stage(s);
    return G_SOURCE_REMOVE;
}

void
death_begin(Supervisor *s, const char *reason, gboolean graceful, guint timeout_ms)
{
    if (s->phase == PHASE_OVER)
        return;
    gboolean harder = s->phase != PHASE_ENDING || (s->death.graceful && !graceful);
    guint patience_ms = MAX(timeout_ms / STAGES, 1);
    if (!harder && s->death.patience_ms <= patience_ms)
        return; /* it is under way, and no later than asked */
    if (s->phase != PHASE_ENDING)
        s->death.stage = ASK;
    s->phase = PHASE_ENDING;
    s->death.graceful = graceful;
    s->death.patience_ms = patience_ms;
    if (!s->death.reason)
        s->death.reason = reason;
    vm_log(s->log, "ending QEMU (%s)", s->death.reason);
    step_reach(STEP_END_BEGUN);
    enter_stage(s);
}

/* How QEMU ended, for people. */
static char *
reap(Supervisor *s)
{
    gboolean ended = FALSE;
    int status = 0;

    if (!s->is_child)
        return g_strdup("QEMU ended; its status is not known, since it was adopted");
    if (!proc_reap((pid_t) s->status->pid, &ended, &status, NULL) || !ended)
        return g_strdup("QEMU ended; its status is not known");
    gboolean normal = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    g_autofree char *how = proc_status_text(status);
    const char *said = s->output && !normal ? output_complaint(s->output) : "";
    return g_strdup_printf("QEMU: %s%s%s", how, *said ? ": " : "", said);
}

/* Removes the run folder. An adopter takes `alive` first, so that no start can come between. */
static void
remove_folder(Supervisor *s)
{
    g_autoptr(GError) why = NULL;
    gint64 deadline_ms = deadline_in(LOCK_WAIT_MS);

    while (s->alive < 0 && deadline_left(deadline_ms) > 0) {
        s->alive = vm_folder_lock(s->folder, VM_FILE_ALIVE, NULL);
        if (s->alive < 0)
            clock_pause(1);
    }
    if (s->alive < 0 || !vm_folder_remove(s->folder, s->run_path, &why))
        vm_log(s->log, "cannot remove the run folder: %s",
               why ? why->message : "its lock is held by another process");
}

/* QEMU's own words make the error of a start that failed for them. */
static void
explain_start(Supervisor *s, const char *how)
{
    const char *said = s->output ? output_complaint(s->output) : "";
    gboolean locked =
        strstr(said, "Failed to get \"") != NULL || strstr(said, "Is another process using") != NULL;

    if (s->start_error)
        return;
    if (*said)
        fail(&s->start_error, locked ? KHO_ERROR_BUSY : KHO_ERROR_INVALID, "QEMU cannot run machine '%s': %s",
             s->status->name, said);
    else
        fail(&s->start_error, KHO_ERROR_INTERNAL, "machine '%s' ended while it started: %s", s->status->name,
             how);
}

static void
finish(Supervisor *s, const char *how)
{
    gboolean starting = s->answer >= 0 && s->plan;

    g_clear_handle_id(&s->end_timer, g_source_remove);
    if (s->output)
        output_drain(s->output);
    if (starting)
        explain_start(s, how);
    step_reach(STEP_END_REAPED);
    s->phase = PHASE_OVER;
    vm_log_end(s->log,
               starting          ? "failed"
               : s->death.reason ? s->death.reason
                                 : "crashed",
               starting ? s->start_error->message : how);
    remove_folder(s);
    step_reach(STEP_END_REMOVED);
    if (s->broker)
        broker_ended(s->broker, NULL);
    supervisor_answer(s, s->start_error);
    g_main_loop_quit(s->loop);
}

/* What follows the end of the process that was taken for QEMU: the machine's end, or a successor is ended or
 * watched in its place. FALSE while there is one that cannot be seen. */
static gboolean
go_on_without(Supervisor *s)
{
    if (!successor_lives(s)) {
        finish(s, s->death.how);
        return TRUE;
    }
    if (!successor_take(s))
        return FALSE;
    guest_publish(s);
    death_watch(s);
    if (s->phase == PHASE_ENDING)
        enter_stage(s);
    return TRUE;
}

static gboolean
on_look_again(gpointer data)
{
    Supervisor *s = data;

    if (!go_on_without(s))
        return G_SOURCE_CONTINUE;
    s->look_timer = 0;
    return G_SOURCE_REMOVE;
}

static gboolean
on_end(gint fd, GIOCondition condition, gpointer data)
{
    Supervisor *s = data;

    s->qemu_watch = 0;
    if (s->output)
        output_drain(s->output);
    g_free(s->death.how);
    s->death.how = reap(s);
    if (!go_on_without(s)) {
        vm_log(s->log, "%s; a process that cannot be seen goes on for it", s->death.how);
        s->look_timer = g_timeout_add(LOOK_AGAIN_MS, on_look_again, s);
    }
    return G_SOURCE_REMOVE;
}

void
death_watch(Supervisor *s)
{
    s->qemu_watch = g_unix_fd_add_full(G_PRIORITY_LOW, s->qemu, G_IO_IN, on_end, s, NULL);
}
