/* Steps forward and back. The marks in the journal are the only memory:
 *
 *   forward: begun STEP | run | done STEP        back: undo each step that is begun, last first
 *
 * A step that is begun and not done may have had any part of its effect. */
#include "store/change.h"

#include "base/error.h"

#include <string.h>

#ifdef KHO_STEPS
#include <signal.h>

/* Builds with tests stop at moments of steps (divided by commas), so that a test can kill what it likes
 * there. */
static void
reach(const ChangeKind *kind, const ChangeStep *step, const char *moment)
{
    g_autofree char *here = g_strjoin(":", kind->name, step->name, moment, NULL);
    g_auto(GStrv) moments = g_strsplit(g_getenv("KHO_STOP_AT") ? g_getenv("KHO_STOP_AT") : "", ",", 0);

    if (g_strv_contains((const char *const *) moments, here))
        raise(SIGSTOP);
}

char *
change_step_names(const ChangeKind *const *kinds)
{
    GString *names = g_string_new(NULL);

    for (; *kinds; kinds++)
        for (gsize i = 0; i < (*kinds)->n_steps; i++)
            g_string_append_printf(names, "%s %s%s%s\n", (*kinds)->name, (*kinds)->steps[i].name,
                                   i == (*kinds)->no_return ? " no-return" : "",
                                   (*kinds)->steps[i].undo ? " undo" : "");
    return g_string_free(names, FALSE);
}
#else
#define reach(kind, step, moment) ((void) 0)
#endif

static gboolean
run_step(const ChangeKind *kind, const ChangeStep *step, StoreJournal *journal, gpointer context,
         const KhoJob *job, GError **error)
{
    if (!store_journal_has(journal, step->name, STORE_MARK_BEGUN)
        && !store_journal_mark(journal, step->name, STORE_MARK_BEGUN, error))
        return FALSE;
    reach(kind, step, "before");
    if (!step->run(context, job, error))
        return FALSE;
    reach(kind, step, "after");
    if (!store_journal_mark(journal, step->name, STORE_MARK_DONE, error))
        return FALSE;
    reach(kind, step, "marked");
    return TRUE;
}

