#include "snapshot/delete_merge.h"

#include "base/error.h"
#include "base/fd.h"
#include "snapshot/overlay.h"
#include "snapshot/pause.h"
#include "vm/definition.h"
#include "vm/merge.h"
#include "vm/reach.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <kho/image_layers.h>
#include <string.h>

gboolean
delete_goes(const DeleteDisk *row, const char *how)
{
    return strcmp(row->how, how) == 0;
}

/* *client is NULL where no disk of the plan was open in QEMU, or its QEMU is gone. */
gboolean
delete_reach(const DeleteChange *change, VmClient **client, GError **error)
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
                      .down = delete_goes(row, DELETE_DOWN),
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
    return row->device && delete_goes(row, DELETE_DOWN) && !row->above_path;
}

/* Whether the definition names F as a disk: it was published then that the guest goes on there. */
static gboolean
definition_names(const DeleteChange *change, const char *path, gboolean *names, GError **error)
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
    return delete_goes(row, DELETE_UP) ? !overlay_lies_on(row->follower, row->file)
                                       : !row->above_path || overlay_lies_on(row->above_path, row->file);
}

/* *has: whether QEMU has the disk, and *state how it stands there. */
static gboolean
ask_qemu(const DeleteDisk *row, VmClient *client, gboolean *has, VmMergeState *state, GError **error)
{
    const VmMerge merge = merge_of(row);

    *state = VM_MERGE_GONE;
    if (row->device && client && !vm_merge_look(client, &merge, state, error))
        return FALSE;
    *has = *state != VM_MERGE_GONE;
    return TRUE;
}

/* Whether both files have become one, for a merge step that was not done to its end: QEMU knows, and
 * otherwise (it has ended, or its guest has let go of the disk) the headers. A merge downwards by the engine
 * has no other effect before that end. QEMU changes its nodes first: where it could not write the header
 * then, the files are two as before. */
static gboolean
look_at(const DeleteChange *change, const DeleteDisk *row, VmClient *client, gboolean *merged, GError **error)
{
    VmMergeState state;
    gboolean has;

    *merged = FALSE;
    if (!ask_qemu(row, client, &has, &state, error))
        return FALSE;
    if (has) {
        *merged = state == VM_MERGE_MERGED && header_is_new(row);
    } else if (delete_goes(row, DELETE_UP) || (row->device && row->above_path)) {
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

    return delete_goes(row, DELETE_UP) ? kho_image_merge_up(&merge, &kho_image_gate_open, job, error)
                                       : kho_image_merge_down(&merge, &kho_image_gate_open, job, error);
}

/* QEMU does not say which file a job could not write. */
static gboolean
copy_in_qemu(VmClient *client, const VmMerge *merge, const KhoJob *job, GError **error)
{
    const char *target = merge->down ? merge->lower_path : merge->upper_path;
    g_autoptr(GError) why = NULL;

    if (vm_merge_copy(client, merge, job, &why))
        return TRUE;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NO_SPACE) && !strstr(why->message, target))
        g_prefix_error(&why, "%s: ", target);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* What QEMU wrote last, and may not have flushed: the file that it named goes next. */
static gboolean
sync_header(const DeleteDisk *row, GError **error)
{
    const char *path = delete_goes(row, DELETE_UP) ? row->follower : row->above_path;

    if (!path)
        return TRUE;
    fd_auto int fd = fd_open(path, O_RDONLY, 0, error);
    return fd >= 0 && fd_sync(fd, path, error);
}

static gboolean
fail_without_disk(const DeletePlan *plan, const DeleteDisk *row, const VmClient *client, GError **error)
{
    if (!client)
        return fail(error, KHO_ERROR_IO, "machine '%s' has ended while its files were merged", plan->machine);
    return fail(error, KHO_ERROR_BUSY,
                "the guest of machine '%s' has let go of disk %s while its files were merged: delete again",
                plan->machine, row->target);
}

