#include "snapshot/delete.h"

#include "base/error.h"
#include "base/fd.h"
#include "snapshot/drop.h"
#include "snapshot/overlay.h"
#include "vm/definition.h"

#include <glib/gstdio.h>
#include <kho/image.h>
#include <string.h>

typedef struct {
    const StoreTree *tree;
    DeletePlan *plan;
    gboolean untouched; /* this process began the merge, and saw that no file of the snapshot has changed */
} Delete;

static gpointer
delete_open(const json_t *json, gpointer tree, GError **error)
{
    DeletePlan *plan = plan_read(&snapshot_delete_table, json, error);

    if (!plan)
        return NULL;
    Delete *change = g_new0(Delete, 1);
    *change = (Delete){ .tree = tree, .plan = plan };
    return change;
}

static void
delete_close(gpointer context)
{
    Delete *change = context;

    snapshot_delete_plan_free(change->plan);
    g_free(change);
}

static gboolean
goes(const DeleteDisk *row, const char *how)
{
    return strcmp(row->how, how) == 0;
}

static gboolean
any_goes_down(const DeletePlan *plan)
{
    for (guint i = 0; i < plan->disks->len; i++)
        if (goes(plan->disks->pdata[i], DELETE_DOWN))
            return TRUE;
    return FALSE;
}

/* ---- mark ---- */

static gboolean
set_mark(const Delete *change, ModelSwitch mark, GError **error)
{
    const DeletePlan *plan = change->plan;
    g_autoptr(ModelSnapshot) snapshot = snapshot_read(change->tree, plan->machine, plan->name, error);

    if (!snapshot)
        return FALSE;
    if (snapshot->deleting == mark)
        return TRUE;
    snapshot->deleting = mark;
    return snapshot_write(change->tree, plan->machine, snapshot, error);
}

static gboolean
run_mark(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;

    return !any_goes_down(change->plan) || set_mark(change, MODEL_SWITCH_ON, error);
}

static gboolean
undo_mark(gpointer context, GError **error)
{
    const Delete *change = context;

    return !any_goes_down(change->plan) || change->plan->was_marked
           || set_mark(change, MODEL_SWITCH_UNSET, error);
}

/* ---- merge ---- */

static gboolean
merge_disk(const DeleteDisk *row, const KhoJob *job, GError **error)
{
    const KhoImageMerge merge = {
        .overlay = row->follower, .base = row->file, .base_format = row->format, .cut_base = TRUE
    };

    if (goes(row, DELETE_UP))
        return kho_image_merge_up(&merge, &kho_image_gate_open, job, error);
    if (goes(row, DELETE_DOWN))
        return kho_image_merge_down(&merge, &kho_image_gate_open, job, error);
    return TRUE;
}

/* Whether a file is as it was: what was written to it, however little, has changed one of these. */
static gboolean
is_as_before(const char *path, const GStatBuf *before)
{
    GStatBuf now;

    return g_stat(path, &now) == 0 && now.st_mtim.tv_sec == before->st_mtim.tv_sec
           && now.st_mtim.tv_nsec == before->st_mtim.tv_nsec && now.st_size == before->st_size
           && now.st_blocks == before->st_blocks;
}

static gboolean
run_merge(gpointer context, const KhoJob *job, GError **error)
{
    Delete *change = context;
    const DeletePlan *plan = change->plan;

    change->untouched = !plan->was_marked;
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        GStatBuf before = { 0 };
        gboolean down = goes(row, DELETE_DOWN), known = down && g_stat(row->file, &before) == 0;
        gboolean merged = merge_disk(row, job, error);
        if (down && !(known && is_as_before(row->file, &before)))
            change->untouched = FALSE;
        if (!merged)
            return FALSE;
    }
    return TRUE;
}

/* An overlay that took in all that it lacked reads the same over the file that it lay on. */
static gboolean
undo_merge(gpointer context, GError **error)
{
    const Delete *change = context;

    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        if (!goes(row, DELETE_UP) || overlay_lies_on(row->follower, row->file))
            continue;
        g_autofree char *name = overlay_backing_name(row->follower, row->file);
        if (!kho_image_set_backing(row->follower, name, row->format, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
all_are_up(const DeletePlan *plan)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (goes(row, DELETE_DOWN) || (goes(row, DELETE_UP) && overlay_lies_on(row->follower, row->file)))
            return FALSE;
    }
    return TRUE;
}

static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    const Delete *change = context;

    if (all_are_up(change->plan))
        *direction = CHANGE_FORWARD;
    else
        *direction = !any_goes_down(change->plan) || change->untouched ? CHANGE_BACK : CHANGE_SETTLE;
    return TRUE;
}

