/* Changes as lists of named steps over a journal entry: forward, back, and recovery of what a driver left.
 * What the steps are is the business of snapshot/, backup/ and vm/. */
#ifndef KHO_STORE_CHANGE_H
#define KHO_STORE_CHANGE_H

#include "store/journal.h"

#include <kho/job.h>

/* One step. Both functions may run any number of times, with @context as the kind's open made it; they find
 * out from the disk, and from QEMU where it runs, what is still to be done. What they did is durable when
 * they return TRUE. */
typedef struct {
    const char *name;
    gboolean (*run)(gpointer context, const KhoJob *job, GError **error); /* @job is NULL in a recovery */
    gboolean (*undo)(gpointer context, GError **error);                   /* NULL: nothing to take back */
    gboolean may_fail; /* its failure is told, and ends the change as it is: only for the last step */
} ChangeStep;

/* Where it goes from a step of no return that had begun and is not done. */
typedef enum {
    CHANGE_FORWARD,
    CHANGE_BACK,  /* it had no effect: what was begun is taken back */
    CHANGE_SETTLE /* neither: the disk is told that the change is unfinished, and the entry ends */
} ChangeDirection;

/* A kind of change; const. */
typedef struct {
    const char *name; /* as the journal names it */
    const ChangeStep *steps;
    gsize n_steps;
    gsize no_return; /* index of the step of no return; n_steps: everything can be taken back */
    /* A context from a plan that may come from a journal. KHO_ERROR_INVALID, _CORRUPT. @data: what the caller
     * of change_run or change_recover gave for all kinds. */
    gpointer (*open)(const json_t *plan, gpointer data, GError **error);
    void (*close)(gpointer context);
    /* Asked when the step of no return failed or was cancelled, and by a recovery that finds it begun and not
     * done. Optional: without it, forward. */
    gboolean (*decide)(gpointer context, ChangeDirection *direction, GError **error);
    /* Writes down on disk that the change is unfinished. Runs any number of times. Needed by a decide that
     * may answer CHANGE_SETTLE. */
    gboolean (*settle)(gpointer context, GError **error);
    /* At the end: what could not be removed, or not be judged, which holds nobody up, and why; NULL: nothing.
     * Optional. */
    const char *(*left)(gpointer context);
} ChangeKind;

/**
 * change_run:
 * @journal: (transfer full): begun by the caller, who holds the object's change lock or did so when it began
 *
 * Runs the steps in order, each with its marks in the journal. When one fails (or sees a cancel) before the
 * step of no return, what was begun is taken back, last first, and the entry ends. When the step of no return
 * fails,
 * @kind->decide says what follows. When a later one fails, the entry stays, and whoever comes next goes
 * forward.
 *
 * @left: (out) (optional): of a change that went through, what stays behind and why; NULL: nothing; freed
 * with g_free. An error says so itself.
 *
 * Returns: FALSE with the step's error; it says so where the entry stays.
 */
gboolean change_run(const ChangeKind *kind, StoreJournal *journal, gpointer data, const KhoJob *job,
                    char **left, GError **error);

/**
 * change_recover:
 * @kinds: NULL-terminated: all that this kho knows
 * @journal: (transfer full): taken over with store_journal_take
 * @outcome: (out) (optional): one line for people: "finished snapshot-create of 's1'", "took back ...", freed
 * with g_free
 * @left: (out): whether something stays behind, which @outcome tells of
 *
 * Finishes what a dead driver left, or takes it back. KHO_ERROR_UNSUPPORTED for a kind that this kho does not
 * know; any error leaves the entry.
 */
gboolean change_recover(const ChangeKind *const *kinds, StoreJournal *journal, gpointer data, char **outcome,
                        gboolean *left, GError **error);

#ifdef KHO_STEPS
/* "KIND STEP" for every step of @kinds, one a line, with " no-return" added for the point of no return, and
 * " undo" where it has one: for tests, which stop the driver with KHO_STOP_AT=KIND:STEP:MOMENT. MOMENT is
 * before, after (its effect is there, its mark is not), marked, or undo (just before its undo). Freed with
 * g_free. */
char *change_step_names(const ChangeKind *const *kinds);
#endif

#endif
