/* Deciding how a snapshot goes: what follows its files, and which way each merge goes. */
#include "snapshot/delete.h"

#include "base/error.h"
#include "snapshot/files.h"

#include <kho/image.h>
#include <string.h>

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
};
static const PlanTable disk_table = PLAN_TABLE(DeleteDisk, disk_fields);

static const PlanField fields[] = {
    PLAN_FIELD(PLAN_STRING, "machine", DeletePlan, machine),
    PLAN_FIELD(PLAN_STRING, "uuid", DeletePlan, uuid),
    PLAN_FIELD(PLAN_STRING, "name", DeletePlan, name),
    PLAN_FIELD(PLAN_MAYBE, "parent", DeletePlan, parent),
    PLAN_FIELD(PLAN_MAYBE, "definition", DeletePlan, definition),
    PLAN_FIELD(PLAN_MAYBE, "memory", DeletePlan, memory),
    PLAN_FIELD(PLAN_FLAG, "was-marked", DeletePlan, was_marked),
    PLAN_LIST("disks", DeletePlan, disks, &disk_table),
};
const PlanTable snapshot_delete_table = PLAN_TABLE(DeletePlan, fields);

void
snapshot_delete_plan_free(DeletePlan *plan)
{
    plan_free(&snapshot_delete_table, plan);
}

/* What is being decided. */
typedef struct {
    const ModelSnapshot *snapshot;
    const SnapshotOverlays *overlays;
    const KhoJob *job;
    GPtrArray *files; /* NamedFile: all that could need what changes */
    DeletePlan *plan;
} Deciding;

static gboolean
is_own(const Deciding *d, const NamedFile *file)
{
    return g_strcmp0(file->machine, d->plan->machine) == 0;
}

static gboolean
same(const NamedFile *a, const NamedFile *b)
{
    return a->ino != 0 ? a->dev == b->dev && a->ino == b->ino : strcmp(a->path, b->path) == 0;
}

/* What lies on @path, each file once (where several name it, one of this machine's names if there is one). */
static GPtrArray *
followers(const Deciding *d, const char *path)
{
    GPtrArray *found = g_ptr_array_new();

    for (guint i = 0; i < d->files->len; i++) {
        NamedFile *file = d->files->pdata[i];
        guint at = 0;
        if (!named_file_lies_on(file, path))
            continue;
        while (at < found->len && !same(found->pdata[at], file))
            at++;
        if (at == found->len)
            g_ptr_array_add(found, file);
        else if (!is_own(d, found->pdata[at]))
            found->pdata[at] = file;
    }
    return found;
}

static gboolean
refuse_followers(const Deciding *d, const ModelSnapshotFile *closed, const GPtrArray *found, GError **error)
{
    g_autoptr(GString) list = g_string_new(NULL);

    for (guint i = 0; i < found->len; i++) {
        g_autofree char *text = named_file_text(found->pdata[i]);
        g_string_append_printf(list, "%s%s", i == 0 ? "" : ", ", text);
    }
    return fail(
        error, KHO_ERROR_UNSUPPORTED,
        "disk %s of snapshot '%s' is what %u others go on from (%s): delete all but one of them first",
        closed->name, d->snapshot->name, found->len, list->str);
}

