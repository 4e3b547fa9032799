/* set-aside, start-paused, run!, drop-file.
 *
 *   when            QEMU              a file of kho's own   a person's file   undo
 *   before          -                 NAME.save             not used
 *   set-aside       -                 NAME.save.resuming    not used          named as before
 *   start-paused    has the memory    .resuming             not used          QEMU ends
 *   run             guest goes        .resuming, used       used              not used: no guest ever ran
 *   drop-file       guest runs        -                     used
 *
 * Once a guest may have run from a file, nobody brings that memory back again: its disks have moved on. So
 * the file is marked as used just before its guest is let go, and a QEMU that is found gone after that takes
 * the memory with it, unless it is known that its guest was not let go. */
#include "save/resume.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "vm/ramfile.h"
#include "vm/reach.h"
#include "vm/start.h"

#include <fcntl.h>
#include <string.h>

#define PLAN_VERSION    1
#define LABEL           "the plan of a resume"
#define CALL_TIMEOUT_MS 60000

typedef struct {
    const StoreTree *tree;
    char *name, *uuid, *file, *live_xml;
    char *aside; /* where a file of kho's own is meanwhile; NULL: a person's, which stays where it is */
    gboolean paused;
    gint64 stream_off;
    gboolean started;   /* by this process */
    gboolean never_ran; /* it is known that no guest was let go */
} Resume;

json_t *
resume_plan_make(const ResumeRequest *request)
{
    const SaveImage *image = request->image;
    g_autofree char *aside = request->managed ? g_strconcat(image->path, ".resuming", NULL) : NULL;
    json_t *plan = json_object();

    json_object_set_new(plan, "version", json_integer(PLAN_VERSION));
    json_set_string(plan, "name", image->live->name);
    json_set_string(plan, "uuid", image->live->uuid);
    json_set_string(plan, "file", image->path);
    json_set_string(plan, "aside", aside);
    json_set_string(plan, "live-xml", image->head->live_xml);
    json_object_set_new(plan, "stream-off", json_integer((json_int_t) image->head->stream_off));
    json_object_set_new(plan, "paused", json_boolean(request->paused));
    return plan;
}

static void
resume_close(gpointer context)
{
    Resume *resume = context;

    g_free(resume->name);
    g_free(resume->uuid);
    g_free(resume->file);
    g_free(resume->live_xml);
    g_free(resume->aside);
    g_free(resume);
}

static gpointer
resume_open(const json_t *plan, gpointer tree, GError **error)
{
    Resume *resume = g_new0(Resume, 1);
    gint64 version = 0;

    resume->tree = tree;
    gboolean good =
        json_get_int(plan, "version", LABEL, &version, error)
        && (version == PLAN_VERSION
            || fail(error, KHO_ERROR_UNSUPPORTED, LABEL " has version %d: use a newer kho", (int) version))
        && json_get_string(plan, "name", LABEL, &resume->name, error)
        && json_get_string(plan, "uuid", LABEL, &resume->uuid, error)
        && json_get_string(plan, "file", LABEL, &resume->file, error)
        && json_opt_string(plan, "aside", LABEL, &resume->aside, error)
        && json_get_string(plan, "live-xml", LABEL, &resume->live_xml, error)
        && json_get_int(plan, "stream-off", LABEL, &resume->stream_off, error)
        && json_get_bool(plan, "paused", LABEL, &resume->paused, error);
    if (good)
        return resume;
    resume_close(resume);
    return NULL;
}

static const char *
place_of(const Resume *resume)
{
    return resume->aside ? resume->aside : resume->file;
}

/* ---- the steps ---- */

static gboolean
move(const char *from, const char *to, GError **error)
{
    return (!entry_exists(AT_FDCWD, from) || fd_rename(from, to, error)) && fd_sync_parent(to, error);
}

static gboolean
run_set_aside(gpointer context, const KhoJob *job, GError **error)
{
    const Resume *resume = context;
    g_autoptr(VmSaveHead) head = vm_ramfile_read(resume->file, error);

    /* all of it is read before QEMU does, which does not notice all damage */
    return head && vm_ramfile_check_stream(resume->file, head, job, error)
           && (!resume->aside || move(resume->file, resume->aside, error));
}

static gboolean
undo_set_aside(gpointer context, GError **error)
{
    const Resume *resume = context;

    return !resume->aside || move(resume->aside, resume->file, error);
}

