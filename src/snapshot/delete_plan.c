/* Deciding how a snapshot goes: what follows its files, and which way each merge goes. */
#include "snapshot/delete.h"

#include "base/error.h"
#include "snapshot/closed.h"
#include "snapshot/delete_users.h"
#include "snapshot/delete_way.h"
#include "snapshot/files.h"
#include "snapshot/overlay.h"
#include "vm/nodes.h"

#include <glib/gstdio.h>
#include <kho/image_layers.h>
#include <string.h>

#define CALL_TIMEOUT_MS 10000

static const PlanField above_fields[] = { PLAN_FIELD(PLAN_STRING, "path", DeleteAbove, path) };
static const PlanTable above_table = PLAN_TABLE(DeleteAbove, above_fields);

static const PlanField disk_fields[] = {
    PLAN_FIELD(PLAN_STRING, "target", DeleteDisk, target),
    PLAN_FIELD(PLAN_STRING, "how", DeleteDisk, how),
    PLAN_FIELD(PLAN_STRING, "file", DeleteDisk, file),
    PLAN_FIELD(PLAN_STRING, "format", DeleteDisk, format),
    PLAN_FIELD(PLAN_MAYBE, "follower", DeleteDisk, follower),
    PLAN_FIELD(PLAN_FLAG, "keep-file", DeleteDisk, keep_file),
    PLAN_LIST("above", DeleteDisk, above, &above_table),
    PLAN_FIELD(PLAN_MAYBE, "job", DeleteDisk, job),
    PLAN_FIELD(PLAN_MAYBE, "device", DeleteDisk, device),
    PLAN_FIELD(PLAN_MAYBE, "discard", DeleteDisk, discard),
    PLAN_FIELD(PLAN_MAYBE, "aio", DeleteDisk, aio),
    PLAN_FIELD(PLAN_MAYBE, "upper", DeleteDisk, upper),
    PLAN_FIELD(PLAN_MAYBE, "lower", DeleteDisk, lower),
    PLAN_FIELD(PLAN_MAYBE, "above-path", DeleteDisk, above_path),
    PLAN_FIELD(PLAN_MAYBE, "backing-name", DeleteDisk, backing_name),
};
static const PlanTable disk_table = PLAN_TABLE(DeleteDisk, disk_fields);

static const PlanField fields[] = {
    PLAN_FIELD(PLAN_STRING, "machine", DeletePlan, machine),
    PLAN_FIELD(PLAN_STRING, "name", DeletePlan, name),
    PLAN_FIELD(PLAN_MAYBE, "parent", DeletePlan, parent),
    PLAN_FIELD(PLAN_MAYBE, "memory", DeletePlan, memory),
    PLAN_FIELD(PLAN_FLAG, "was-marked", DeletePlan, was_marked),
    PLAN_FIELD(PLAN_WISH, "force", DeletePlan, force),
    PLAN_LIST("disks", DeletePlan, disks, &disk_table),
};
const PlanTable snapshot_delete_table = PLAN_TABLE(DeletePlan, fields);

void
snapshot_delete_plan_free(DeletePlan *plan)
{
    g_clear_pointer(&plan->left, g_ptr_array_unref);
    plan_free(&snapshot_delete_table, plan);
}

/* What is being decided. */
typedef struct {
    const StoreTree *tree;
    const DeleteWish *wish;
    const ModelSnapshot *snapshot;
    const SnapshotOverlays *overlays;
    const KhoJob *job;
    GPtrArray *all;   /* ModelSnapshot: those of the machine */
    GPtrArray *files; /* NamedFile: all that could need what changes */
    DeletePlan *plan;
} Deciding;

/* Their names; @more may be NULL. */
static char *
list_files(const GPtrArray *files, const GPtrArray *more)
{
    g_autoptr(GString) list = g_string_new(NULL);
    guint n_more = more ? more->len : 0;

    for (guint i = 0; i < files->len + n_more; i++) {
        g_autofree char *text =
            named_file_text(i < files->len ? files->pdata[i] : more->pdata[i - files->len]);
        g_string_append_printf(list, "%s%s", i == 0 ? "" : ", ", text);
    }
    return g_strdup(list->str);
}

