/* Deciding what a snapshot is: which disks take part, where their writes go, what will be published. */
#include "snapshot/create.h"

#include "base/error.h"
#include "base/pipe.h"
#include "base/xml.h"
#include "snapshot/folder.h"
#include "snapshot/memory.h"
#include "snapshot/overlay.h"
#include "vm/start_disks.h"

#include <glib/gstdio.h>
#include <kho/image.h>
#include <string.h>

static const PlanField disk_fields[] = {
    PLAN_FIELD(PLAN_STRING, "target", CreateDisk, target),
    PLAN_FIELD(PLAN_STRING, "file", CreateDisk, file),
    PLAN_FIELD(PLAN_STRING, "format", CreateDisk, format),
    PLAN_FIELD(PLAN_STRING, "overlay", CreateDisk, overlay),
    PLAN_FIELD(PLAN_INT, "number", CreateDisk, number),
    PLAN_FIELD(PLAN_MAYBE, "alias", CreateDisk, alias),
    PLAN_FIELD(PLAN_MAYBE, "node", CreateDisk, node),
    PLAN_FIELD(PLAN_MAYBE, "overlay-node", CreateDisk, overlay_node),
    PLAN_FIELD(PLAN_MAYBE, "nodes", CreateDisk, nodes),
    PLAN_FIELD(PLAN_INT, "fdset", CreateDisk, fdset),
};
static const PlanTable disk_table = PLAN_TABLE(CreateDisk, disk_fields);

static const PlanField fields[] = {
    PLAN_FIELD(PLAN_STRING, "machine", CreatePlan, machine),
    PLAN_FIELD(PLAN_STRING, "uuid", CreatePlan, uuid),
    PLAN_FIELD(PLAN_STRING, "name", CreatePlan, name),
    PLAN_FIELD(PLAN_STRING, "metadata", CreatePlan, metadata),
    PLAN_FIELD(PLAN_STRING, "definition", CreatePlan, definition),
    PLAN_FIELD(PLAN_MAYBE, "live", CreatePlan, live),
    PLAN_FIELD(PLAN_FLAG, "running", CreatePlan, running),
    PLAN_FIELD(PLAN_MAYBE, "overlays", CreatePlan, overlays),
    PLAN_FIELD(PLAN_MAYBE, "memory", CreatePlan, memory),
    PLAN_FIELD(PLAN_INT, "saved-ms", CreatePlan, saved_ms),
    PLAN_LIST("disks", CreatePlan, disks, &disk_table),
};
const PlanTable snapshot_create_table = PLAN_TABLE(CreatePlan, fields);

void
snapshot_create_plan_free(CreatePlan *plan)
{
    plan_free(&snapshot_create_table, plan);
}

/* What is being decided. */
typedef struct {
    const StoreTree *tree;
    const ModelDomain *definition, *now; /* @now: live where it runs, else the definition */
    gboolean runs;
    const SnapshotWish *wish;
    ModelSnapshot *current;     /* NULL: none */
    SnapshotOverlays *overlays; /* those that stand; the new ones are added */
    guint n_files;              /* of all chains, with the overlays */
    CreatePlan *plan;
} Deciding;

static const SnapshotDiskWish *
wish_for(const SnapshotWish *wish, const char *target)
{
    for (gsize i = 0; i < wish->n_disks; i++)
        if (strcmp(wish->disks[i].target, target) == 0)
            return &wish->disks[i];
    return NULL;
}

static gboolean
check_wishes(const Deciding *d, GError **error)
{
    const SnapshotWish *wish = d->wish;

    for (gsize i = 0; i < wish->n_disks; i++) {
        const char *target = wish->disks[i].target;
        const ModelDisk *disk = model_domain_disk(d->now, target);
        if (!disk || strcmp(disk->target, target) != 0)
            return fail(error, KHO_ERROR_NOT_FOUND,
                        "machine '%s' has no disk %s: `kho domblklist %s` shows all", d->now->name, target,
                        d->now->name);
        if (wish_for(wish, target) != &wish->disks[i])
            return fail(error, KHO_ERROR_INVALID, "disk %s is given twice", target);
    }
    return TRUE;
}

