#include "snapshot/revert.h"

#include "base/error.h"
#include "snapshot/drop.h"
#include "snapshot/overlay.h"
#include "vm/definition.h"
#include "vm/reach.h"
#include "vm/start.h"

#include <string.h>

/* QEMU flushes its images when it is asked to quit, which may take long on a slow disk. */

typedef struct {
    const StoreTree *tree;
    RevertPlan *plan;
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
    g_free(revert);
}

static gboolean
run_make_overlays(gpointer context, const KhoJob *job, GError **error)
{
    const Revert *revert = context;

    for (guint i = 0; i < revert->plan->disks->len; i++) {
        const RevertDisk *disk = revert->plan->disks->pdata[i];
        if (!overlay_make(disk->overlay, disk->file, disk->format, job, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
undo_make_overlays(gpointer context, GError **error)
{
    const Revert *revert = context;

    for (guint i = 0; i < revert->plan->disks->len; i++) {
        const RevertDisk *disk = revert->plan->disks->pdata[i];
        if (!overlay_take_back(disk->overlay, disk->file, error))
            return FALSE;
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
    const Revert *revert = context;

    for (guint i = 0; i < revert->plan->old->len; i++) {
        const RevertOld *old = revert->plan->old->pdata[i];
        if (!drop_if_unneeded(revert->tree, old->path, error))
            return FALSE;
    }
    return drop_forget_gone(revert->tree, revert->plan->machine, error);
}

static gboolean
run_start_machine(gpointer context, const KhoJob *job, GError **error)
{
    const Revert *revert = context;
    const RevertPlan *plan = revert->plan;
    const VmStartOptions options = { .paused = plan->paused };
    g_autoptr(VmClient) client = NULL;

    if (!plan->start)
        return TRUE;
    if (!vm_reach(revert->tree, plan->machine, &client, error))
        return FALSE;
    if (client)
        return TRUE; /* it was started already */
    g_autoptr(ModelDomain) model = vm_definition(revert->tree, plan->machine, error);
    return model && model_domain_complete(model, &vm_host_defaults, error)
           && vm_start(revert->tree, model, &options, job, error);
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
};