/* *failed is the index of the step that failed. */
static gboolean
forward(const ChangeKind *kind, StoreJournal *journal, gpointer context, const KhoJob *job, gsize *failed,
        GError **error)
{
    for (gsize i = 0; i < kind->n_steps; i++) {
        *failed = i;
        if (!store_journal_has(journal, kind->steps[i].name, STORE_MARK_DONE)
            && !run_step(kind, &kind->steps[i], journal, context, job, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
back(const ChangeKind *kind, const StoreJournal *journal, gpointer context, GError **error)
{
    for (gsize i = kind->n_steps; i-- > 0;) {
        const ChangeStep *step = &kind->steps[i];
        if (!step->undo || !store_journal_has(journal, step->name, STORE_MARK_BEGUN))
            continue;
        reach(kind, step, "undo");
        if (!step->undo(context, error))
            return FALSE;
    }
    return TRUE;
}

/* How far the change had come. */
typedef enum { BEFORE_NO_RETURN, AT_NO_RETURN, PAST_NO_RETURN } Reached;

static Reached
how_far(const ChangeKind *kind, const StoreJournal *journal)
{
    if (kind->no_return == kind->n_steps)
        return BEFORE_NO_RETURN;
    const char *name = kind->steps[kind->no_return].name;
    if (store_journal_has(journal, name, STORE_MARK_DONE))
        return PAST_NO_RETURN;
    return store_journal_has(journal, name, STORE_MARK_BEGUN) ? AT_NO_RETURN : BEFORE_NO_RETURN;
}

static gboolean
where_to(const ChangeKind *kind, const StoreJournal *journal, gpointer context, ChangeDirection *direction,
         GError **error)
{
    Reached reached = how_far(kind, journal);

    *direction = reached == BEFORE_NO_RETURN ? CHANGE_BACK : CHANGE_FORWARD;
    return reached != AT_NO_RETURN || !kind->decide || kind->decide(context, direction, error);
}

static const char *
left_by(const ChangeKind *kind, gpointer context)
{
    return kind->left ? kind->left(context) : NULL;
}

/* What follows a failure: *ended says that nothing is left to be recovered. */
static gboolean
after_failure(const ChangeKind *kind, StoreJournal *journal, gpointer context, const ChangeStep *step,
              gboolean *ended, GError **error)
{
    ChangeDirection direction = CHANGE_FORWARD;

    *ended = FALSE;
    if (!step->may_fail) {
        if (!where_to(kind, journal, context, &direction, error))
            return FALSE;
        if (direction == CHANGE_FORWARD)
            return TRUE;
        if (direction == CHANGE_BACK && !back(kind, journal, context, error))
            return FALSE;
        if (direction == CHANGE_SETTLE && !kind->settle(context, error))
            return FALSE;
    }
    *ended = store_journal_end(journal, error);
    return *ended;
}

static gboolean
fail_run(const ChangeKind *kind, StoreJournal *journal, gpointer context, gsize failed, GError *why,
         GError **error)
{
    g_autoptr(GError) second = NULL;
    gboolean ended;

    if (!after_failure(kind, journal, context, &kind->steps[failed], &ended, &second))
        fail(error, (KhoErrorCode) why->code, "%s; taking %s back failed: %s: `kho recover` tries again",
             why->message, store_journal_what(journal), second->message);
    else if (!ended)
        fail(error, (KhoErrorCode) why->code, "%s; %s is not finished: `kho recover` goes on", why->message,
             store_journal_what(journal));
    else if (left_by(kind, context))
        fail(error, (KhoErrorCode) why->code, "%s; left behind: %s", why->message, left_by(kind, context));
    else
        g_propagate_error(error, g_error_copy(why));
    return FALSE;
}

gboolean
change_run(const ChangeKind *kind, StoreJournal *journal, gpointer data, const KhoJob *job, char **left,
           GError **error)
{
    g_autoptr(StoreJournal) owned = journal;
    g_autoptr(GError) why = NULL;
    gpointer context = kind->open(store_journal_plan(journal), data, error);
    gsize failed = 0;
    gboolean done;

    if (!context) {
        store_journal_end(journal, NULL);
        return FALSE;
    }
    done = forward(kind, journal, context, job, &failed, &why);
    done = done ? store_journal_end(journal, error) : fail_run(kind, journal, context, failed, why, error);
    if (done && left)
        *left = g_strdup(left_by(kind, context));
    kind->close(context);
    return done;
}

static const ChangeKind *
find_kind(const ChangeKind *const *kinds, const char *name)
{
    for (; *kinds; kinds++)
        if (strcmp((*kinds)->name, name) == 0)
            return *kinds;
    return NULL;
}

/* Goes forward without a job. A last step that may fail ends the change all the same: *outcome says so. */
static gboolean
finish(const ChangeKind *kind, StoreJournal *journal, gpointer context, char **outcome, GError **error)
{
    g_autoptr(GError) why = NULL;
    const char *what = store_journal_what(journal);
    gsize failed = 0;

    if (forward(kind, journal, context, NULL, &failed, &why)) {
        *outcome = g_strdup_printf("finished %s", what);
        return TRUE;
    }
    if (kind->steps[failed].may_fail) {
        *outcome = g_strdup_printf("finished %s, but for its last step: %s", what, why->message);
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean
take_back(const ChangeKind *kind, const StoreJournal *journal, gpointer context, char **outcome,
          GError **error)
{
    *outcome = g_strdup_printf("took back %s", store_journal_what(journal));
    return back(kind, journal, context, error);
}

static gboolean
recover(const ChangeKind *kind, StoreJournal *journal, gpointer context, char **outcome, GError **error)
{
    const char *what = store_journal_what(journal);
    ChangeDirection direction;

    if (!where_to(kind, journal, context, &direction, error))
        return FALSE;
    switch (direction) {
    case CHANGE_FORWARD: return finish(kind, journal, context, outcome, error);
    case CHANGE_BACK: return take_back(kind, journal, context, outcome, error);
    case CHANGE_SETTLE:
        *outcome = g_strdup_printf("left %s unfinished: give the command again to go on", what);
        return kind->settle(context, error);
    }
    g_assert_not_reached();
}

static void
add_left(const ChangeKind *kind, gpointer context, char **outcome, gboolean *left)
{
    const char *what = left_by(kind, context);
    g_autofree char *told = *outcome;

    *left = what != NULL;
    *outcome = g_strconcat(told, what ? "; left behind: " : "", what, NULL);
}

gboolean
change_recover(const ChangeKind *const *kinds, StoreJournal *journal, gpointer data, char **outcome,
               gboolean *left, GError **error)
{
    g_autoptr(StoreJournal) owned = journal;
    g_autoptr(GError) why = NULL;
    g_autofree char *told = NULL;
    const ChangeKind *kind = find_kind(kinds, store_journal_change(journal));

    *left = FALSE;
    if (!kind)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "the journal holds a %s, which this kho does not know: use a newer kho",
                    store_journal_change(journal));
    gpointer context = kind->open(store_journal_plan(journal), data, &why);
    gboolean recovered = context && recover(kind, journal, context, &told, &why);
    if (recovered)
        add_left(kind, context, &told, left);
    if (context)
        kind->close(context);
    if (!recovered) {
        g_propagate_prefixed_error(error, g_steal_pointer(&why),
                                   "recovery of %s: ", store_journal_what(journal));
        return FALSE;
    }
    if (!store_journal_end(journal, error))
        return FALSE;
    if (outcome)
        *outcome = g_steal_pointer(&told);
    return TRUE;
}