static gboolean
copy_disk(const DeleteChange *change, const DeleteDisk *row, VmClient *client, const KhoJob *job,
          GError **error)
{
    const VmMerge merge = merge_of(row);
    gboolean merged, has;
    VmMergeState state;

    if (!row->device)
        return merge_by_engine(row, job, error);
    if (!ask_qemu(row, client, &has, &state, error))
        return FALSE;
    if (has)
        return copy_in_qemu(client, &merge, job, error);
    return look_at(change, row, client, &merged, error)
           && (merged ? sync_header(row, error) : fail_without_disk(change->plan, row, client, error));
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
copy_all(DeleteChange *change, VmClient *client, const KhoJob *job, GError **error)
{
    const DeletePlan *plan = change->plan;

    change->untouched = !plan->was_marked;
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        GStatBuf before = { 0 };
        gboolean down = delete_goes(row, DELETE_DOWN), known = down && g_stat(row->file, &before) == 0;
        if (!down && !delete_goes(row, DELETE_UP))
            continue;
        gboolean copied = copy_disk(change, row, client, job, error);
        if (down && !(known && is_as_before(row->file, &before)))
            change->untouched = FALSE;
        if (!copied)
            return FALSE;
    }
    return TRUE;
}

static gboolean
finish_disk(const DeleteChange *change, const DeleteDisk *row, VmClient *client, GError **error)
{
    const VmMerge merge = merge_of(row);
    gboolean merged, has;
    VmMergeState state;

    if (!ask_qemu(row, client, &has, &state, error))
        return FALSE;
    if (has)
        return vm_merge_finish(client, &merge, error);
    return look_at(change, row, client, &merged, error)
           && (merged || fail_without_disk(change->plan, row, client, error));
}

/* QEMU's copies have their effect: from here on to the definition's change the guest stands still, where it
 * goes over to another file itself. */
static gboolean
finish_all(const DeleteChange *change, VmClient *client, GError **error)
{
    const DeletePlan *plan = change->plan;
    gboolean pause = FALSE;

    for (guint i = 0; i < plan->disks->len; i++)
        pause |= needs_pause(plan->disks->pdata[i]);
    if (pause && !pause_begin(client, error))
        return FALSE;
    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (row->device && !finish_disk(change, row, client, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
delete_merge_run(DeleteChange *change, const KhoJob *job, GError **error)
{
    g_autoptr(VmClient) client = NULL;

    return delete_reach(change, &client, error) && copy_all(change, client, job, error)
           && (!client || finish_all(change, client, error));
}

/* Sets each disk's `apart`. */
gboolean
delete_merge_look(const DeleteChange *change, VmClient *client, DeleteStanding *standing, GError **error)
{
    *standing = (DeleteStanding){ 0 };
    for (guint i = 0; i < change->plan->disks->len; i++) {
        DeleteDisk *row = change->plan->disks->pdata[i];
        gboolean merged;
        row->apart = TRUE;
        if (!delete_goes(row, DELETE_UP) && !delete_goes(row, DELETE_DOWN))
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

/* An overlay that took in all that it lacked reads the same over the file that it lay on. */
static gboolean
put_back(const DeleteDisk *row, GError **error)
{
    if (row->device || !delete_goes(row, DELETE_UP) || overlay_lies_on(row->follower, row->file))
        return TRUE;
    g_autofree char *name = overlay_backing_name(row->follower, row->file);
    return kho_image_set_backing(row->follower, name, row->format, error);
}

/* Ends QEMU's jobs, and gives the engine's merges upwards back what they lay on. */
gboolean
delete_merge_cancel(const DeleteChange *change, VmClient *client, GError **error)
{
    for (guint i = 0; i < change->plan->disks->len; i++) {
        const DeleteDisk *row = change->plan->disks->pdata[i];
        const VmMerge merge = merge_of(row);
        if ((client && row->device && !vm_merge_cancel(client, &merge, error)) || !put_back(row, error))
            return FALSE;
    }
    return TRUE;
}
