#include "vm/migrate.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"

#include <string.h>

/* A command is answered between two pieces of work of QEMU's main loop; flushing the disks is one. */
#define CALL_TIMEOUT_MS 60000
/* A QEMU that writes to a slow disk may say nothing for a while. */
#define SILENCE_MS 60000
#define CANCEL_MS  10000
/* QEMU's own limit is 128 MiB/s. */
#define UNLIMITED_BYTES_S (G_GINT64_CONSTANT(1) << 40)
/* Between two questions at most: QEMU tells its state by events, but not how far it is, and a cancel that a
 * signal asks for sends none. */
#define LOOK_MS 100
/* A guest stands still for so long at the end, as QEMU reckons. */
#define DOWNTIME_MS 20
/* One that writes its memory faster than it can be written out is stopped, once all of it was written and
 * this long, or so many passes over what had changed, did not suffice. */
#define CONVERGE_MS     10000
#define CONVERGE_PASSES 6
/* A disk with less than this is taken for full. */
#define FULL_BYTES (1 * MIB)
#define FILE_NAME  "kho-memory"

/* SWITCHOVER: the guest is stopped, QEMU has its images still, and waits for "migrate-continue"; LAST: it
 * lets go of them and writes the rest. One that is cancelled meanwhile goes on without its images in
 * QEMU 7.2, whose next write ends QEMU; so in LAST nothing is cancelled. */
typedef enum { NONE, UNDER_WAY, SWITCHOVER, LAST, CANCELLING, COMPLETED, FAILED, CANCELLED } Progress;

static Progress
progress_of(const json_t *answer)
{
    static const struct {
        const char *word;
        Progress progress;
    } words[] = {
        { "", NONE },
        { "none", NONE },
        { "completed", COMPLETED },
        { "failed", FAILED },
        { "cancelled", CANCELLED },
        { "cancelling", CANCELLING },
        { "device", LAST },
        { "pre-switchover", SWITCHOVER },
    };
    const char *status =
        json_string_or(answer, "status", answer ? "" : "active"); /* silent: still under way */

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(status, words[i].word) == 0)
            return words[i].progress;
    return UNDER_WAY; /* setup, active, ... */
}

/* QEMU 7.2 aborts when it is to let go of images that it has let go of. */
static gboolean
check_images(VmClient *client, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, error);

    if (!status || !status->images_inactive)
        return status != NULL;
    return fail(
        error, KHO_ERROR_INVALID,
        "its memory was written and it has not run since, so that QEMU has let go of its disks: `kho resume` "
        "it first");
}

static gboolean
begin(VmClient *client, const char *path, guint64 off, GError **error)
{
    return check_images(client, error)
           && vm_client_tell(client, "migrate-set-capabilities",
                             json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability", "events",
                                       "state", TRUE, "capability", "pause-before-switchover", "state", TRUE),
                             CALL_TIMEOUT_MS, error)
           && vm_client_tell(client, "migrate-set-parameters",
                             json_pack("{s:I,s:i}", "max-bandwidth", (json_int_t) UNLIMITED_BYTES_S,
                                       "downtime-limit", DOWNTIME_MS),
                             CALL_TIMEOUT_MS, error)
           && vm_client_tell(client, "kho-open",
                             json_pack("{s:s,s:b,s:s,s:I}", "path", path, "read-only", FALSE, "fdname",
                                       FILE_NAME, "offset", (json_int_t) off),
                             CALL_TIMEOUT_MS, error)
           && vm_client_tell(client, "migrate", json_pack("{s:s}", "uri", "fd:" FILE_NAME), CALL_TIMEOUT_MS,
                             error);
}

static void
tell(const json_t *answer, const KhoJob *job)
{
    const json_t *ram = json_object_get(answer, "ram");
    gint64 total = json_int_or(ram, "total", 0), remaining = json_int_or(ram, "remaining", total);

    if (job && job->progress && total > 0 && remaining >= 0 && remaining <= total)
        job->progress((guint64) (total - remaining), (guint64) total, job->data);
}

/* QEMU seldom says why it could not write. */
static gboolean
fail_out(const json_t *answer, const char *path, GError **error)
{
    const char *said = json_string_or(answer, "error-desc", "no reason given");
    FdUsage usage;

    if (fd_usage(path, &usage, NULL) && usage.available_bytes < FULL_BYTES)
        return fail(error, KHO_ERROR_NO_SPACE, "no space left for the memory in %s", path);
    return fail(error, KHO_ERROR_IO, "QEMU cannot write the memory into %s: %s", path, said);
}

/* How far QEMU is. NULL without @error where it is silent, and that not for too long yet: @heard_ms is when
 * it was heard last. */
static json_t *
look(VmClient *client, guint patience_ms, gint64 *heard_ms, GError **error)
{
    GError *why = NULL;
    json_t *answer = vm_client_call(client, "query-migrate", NULL, CALL_TIMEOUT_MS, &why);
    gint64 now_ms = clock_now_ms();

    if (answer)
        *heard_ms = now_ms;
    else if (g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT) && now_ms - *heard_ms < patience_ms)
        g_clear_error(&why);
    else
        g_propagate_error(error, why);
    return answer;
}

