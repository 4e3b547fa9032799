#include "snapshot/delete.h"

#include "base/entry.h"
#include "base/error.h"
#include "snapshot/delete_merge.h"
#include "snapshot/delete_publish.h"
#include "snapshot/delete_users.h"
#include "snapshot/drop.h"
#include "snapshot/guard.h"
#include "snapshot/overlay.h"
#include "snapshot/pause.h"

#include <kho/image_layers.h>
#include <string.h>

static gpointer
delete_open(const json_t *json, gpointer tree, GError **error)
{
    DeletePlan *plan = plan_read(&snapshot_delete_table, json, error);

    if (!plan)
        return NULL;
    DeleteChange *change = g_new0(DeleteChange, 1);
    *change = (DeleteChange){ .tree = tree, .plan = plan };
    return change;
}

static void
delete_close(gpointer context)
{
    DeleteChange *change = context;

    snapshot_delete_plan_free(change->plan);
    g_free(change->left);
    g_free(change);
}

static gboolean
any_goes_down(const DeletePlan *plan)
{
    for (guint i = 0; i < plan->disks->len; i++)
        if (delete_goes(plan->disks->pdata[i], DELETE_DOWN))
            return TRUE;
    return FALSE;
}

/* ---- mark ---- */

static gboolean
set_mark(const DeleteChange *change, ModelSwitch mark, GError **error)
{
    const DeletePlan *plan = change->plan;
    g_autoptr(GError) why = NULL;
    g_autoptr(ModelSnapshot) snapshot = snapshot_read(change->tree, plan->machine, plan->name, &why);

    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) /* removed by hand: nothing is to be marked */
        return TRUE;
    if (!snapshot) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (snapshot->deleting == mark)
        return TRUE;
    snapshot->deleting = mark;
    g_autoptr(StoreLock) lock = guard_lock(change->tree, NULL, error);
    return lock && snapshot_write(change->tree, plan->machine, snapshot, error);
}

static gboolean
run_mark(gpointer context, const KhoJob *job, GError **error)
{
    const DeleteChange *change = context;

    return !any_goes_down(change->plan) || set_mark(change, MODEL_SWITCH_ON, error);
}

static gboolean
undo_mark(gpointer context, GError **error)
{
    const DeleteChange *change = context;

    return !any_goes_down(change->plan) || change->plan->was_marked
           || set_mark(change, MODEL_SWITCH_UNSET, error);
}

/* From the mark on nobody builds on these files by kho; who did before is seen now. */
static gboolean
run_look_again(gpointer context, const KhoJob *job, GError **error)
{
    const DeleteChange *change = context;

    return !any_goes_down(change->plan) || delete_users_check(change->tree, change->plan, error);
}

/* ---- merge ---- */

static gboolean
run_merge(gpointer context, const KhoJob *job, GError **error)
{
    return delete_merge_run(context, job, error);
}

static void
forget_standing(const DeleteChange *change)
{
    for (guint i = 0; i < change->plan->disks->len; i++)
        ((DeleteDisk *) change->plan->disks->pdata[i])->apart = FALSE;
}

static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    const DeleteChange *change = context;
    g_autoptr(VmClient) client = NULL;
    DeleteStanding standing;

    if (!delete_reach(change, &client, error) || !delete_merge_look(change, client, &standing, error))
        return FALSE;
    forget_standing(change);
    if (standing.merged > 0 && standing.apart == 0)
        *direction = CHANGE_FORWARD;
    else if (standing.merged_by_qemu > 0 || (any_goes_down(change->plan) && !change->untouched))
        *direction = CHANGE_SETTLE;
    else
        *direction = CHANGE_BACK;
    return TRUE;
}

static gboolean
undo_merge(gpointer context, GError **error)
{
    const DeleteChange *change = context;
    g_autoptr(VmClient) client = NULL;

    return delete_reach(change, &client, error) && delete_merge_cancel(change, client, error)
           && (!client || pause_end(client, error)) && delete_note_written(change, error);
}

/* ---- what follows; all of it leaves those alone that are apart ---- */

/* Downwards, what lay on C lies on F now. QEMU has seen to those that it has open. */
static gboolean
run_rewire(gpointer context, const KhoJob *job, GError **error)
{
    const DeleteChange *change = context;

    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        for (guint n = 0; delete_goes(row, DELETE_DOWN) && !row->apart && n < row->above->len; n++) {
            const DeleteAbove *above = row->above->pdata[n];
            g_autofree char *name = overlay_backing_name(above->path, row->file);
            if (!overlay_lies_on(above->path, row->file)
                && !kho_image_set_backing(above->path, name, row->format, error))
                return FALSE;
        }
    }
    return TRUE;
}

