#include "vm/job.h"

#include "base/error.h"
#include "base/pipe.h"

#include <string.h>

/* QEMU answers between two pieces of its main loop's work; a flush of a slow disk is one. */
#define CALL_TIMEOUT_MS 60000
/* How long it may say nothing at all. */
#define SILENCE_MS 60000
/* How long a job may stand where it is: a flush of much to a slow disk is one step. */
#define STALL_MS (10 * 60 * 1000)
/* A flag that a signal sets sends no event, and QEMU none for progress. */
#define LOOK_MS 100
/* Where nobody can cancel or wants progress: an event that was lost with a kho-vm must not be waited for. */
#define LOOK_SELDOM_MS 5000
#define CANCEL_MS      10000

/* What is known of jobs while one is waited for. */
typedef struct {
    json_t *rows;    /* of query-jobs; NULL: QEMU was silent */
    json_t *ended;   /* by id, what QEMU said of those that it does not know any more */
    gint64 heard_ms; /* when it was heard last */
    guint64 done;    /* of all that are waited for, as QEMU counts it */
    gint64 moved_ms; /* when that changed last */
    char *refused;   /* why a write of the guest's failed; NULL: none did */
} Jobs;

static Jobs
jobs_init(void)
{
    return (Jobs){ .ended = json_object(), .heard_ms = clock_now_ms(), .moved_ms = clock_now_ms() };
}

static void
jobs_clear(Jobs *jobs)
{
    json_decref(jobs->rows);
    json_decref(jobs->ended);
    g_free(jobs->refused);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Jobs, jobs_clear)

/* QEMU's words; all others are VM_JOB_WORKING. */
static VmJobState
state_of(const json_t *row)
{
    static const struct {
        const char *word;
        VmJobState state;
    } words[] = {
        { "ready", VM_JOB_READY },
        { "pending", VM_JOB_PENDING },
        { "concluded", VM_JOB_CONCLUDED },
        { "null", VM_JOB_ABSENT },
    };
    const char *status = json_string_or(row, "status", "");

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(status, words[i].word) == 0)
            return words[i].state;
    return row ? VM_JOB_WORKING : VM_JOB_ABSENT;
}

/* The row of query-jobs for @id; borrowed; NULL: there is no such job. */
static json_t *
find_row(const json_t *rows, const char *id)
{
    gsize i;
    json_t *row;

    json_array_foreach ((json_t *) rows, i, row)
        if (strcmp(json_string_or(row, "id", ""), id) == 0)
            return row;
    return NULL;
}

static json_t *
query(VmClient *client, GError **error)
{
    return vm_client_call(client, "query-jobs", NULL, CALL_TIMEOUT_MS, error);
}

static gboolean
ask_of_job(VmClient *client, const char *command, const char *id, GError **error)
{
    return vm_client_tell(client, command, json_pack("{s:s}", "id", id), CALL_TIMEOUT_MS, error);
}

/* What QEMU says of a job that ended badly; it has no codes, only the words of strerror. */
static gboolean
fail_job(const json_t *row, GError **error)
{
    static const struct {
        const char *words;
        KhoErrorCode code;
    } rows[] = {
        { "No space left on device", KHO_ERROR_NO_SPACE }, { "Disk quota exceeded", KHO_ERROR_NO_SPACE },
        { "File too large", KHO_ERROR_NO_SPACE },          { "Operation canceled", KHO_ERROR_CANCELLED },
        { "Operation cancelled", KHO_ERROR_CANCELLED },
    };
    g_autofree char *said = error_one_line(json_string_or(row, "error", "no reason given"));
    KhoErrorCode code = KHO_ERROR_IO;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (strstr(said, rows[i].words))
            code = rows[i].code;
    return fail(error, code, "QEMU's %s failed: %s", json_string_or(row, "type", "job"), said);
}

gboolean
vm_job_look(VmClient *client, const char *id, VmJobState *state, GError **error)
{
    json_auto json_t *rows = query(client, error);

    if (!rows)
        return FALSE;
    *state = state_of(find_row(rows, id));
    return TRUE;
}

json_t *
vm_job_arguments(const char *id, json_t *arguments)
{
    json_object_set_new(arguments, "job-id", json_string(id));
    json_object_set_new(arguments, "auto-finalize", json_false());
    json_object_set_new(arguments, "auto-dismiss", json_false());
    return arguments;
}

gboolean
vm_job_begin(VmClient *client, const char *command, const char *id, json_t *arguments, GError **error)
{
    vm_job_arguments(id, arguments);
    /* QEMU 7.2 keeps half of a filter node while a stream is over and not dismissed, and falls over it in
     * query-named-block-nodes. */
    json_object_set_new(arguments, "auto-dismiss", json_boolean(strcmp(command, "block-stream") == 0));
    return vm_client_tell(client, command, arguments, CALL_TIMEOUT_MS, error);
}

