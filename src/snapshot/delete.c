#include "snapshot/delete.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "snapshot/closed.h"
#include "snapshot/drop.h"
#include "snapshot/overlay.h"
#include "snapshot/pause.h"
#include "vm/definition.h"
#include "vm/merge.h"
#include "vm/reach.h"
#include "vm/runtime.h"

#include <glib/gstdio.h>
#include <kho/image.h>
#include <string.h>

#define CALL_TIMEOUT_MS 10000

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

/* *client is NULL where no disk of the plan was open in QEMU, or its QEMU is gone. */
static gboolean
reach(const Delete *change, VmClient **client, GError **error)
{
    gboolean wanted = FALSE;

    for (guint i = 0; i < change->plan->disks->len; i++)
        wanted |= ((DeleteDisk *) change->plan->disks->pdata[i])->device != NULL;
    *client = NULL;
    return !wanted || vm_reach(change->tree, change->plan->machine, client, error);
}

static VmMerge
merge_of(const DeleteDisk *row)
{
    return (VmMerge){ .job = row->job,
                      .device = row->device,
                      .discard = row->discard,
                      .aio = row->aio,
                      .down = goes(row, DELETE_DOWN),
                      .upper = row->upper,
                      .lower = row->lower,
                      .upper_path = row->follower,
                      .lower_path = row->file,
                      .above_path = row->above_path,
                      .backing_name = row->backing_name };
}

/* Whether the guest itself goes over to another file. */
static gboolean
needs_pause(const DeleteDisk *row)
{
    return row->device && goes(row, DELETE_DOWN) && !row->above_path;
}

/* Whether the definition names F as a disk: it was published then that the guest goes on there. */
static gboolean
definition_names(const Delete *change, const char *path, gboolean *names, GError **error)
{
    g_autoptr(ModelDomain) model = vm_definition(change->tree, change->plan->machine, error);

    *names = FALSE;
    for (guint i = 0; model && i < model->disks->len; i++) {
        const ModelDisk *disk = model->disks->pdata[i];
        *names |= disk->source_file && overlay_is_same_file(disk->source_file, path);
    }
    return model != NULL;
}

/* Whether the header that a merge changes names what it is to name. */
static gboolean
header_is_new(const DeleteDisk *row)
{
    return goes(row, DELETE_UP) ? !overlay_lies_on(row->follower, row->file)
                                : !row->above_path || overlay_lies_on(row->above_path, row->file);
}

/* Whether both files have become one, for a merge step that was not done to its end: QEMU knows, and
 * otherwise the headers. A merge downwards by the engine has no other effect before that end. QEMU changes
 * its nodes first: where it could not write the header then, the files are two as before. */
static gboolean
look_at(const Delete *change, const DeleteDisk *row, VmClient *client, gboolean *merged, GError **error)
{
    const VmMerge merge = merge_of(row);
    VmMergeState state;

    *merged = FALSE;
    if (row->device && client) {
        if (!vm_merge_look(client, &merge, &state, error))
            return FALSE;
        *merged = state == VM_MERGE_MERGED && header_is_new(row);
    } else if (goes(row, DELETE_UP) || (row->device && row->above_path)) {
        *merged = header_is_new(row);
    } else if (row->device) {
        return definition_names(change, row->file, merged, error);
    }
    return TRUE;
}

static gboolean
merge_by_engine(const DeleteDisk *row, const KhoJob *job, GError **error)
{
    const KhoImageMerge merge = {
        .overlay = row->follower, .base = row->file, .base_format = row->format, .cut_base = TRUE
    };

    return goes(row, DELETE_UP) ? kho_image_merge_up(&merge, &kho_image_gate_open, job, error)
                                : kho_image_merge_down(&merge, &kho_image_gate_open, job, error);
}

static gboolean
copy_disk(const Delete *change, const DeleteDisk *row, VmClient *client, const KhoJob *job, GError **error)
{
    const VmMerge merge = merge_of(row);
    gboolean merged;

    if (!row->device)
        return merge_by_engine(row, job, error);
    if (client)
        return vm_merge_copy(client, &merge, job, error);
    return look_at(change, row, client, &merged, error)
           && (merged
               || fail(error, KHO_ERROR_IO, "machine '%s' has ended while its files were merged",
                       change->plan->machine));
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
copy_all(Delete *change, VmClient *client, const KhoJob *job, GError **error)
{
    const DeletePlan *plan = change->plan;

    change->untouched = !plan->was_marked;
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        GStatBuf before = { 0 };
        gboolean down = goes(row, DELETE_DOWN), known = down && g_stat(row->file, &before) == 0;
        if (!down && !goes(row, DELETE_UP))
            continue;
        gboolean copied = copy_disk(change, row, client, job, error);
        if (down && !(known && is_as_before(row->file, &before)))
            change->untouched = FALSE;
        if (!copied)
            return FALSE;
    }
    return TRUE;
}

/* QEMU's copies have their effect: from here on to the definition's change the guest stands still, where it
 * goes over to another file itself. */
