#include "snapshot/create.h"

#include "base/error.h"
#include "base/fd.h"
#include "snapshot/create_live.h"
#include "snapshot/folder.h"
#include "snapshot/overlay.h"
#include "vm/definition.h"
#include "vm/reach.h"

#include <fcntl.h>
#include <string.h>

typedef struct {
    const StoreTree *tree;
    CreatePlan *plan;
} Create;

static gpointer
create_open(const json_t *json, gpointer tree, GError **error)
{
    CreatePlan *plan = plan_read(&snapshot_create_table, json, error);

    if (!plan)
        return NULL;
    Create *create = g_new0(Create, 1);
    *create = (Create){ .tree = tree, .plan = plan };
    return create;
}

static void
create_close(gpointer context)
{
    Create *create = context;

    snapshot_create_plan_free(create->plan);
    g_free(create);
}

static gboolean
run_make_overlays(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;

    for (guint i = 0; i < create->plan->disks->len; i++) {
        const CreateDisk *disk = create->plan->disks->pdata[i];
        if (!overlay_make(disk->overlay, disk->file, disk->format, job, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
undo_make_overlays(gpointer context, GError **error)
{
    const Create *create = context;

    for (guint i = 0; i < create->plan->disks->len; i++) {
        const CreateDisk *disk = create->plan->disks->pdata[i];
        if (!overlay_take_back(disk->overlay, disk->file, error))
            return FALSE;
    }
    return TRUE;
}

/* *client is NULL where the machine does not run, or no more: then there is nothing to be done in QEMU. */
static gboolean
reach(const Create *create, VmClient **client, GError **error)
{
    *client = NULL;
    return !create->plan->live || vm_reach(create->tree, create->plan->machine, client, error);
}

/* What the closed files hold must be durable before anything says that they are a snapshot. */
static gboolean
run_switch(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;
    g_autoptr(VmClient) client = NULL;

    if (!reach(create, &client, error) || (client && !create_live_switch(create->plan, client, error)))
        return FALSE;

    for (guint i = 0; i < create->plan->disks->len; i++) {
        const CreateDisk *disk = create->plan->disks->pdata[i];
        fd_auto int fd = fd_open(disk->file, O_RDONLY, 0, error);
        if (fd < 0 || !fd_sync(fd, disk->file, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
run_publish_definition(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;

    return vm_definition_publish(create->tree, create->plan->machine, create->plan->definition, error);
}

/* The metadata before the mark that it is current, which means nothing without it. */
static gboolean
run_publish_snapshot(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;
    const CreatePlan *plan = create->plan;
    g_autoptr(ModelSnapshot) snapshot = model_snapshot_parse(plan->metadata, strlen(plan->metadata), error);

    return snapshot && snapshot_write(create->tree, plan->machine, snapshot, error)
           && snapshot_set_current(create->tree, plan->machine, plan->name, error);
}

static gboolean
undo_switch(gpointer context, GError **error)
{
    const Create *create = context;
    g_autoptr(VmClient) client = NULL;

    return reach(create, &client, error) && (!client || create_live_take_back(create->plan, client, error));
}

/* Of a machine that does not run nothing has changed yet; of one that does QEMU knows. Where it has ended,
 * both states are the same. */
static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    const Create *create = context;
    g_autoptr(VmClient) client = NULL;
    gboolean switched = FALSE;

    if (!reach(create, &client, error)
        || (client && !create_live_is_switched(create->plan, client, &switched, error)))
        return FALSE;
    *direction = switched || (create->plan->live && !client) ? CHANGE_FORWARD : CHANGE_BACK;
    return TRUE;
}

static gboolean
run_publish_live(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;
    g_autoptr(VmClient) client = NULL;

    return reach(create, &client, error) && (!client || create_live_publish(create->plan, client, error));
}

static const ChangeStep steps[] = {
    { "make-overlays", run_make_overlays, undo_make_overlays, FALSE },
    { "switch", run_switch, undo_switch, FALSE },
    { "publish-definition", run_publish_definition, NULL, FALSE },
    { "publish-live", run_publish_live, NULL, FALSE },
    { "publish-snapshot", run_publish_snapshot, NULL, FALSE },
};

const ChangeKind snapshot_create_kind = {
    .name = "snapshot-create",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 1,
    .open = create_open,
    .close = create_close,
    .decide = decide,
};
