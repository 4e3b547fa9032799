#include "snapshot/create.h"

#include "base/error.h"
#include "snapshot/closed.h"
#include "snapshot/create_live.h"
#include "snapshot/drop.h"
#include "snapshot/folder.h"
#include "snapshot/memory.h"
#include "snapshot/overlay.h"
#include "snapshot/pause.h"
#include "vm/definition.h"
#include "vm/migrate.h"
#include "vm/reach.h"
#include "vm/runtime.h"

#include <string.h>

#define CALL_TIMEOUT_MS 10000

typedef struct {
    const StoreTree *tree;
    CreatePlan *plan;
    VmSaveHead *head;  /* of the memory that this process wrote */
    gint64 stopped_ms; /* wall clock of the guest's stop; 0: not known */
    gint64 pause_ms;   /* for how long it stood still; -1: not known */
    char *left;        /* what could not be removed, and why; NULL: nothing */
    gboolean refused;  /* this process knows that QEMU was not asked to switch */
    gboolean untold;   /* whether it has switched cannot be told any more: forward is right in both cases */
} Create;

static gpointer
create_open(const json_t *json, gpointer tree, GError **error)
{
    CreatePlan *plan = plan_read(&snapshot_create_table, json, error);

    if (!plan)
        return NULL;
    Create *create = g_new0(Create, 1);
    *create = (Create){ .tree = tree, .plan = plan, .pause_ms = -1 };
    return create;
}

static void
create_close(gpointer context)
{
    Create *create = context;

    snapshot_create_plan_free(create->plan);
    vm_savehead_free(create->head);
    g_free(create->left);
    g_free(create);
}

/* A file system that is read-only by now holds nobody up. */
static void
remove_overlays(Create *create)
{
    for (guint i = 0; i < create->plan->disks->len; i++) {
        const CreateDisk *disk = create->plan->disks->pdata[i];
        g_autoptr(GError) why = NULL;
        if (!overlay_take_back(disk->overlay, disk->file, &why))
            drop_leave(&create->left, why);
    }
}

/* What is refused here leaves nothing, and the numbers are free again: QEMU has not heard of them. */
static gboolean
run_make_overlays(gpointer context, const KhoJob *job, GError **error)
{
    Create *create = context;
    const CreatePlan *plan = create->plan;

    for (guint i = 0; i < plan->disks->len; i++) {
        const CreateDisk *disk = plan->disks->pdata[i];
        if (overlay_make(disk->overlay, disk->file, disk->format, job, error))
            continue;
        remove_overlays(create);
        if (!create->left && plan->overlays)
            snapshot_restore_overlays(create->tree, plan->machine, plan->overlays, NULL);
        return FALSE;
    }
    return TRUE;
}

/* In a QEMU that runs something may be left that has the number: there it is not used again. */
static gboolean
undo_make_overlays(gpointer context, GError **error)
{
    Create *create = context;
    const CreatePlan *plan = create->plan;

    remove_overlays(create);
    return create->left || plan->live || !plan->overlays
           || snapshot_restore_overlays(create->tree, plan->machine, plan->overlays, error);
}

/* *client is NULL where the machine does not run, or no more: then there is nothing to be done in QEMU. */
static gboolean
reach(const Create *create, VmClient **client, GError **error)
{
    const CreatePlan *plan = create->plan;

    *client = NULL;
    return !plan->live || vm_reach_own(create->tree, plan->machine, plan->uuid, client, error);
}

/* When the guest did last what it does now; 0 where that cannot be told. */
static gint64
since_ms(VmClient *client)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, NULL);
    return status ? status->since_ms : 0;
}

/* ---- save-memory ---- */

static gboolean
write_memory(Create *create, VmClient *client, const KhoJob *job, GError **error)
{
    const CreatePlan *plan = create->plan;
    g_autoptr(GPtrArray) closed = g_ptr_array_new();
    g_autofree char *run_path = store_path_domain_run(create->tree, plan->machine);
    g_autofree char *live_xml = vm_runtime_live_xml(run_path, NULL, error);
    const MemoryWrite write = { .path = plan->memory,
                                .live_xml = live_xml,
                                .saved_ms = plan->saved_ms,
                                .running = plan->running,
                                .also = closed };

    for (guint i = 0; i < plan->disks->len; i++)
        g_ptr_array_add(closed, ((CreateDisk *) plan->disks->pdata[i])->file);
    if (!live_xml || (plan->running && !pause_announce(client, error))
        || !memory_write(client, &write, &create->head, job, error))
        return FALSE;
    create->stopped_ms = plan->running ? since_ms(client) : 0;
    return TRUE;
}

static gboolean
run_save_memory(gpointer context, const KhoJob *job, GError **error)
{
    Create *create = context;
    const CreatePlan *plan = create->plan;
    g_autoptr(VmClient) client = NULL;

    if (!plan->memory)
        return TRUE;
    if (!reach(create, &client, error))
        return FALSE;
    if (!client)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' has ended", plan->machine);
    g_autoptr(GError) why = NULL;
    /* the overlays are opened first, since the guest stands still when this is done */
    if (create_live_open(plan, client, &why) && write_memory(create, client, job, &why))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "machine '%s': ", plan->machine);
    return FALSE;
}

/* In this order: the guest goes on as soon as it can. */
static gboolean
undo_save_memory(gpointer context, GError **error)
{
    Create *create = context;
    const CreatePlan *plan = create->plan;
    g_autoptr(VmClient) client = NULL;
    g_autoptr(GError) why = NULL;

    if (!plan->memory)
        return TRUE;
    if (!reach(create, &client, error)
        || (client && (!vm_migrate_cancel(client, error) || !pause_end(client, error))))
        return FALSE;
    if (!memory_take_back(plan->memory, plan->saved_ms, &why))
        drop_leave(&create->left, why);
    return !client || create_live_take_back(plan, client, error);
}