static gboolean
refuse_followers(const Deciding *d, const ModelSnapshotFile *closed, const GPtrArray *found, GError **error)
{
    g_autofree char *list = list_files(found, NULL);

    return fail(
        error, KHO_ERROR_UNSUPPORTED,
        "disk %s of snapshot '%s' is what %u others go on from (%s): delete all but one of them first",
        closed->name, d->snapshot->name, found->len, list);
}

static gboolean
refuse_space(const DeleteDisk *row, const KhoImageMergeCost *cost, GError **error)
{
    return fail(error, KHO_ERROR_NO_SPACE,
                "merging %s and %s needs up to %" G_GUINT64_FORMAT " bytes more beside the one, or "
                "%" G_GUINT64_FORMAT " beside the other: %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT
                " are free",
                row->file, row->follower, cost->up_space_bytes, cost->down_space_bytes, cost->up_free_bytes,
                cost->down_free_bytes);
}

/* A file that kho did not make stays, so that all had better go into that one; else what moves less. */
static gboolean
is_better_down(const Deciding *d, const DeleteDisk *row, const KhoImageMergeCost *cost)
{
    if (!snapshot_overlays_have(d->overlays, row->follower))
        return FALSE;
    return !snapshot_overlays_have(d->overlays, row->file) || cost->down_bytes < cost->up_bytes;
}

static void G_GNUC_PRINTF(2, 3) tell_left(const Deciding *d, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(d->plan->left, g_strdup_vprintf(format, args));
    va_end(args);
}

/* @path is the machine's no more. Where kho did not make it, it stays, which is told unless somebody else
 * needs it. */
static void
leave_if_foreign(const Deciding *d, DeleteDisk *row, const char *path)
{
    if (row->keep_file || snapshot_overlays_have(d->overlays, path))
        return;
    row->keep_file = TRUE;
    tell_left(d, "%s is left: the machine does not need it any more, and kho did not make it", path);
}

/* The way that moves fewer bytes, of those that are open and have room. */
static gboolean
choose_way(const Deciding *d, DeleteDisk *row, GError **error)
{
    gboolean down = !row->keep_file && delete_is_alone(d->files, d->plan->machine, row->follower), up = TRUE;
    KhoImageMergeCost cost;

    if (!delete_way_by_sizes(d->wish, row, &up, &down, error) || !delete_way_cost(row, &cost, d->job, error))
        return FALSE;
    /* QEMU lets no stream into a layer that it reads begin while the guest is paused */
    up &= !row->above_path || d->wish->running || !down;
    gboolean up_fits = up && cost.up_space_bytes <= cost.up_free_bytes;
    gboolean down_fits = down && cost.down_space_bytes <= cost.down_free_bytes;
    if (!up_fits && !down_fits)
        return refuse_space(row, &cost, error);
    gboolean goes_down = down_fits && (!up_fits || is_better_down(d, row, &cost));
    row->how = g_strdup(goes_down ? DELETE_DOWN : DELETE_UP);
    leave_if_foreign(d, row, goes_down ? row->follower : row->file);
    return TRUE;
}

static void
add_above(const Deciding *d, DeleteDisk *row)
{
    g_autoptr(GPtrArray) above = delete_followers(d->files, d->plan->machine, row->follower);

    for (guint i = 0; i < above->len; i++) {
        const NamedFile *file = above->pdata[i];
        ((DeleteAbove *) plan_add(&above_table, row->above))->path = g_strdup(file->path);
    }
}

static gint
position_of(const GPtrArray *paths, const char *path)
{
    for (guint i = 0; i < paths->len; i++)
        if (overlay_is_same_file(paths->pdata[i], path))
            return (gint) i;
    return -1;
}

/* Fills in what QEMU calls the layers of @disk at @upper and under it. */
static gboolean
name_layers(const Deciding *d, const ModelDisk *disk, const GPtrArray *paths, guint upper, DeleteDisk *row,
            GError **error)
{
    g_autoptr(GPtrArray) layers = vm_nodes_of_device(d->wish->client, disk->alias, error);

    if (!layers)
        return FALSE;
    if (layers->len != paths->len)
        return fail(error, KHO_ERROR_CORRUPT,
                    "QEMU has %u layers of disk %s open, but the chain of %s has %u: a merge failed, or "
                    "somebody else "
                    "changed it; `kho destroy` or shut down the machine first",
                    layers->len, disk->target, disk->source_file, paths->len);
    row->job = g_strdup_printf("delete-%u", d->plan->disks->len);
    row->device = g_strdup(disk->alias);
    row->discard = g_strdup(disk->discard == MODEL_DISCARD_UNMAP    ? "unmap"
                            : disk->discard == MODEL_DISCARD_IGNORE ? "ignore"
                                                                    : NULL);
    row->aio = g_strdup(model_io_word(disk->io));
    row->upper = g_strdup(((VmNode *) layers->pdata[upper])->node);
    row->lower = g_strdup(((VmNode *) layers->pdata[upper + 1])->node);
    row->above_path = upper > 0 ? g_strdup(paths->pdata[upper - 1]) : NULL;
    return TRUE;
}