/* Why nothing is ever written to the disk's file, so that it needs no snapshot; NULL where it may be. */
static const char *
unwritten(const ModelDisk *disk)
{
    if (!disk->source_file && disk->type <= MODEL_SOURCE_FILE)
        return "empty";
    if (disk->device == MODEL_DISK_CDROM || disk->device == MODEL_DISK_FLOPPY)
        return "a removable drive";
    return disk->readonly ? "read-only" : NULL;
}

/* Memory comes back with the disks of its moment only: one that the guest goes on writing would not be that.
 */
static gboolean
leave_out(const Deciding *d, const ModelDisk *disk, GError **error)
{
    gboolean can_take_part = disk->type <= MODEL_SOURCE_FILE && !disk->shareable;

    if (!d->wish->with_memory || unwritten(disk))
        return TRUE;
    return fail(error, KHO_ERROR_INVALID,
                "disk %s of machine '%s' is written to and cannot be left out of a snapshot with memory, "
                "which would not "
                "fit it any more: leave the memory out with --disk-only%s",
                disk->target, d->now->name, can_take_part ? ", or let the disk take part" : "");
}

/* A device has no folder where a layer above it belongs. NULL: a file. */
static char *
no_file(const ModelDisk *disk)
{
    GStatBuf st;

    if (disk->type > MODEL_SOURCE_FILE)
        return g_strdup_printf("is of type '%s'", model_source_type_word(disk->type));
    if (disk->source_file && g_stat(disk->source_file, &st) == 0 && !S_ISREG(st.st_mode))
        return g_strdup_printf("lies on the device %s", disk->source_file);
    return NULL;
}

/* *takes: whether the disk takes part. */
static gboolean
takes_part(const Deciding *d, const ModelDisk *disk, gboolean *takes, GError **error)
{
    const SnapshotDiskWish *wish = wish_for(d->wish, disk->target);
    const char *why_not = unwritten(disk);

    *takes = FALSE;
    if (wish && wish->leave_out)
        return leave_out(d, disk, error);
    if (wish && why_not)
        return fail(error, KHO_ERROR_INVALID,
                    "disk %s of machine '%s' is %s and cannot take part in a snapshot: leave it out",
                    disk->target, d->now->name, why_not);
    if (why_not)
        return TRUE;
    g_autofree char *device = no_file(disk);
    if (device)
        return fail(
            error, KHO_ERROR_UNSUPPORTED,
            "disk %s of machine '%s' %s, no file: it cannot take part in a snapshot, leave it out with "
            "%s--diskspec %s,snapshot=no",
            disk->target, d->now->name, device, d->wish->with_memory ? "--disk-only " : "", disk->target);
    if (disk->shareable)
        return fail(
            error, KHO_ERROR_INVALID,
            "disk %s of machine '%s' may be shared with other machines, which would not follow: leave it "
            "out with %s--diskspec %s,snapshot=no",
            disk->target, d->now->name, d->wish->with_memory ? "--disk-only " : "", disk->target);
    *takes = TRUE;
    return TRUE;
}

static gboolean
check_wished_file(const Deciding *d, const char *path, GError **error)
{
    GStatBuf st;

    if (g_lstat(path, &st) == 0)
        return fail(error, KHO_ERROR_EXISTS, "the file %s exists already: choose another", path);
    for (guint i = 0; i < d->overlays->paths->len; i++)
        if (strcmp(d->overlays->paths->pdata[i], path) == 0)
            return fail(error, KHO_ERROR_INVALID, "the file %s is given twice", path);
    return TRUE;
}

static gboolean
check_length(const Deciding *d, const CreateDisk *row, GError **error)
{
    g_autofree char *name = g_path_get_basename(row->overlay);

    if (strlen(name) <= KHO_IMAGE_NAME_MAX)
        return TRUE;
    return fail(error, KHO_ERROR_INVALID,
                "disk %s of machine '%s': the new file's name is too long (%zu bytes, at most %d are "
                "possible): choose "
                "another with --diskspec %s,file=PATH",
                row->target, d->now->name, strlen(name), KHO_IMAGE_NAME_MAX, row->target);
}

/* Opens the disk's chain: it must be whole, and free of others where the machine does not run. */
static gboolean
look_at_chain(Deciding *d, const ModelDisk *disk, GError **error)
{
    g_autoptr(GError) why = NULL;
    KhoImageFlags flags = d->runs ? KHO_IMAGE_IDLE_LOCK : KHO_IMAGE_READ;

    if (overlay_count_chain(disk->source_file, disk->format, flags, &d->n_files, &why))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk %s of machine '%s': ", disk->target,
                               d->now->name);
    return FALSE;
}