/* ---- switch ---- */

/* A guest whose memory was written stands still until it is let go: one that ran meanwhile, on whose word
 * ever, has moved its disks on from that memory. */
static gboolean
check_stood_still(const Create *create, VmClient *client, GError **error)
{
    if (!create->plan->memory)
        return TRUE;
    json_auto json_t *status = vm_client_call(client, "query-status", NULL, CALL_TIMEOUT_MS, error);
    if (!status)
        return FALSE;
    return strcmp(json_string_or(status, "status", ""), "postmigrate") == 0
           || fail(error, KHO_ERROR_BUSY,
                   "machine '%s' was let go, or reset, when its memory had been written: nothing of the "
                   "snapshot is kept",
                   create->plan->machine);
}

static gboolean
check_all_there(Create *create, const CreateStanding *standing, GError **error)
{
    create->refused = standing->gone != NULL;
    return !create->refused
           || fail(error, KHO_ERROR_BUSY,
                   "the guest of machine '%s' has just let go of disk %s: nothing was changed, take the "
                   "snapshot again",
                   create->plan->machine, standing->gone);
}

static gboolean
switch_disks(Create *create, VmClient *client, GError **error)
{
    CreateStanding standing;

    if (!create_live_look(create->plan, client, &standing, error))
        return FALSE;
    return standing.switched || create->untold
           || (check_all_there(create, &standing, error) && check_stood_still(create, client, error)
               && create_live_switch(create->plan, client, error));
}

static gboolean
run_switch(gpointer context, const KhoJob *job, GError **error)
{
    Create *create = context;
    g_autoptr(VmClient) client = NULL;

    return reach(create, &client, error) && (!client || switch_disks(create, client, error));
}

static gboolean
undo_switch(gpointer context, GError **error)
{
    const Create *create = context;
    g_autoptr(VmClient) client = NULL;

    return reach(create, &client, error) && (!client || create_live_take_back(create->plan, client, error));
}

/* Of a machine that does not run nothing has changed yet; of one that does QEMU knows, by any disk that it
 * has. Where it has ended, or its guest has let go of them all, an overlay may hold what the guest wrote,
 * unless it stood still for its memory, which need not be durable. */
static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    Create *create = context;
    const CreatePlan *plan = create->plan;
    g_autoptr(VmClient) client = NULL;
    CreateStanding standing = { 0 };

    if (!reach(create, &client, error) || (client && !create_live_look(plan, client, &standing, error)))
        return FALSE;
    create->untold = plan->live && standing.there == 0 && !plan->memory && !create->refused;
    *direction = standing.switched || create->untold ? CHANGE_FORWARD : CHANGE_BACK;
    return TRUE;
}

/* ---- what follows ---- */

static gboolean
run_resume(gpointer context, const KhoJob *job, GError **error)
{
    Create *create = context;
    g_autoptr(VmClient) client = NULL;

    if (!create->plan->memory || !create->plan->running)
        return TRUE;
    if (!reach(create, &client, error) || (client && !pause_end(client, error)))
        return FALSE;
    gint64 went_on_ms = client && create->stopped_ms > 0 ? since_ms(client) : 0;
    if (went_on_ms >= create->stopped_ms && went_on_ms > 0)
        create->pause_ms = went_on_ms - create->stopped_ms;
    return TRUE;
}

static gboolean
run_publish_definition(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;

    return vm_definition_publish(create->tree, create->plan->machine, create->plan->definition, error);
}

static gboolean
run_publish_live(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;
    g_autoptr(VmClient) client = NULL;

    return reach(create, &client, error)
           && (!client || create_live_publish(create->tree, create->plan, client, error));
}

static gboolean
run_finish_memory(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;

    return !create->plan->memory || memory_finish(create->plan->memory, create->head, error);
}

/* What the closed files hold must be durable before anything says that they are a snapshot; the metadata
 * comes before the mark that it is current, which means nothing without it. */
static gboolean
run_publish_snapshot(gpointer context, const KhoJob *job, GError **error)
{
    const Create *create = context;
    const CreatePlan *plan = create->plan;
    g_autoptr(ModelSnapshot) snapshot = model_snapshot_parse(plan->metadata, strlen(plan->metadata), error);

    g_autoptr(GPtrArray) all = snapshot ? snapshot_read_sound(create->tree, plan->machine, error) : NULL;
    if (!all || !closed_note(snapshot, all, error))
        return FALSE;
    if (create->pause_ms >= 0)
        snapshot->pause_ms = (gint) MIN(create->pause_ms, G_MAXINT);
    return snapshot_write(create->tree, plan->machine, snapshot, error)
           && snapshot_set_current(create->tree, plan->machine, plan->name, error);
}

static const char *
left_by(gpointer context)
{
    return ((const Create *) context)->left;
}

static const ChangeStep steps[] = {
    { "make-overlays", run_make_overlays, undo_make_overlays, FALSE },
    { "save-memory", run_save_memory, undo_save_memory, FALSE },
    { "switch", run_switch, undo_switch, FALSE },
    { "resume", run_resume, NULL, FALSE },
    { "publish-definition", run_publish_definition, NULL, FALSE },
    { "publish-live", run_publish_live, NULL, FALSE },
    { "finish-memory", run_finish_memory, NULL, FALSE },
    { "publish-snapshot", run_publish_snapshot, NULL, FALSE },
};

const ChangeKind snapshot_create_kind = {
    .name = "snapshot-create",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 2,
    .open = create_open,
    .close = create_close,
    .decide = decide,
    .left = left_by,
};
