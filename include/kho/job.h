/* How a caller follows and cancels long work. A KhoJob is passed by pointer into every call that may take
 * longer than a second; NULL means no progress and no cancelling. */
#ifndef KHO_JOB_H
#define KHO_JOB_H

#include <glib.h>

typedef struct KhoJob {
    /* Called from the calling thread, at most ten times a second and once at the end; may be NULL. */
    void (*progress)(guint64 done_bytes, guint64 total_bytes, gpointer data);
    gpointer data;
    /* Set to non-zero from any thread or signal handler to cancel: the call then ends within 2 s with
     * KHO_ERROR_CANCELLED and leaves the old state. May be NULL. */
    const volatile gint *cancelled;
} KhoJob;

static inline gboolean
kho_job_is_cancelled(const KhoJob *job)
{
    return job && job->cancelled && g_atomic_int_get(job->cancelled) != 0;
}

#endif