/* QEMU 7.2 aborts where a job is to write to images that it has let go of. */
static gboolean
check_images(const Deciding *d, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(d->wish->client, CALL_TIMEOUT_MS, error);

    if (!status || !status->images_inactive)
        return status != NULL;
    return fail(error, KHO_ERROR_BUSY,
                "machine '%s' stands still since its memory was written, and QEMU has let go of its disks: "
                "`kho resume` it first",
                d->wish->machine);
}

/* Whether QEMU has both files open, and as what; nothing where it has not. */
static gboolean
find_in_qemu(const Deciding *d, DeleteDisk *row, GError **error)
{
    const ModelDomain *live = d->wish->live;

    for (guint i = 0; live && i < live->disks->len; i++) {
        const ModelDisk *disk = live->disks->pdata[i];
        if (!disk->source_file)
            continue;
        g_autoptr(GPtrArray) paths =
            overlay_chain(disk->source_file, disk->format, KHO_IMAGE_IDLE_LOCK, error);
        if (!paths)
            return FALSE;
        gint upper = position_of(paths, row->follower), lower = position_of(paths, row->file);
        if (upper >= 0 && lower == upper + 1)
            return check_images(d, error) && name_layers(d, disk, paths, (guint) upper, row, error);
    }
    return TRUE;
}

/* What QEMU is to write into a header: downwards into that of the layer above, upwards into that of C. */
static gboolean
name_backing(DeleteDisk *row, GError **error)
{
    KhoImageInfo info = { 0 };

    if (!row->device)
        return TRUE;
    if (strcmp(row->how, DELETE_DOWN) == 0) {
        row->backing_name = row->above_path ? overlay_backing_name(row->above_path, row->file) : NULL;
        return TRUE;
    }
    if (!kho_image_info(row->file, row->format, &info, error))
        return FALSE;
    /* a name in F's header is relative to F's folder */
    row->backing_name =
        info.full_backing_path ? overlay_backing_name(row->follower, info.full_backing_path) : NULL;
    kho_image_info_clear(&info);
    return TRUE;
}

static gboolean
check_data(const Deciding *d, const DeleteDisk *row, GError **error)
{
    g_autofree char *cure =
        g_strdup_printf("it cannot be merged; `kho snapshot-delete --metadata %s %s` forgets the snapshot "
                        "and leaves the files",
                        d->wish->machine, d->snapshot->name);

    if (overlay_check_data(row->file, row->format, cure, error)
        && overlay_check_data(row->follower, "qcow2", cure, error))
        return TRUE;
    g_prefix_error(error, "disk %s of snapshot '%s': ", row->target, d->snapshot->name);
    return FALSE;
}

/* What was changed behind our back is not mixed with what was not. */
static gboolean
check_unchanged(const Deciding *d, const DeleteDisk *row, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (d->wish->force)
        return TRUE;
    gboolean unchanged = closed_check(d->all, row->file, &why) && closed_check(d->all, row->follower, &why);

    for (guint i = 0; unchanged && i < row->above->len; i++)
        unchanged = closed_check(d->all, ((DeleteAbove *) row->above->pdata[i])->path, &why);
    if (unchanged && closed_check_below(d->snapshot, row->target, &why))
        return TRUE;
    return fail(error, KHO_ERROR_INVALID,
                "disk %s of snapshot '%s': %s: put it back as it was, merge the files as they are now with "
                "`kho snapshot-delete --force %s %s`, or forget the snapshot with `kho snapshot-delete "
                "--metadata %s %s`",
                row->target, d->snapshot->name, why->message, d->wish->machine, d->snapshot->name,
                d->wish->machine, d->snapshot->name);
}