static gboolean
check_data(const Deciding *d, const ModelDisk *disk, GError **error)
{
    g_autofree char *cure =
        g_strdup_printf("make one file of both with `kho img convert`, or leave the disk out with "
                        "%s--diskspec %s,snapshot=no",
                        d->wish->with_memory ? "--disk-only " : "", disk->target);

    if (overlay_check_data(disk->source_file, disk->format ? disk->format : "raw", cure, error))
        return TRUE;
    g_prefix_error(error, "disk %s of machine '%s': ", disk->target, d->now->name);
    return FALSE;
}

static gboolean
add_disk(Deciding *d, const ModelDisk *disk, GError **error)
{
    const SnapshotDiskWish *wish = wish_for(d->wish, disk->target);
    CreateDisk *row = plan_add(&disk_table, d->plan->disks);

    if (wish && wish->file && !check_wished_file(d, wish->file, error))
        return FALSE;
    row->target = g_strdup(disk->target);
    g_autofree char *path = g_canonicalize_filename(disk->source_file, "/");
    const char *listed = snapshot_overlays_name(d->overlays, path);
    row->file = g_strdup(listed ? listed : path);
    row->format = g_strdup(disk->format ? disk->format : "raw");
    row->alias = d->runs ? g_strdup(disk->alias) : NULL;
    if (wish && wish->file) {
        row->overlay = g_strdup(wish->file);
        g_ptr_array_add(d->overlays->paths, g_strdup(wish->file));
        d->overlays->next++;
    } else {
        row->overlay = overlay_choose(row->file, d->overlays);
    }
    row->number = d->overlays->next - 1;
    d->n_files++;
    return check_length(d, row, error);
}

/* One machine's chains are opened together when it starts, each file as a descriptor of QEMU's. */
static gboolean
check_files(const Deciding *d, GError **error)
{
    if (d->n_files > VM_START_FILES_MAX)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "machine '%s' would have %u files in the chains of its disks, and could not start with "
                    "more than %d: delete a snapshot first",
                    d->now->name, d->n_files, VM_START_FILES_MAX);
    return TRUE;
}

static gboolean
add_disks(Deciding *d, GError **error)
{
    for (guint i = 0; i < d->now->disks->len; i++) {
        const ModelDisk *disk = d->now->disks->pdata[i];
        gboolean takes;
        if (!takes_part(d, disk, &takes, error) || (disk->source_file && !look_at_chain(d, disk, error))
            || (takes && (!check_data(d, disk, error) || !add_disk(d, disk, error))))
            return FALSE;
    }
    if (d->plan->disks->len == 0 && !d->wish->with_memory)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' has no disk that could take part in a snapshot",
                    d->now->name);
    return check_files(d, error);
}

static gboolean
choose_memory(Deciding *d, GError **error)
{
    const SnapshotWish *wish = d->wish;
    GStatBuf st;

    if (!wish->with_memory)
        return TRUE;
    d->plan->memory = wish->memory_file ? g_strdup(wish->memory_file)
                                        : snapshot_memory_path(d->tree, d->now->name, wish->name);
    return (!wish->memory_file || check_wished_file(d, wish->memory_file, error))
           && (wish->memory_file || snapshot_folder_make(d->tree, d->now->name, error))
           && memory_check_room(d->now, d->plan->memory, error)
           && (g_lstat(d->plan->memory, &st) < 0
               || fail(error, KHO_ERROR_EXISTS, "the file %s exists already: choose another with --memspec",
                       d->plan->memory));
}

/* The text of @model once the plan is carried out. A definition that names another file than the running
 * machine uses is left alone: it was changed for the next start. */
static char *
text_after(const Deciding *d, const ModelDomain *model, ModelFormatKind kind)
{
    g_autoptr(ModelDomain) after = model_domain_copy(model);

    for (guint i = 0; i < d->plan->disks->len; i++) {
        const CreateDisk *row = d->plan->disks->pdata[i];
        overlay_move_disk(after, row->file, row->overlay, "qcow2");
    }
    return model_domain_format(after, kind);
}