/* Whether a merge downwards would change what others than this machine read. */
static gboolean
may_go_down(const Deciding *d, const DeleteDisk *row)
{
    if (row->keep_file)
        return FALSE;
    for (guint i = 0; i < d->files->len; i++) {
        const NamedFile *file = d->files->pdata[i];
        gboolean concerned = named_file_is(file, row->follower) || named_file_lies_on(file, row->follower);
        if (concerned && !is_own(d, file))
            return FALSE;
    }
    return TRUE;
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

/* The way that moves fewer bytes, of those that are open and have room. */
static gboolean
choose_way(const Deciding *d, DeleteDisk *row, GError **error)
{
    const KhoImageMerge merge = { .overlay = row->follower, .base = row->file, .base_format = row->format };
    gboolean down = may_go_down(d, row);
    KhoImageMergeCost cost;

    if (!kho_image_merge_cost(&merge, 0, &cost, d->job, error))
        return FALSE;
    gboolean up_fits = cost.up_space_bytes <= cost.up_free_bytes;
    gboolean down_fits = down && cost.down_space_bytes <= cost.down_free_bytes;
    if (!up_fits && !down_fits)
        return refuse_space(row, &cost, error);
    gboolean goes_down = down_fits && (!up_fits || cost.down_bytes < cost.up_bytes);
    row->how = g_strdup(goes_down ? DELETE_DOWN : DELETE_UP);
    return TRUE;
}

static void
add_above(const Deciding *d, DeleteDisk *row)
{
    g_autoptr(GPtrArray) above = followers(d, row->follower);

    for (guint i = 0; i < above->len; i++) {
        const NamedFile *file = above->pdata[i];
        ((DeleteAbove *) plan_add(&above_table, row->above))->path = g_strdup(file->path);
    }
}

static gboolean
add_disk(const Deciding *d, const ModelSnapshotFile *closed, GError **error)
{
    g_autoptr(GPtrArray) found = followers(d, closed->file);
    DeleteDisk *row = plan_add(&disk_table, d->plan->disks);

    row->target = g_strdup(closed->name);
    row->file = g_strdup(closed->file);
    row->format = g_strdup(closed->format);
    row->keep_file =
        named_files_other_user(d->files, closed->file, d->plan->machine, d->snapshot->name) != NULL;
    if (found->len > 1)
        return refuse_followers(d, closed, found, error);
    if (found->len == 0) {
        gboolean goes = !row->keep_file && snapshot_overlays_have(d->overlays, closed->file);
        row->how = g_strdup(goes ? DELETE_DROP : DELETE_KEEP);
        return TRUE;
    }
    const NamedFile *follower = found->pdata[0];
    if (!is_own(d, follower)) {
        g_autofree char *text = named_file_text(follower);
        return fail(
            error, KHO_ERROR_BUSY,
            "%s of snapshot '%s' is the backing file of %s, which is not of machine '%s': it would be lost",
            closed->file, d->snapshot->name, text, d->plan->machine);
    }
    row->follower = g_strdup(follower->path);
    add_above(d, row);
    return choose_way(d, row, error);
}

/* The definition where a merge downwards takes the file away that it names; NULL where none does. */
static char *
definition_after(const DeletePlan *plan, const ModelDomain *definition)
{
    g_autoptr(ModelDomain) after = model_domain_copy(definition);
    gboolean changed = FALSE;

    for (guint i = 0; i < plan->disks->len; i++) {
        const DeleteDisk *row = plan->disks->pdata[i];
        if (strcmp(row->how, DELETE_DOWN) == 0)
            changed |= model_domain_move_disk(after, row->follower, row->file, row->format);
    }
    return changed ? model_domain_format(after, MODEL_FORMAT_INACTIVE) : NULL;
}

/* No other snapshot of the machine has its memory in the same file. */
static gboolean
owns_memory(const StoreTree *tree, const ModelSnapshot *snapshot, const char *machine, gboolean *owns,
            GError **error)
{
    g_autoptr(GPtrArray) all = snapshot_read_all(tree, machine, error);

    *owns = snapshot->memory == MODEL_LOCATION_EXTERNAL && snapshot->memory_file;
    for (guint i = 0; all && i < all->len; i++) {
        const ModelSnapshot *other = all->pdata[i];
        if (strcmp(other->name, snapshot->name) != 0
            && g_strcmp0(other->memory_file, snapshot->memory_file) == 0)
            *owns = FALSE;
    }
    return all != NULL;
}

static gboolean
decide_files(Deciding *d, const StoreTree *tree, const ModelDomain *definition, GError **error)
{
    const ModelSnapshot *snapshot = d->snapshot;
    gboolean owns;

    d->files = named_files(tree, error);
    if (!d->files || !owns_memory(tree, snapshot, definition->name, &owns, error))
        return FALSE;
    d->plan->memory = owns ? g_strdup(snapshot->memory_file) : NULL;
    for (guint i = 0; i < snapshot->files->len; i++) {
        const ModelSnapshotFile *closed = snapshot->files->pdata[i];
        if (!named_files_add_folder(d->files, closed->file, error))
            return FALSE;
    }
    for (guint i = 0; i < snapshot->files->len; i++)
        if (!add_disk(d, snapshot->files->pdata[i], error))
            return FALSE;
    d->plan->definition = definition_after(d->plan, definition);
    return TRUE;
}

DeletePlan *
snapshot_delete_plan(const StoreTree *tree, const ModelDomain *definition, const ModelSnapshot *snapshot,
                     gboolean metadata_only, const KhoJob *job, GError **error)
{
    g_autoptr(DeletePlan) plan = plan_new(&snapshot_delete_table);
    g_auto(SnapshotOverlays) overlays = { 0, NULL };
    Deciding d = { .snapshot = snapshot, .overlays = &overlays, .job = job, .plan = plan };

    plan->machine = g_strdup(definition->name);
    plan->uuid = g_strdup(definition->uuid);
    plan->name = g_strdup(snapshot->name);
    plan->parent = g_strdup(snapshot->parent);
    plan->was_marked = snapshot->deleting == MODEL_SWITCH_ON;
    if (metadata_only)
        return g_steal_pointer(&plan);
    gboolean decided = snapshot_overlays(tree, definition->name, &overlays, error)
                       && decide_files(&d, tree, definition, error);
    g_clear_pointer(&d.files, g_ptr_array_unref);
    return decided ? g_steal_pointer(&plan) : NULL;
}