static gboolean
check_there(const Deciding *d, const DeleteDisk *row, GError **error)
{
    GStatBuf st;

    return g_stat(row->file, &st) == 0
           || fail(error, KHO_ERROR_NOT_FOUND,
                   "disk %s of snapshot '%s': the image %s is not there: put it back, or forget the snapshot "
                   "with `kho snapshot-delete --metadata %s %s`",
                   row->target, d->snapshot->name, row->file, d->wish->machine, d->snapshot->name);
}

/* Takes those out of @found that kho made for this machine and that nobody names any more: a disk was taken
 * out of the machine, or redefined. */
static GPtrArray *
take_strays(const Deciding *d, GPtrArray *found)
{
    GPtrArray *strays = g_ptr_array_new();

    for (guint i = found->len; i-- > 0;) {
        NamedFile *file = found->pdata[i];
        if (file->machine || !snapshot_overlays_have(d->overlays, file->path))
            continue;
        g_ptr_array_add(strays, file);
        g_ptr_array_remove_index(found, i);
    }
    return strays;
}

/* Whether the machine, as it is defined or as it runs, has a disk of that name. */
static gboolean
has_disk(const Deciding *d, const char *target)
{
    for (guint i = 0; i < d->files->len; i++) {
        const NamedFile *file = d->files->pdata[i];
        if (!file->snapshot && g_strcmp0(file->machine, d->plan->machine) == 0
            && g_strcmp0(file->target, target) == 0)
            return TRUE;
    }
    return FALSE;
}

/* Whether nothing of the machine goes on from the file any more, but something does that was its own: @found
 * (others) or @strays. */
static gboolean
is_given_up(const Deciding *d, const char *target, const GPtrArray *found, const GPtrArray *strays)
{
    for (guint i = 0; i < found->len; i++)
        if (g_strcmp0(((NamedFile *) found->pdata[i])->machine, d->plan->machine) == 0)
            return FALSE;
    return found->len == 0 ? strays->len > 0 : !has_disk(d, target);
}

/* All of its files stay as they are: neither merged nor removed. */
static gboolean
keep_given_up(const Deciding *d, DeleteDisk *row, const GPtrArray *found, const GPtrArray *strays)
{
    g_autofree char *list = list_files(strays, found);

    row->how = g_strdup(DELETE_KEEP);
    row->keep_file = TRUE;
    tell_left(d,
              "%s, which snapshot '%s' needed as disk %s, stays as it is, and so does what lies on it (%s): "
              "machine '%s' does not use that disk any more",
              row->file, d->snapshot->name, row->target, list, d->plan->machine);
    return TRUE;
}

static gboolean
refuse_foreign(const Deciding *d, const DeleteDisk *row, const NamedFile *follower, GError **error)
{
    g_autofree char *text = named_file_text(follower);

    return fail(
        error, KHO_ERROR_BUSY,
        "%s of snapshot '%s' is the backing file of %s, which is not of machine '%s': it would be lost; "
        "`kho snapshot-delete --metadata %s %s` forgets the snapshot and leaves the files",
        row->file, d->snapshot->name, text, d->plan->machine, d->plan->machine, d->snapshot->name);
}

/* What kho made and nobody names keeps what it lies on: the other follower takes in what it needs, or goes on
 * alone. */
static void
spare_strays(const Deciding *d, DeleteDisk *row, const GPtrArray *strays)
{
    g_autofree char *list = list_files(strays, NULL);

    if (strays->len == 0)
        return;
    row->keep_file = TRUE;
    tell_left(d,
              "%s, which snapshot '%s' needed as disk %s, stays: %s lies on it, which machine '%s' does not "
              "use any more",
              row->file, d->snapshot->name, row->target, list, d->plan->machine);
}

/* Whether all that follows the file is known. */
static gboolean
check_seen(const Deciding *d, const DeleteDisk *row, GError **error)
{
    const NamedFile *unseen = d->wish->force ? NULL : named_files_unseen(d->files, row->file);

    if (!unseen)
        return TRUE;
    g_autofree char *text = named_file_unseen_text(unseen), *cure = named_file_unseen_cure(d->tree, unseen);
    return fail(error, KHO_ERROR_BUSY,
                "disk %s of snapshot '%s': %s, and if it is %s it would be lost: %s, or lose it with `kho "
                "snapshot-delete --force %s %s`",
                row->target, d->snapshot->name, text, row->file, cure, d->plan->machine, d->snapshot->name);
}