static gboolean
run_publish_definition(gpointer context, const KhoJob *job, GError **error)
{
    return delete_publish_definition(context, error);
}

static gboolean
run_publish_live(gpointer context, const KhoJob *job, GError **error)
{
    return delete_publish_live(context, error);
}

static gboolean
run_resume(gpointer context, const KhoJob *job, GError **error)
{
    const DeleteChange *change = context;
    g_autoptr(VmClient) client = NULL;

    return delete_reach(change, &client, error) && (!client || pause_end(client, error));
}

static gboolean
run_publish_snapshots(gpointer context, const KhoJob *job, GError **error)
{
    const DeleteChange *change = context;
    const DeletePlan *plan = change->plan;
    g_autofree char *current = NULL;

    if (!delete_publish_snapshots(change, TRUE, error) || !delete_note_written(change, error)
        || !snapshot_current(change->tree, plan->machine, &current, error))
        return FALSE;
    return g_strcmp0(current, plan->name) != 0
           || snapshot_set_current(change->tree, plan->machine, plan->parent, error);
}

static void
drop_merged(DeleteChange *change)
{
    const DeletePlan *plan = change->plan;
    const Drop drop = { .tree = change->tree,
                        .machine = plan->machine,
                        .snapshot = plan->name,
                        .force = plan->force,
                        .left = &change->left };

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        gboolean file_goes =
            (delete_goes(row, DELETE_UP) && !row->keep_file) || delete_goes(row, DELETE_DROP);
        const char *path = delete_goes(row, DELETE_DOWN) && !row->keep_file ? row->follower
                           : file_goes                                      ? row->file
                                                                            : NULL;
        if (path && !row->apart)
            drop_unless_needed(&drop, path);
    }
    drop_forget_gone(&drop);
}

static gboolean
run_drop_files(gpointer context, const KhoJob *job, GError **error)
{
    DeleteChange *change = context;
    const char *memory = change->plan->memory;
    g_autoptr(GError) why = NULL;

    if (memory && !entry_remove_if_there(memory, &why))
        drop_leave(&change->left, why);
    drop_merged(change);
    return TRUE;
}

static const char *
left_by(gpointer context)
{
    return ((const DeleteChange *) context)->left;
}

static gboolean
run_drop_snapshot(gpointer context, const KhoJob *job, GError **error)
{
    const DeleteChange *change = context;

    return snapshot_drop(change->tree, change->plan->machine, change->plan->name, error);
}

/* What was merged is published, before the guest goes on, and the rest stays the snapshot's, marked, for the
 * next delete. */
static gboolean
settle(gpointer context, GError **error)
{
    DeleteChange *change = context;
    g_autoptr(VmClient) client = NULL;
    DeleteStanding standing;

    if (!set_mark(change, MODEL_SWITCH_ON, error) || !delete_reach(change, &client, error)
        || !delete_merge_cancel(change, client, error) || !delete_merge_look(change, client, &standing, error)
        || !run_rewire(context, NULL, error) || !delete_publish_definition(change, error)
        || !delete_publish_live(change, error) || !run_resume(context, NULL, error)
        || !delete_publish_snapshots(change, FALSE, error) || !delete_note_written(change, error))
        return FALSE;
    drop_merged(change);
    return TRUE;
}

static const ChangeStep steps[] = {
    { "mark", run_mark, undo_mark, FALSE },
    { "look-again", run_look_again, NULL, FALSE },
    { "merge", run_merge, undo_merge, FALSE },
    { "rewire", run_rewire, NULL, FALSE },
    { "publish-definition", run_publish_definition, NULL, FALSE },
    { "publish-live", run_publish_live, NULL, FALSE },
    { "resume", run_resume, NULL, FALSE },
    { "publish-snapshots", run_publish_snapshots, NULL, FALSE },
    { "drop-files", run_drop_files, NULL, FALSE },
    { "drop-snapshot", run_drop_snapshot, NULL, FALSE },
};

const ChangeKind snapshot_delete_kind = {
    .name = "snapshot-delete",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 2,
    .open = delete_open,
    .close = delete_close,
    .decide = decide,
    .settle = settle,
    .left = left_by,
};
