#include "snapshot/revert.h"

#include "base/error.h"
#include "snapshot/drop.h"
#include "snapshot/overlay.h"
#include "vm/definition.h"
#include "vm/ramfile.h"
#include "vm/reach.h"
#include "vm/start.h"

#include <string.h>

/* QEMU flushes its images when it is asked to quit, which may take long on a slow disk. */

#define CALL_TIMEOUT_MS 60000
/* kho-vm's word for a guest that was not let go at the start. */
#define VM_REASON_STARTING "starting up"

typedef struct {
    const StoreTree *tree;
    RevertPlan *plan;
    char *left; /* what could not be removed, and why; NULL: nothing */
} Revert;

static gpointer
revert_open(const json_t *json, gpointer tree, GError **error)
{
    RevertPlan *plan = plan_read(&snapshot_revert_table, json, error);

    if (!plan)
        return NULL;
    Revert *revert = g_new0(Revert, 1);
    *revert = (Revert){ .tree = tree, .plan = plan };
    return revert;
}

static void
revert_close(gpointer context)
{
    Revert *revert = context;

    snapshot_revert_plan_free(revert->plan);
    g_free(revert->left);
    g_free(revert);
}

/* All of the memory is read before anything is given up for it: QEMU does not notice all damage. */
static gboolean
check_memory(const RevertPlan *plan, const KhoJob *job, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(VmSaveHead) head = plan->memory ? vm_ramfile_read(plan->memory, &why) : NULL;

    if (!plan->memory || (head && vm_ramfile_check_stream(plan->memory, head, job, &why)))
        return TRUE;
    if (why->code == KHO_ERROR_CORRUPT)
        return fail(error, KHO_ERROR_CORRUPT,
                    "%s: without that file `kho snapshot-revert --force %s %s` goes back to the disks alone",
                    why->message, plan->machine, plan->name);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean
run_make_overlays(gpointer context, const KhoJob *job, GError **error)
{
    const Revert *revert = context;

    if (!check_memory(revert->plan, job, error))
        return FALSE;
    for (guint i = 0; i < revert->plan->disks->len; i++) {
        const RevertDisk *disk = revert->plan->disks->pdata[i];
        if (!overlay_make(disk->overlay, disk->file, disk->format, job, error))
            return FALSE;
    }
    return TRUE;
}

/* A file system that is read-only by now holds nobody up. */
static gboolean
undo_make_overlays(gpointer context, GError **error)
{
    Revert *revert = context;

    for (guint i = 0; i < revert->plan->disks->len; i++) {
        const RevertDisk *disk = revert->plan->disks->pdata[i];
        g_autoptr(GError) why = NULL;
        if (!overlay_take_back(disk->overlay, disk->file, &why))
            drop_leave(&revert->left, why);
    }
    return TRUE;
}

static gboolean
run_end_machine(gpointer context, const KhoJob *job, GError **error)
{
    const Revert *revert = context;

    return !revert->plan->active
           || vm_end(revert->tree, revert->plan->machine, revert->plan->uuid, "from snapshot", error);
}

/* As long as its QEMU is there, nothing has happened to the machine. */
static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    const Revert *revert = context;
    g_autoptr(VmClient) client = NULL;

    if (revert->plan->active && !vm_reach(revert->tree, revert->plan->machine, &client, error))
        return FALSE;
    *direction = revert->plan->active && !client ? CHANGE_FORWARD : CHANGE_BACK;
    return TRUE;
}

static gboolean
run_publish_definition(gpointer context, const KhoJob *job, GError **error)
{
    const Revert *revert = context;

    return vm_definition_publish(revert->tree, revert->plan->machine, revert->plan->definition, error);
}

static gboolean
run_publish_current(gpointer context, const KhoJob *job, GError **error)
{
    const Revert *revert = context;

    return snapshot_set_current(revert->tree, revert->plan->machine, revert->plan->name, error);
}

static gboolean
run_drop_old(gpointer context, const KhoJob *job, GError **error)
{
    Revert *revert = context;
    const Drop drop = { .tree = revert->tree, .machine = revert->plan->machine, .left = &revert->left };

    for (guint i = 0; i < revert->plan->old->len; i++)
        drop_unless_needed(&drop, ((RevertOld *) revert->plan->old->pdata[i])->path);
    drop_forget_gone(&drop);
    return TRUE;
}

static const char *
left_by(gpointer context)
{
    return ((const Revert *) context)->left;
}

static gboolean
start(const Revert *revert, const KhoJob *job, GError **error)
{
    const RevertPlan *plan = revert->plan;
    const VmStartOptions options = { .paused = plan->paused || plan->memory,
                                     .incoming_path = plan->memory,
                                     .incoming_off = (guint64) plan->stream_off,
                                     .late_disks = plan->memory && !plan->paused };
    g_autoptr(ModelDomain) model = plan->memory ? model_domain_parse(plan->live, strlen(plan->live), error)
                                                : vm_definition(revert->tree, plan->machine, error);

    return model && model_domain_complete(model, &vm_host_defaults, error)
           && vm_start(revert->tree, model, &options, job, error);
}

/* A machine that got its memory back stands still until it is let go, or told that it may. */
static gboolean
let_go(const RevertPlan *plan, VmClient *client, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, error);
    const char *state = plan->paused ? "paused" : "running";

    if (!status || !status->paused || g_strcmp0(status->reason, VM_REASON_STARTING) != 0)
        return status != NULL; /* somebody has seen to it meanwhile */
    return vm_client_tell(client, "kho-state",
                          json_pack("{s:s,s:s}", "state", state, "reason", "from snapshot"), CALL_TIMEOUT_MS,
                          error)
           && (plan->paused || vm_client_tell(client, "cont", NULL, CALL_TIMEOUT_MS, error));
}

static gboolean
run_start_machine(gpointer context, const KhoJob *job, GError **error)
{
    const Revert *revert = context;
    const RevertPlan *plan = revert->plan;
    g_autoptr(VmClient) client = NULL;

    if (!plan->start)
        return TRUE;
    if (!vm_reach(revert->tree, plan->machine, &client, error) || (!client && !start(revert, job, error)))
        return FALSE;
    if (!plan->memory)
        return TRUE;
    if (!client && !vm_reach(revert->tree, plan->machine, &client, error))
        return FALSE;
    return client ? let_go(plan, client, error)
                  : fail(error, KHO_ERROR_IO, "machine '%s' ended as it was started", plan->machine);
}

static const ChangeStep steps[] = {
    { "make-overlays", run_make_overlays, undo_make_overlays, FALSE },
    { "end-machine", run_end_machine, NULL, FALSE },
    { "publish-definition", run_publish_definition, NULL, FALSE },
    { "publish-current", run_publish_current, NULL, FALSE },
    { "drop-old", run_drop_old, NULL, FALSE },
    { "start-machine", run_start_machine, NULL, TRUE },
};

const ChangeKind snapshot_revert_kind = {
    .name = "snapshot-revert",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 1,
    .open = revert_open,
    .close = revert_close,
    .decide = decide,
    .left = left_by,
};