/* Waits until QEMU says that something happened, or until it is time to look anyway. */
static gboolean
wait_event(VmClient *client, GError **error)
{
    gint64 deadline_ms = deadline_in(LOOK_MS);
    g_autoptr(GError) why = NULL;

    for (;;) {
        json_auto json_t *event = vm_client_next_event(client, deadline_ms, &why);
        if (!event)
            break;
        if (g_str_has_prefix(json_string_or(event, "event", ""), "MIGRATION"))
            return TRUE;
    }
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* When the guest is to be stopped for the rest. */
typedef struct {
    gint64 since_ms; /* when all had been written once; 0: not yet */
    gboolean stopped;
} Convergence;

static gboolean
converge(VmClient *client, const json_t *answer, Convergence *c, GError **error)
{
    gint64 passes = json_int_or(json_object_get(answer, "ram"), "dirty-sync-count", 0);

    if (passes < 2 || c->stopped)
        return TRUE;
    if (c->since_ms == 0)
        c->since_ms = clock_now_ms();
    if (passes < CONVERGE_PASSES && clock_now_ms() - c->since_ms < CONVERGE_MS)
        return TRUE;
    c->stopped = TRUE;
    return vm_client_tell(client, "stop", NULL, CALL_TIMEOUT_MS, error);
}

/* QEMU says that a migration is over a moment before its guest can go on: `cont` is refused so long. There is
 * no event for it. */
static gboolean
settle(VmClient *client, GError **error)
{
    gint64 deadline_ms = deadline_in(CALL_TIMEOUT_MS);

    for (;;) {
        json_auto json_t *answer = vm_client_call(client, "query-status", NULL, CALL_TIMEOUT_MS, error);
        if (!answer)
            return FALSE;
        if (strcmp(json_string_or(answer, "status", ""), "finish-migrate") != 0)
            return TRUE;
        if (deadline_left(deadline_ms) == 0)
            return fail(error, KHO_ERROR_TIMEOUT, "QEMU does not come to the end of writing its memory");
    }
}

static gboolean
go_on(VmClient *client, const char *state, GError **error)
{
    return vm_client_tell(client, "migrate-continue", json_pack("{s:s}", "state", state), CALL_TIMEOUT_MS,
                          error);
}

gboolean
vm_migrate_out(VmClient *client, const char *path, guint64 off, const KhoJob *job, GError **error)
{
    gint64 heard_ms = clock_now_ms();
    Convergence convergence = { 0 };
    gboolean switched = FALSE;

    if (!begin(client, path, off, error))
        return FALSE;
    for (;;) {
        g_autoptr(GError) why = NULL;
        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        json_auto json_t *answer = look(client, SILENCE_MS, &heard_ms, &why);
        if (!answer && why) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        tell(answer, job);
        switch (progress_of(answer)) {
        case UNDER_WAY:
        case LAST: break;
        case SWITCHOVER:
            if (!switched && !go_on(client, "pre-switchover", error))
                return FALSE;
            switched = TRUE;
            break;
        case COMPLETED: return settle(client, error);
        case CANCELLING:
        case CANCELLED: return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        case NONE:
        case FAILED: return fail_out(answer, path, error);
        }
        if (!converge(client, answer, &convergence, error) || !wait_event(client, error))
            return FALSE;
    }
}

/* A cancel that meets QEMU just where it begins to wait for "migrate-continue" is not heard, and it waits on.
 * Where it waits for nothing, or is through meanwhile, nothing comes of the second word. */
static gboolean
ask_to_end(VmClient *client, Progress progress, gboolean *told, GError **error)
{
    if (progress == CANCELLING)
        (void) go_on(client, "cancelling", NULL);
    else if (progress != LAST && !*told) {
        *told = TRUE;
        return vm_client_tell(client, "migrate_cancel", NULL, CALL_TIMEOUT_MS, error);
    }
    return TRUE;
}

gboolean
vm_migrate_cancel(VmClient *client, GError **error)
{
    gint64 heard_ms = clock_now_ms(), deadline_ms = deadline_in(CANCEL_MS);

    for (gboolean told = FALSE;;) {
        g_autoptr(GError) why = NULL;
        json_auto json_t *answer = look(client, CANCEL_MS, &heard_ms, &why);
        if (!answer && why) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        Progress progress = progress_of(answer);
        if (progress == NONE || progress > CANCELLING)
            return settle(client, error);
        if (answer && !ask_to_end(client, progress, &told, error))
            return FALSE;
        if (deadline_left(deadline_ms) == 0)
            return fail(error, KHO_ERROR_TIMEOUT, "QEMU does not end the writing of its memory");
        if (!wait_event(client, error))
            return FALSE;
    }
}