/* Keeps @why in *first, unless that is the better reason: one that was cancelled was so for another's sake.
 */
static void
keep_reason(GError **first, GError **why)
{
    if (*first && !g_error_matches(*first, KHO_ERROR, KHO_ERROR_CANCELLED))
        return;
    g_clear_error(first);
    *first = g_steal_pointer(why);
}

/* FALSE with the error of a job that failed: of several, not of one that was cancelled for another's sake. */
static gboolean
check_none_failed(const Jobs *jobs, const char *const *ids, GError **error)
{
    g_autoptr(GError) first = NULL;

    for (; *ids; ids++) {
        const json_t *row = find_row(jobs->rows, *ids);
        const json_t *last = row ? row : json_object_get(jobs->ended, *ids);
        g_autoptr(GError) why = NULL;
        if (!json_object_get(last, "error") || fail_job(last, &why))
            continue;
        keep_reason(&first, &why);
    }
    if (!first)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&first));
    return FALSE;
}

/* Whether all of @ids have come to @until, or past it; FALSE with @error set where one never will. */
static gboolean
all_came(const Jobs *jobs, const char *const *ids, VmJobState until, GError **error)
{
    gboolean all = TRUE;

    if (!check_none_failed(jobs, ids, error))
        return FALSE;
    for (; *ids; ids++) {
        VmJobState state = state_of(find_row(jobs->rows, *ids));
        if (state == VM_JOB_ABSENT)
            return fail(error, KHO_ERROR_NOT_FOUND, "QEMU has no job '%s' any more", *ids);
        all = all && state >= until;
    }
    return all;
}

/* Tells how far they are; FALSE where that has been the same for too long. */
static gboolean
tell(Jobs *jobs, const char *const *ids, const KhoJob *job, GError **error)
{
    guint64 done = 0, total = 0;
    const char *first = *ids;

    for (; *ids; ids++) {
        const json_t *row = find_row(jobs->rows, *ids);
        gint64 of = MAX(json_int_or(row, "total-progress", 0), 0);
        done += (guint64) CLAMP(json_int_or(row, "current-progress", 0), 0, of);
        total += (guint64) of;
    }
    if (job && job->progress && total > 0)
        job->progress(done, total, job->data);
    if (done != jobs->done)
        jobs->moved_ms = clock_now_ms();
    jobs->done = done;
    return clock_now_ms() - jobs->moved_ms < STALL_MS
           || fail(error, KHO_ERROR_TIMEOUT, "QEMU's job '%s' has stood still for %d minutes: it is '%s'",
                   first, STALL_MS / 60000, json_string_or(find_row(jobs->rows, first), "status", "gone"));
}

/* Takes the events that have come, and waits for one until @deadline_ms. *came: there was one. FALSE where
 * the connection ended. */