static gboolean
add_disk(const Deciding *d, const ModelSnapshotFile *closed, GError **error)
{
    g_autoptr(GPtrArray) found = delete_followers(d->files, d->plan->machine, closed->file);
    g_autoptr(GPtrArray) strays = take_strays(d, found);
    DeleteDisk *row = plan_add(&disk_table, d->plan->disks);

    row->target = g_strdup(closed->name);
    row->file = g_strdup(closed->file);
    row->format = g_strdup(closed->format);
    row->keep_file =
        named_files_other_user(d->files, closed->file, d->plan->machine, d->snapshot->name) != NULL;
    if (is_given_up(d, closed->name, found, strays))
        return keep_given_up(d, row, found, strays);
    if (found->len > 1)
        return refuse_followers(d, closed, found, error);
    if (found->len == 0) {
        gboolean goes = !row->keep_file && snapshot_overlays_have(d->overlays, closed->file);
        row->how = g_strdup(goes ? DELETE_DROP : DELETE_KEEP);
        leave_if_foreign(d, row, row->file);
        return check_seen(d, row, error);
    }
    const NamedFile *follower = found->pdata[0];
    if (g_strcmp0(follower->machine, d->plan->machine) != 0)
        return refuse_foreign(d, row, follower, error);
    const char *listed = snapshot_overlays_name(d->overlays, follower->path);
    row->follower = g_strdup(listed ? listed : follower->path);
    spare_strays(d, row, strays);
    add_above(d, row);
    return check_there(d, row, error) && check_seen(d, row, error) && check_data(d, row, error)
           && check_unchanged(d, row, error) && find_in_qemu(d, row, error) && choose_way(d, row, error)
           && name_backing(row, error);
}

/* No other snapshot of the machine has its memory in the same file. */
static gboolean
owns_memory(const Deciding *d)
{
    const ModelSnapshot *snapshot = d->snapshot;

    for (guint i = 0; i < d->all->len; i++) {
        const ModelSnapshot *other = d->all->pdata[i];
        if (strcmp(other->name, snapshot->name) != 0
            && g_strcmp0(other->memory_file, snapshot->memory_file) == 0)
            return FALSE;
    }
    return snapshot->memory == MODEL_LOCATION_EXTERNAL && snapshot->memory_file;
}

static gboolean
decide_files(Deciding *d, GError **error)
{
    const ModelSnapshot *snapshot = d->snapshot;

    d->files = named_files(d->tree, error);
    d->all = d->files ? snapshot_read_all(d->tree, d->wish->machine, error) : NULL;
    if (!d->all)
        return FALSE;
    d->plan->memory = owns_memory(d) ? g_strdup(snapshot->memory_file) : NULL;
    for (guint i = 0; i < snapshot->files->len; i++) {
        const ModelSnapshotFile *closed = snapshot->files->pdata[i];
        if (!named_files_add_folder(d->files, closed->file, error))
            return FALSE;
    }
    for (guint i = 0; i < snapshot->files->len; i++)
        if (!add_disk(d, snapshot->files->pdata[i], error))
            return FALSE;
    return TRUE;
}

DeletePlan *
snapshot_delete_plan(const StoreTree *tree, const DeleteWish *wish, const KhoJob *job, GError **error)
{
    g_autoptr(DeletePlan) plan = plan_new(&snapshot_delete_table);
    g_auto(SnapshotOverlays) overlays = { 0 };
    Deciding d = { .tree = tree,
                   .wish = wish,
                   .snapshot = wish->snapshot,
                   .overlays = &overlays,
                   .job = job,
                   .plan = plan };

    plan->left = g_ptr_array_new_with_free_func(g_free);
    plan->machine = g_strdup(wish->machine);
    plan->name = g_strdup(wish->snapshot->name);
    plan->parent = g_strdup(wish->snapshot->parent);
    plan->was_marked = wish->snapshot->deleting == MODEL_SWITCH_ON;
    plan->force = wish->force;
    if (wish->metadata_only)
        return g_steal_pointer(&plan);
    gboolean decided = snapshot_overlays(tree, wish->machine, &overlays, error) && decide_files(&d, error);
    g_clear_pointer(&d.files, g_ptr_array_unref);
    g_clear_pointer(&d.all, g_ptr_array_unref);
    return decided ? g_steal_pointer(&plan) : NULL;
}
