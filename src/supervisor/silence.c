#include "supervisor/silence.h"

#include "base/error.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "supervisor/broker.h"
#include "supervisor/monitor.h"
#include "supervisor/supervisor.h"

/* What a healthy QEMU on a slow disk may take for one command: that long others wait for their turn. */
#define REFUSE_MS 2000

guint64
silence_ms(const Supervisor *s)
{
    guint64 unanswered_ms = s->monitor ? monitor_unanswered_ms(s->monitor) : 0;

    if (unanswered_ms == 0 && s->monitor && proc_is_stopped((pid_t) s->status->pid))
        return MAX(monitor_unheard_ms(s->monitor), 1);
    return unanswered_ms;
}

gboolean
silence_admits(const Supervisor *s, GError **error)
{
    int pid = (int) s->status->pid;

    if (!s->monitor) /* of a start that was never finished */
        return fail(error, KHO_ERROR_BUSY, "QEMU (process %d) is being ended", pid);
    if (proc_is_stopped(pid))
        return fail(error, KHO_ERROR_TIMEOUT,
                    "QEMU (process %d) is stopped by a signal and does nothing: `kill -CONT %d` lets it go "
                    "on, `kho destroy` ends it",
                    pid, pid);
    guint64 waited_ms = monitor_waited_ms(s->monitor);
    return waited_ms < REFUSE_MS
           || fail(error, KHO_ERROR_TIMEOUT,
                   "QEMU (process %d) has not answered for %" G_GUINT64_FORMAT " s: `kho destroy` ends it",
                   pid, waited_ms / 1000);
}

void
silence_note(Supervisor *s)
{
    guint64 silent_ms = silence_ms(s);
    g_autoptr(GError) why = NULL;

    if (s->broker && !silence_admits(s, &why))
        broker_silent(s->broker, why);
    if (s->phase != PHASE_RUNNING || (silent_ms > 0) == (s->status->silent_since_ms > 0))
        return;
    s->status->silent_since_ms = silent_ms > 0 ? clock_wall_ms() - (gint64) silent_ms : 0;
    vm_log(s->log, silent_ms > 0 ? "QEMU does not answer" : "QEMU answers again");
    guest_publish(s);
}