static gboolean
take_event(VmClient *client, Jobs *jobs, gint64 deadline_ms, gboolean *came, GError **error)
{
    g_autoptr(GError) why = NULL;
    json_auto json_t *event = vm_client_next_event(client, deadline_ms, &why);
    json_t *data = json_object_get(event, "data");

    *came = event != NULL;
    if (strcmp(json_string_or(event, "event", ""), "BLOCK_JOB_COMPLETED") == 0)
        json_object_set(jobs->ended, json_string_or(data, "device", ""), data);
    if (strcmp(json_string_or(event, "event", ""), "BLOCK_IO_ERROR") == 0
        && strcmp(json_string_or(data, "operation", ""), "write") == 0 && !jobs->refused)
        jobs->refused = error_one_line(json_string_or(data, "reason", "no reason given"));
    if (event || g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* Waits until something happens, or until it is time to look anyway. */
static gboolean
wait_event(VmClient *client, Jobs *jobs, guint timeout_ms, GError **error)
{
    gboolean came;

    return take_event(client, jobs, deadline_in(timeout_ms), &came, error);
}

/* All jobs as QEMU tells them, and those that ended. @jobs->rows is NULL where it is silent, and that not for
 * too long yet: it writes to a slow disk. */
static gboolean
look(VmClient *client, Jobs *jobs, GError **error)
{
    g_autoptr(GError) why = NULL;
    gboolean came = TRUE;

    json_decref(jobs->rows);
    jobs->rows = query(client, &why);
    if (jobs->rows)
        jobs->heard_ms = clock_now_ms();
    if (!jobs->rows
        && !(vm_client_is_open(client) && g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT)
             && clock_now_ms() - jobs->heard_ms < SILENCE_MS)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    while (came)
        if (!take_event(client, jobs, deadline_in(0), &came, error))
            return FALSE;
    return TRUE;
}

gboolean
vm_jobs_wait(VmClient *client, const char *const *ids, VmJobState until, gboolean guest_first,
             const KhoJob *job, GError **error)
{
    guint step_ms = job && (job->progress || job->cancelled) ? LOOK_MS : LOOK_SELDOM_MS;
    g_auto(Jobs) jobs = jobs_init();

    for (;;) {
        g_autoptr(GError) why = NULL;
        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        if (!look(client, &jobs, error))
            return FALSE;
        gboolean came = jobs.rows && all_came(&jobs, ids, until, &why);
        if (why) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        if (guest_first && jobs.refused)
            return fail(error, KHO_ERROR_IO, "a write of the guest's failed: %s", jobs.refused);
        if (jobs.rows && !tell(&jobs, ids, job, error))
            return FALSE;
        if (came)
            return TRUE;
        if (!wait_event(client, &jobs, jobs.rows ? step_ms : LOOK_MS, error))
            return FALSE;
    }
}

gboolean
vm_job_complete(VmClient *client, const char *id, GError **error)
{
    const char *ids[] = { id, NULL };

    return ask_of_job(client, "job-complete", id, error)
           && vm_jobs_wait(client, ids, VM_JOB_PENDING, FALSE, NULL, error);
}

/* Waits until the job has concluded (or QEMU does not know it), and dismisses it. What QEMU said of it last
 * is in @jobs. */
static gboolean
dismiss(VmClient *client, Jobs *jobs, const char *id, gint64 deadline_ms, GError **error)
{
    for (;;) {
        if (!look(client, jobs, error))
            return FALSE;
        VmJobState state = jobs->rows ? state_of(find_row(jobs->rows, id)) : VM_JOB_WORKING;
        if (state == VM_JOB_ABSENT)
            return TRUE;
        if (state == VM_JOB_CONCLUDED)
            return ask_of_job(client, "job-dismiss", id, error);
        if (deadline_left(deadline_ms) == 0)
            return fail(error, KHO_ERROR_TIMEOUT, "QEMU does not end its job '%s'", id);
        if (!wait_event(client, jobs, LOOK_MS, error))
            return FALSE;
    }
}

/* Dismisses all, whatever came of them; FALSE with the error of one that failed. */
static gboolean
dismiss_all(VmClient *client, const char *const *ids, GError **error)
{
    g_autoptr(GError) first = NULL;
    g_auto(Jobs) jobs = jobs_init();

    for (gsize i = 0; ids[i]; i++) {
        const char *one[] = { ids[i], NULL };
        g_autoptr(GError) why = NULL;
        if (!dismiss(client, &jobs, ids[i], DEADLINE_NEVER, error))
            return FALSE;
        if (!check_none_failed(&jobs, one, &why))
            keep_reason(&first, &why);
    }
    if (!first)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&first));
    return FALSE;
}

gboolean
vm_jobs_finish(VmClient *client, const char *const *ids, GError **error)
{
    for (gsize i = 0; ids[i]; i++) {
        VmJobState state;
        /* Looked at one by one: the first of a transaction finalizes all of it. */
        if (!vm_job_look(client, ids[i], &state, error)
            || (state == VM_JOB_PENDING && !ask_of_job(client, "job-finalize", ids[i], error)))
            return FALSE;
        if (state == VM_JOB_WORKING || state == VM_JOB_READY)
            return fail(error, KHO_ERROR_BUSY, "QEMU's job '%s' has not come to its end", ids[i]);
    }
    return dismiss_all(client, ids, error);
}

gboolean
vm_jobs_cancel(VmClient *client, const char *const *ids, GError **error)
{
    gint64 deadline_ms = deadline_in(CANCEL_MS);
    g_auto(Jobs) jobs = jobs_init();

    for (gsize i = 0; ids[i]; i++) {
        VmJobState state;
        g_autoptr(GError) why = NULL;
        if (!vm_job_look(client, ids[i], &state, error))
            return FALSE;
        if (state == VM_JOB_ABSENT || state == VM_JOB_CONCLUDED
            || ask_of_job(client, "job-cancel", ids[i], &why))
            continue;
        if (!vm_job_look(client, ids[i], &state, error))
            return FALSE;
        if (state == VM_JOB_ABSENT || state == VM_JOB_CONCLUDED)
            continue; /* it ended between the two questions */
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    for (gsize i = 0; ids[i]; i++)
        if (!dismiss(client, &jobs, ids[i], deadline_ms, error))
            return FALSE;
    return TRUE;
}