/* The mark has been there since before the merge. What went up is put back, so that the next delete finds all
 * files in their places. */
static gboolean
settle(gpointer context, GError **error)
{
    return undo_merge(context, error) && set_mark(context, MODEL_SWITCH_ON, error);
}

/* ---- what follows ---- */

static gboolean
run_rewire(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;

    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        for (guint n = 0; goes(row, DELETE_DOWN) && n < row->above->len; n++) {
            const DeleteAbove *above = row->above->pdata[n];
            g_autofree char *name = overlay_backing_name(above->path, row->file);
            if (!kho_image_set_backing(above->path, name, row->format, error))
                return FALSE;
        }
    }
    return TRUE;
}

static gboolean
run_publish_definition(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;
    const DeletePlan *plan = change->plan;

    return !plan->definition || vm_definition_publish(change->tree, plan->machine, plan->definition, error);
}

/* Lets @snapshot name the file that is left of two, and the parent that is left. */
static gboolean
rename_in(const DeletePlan *plan, ModelSnapshot *snapshot)
{
    gboolean changed = g_strcmp0(snapshot->parent, plan->name) == 0;

    if (changed) {
        g_free(snapshot->parent);
        snapshot->parent = g_strdup(plan->parent);
    }
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (goes(row, DELETE_DOWN))
            changed |= model_snapshot_move_file(snapshot, row->follower, row->file, row->format);
        else if (goes(row, DELETE_UP) && !row->keep_file)
            changed |= model_snapshot_move_file(snapshot, row->file, row->follower, "qcow2");
    }
    return changed;
}

static gboolean
run_publish_snapshots(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;
    const DeletePlan *plan = change->plan;
    g_autoptr(GPtrArray) all = snapshot_read_all(change->tree, plan->machine, error);
    g_autofree char *current = NULL;

    for (guint i = 0; all && i < all->len; i++) {
        ModelSnapshot *snapshot = all->pdata[i];
        if (strcmp(snapshot->name, plan->name) != 0 && rename_in(plan, snapshot)
            && !snapshot_write(change->tree, plan->machine, snapshot, error))
            return FALSE;
    }
    if (!all || !snapshot_current(change->tree, plan->machine, &current, error))
        return FALSE;
    return g_strcmp0(current, plan->name) != 0
           || snapshot_set_current(change->tree, plan->machine, plan->parent, error);
}

static gboolean
unlink_if_there(const char *path, GError **error)
{
    GStatBuf st;

    return g_lstat(path, &st) < 0 || (fd_unlink(path, error) && fd_sync_parent(path, error));
}

static gboolean
run_drop_files(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;
    const DeletePlan *plan = change->plan;

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        gboolean up = goes(row, DELETE_UP) && !row->keep_file;
        const char *path = goes(row, DELETE_DOWN)         ? row->follower
                           : up || goes(row, DELETE_DROP) ? row->file
                                                          : NULL;
        if (path && !drop_unless_needed(change->tree, path, plan->machine, plan->name, error))
            return FALSE;
    }
    return (!plan->memory || unlink_if_there(plan->memory, error))
           && drop_forget_gone(change->tree, plan->machine, error);
}

static gboolean
run_drop_snapshot(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;

    return snapshot_drop(change->tree, change->plan->machine, change->plan->name, error);
}

static const ChangeStep steps[] = {
    { "mark", run_mark, undo_mark, FALSE },
    { "merge", run_merge, undo_merge, FALSE },
    { "rewire", run_rewire, NULL, FALSE },
    { "publish-definition", run_publish_definition, NULL, FALSE },
    { "publish-snapshots", run_publish_snapshots, NULL, FALSE },
    { "drop-files", run_drop_files, NULL, FALSE },
    { "drop-snapshot", run_drop_snapshot, NULL, FALSE },
};

const ChangeKind snapshot_delete_kind = {
    .name = "snapshot-delete",
    .steps = steps,
    .n_steps = G_N_ELEMENTS(steps),
    .no_return = 1,
    .open = delete_open,
    .close = delete_close,
    .decide = decide,
    .settle = settle,
};