static gboolean
run_start_paused(gpointer context, const KhoJob *job, GError **error)
{
    Resume *resume = context;
    const VmStartOptions options = { .paused = TRUE,
                                     .incoming_path = place_of(resume),
                                     .incoming_off = (guint64) resume->stream_off,
                                     .late_disks = !resume->paused };
    g_autoptr(ModelDomain) model = model_domain_parse(resume->live_xml, strlen(resume->live_xml), error);
    resume->started = model && model_domain_complete(model, &vm_host_defaults, error)
                      && vm_start(resume->tree, model, &options, job, error);
    return resume->started;
}

static gboolean
undo_start_paused(gpointer context, GError **error)
{
    const Resume *resume = context;

    return vm_end(resume->tree, resume->name, resume->uuid, "failed", error);
}

static gboolean
name_state(VmClient *client, const char *state, const char *reason, GError **error)
{
    return vm_client_tell(client, "kho-state", json_pack("{s:s,s:s}", "state", state, "reason", reason),
                          CALL_TIMEOUT_MS, error);
}

/* *never_ran becomes TRUE where QEMU has refused: it did not let the guest go. */
static gboolean
let_go(VmClient *client, gboolean *never_ran, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!name_state(client, "running", "restored", error))
        return FALSE;
    if (vm_client_tell(client, "cont", NULL, CALL_TIMEOUT_MS, &why))
        return TRUE;
    /* an answer; where none came, QEMU may yet do it */
    *never_ran =
        !g_error_matches(why, KHO_ERROR, KHO_ERROR_IO) && !g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* A file may be gone by now: then nobody brings it back. */
static gboolean
mark_used(const Resume *resume, gboolean used, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (vm_ramfile_set_used(place_of(resume), used, &why)
        || g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&why),
                               "marking the save file as %sused: ", used ? "" : "not ");
    return FALSE;
}

static gboolean
run_run(gpointer context, const KhoJob *job, GError **error)
{
    Resume *resume = context;
    g_autoptr(VmClient) client = NULL;

    resume->never_ran = resume->started; /* a recovery does not know what was before it */
    if (!vm_reach_own(resume->tree, resume->name, resume->uuid, &client, error))
        return FALSE;
    if (!client && resume->started)
        return fail(error, KHO_ERROR_IO, "machine '%s' ended before its guest ran", resume->name);
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: machine '%s' was not started", resume->name);
    /* QEMU's own answer: one that ended a moment ago costs nobody the memory */
    if (client && !vm_client_tell(client, "query-status", NULL, CALL_TIMEOUT_MS, error))
        return FALSE;
    if (!mark_used(resume, TRUE, error))
        return FALSE;
    if (!client)
        return TRUE;
    if (resume->paused)
        return name_state(client, "paused", "user", error);
    resume->never_ran = FALSE;
    return let_go(client, &resume->never_ran, error);
}

static gboolean
undo_run(gpointer context, GError **error)
{
    const Resume *resume = context;

    return mark_used(resume, FALSE, error);
}

static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    const Resume *resume = context;
    g_autoptr(VmClient) client = NULL;

    *direction = CHANGE_BACK;
    if (resume->never_ran)
        return TRUE;
    if (!vm_reach_own(resume->tree, resume->name, resume->uuid, &client, error))
        return FALSE;
    g_autoptr(VmSaveHead) head = vm_ramfile_read_any(place_of(resume), NULL);
    if (client || !head || head->used)
        *direction = CHANGE_FORWARD;
    return TRUE;
}

static gboolean
run_drop_file(gpointer context, const KhoJob *job, GError **error)
{
    const Resume *resume = context;

    if (!resume->aside || !entry_exists(AT_FDCWD, resume->aside))
        return TRUE;
    return fd_unlink(resume->aside, error) && fd_sync_parent(resume->aside, error);
}

static const ChangeStep steps[] = {
    { "set-aside", run_set_aside, undo_set_aside, FALSE },
    { "start-paused", run_start_paused, undo_start_paused, FALSE },
    { "run", run_run, undo_run, FALSE },
    { "drop-file", run_drop_file, NULL, FALSE },
};

const ChangeKind resume_change = {
    .name = "resume",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 2,
    .open = resume_open,
    .close = resume_close,
    .decide = decide,
};
