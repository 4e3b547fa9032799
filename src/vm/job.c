#include "vm/job.h"

#include "base/error.h"
#include "base/pipe.h"

#include <string.h>

/* QEMU answers between two pieces of its main loop's work; a flush of a slow disk is one. */
#define CALL_TIMEOUT_MS 60000
/* How long it may say nothing at all. */
#define SILENCE_MS 60000
/* A flag that a signal sets sends no event, and QEMU none for progress. */
#define LOOK_MS 100
/* Where nobody can cancel or wants progress: an event that was lost with a kho-vm must not be waited for. */
#define LOOK_SELDOM_MS 5000
#define CANCEL_MS      10000

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
    json_auto json_t *answer =
        vm_client_call(client, command, json_pack("{s:s}", "id", id), CALL_TIMEOUT_MS, error);
    return answer != NULL;
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
    json_auto json_t *answer =
        vm_client_call(client, command, vm_job_arguments(id, arguments), CALL_TIMEOUT_MS, error);
    return answer != NULL;
}

/* FALSE with the error of a job that failed: of several, not of one that was cancelled for another's sake. */
static gboolean
check_none_failed(const json_t *rows, const char *const *ids, GError **error)
{
    g_autoptr(GError) first = NULL;

    for (; *ids; ids++) {
        const json_t *row = find_row(rows, *ids);
        g_autoptr(GError) why = NULL;
        if (state_of(row) != VM_JOB_CONCLUDED || !json_object_get(row, "error") || fail_job(row, &why))
            continue;
        if (!first || g_error_matches(first, KHO_ERROR, KHO_ERROR_CANCELLED)) {
            g_clear_error(&first);
            first = g_steal_pointer(&why);
        }
    }
    if (!first)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&first));
    return FALSE;
}

/* Whether all of @ids have come to @until, or past it; FALSE with @error set where one never will. */
static gboolean
all_came(const json_t *rows, const char *const *ids, VmJobState until, GError **error)
{
    gboolean all = TRUE;

    if (!check_none_failed(rows, ids, error))
        return FALSE;
    for (; *ids; ids++) {
        VmJobState state = state_of(find_row(rows, *ids));
        if (state == VM_JOB_ABSENT)
            return fail(error, KHO_ERROR_NOT_FOUND, "QEMU has no job '%s' any more", *ids);
        all = all && state >= until;
    }
    return all;
}

static void
tell(const json_t *rows, const char *const *ids, const KhoJob *job)
{
    guint64 done = 0, total = 0;

    for (; *ids; ids++) {
        const json_t *row = find_row(rows, *ids);
        gint64 of = MAX(json_int_or(row, "total-progress", 0), 0);
        done += (guint64) CLAMP(json_int_or(row, "current-progress", 0), 0, of);
        total += (guint64) of;
    }
    if (job && job->progress && total > 0)
        job->progress(done, total, job->data);
}

/* Waits until a job's state changes, or until it is time to look anyway. FALSE where the connection ended. */
static gboolean
wait_event(VmClient *client, guint timeout_ms, GError **error)
{
    gint64 deadline_ms = deadline_in(timeout_ms);
    g_autoptr(GError) why = NULL;

    for (;;) {
        json_auto json_t *event = vm_client_next_event(client, deadline_ms, &why);
        if (!event)
            break;
        if (strcmp(json_string_or(event, "event", ""), "JOB_STATUS_CHANGE") == 0)
            return TRUE;
    }
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* All jobs as QEMU tells them. NULL without @error where it is silent, and that not for too long yet: it
 * writes to a slow disk. @heard_ms is when it was heard last. */
static json_t *
look(VmClient *client, gint64 *heard_ms, GError **error)
{
    GError *why = NULL;
    json_t *rows = query(client, &why);

    if (rows)
        *heard_ms = clock_now_ms();
    else if (vm_client_is_open(client) && g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT)
             && clock_now_ms() - *heard_ms < SILENCE_MS)
        g_clear_error(&why);
    else
        g_propagate_error(error, why);
    return rows;
}

gboolean
vm_jobs_wait(VmClient *client, const char *const *ids, VmJobState until, const KhoJob *job, GError **error)
{
    guint step_ms = job && (job->progress || job->cancelled) ? LOOK_MS : LOOK_SELDOM_MS;
    gint64 heard_ms = clock_now_ms();

    for (;;) {
        g_autoptr(GError) why = NULL;
        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        json_auto json_t *rows = look(client, &heard_ms, &why);
        gboolean came = rows && all_came(rows, ids, until, &why);
        if (rows && !why)
            tell(rows, ids, job);
        if (came)
            return TRUE;
        if (why || !wait_event(client, rows ? step_ms : LOOK_MS, &why)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
    }
}

gboolean
vm_job_complete(VmClient *client, const char *id, GError **error)
{
    const char *ids[] = { id, NULL };

    return ask_of_job(client, "job-complete", id, error)
           && vm_jobs_wait(client, ids, VM_JOB_PENDING, NULL, error);
}

/* Waits until the job has concluded (or QEMU does not know it), and dismisses it; *row is what QEMU said of
 * it last, a new reference. */
static gboolean
dismiss(VmClient *client, const char *id, gint64 deadline_ms, json_t **row, GError **error)
{
    gint64 heard_ms = clock_now_ms();

    for (;;) {
        g_autoptr(GError) why = NULL;
        json_auto json_t *rows = look(client, &heard_ms, &why);
        *row = json_incref(find_row(rows, id));
        VmJobState state = rows ? state_of(*row) : VM_JOB_WORKING;
        if (state == VM_JOB_ABSENT)
            return TRUE;
        if (state == VM_JOB_CONCLUDED)
            return ask_of_job(client, "job-dismiss", id, error);
        json_decref(*row);
        *row = NULL;
        if (!why && deadline_left(deadline_ms) == 0)
            return fail(error, KHO_ERROR_TIMEOUT, "QEMU does not end its job '%s'", id);
        if (why || !wait_event(client, LOOK_MS, &why)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
    }
}

/* Dismisses all, and fails with the first error of one; the rest of a transaction is cancelled with it. */
static gboolean
dismiss_all(VmClient *client, const char *const *ids, GError **error)
{
    g_autoptr(GError) first = NULL;

    for (; *ids; ids++) {
        json_auto json_t *row = NULL;
        g_autoptr(GError) why = NULL;
        if (!dismiss(client, *ids, DEADLINE_NEVER, &row, error))
            return FALSE;
        if (!json_object_get(row, "error") || fail_job(row, &why))
            continue;
        if (!first || g_error_matches(first, KHO_ERROR, KHO_ERROR_CANCELLED)) {
            g_clear_error(&first);
            first = g_steal_pointer(&why);
        }
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
    for (gsize i = 0; ids[i]; i++) {
        json_auto json_t *row = NULL;
        if (!dismiss(client, ids[i], deadline_ms, &row, error))
            return FALSE;
    }
    return TRUE;
}