static gboolean
finish_all(const Delete *change, VmClient *client, GError **error)
{
    const DeletePlan *plan = change->plan;
    gboolean pause = FALSE;

    for (guint i = 0; i < plan->disks->len; i++)
        pause |= needs_pause(plan->disks->pdata[i]);
    if (pause && !pause_begin(client, error))
        return FALSE;
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        const VmMerge merge = merge_of(row);
        if (row->device && !vm_merge_finish(client, &merge, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
run_merge(gpointer context, const KhoJob *job, GError **error)
{
    Delete *change = context;
    g_autoptr(VmClient) client = NULL;

    return reach(change, &client, error) && copy_all(change, client, job, error)
           && (!client || finish_all(change, client, error));
}

/* ---- where all of it stands ---- */

typedef struct {
    guint merged, apart; /* of those that are to be merged */
    guint merged_by_qemu;
} Standing;

/* Sets each disk's `apart`. */
static gboolean
look_at_all(const Delete *change, VmClient *client, Standing *standing, GError **error)
{
    *standing = (Standing){ 0 };
    for (guint i = 0; i < change->plan->disks->len; i++) {
        DeleteDisk *row = change->plan->disks->pdata[i];
        gboolean merged;
        row->apart = TRUE;
        if (!goes(row, DELETE_UP) && !goes(row, DELETE_DOWN))
            continue;
        if (!look_at(change, row, client, &merged, error))
            return FALSE;
        row->apart = !merged;
        standing->merged += merged;
        standing->apart += !merged;
        standing->merged_by_qemu += merged && row->device;
    }
    return TRUE;
}

static void
forget_standing(const Delete *change)
{
    for (guint i = 0; i < change->plan->disks->len; i++)
        ((DeleteDisk *) change->plan->disks->pdata[i])->apart = FALSE;
}

static gboolean
decide(gpointer context, ChangeDirection *direction, GError **error)
{
    const Delete *change = context;
    g_autoptr(VmClient) client = NULL;
    Standing standing;

    if (!reach(change, &client, error) || !look_at_all(change, client, &standing, error))
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

/* ---- taking back ---- */

/* An overlay that took in all that it lacked reads the same over the file that it lay on. */
static gboolean
put_back(const DeleteDisk *row, GError **error)
{
    if (row->device || !goes(row, DELETE_UP) || overlay_lies_on(row->follower, row->file))
        return TRUE;
    g_autofree char *name = overlay_backing_name(row->follower, row->file);
    return kho_image_set_backing(row->follower, name, row->format, error);
}

/* A merge writes files that other snapshots closed, or their headers, and what these read stays the same. */
static gboolean
note_written(const Delete *change, GError **error)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();

    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        g_ptr_array_add(paths, row->file);
        if (row->follower)
            g_ptr_array_add(paths, row->follower);
        for (guint n = 0; n < row->above->len; n++)
            g_ptr_array_add(paths, ((DeleteAbove *) row->above->pdata[n])->path);
    }
    return paths->len == 0 || closed_note_again(change->tree, change->plan->machine, paths, error);
}

/* Ends QEMU's jobs, and gives the engine's merges upwards back what they lay on. */
static gboolean
cancel_all(const Delete *change, VmClient *client, GError **error)
{
    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        const VmMerge merge = merge_of(row);
        if ((client && row->device && !vm_merge_cancel(client, &merge, error)) || !put_back(row, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
undo_merge(gpointer context, GError **error)
{
    const Delete *change = context;
    g_autoptr(VmClient) client = NULL;

    return reach(change, &client, error) && cancel_all(change, client, error)
           && (!client || pause_end(client, error)) && note_written(change, error);
}

/* ---- what follows; all of it leaves those alone that are apart ---- */

/* Downwards, what lay on C lies on F now. QEMU has seen to those that it has open. */
static gboolean
run_rewire(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;

    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        for (guint n = 0; goes(row, DELETE_DOWN) && !row->apart && n < row->above->len; n++) {
            const DeleteAbove *above = row->above->pdata[n];
            g_autofree char *name = overlay_backing_name(above->path, row->file);
            if (!overlay_lies_on(above->path, row->file)
                && !kho_image_set_backing(above->path, name, row->format, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* Lets the disks of @model name the file that is left of two. */
static gboolean
rename_in_domain(const DeletePlan *plan, ModelDomain *model)
{
    gboolean changed = FALSE;

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (goes(row, DELETE_DOWN) && !row->apart)
            changed |= model_domain_move_disk(model, row->follower, row->file, row->format);
    }
    return changed;
}

static gboolean
run_publish_definition(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;
    const char *machine = change->plan->machine;
    g_autoptr(ModelDomain) model = vm_definition(change->tree, machine, error);

    if (!model || !rename_in_domain(change->plan, model))
        return model != NULL;
    g_autofree char *text = model_domain_format(model, MODEL_FORMAT_INACTIVE);
    return vm_definition_publish(change->tree, machine, text, error);
}

static gboolean
run_publish_live(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;
    g_autofree char *run_path = store_path_domain_run(change->tree, change->plan->machine);
    g_autoptr(VmClient) client = NULL;
    gsize len;

    if (!reach(change, &client, error))
        return FALSE;
    if (!client)
        return TRUE;
    g_autofree char *xml = vm_runtime_live_xml(run_path, &len, error);
    g_autoptr(ModelDomain) model = xml ? model_domain_parse(xml, len, error) : NULL;
    if (!model || !rename_in_domain(change->plan, model))
        return model != NULL;
    g_autofree char *text = model_domain_format(model, MODEL_FORMAT_LIVE);
    json_auto json_t *done =
        vm_client_call(client, "kho-live-xml", json_pack("{s:s}", "xml", text), CALL_TIMEOUT_MS, error);
    return done != NULL;
}

static gboolean
run_resume(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;
    g_autoptr(VmClient) client = NULL;

    return reach(change, &client, error) && (!client || pause_end(client, error));
}

/* Lets @snapshot name the file that is left of two; the one that is being deleted does not name what is gone.
 */
static gboolean
rename_in_snapshot(const DeletePlan *plan, ModelSnapshot *snapshot)
{
    gboolean own = strcmp(snapshot->name, plan->name) == 0, changed = FALSE;

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (row->apart)
            continue;
        if (own)
            changed |= model_snapshot_drop_file(snapshot, row->target);
        else if (goes(row, DELETE_DOWN))
            changed |= model_snapshot_move_file(snapshot, row->follower, row->file, row->format);
        else if (goes(row, DELETE_UP) && !row->keep_file)
            changed |= model_snapshot_move_file(snapshot, row->file, row->follower, "qcow2");
    }
    return changed;
}

static gboolean
rename_in_all(const Delete *change, gboolean own_too, gboolean reparent, GError **error)
{
    const DeletePlan *plan = change->plan;
    /* the way to be rid of those that are damaged, which changes no files */
    g_autoptr(GPtrArray) all = plan->disks->len > 0 ? snapshot_read_all(change->tree, plan->machine, error)
                                                    : snapshot_read_sound(change->tree, plan->machine, error);

    for (guint i = 0; all && i < all->len; i++) {
        ModelSnapshot *snapshot = all->pdata[i];
        gboolean own = strcmp(snapshot->name, plan->name) == 0;
        gboolean child = reparent && g_strcmp0(snapshot->parent, plan->name) == 0;
        if (child) {
            g_free(snapshot->parent);
            snapshot->parent = g_strdup(plan->parent);
        }
        if ((!own || own_too) && (rename_in_snapshot(plan, snapshot) || child)
            && !snapshot_write(change->tree, plan->machine, snapshot, error))
            return FALSE;
    }
    return all != NULL;
}

static gboolean
run_publish_snapshots(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;
    const DeletePlan *plan = change->plan;
    g_autofree char *current = NULL;

    if (!rename_in_all(change, FALSE, TRUE, error) || !note_written(change, error)
        || !snapshot_current(change->tree, plan->machine, &current, error))
        return FALSE;
    return g_strcmp0(current, plan->name) != 0
           || snapshot_set_current(change->tree, plan->machine, plan->parent, error);
}

static gboolean
drop_merged(const Delete *change, GError **error)
{
    const DeletePlan *plan = change->plan;

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        gboolean file_goes = (goes(row, DELETE_UP) && !row->keep_file) || goes(row, DELETE_DROP);
        const char *path = goes(row, DELETE_DOWN) && !row->keep_file ? row->follower
                           : file_goes                               ? row->file
                                                                     : NULL;
        if (path && !row->apart && !drop_unless_needed(change->tree, path, plan->machine, plan->name, error))
            return FALSE;
    }
    return drop_forget_gone(change->tree, plan->machine, error);
}

static gboolean
run_drop_files(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;

    return drop_merged(change, error)
           && (!change->plan->memory || entry_remove_if_there(change->plan->memory, error));
}

static gboolean
run_drop_snapshot(gpointer context, const KhoJob *job, GError **error)
{
    const Delete *change = context;

    return snapshot_drop(change->tree, change->plan->machine, change->plan->name, error);
}

/* What was merged is published, before the guest goes on, and the rest stays the snapshot's, marked, for the
 * next delete. */
static gboolean
settle(gpointer context, GError **error)
{
    const Delete *change = context;
    g_autoptr(VmClient) client = NULL;
    Standing standing;

    return set_mark(change, MODEL_SWITCH_ON, error) && reach(change, &client, error)
           && cancel_all(change, client, error) && look_at_all(change, client, &standing, error)
           && run_rewire(context, NULL, error) && run_publish_definition(context, NULL, error)
           && run_publish_live(context, NULL, error) && run_resume(context, NULL, error)
           && rename_in_all(change, TRUE, FALSE, error) && note_written(change, error)
           && drop_merged(change, error);
}

static const ChangeStep steps[] = {
    { "mark", run_mark, undo_mark, FALSE },
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
    .no_return = 1,
    .open = delete_open,
    .close = delete_close,
    .decide = decide,
    .settle = settle,
};