static const CreateDisk *
row_of(const CreatePlan *plan, const char *target)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const CreateDisk *row = plan->disks->pdata[i];
        if (strcmp(row->target, target) == 0)
            return row;
    }
    return NULL;
}

static ModelSnapshot *
describe(const Deciding *d)
{
    const SnapshotWish *wish = d->wish;
    ModelSnapshot *snapshot = model_snapshot_new(wish->name);

    snapshot->description = g_strdup(wish->description);
    snapshot->parent = d->current ? g_strdup(d->current->name) : NULL;
    snapshot->state = d->runs && !wish->with_memory ? MODEL_SNAPSHOT_DISK_ONLY : wish->state;
    snapshot->created_s = g_get_real_time() / G_USEC_PER_SEC;
    snapshot->memory = wish->with_memory ? MODEL_LOCATION_EXTERNAL : MODEL_LOCATION_NO;
    snapshot->memory_file = g_strdup(d->plan->memory);
    for (guint i = 0; i < d->now->disks->len; i++) {
        const ModelDisk *disk = d->now->disks->pdata[i];
        const CreateDisk *row = row_of(d->plan, disk->target);
        model_snapshot_add_disk(snapshot, disk->target, row ? MODEL_LOCATION_EXTERNAL : MODEL_LOCATION_NO,
                                row ? row->overlay : NULL, row ? "qcow2" : NULL);
        if (row)
            model_snapshot_add_file(snapshot, row->target, row->file, row->format);
    }
    model_snapshot_set_domain(snapshot, d->now, d->runs ? d->definition : NULL);
    return snapshot;
}

static gboolean
write_texts(Deciding *d, GError **error)
{
    g_autoptr(ModelSnapshot) snapshot = describe(d);

    d->plan->metadata = model_snapshot_format(snapshot);
    d->plan->definition = text_after(d, d->definition, MODEL_FORMAT_INACTIVE);
    d->plan->live = d->runs ? text_after(d, d->now, MODEL_FORMAT_LIVE) : NULL;
    if (strlen(d->plan->metadata) > XML_TEXT_MAX)
        return fail(
            error, KHO_ERROR_UNSUPPORTED,
            "the definition of machine '%s' is too large for a snapshot: its metadata would have %zu bytes, "
            "more than %u",
            d->now->name, strlen(d->plan->metadata), XML_TEXT_MAX);
    return TRUE;
}

static gboolean
look_around(Deciding *d, GError **error)
{
    g_autofree char *current = NULL;
    g_autoptr(GPtrArray) all = snapshot_read_all(d->tree, d->now->name, error);

    if (!all || !snapshot_current(d->tree, d->now->name, &current, error))
        return FALSE;
    if (snapshot_find(all, d->wish->name))
        return fail(error, KHO_ERROR_EXISTS, "machine '%s' has a snapshot '%s' already: choose another name",
                    d->now->name, d->wish->name);
    for (guint i = 0; current && i < all->len; i++)
        if (strcmp(((ModelSnapshot *) all->pdata[i])->name, current) == 0)
            d->current = g_ptr_array_steal_index(all, i);
    return TRUE;
}

CreatePlan *
snapshot_create_plan(const StoreTree *tree, const ModelDomain *definition, const ModelDomain *live,
                     const SnapshotWish *wish, SnapshotOverlays *overlays, GError **error)
{
    g_autoptr(CreatePlan) plan = plan_new(&snapshot_create_table);
    Deciding d = { .tree = tree,
                   .definition = definition,
                   .now = live ? live : definition,
                   .runs = live != NULL,
                   .wish = wish,
                   .overlays = overlays,
                   .plan = plan };

    plan->machine = g_strdup(definition->name);
    plan->uuid = g_strdup(definition->uuid);
    plan->name = g_strdup(wish->name);
    plan->overlays = g_strdup(overlays->before);
    plan->saved_ms = clock_wall_ms();
    plan->running = wish->state == MODEL_SNAPSHOT_RUNNING;
    gboolean decided = look_around(&d, error) && check_wishes(&d, error) && choose_memory(&d, error)
                       && add_disks(&d, error) && write_texts(&d, error);
    model_snapshot_free(d.current);
    return decided ? g_steal_pointer(&plan) : NULL;
}
