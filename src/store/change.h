/* Changes as lists of named steps over a journal entry: forward, back, and recovery of what a driver left.
 * What the steps are is the business of snapshot/, backup/ and vm/. */
#ifndef KHO_STORE_CHANGE_H
#define KHO_STORE_CHANGE_H

#include "store/journal.h"

#include <kho/job.h>

typedef struct Change Change;

/* One step. Both functions may run any number of times, with @context as @open of the kind made it; they find
 * out from the disk, and from QEMU where it runs, what is still to be done. What they did is durable when
 * they return TRUE. */
typedef struct {
    const char *name;
    gboolean (*run)(gpointer context, const KhoJob *job, GError **error);
    gboolean (*undo)(gpointer context, GError **error); /* NULL: nothing to take back */
} ChangeStep;

/* Where a recovery goes. */
typedef enum { CHANGE_FORWARD, CHANGE_BACK } ChangeDirection;

/* A kind of change; const. */
typedef struct {
    const char *name; /* as the journal names it */
    const ChangeStep *steps;
    gsize n_steps;
    gsize no_return; /* index of the first step that cannot be taken back once it has begun; n_steps: none */
    /* A context from a plan that may come from a journal. KHO_ERROR_INVALID, _CORRUPT. @data is what
     * change_run or change_recover was given: what the kind needs of the host. */
    gpointer (*open)(const json_t *plan, gpointer data, GError **error);
    void (*close)(gpointer context);
    /* Optional. Recovery asks where to go when @no_return had begun and was not done; without it: forward. */
    gboolean (*decide)(gpointer context, ChangeDirection *direction, GError **error);
    /* Optional. Called instead of going on when a step at or past @no_return failed or was cancelled, and by
     * recovery in place of such a step that was begun and not done: writes down on disk that the change is
     * unfinished, so that the entry may end. FALSE leaves the entry. Runs any number of times. */
    gboolean (*settle)(gpointer context, GError **error);
} ChangeKind;

/**
 * change_run:
 * @journal: (transfer full): begun by the caller, who holds the object's change lock or did so when it began
 *
 * Runs the steps in order. A failure, or a cancel seen by a step, before @no_return takes back what was
 * begun, last first, and ends the entry. Past it, with settle, the entry ends settled; without, it stays and
 * whoever comes next goes forward.
 *
 * Returns: FALSE with the step's error. When taking back failed too, its error is appended and the entry
 * stays.
 */
gboolean
change_run(const ChangeKind *kind, StoreJournal *journal, gpointer data, const KhoJob *job, GError **error);

/**
 * change_recover:
 * @kinds: NULL-terminated: all that this kho knows
 * @journal: (transfer full): taken over with store_journal_take
 * @outcome: (out) (optional): one line for people: "finished snapshot-create of 's1'", "took back ..."
 *
 * Finishes what a dead driver left, or takes it back. KHO_ERROR_UNSUPPORTED for a kind that this kho does not
 * know; any error leaves the entry.
 */
gboolean change_recover(const ChangeKind *const *kinds, StoreJournal *journal, gpointer data, char **outcome,
                        GError **error);

#ifdef KHO_STEPS
/* "KIND STEP" for every step of @kinds, one a line, for tests that stop at each
 * (KHO_STOP_AT=KIND:STEP:MOMENT; MOMENT: before, after (done, unmarked), marked; undo for the moment before
 * its undo). */
void change_print_steps(const ChangeKind *const *kinds);
#endif

#endif
