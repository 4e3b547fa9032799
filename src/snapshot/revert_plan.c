/* Deciding what going back to a snapshot is: which overlays, which definition, what goes. */
#include "snapshot/revert.h"

#include "base/error.h"
#include "snapshot/closed.h"
#include "snapshot/guard.h"
#include "snapshot/overlay.h"
#include "vm/emulator.h"
#include "vm/ramfile.h"
#include "vm/start.h"
#include "vm/start_disks.h"

#include <kho/image.h>
#include <string.h>

static const PlanField disk_fields[] = {
    PLAN_FIELD(PLAN_STRING, "target", RevertDisk, target),
    PLAN_FIELD(PLAN_STRING, "file", RevertDisk, file),
    PLAN_FIELD(PLAN_STRING, "format", RevertDisk, format),
    PLAN_FIELD(PLAN_STRING, "overlay", RevertDisk, overlay),
};
static const PlanTable disk_table = PLAN_TABLE(RevertDisk, disk_fields);

static const PlanField old_fields[] = { PLAN_FIELD(PLAN_STRING, "path", RevertOld, path) };
static const PlanTable old_table = PLAN_TABLE(RevertOld, old_fields);

static const PlanField fields[] = {
    PLAN_FIELD(PLAN_STRING, "machine", RevertPlan, machine),
    PLAN_FIELD(PLAN_STRING, "uuid", RevertPlan, uuid),
    PLAN_FIELD(PLAN_STRING, "name", RevertPlan, name),
    PLAN_FIELD(PLAN_STRING, "definition", RevertPlan, definition),
    PLAN_FIELD(PLAN_MAYBE, "memory", RevertPlan, memory),
    PLAN_FIELD(PLAN_MAYBE, "live", RevertPlan, live),
    PLAN_FIELD(PLAN_INT, "stream-off", RevertPlan, stream_off),
    PLAN_FIELD(PLAN_FLAG, "active", RevertPlan, active),
    PLAN_FIELD(PLAN_FLAG, "start", RevertPlan, start),
    PLAN_FIELD(PLAN_FLAG, "paused", RevertPlan, paused),
    PLAN_LIST("disks", RevertPlan, disks, &disk_table),
    PLAN_LIST("old", RevertPlan, old, &old_table),
};
const PlanTable snapshot_revert_table = PLAN_TABLE(RevertPlan, fields);

void
snapshot_revert_plan_free(RevertPlan *plan)
{
    plan_free(&snapshot_revert_table, plan);
}

/* What is being decided. */
typedef struct {
    const StoreTree *tree;
    const RevertWish *wish;
    GPtrArray *all; /* ModelSnapshot: those of the machine */
    SnapshotOverlays *overlays;
    ModelDomain *memory; /* what runs again with the snapshot's memory; NULL: nothing */
    guint n_files;       /* of all chains, with the overlays */
    RevertPlan *plan;
} Deciding;

/* Whether the file and all that it lies on are as their snapshots closed them. */
static gboolean
check_chain(const Deciding *d, const GPtrArray *paths, GError **error)
{
    for (guint i = 0; i < paths->len; i++)
        if (!d->wish->force && !closed_check(d->all, paths->pdata[i], error))
            return FALSE;
    return TRUE;
}

static gboolean
refuse_disk(const Deciding *d, const ModelSnapshotFile *closed, const GError *why, GError **error)
{
    const char *machine = d->plan->machine, *name = d->plan->name;
    g_autofree char *cure =
        why->code == KHO_ERROR_NOT_FOUND ? g_strdup_printf(
            ": put it back, or forget the snapshot with `kho snapshot-delete --metadata %s %s`", machine,
            name)
        : why->code == KHO_ERROR_INVALID && !d->wish->force ? g_strdup_printf(
              ": put it back as it was, or take it as it is with `kho snapshot-revert --force %s %s`",
              machine, name)
                                                            : g_strdup("");

    return fail(error, (KhoErrorCode) why->code, "disk %s of snapshot '%s': %s%s", closed->name, name,
                why->message, cure);
}

/* Every file that the snapshot closed must be there, with all that it lies on, and not be written. */
static gboolean
add_disk(Deciding *d, const ModelSnapshotFile *closed, GError **error)
{
    RevertDisk *row = plan_add(&disk_table, d->plan->disks);
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) paths = overlay_chain(closed->file, closed->format, KHO_IMAGE_READ, &why);

    row->target = g_strdup(closed->name);
    row->file = g_strdup(closed->file);
    row->format = g_strdup(closed->format);
    if (!paths || !check_chain(d, paths, &why)
        || (!d->wish->force && !closed_check_below(d->wish->snapshot, closed->name, &why))
        || !guard_check_read(d->tree, d->plan->machine, closed->file, closed->format, &why))
        return refuse_disk(d, closed, why, error);
    row->overlay = overlay_choose(closed->file, d->overlays);
    d->n_files += paths->len + 1;
    return TRUE;
}

static const RevertDisk *
row_of(const RevertPlan *plan, const char *target)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const RevertDisk *row = plan->disks->pdata[i];
        if (strcmp(row->target, target) == 0)
            return row;
    }
    return NULL;
}

/* The files that the machine would no longer name: those that kho made may go. */
static void
add_old(RevertPlan *plan, const ModelDomain *model, const SnapshotOverlays *overlays)
{
    for (guint i = 0; model && i < model->disks->len; i++) {
        const ModelDisk *disk = model->disks->pdata[i];
        g_autofree char *path = disk->source_file ? g_canonicalize_filename(disk->source_file, "/") : NULL;
        const char *listed = path ? snapshot_overlays_name(overlays, path) : NULL;
        if (listed)
            ((RevertOld *) plan_add(&old_table, plan->old))->path = g_strdup(listed);
    }
}

static void
set_source(ModelDisk *disk, const char *file, const char *format)
{
    g_free(disk->source_file);
    disk->source_file = g_strdup(file);
    g_free(disk->format);
    disk->format = g_strdup(format);
}

/* Lets the disks of @after be in the new overlays. A disk that took no part is where the machine has it now.
 */
static void
move_disks(const RevertPlan *plan, ModelDomain *after, const ModelDomain *now)
{
    for (guint i = 0; i < after->disks->len; i++) {
        ModelDisk *disk = after->disks->pdata[i];
        const RevertDisk *row = row_of(plan, disk->target);
        const ModelDisk *same = model_domain_disk(now, disk->target);
        if (row)
            set_source(disk, row->overlay, "qcow2");
        else if (same && same->source_file && disk->source_file)
            set_source(disk, same->source_file, same->format);
    }
}

/* The files of the disks that took no part. */
static guint
count_others(const RevertPlan *plan, const ModelDomain *after)
{
    guint n_files = 0;

    for (guint i = 0; i < after->disks->len; i++) {
        const ModelDisk *disk = after->disks->pdata[i];
        if (!row_of(plan, disk->target) && disk->source_file
            && !overlay_count_chain(disk->source_file, disk->format, KHO_IMAGE_IDLE_LOCK, &n_files, NULL))
            n_files++; /* a start says what is wrong with it */
    }
    return n_files;
}

static gboolean
write_definition(RevertPlan *plan, const ModelDomain *now, const ModelSnapshot *snapshot, guint *n_files,
                 GError **error)
{
    const ModelDomain *then = model_snapshot_definition(snapshot);

    if (!then)
        return fail(error, KHO_ERROR_CORRUPT, "snapshot '%s' of machine '%s' holds no definition",
                    snapshot->name, now->name);
    if (g_strcmp0(then->uuid, now->uuid) != 0)
        return fail(error, KHO_ERROR_CORRUPT, "snapshot '%s' is of another machine, with uuid %s",
                    snapshot->name, then->uuid ? then->uuid : "none");
    g_autoptr(ModelDomain) after = model_domain_copy(then);
    g_free(after->name);
    after->name = g_strdup(now->name);
    move_disks(plan, after, now);
    *n_files += count_others(plan, after);
    plan->definition = model_domain_format(after, MODEL_FORMAT_INACTIVE);
    return TRUE;
}

/* The machine as it ran with the memory at @path; NULL where that is none that it could go on from. */
static ModelDomain *
read_memory(RevertPlan *plan, const ModelDomain *now, const char *path, GError **error)
{
    g_autoptr(VmSaveHead) head = vm_ramfile_read(path, error);
    g_autoptr(ModelDomain) live =
        head ? model_domain_parse(head->live_xml, strlen(head->live_xml), error) : NULL;

    if (!live
        || !vm_emulator_check_memory(live->emulator ? live->emulator : vm_host_defaults.emulator,
                                     head->qemu_version, path, error))
        return NULL;
    if (g_strcmp0(live->uuid, now->uuid) != 0) {
        fail(error, KHO_ERROR_CORRUPT, "%s holds the memory of another machine, '%s'", path, live->name);
        return NULL;
    }
    g_free(live->name);
    live->name = g_strdup(now->name);
    plan->memory = g_strdup(path);
    plan->stream_off = (gint64) head->stream_off;
    return g_steal_pointer(&live);
}

/* One whose file is gone or damaged may go back without. */
static gboolean
find_memory(Deciding *d, GError **error)
{
    const ModelSnapshot *snapshot = d->wish->snapshot;
    g_autoptr(GError) why = NULL;

    if (snapshot->memory != MODEL_LOCATION_EXTERNAL || !snapshot->memory_file)
        return TRUE;
    d->memory = read_memory(d->plan, d->wish->definition, snapshot->memory_file, &why);
    if (d->memory)
        return TRUE;
    gboolean lost = why->code == KHO_ERROR_NOT_FOUND || why->code == KHO_ERROR_CORRUPT;
    if (lost && d->wish->force)
        return TRUE;
    g_autofree char *cure =
        lost ? g_strdup_printf(": `kho snapshot-revert --force %s %s` goes back to its disks alone",
                               d->plan->machine, snapshot->name)
             : g_strdup("");
    return fail(error, (KhoErrorCode) why->code, "the memory of snapshot '%s': %s%s", snapshot->name,
                why->message, cure);
}

static void
plan_state(const Deciding *d)
{
    RevertTo to = d->wish->to;
    gboolean was_paused = d->wish->snapshot->state == MODEL_SNAPSHOT_PAUSED;

    if (d->memory) {
        move_disks(d->plan, d->memory, d->wish->definition);
        d->plan->live = model_domain_format(d->memory, MODEL_FORMAT_LIVE);
    }
    d->plan->start = d->memory || to != REVERT_AS_TAKEN;
    d->plan->paused = to == REVERT_PAUSED || (to == REVERT_AS_TAKEN && was_paused);
}

/* A disk that was plugged into the machine as it ran alone is not in its definition: nothing would name a new
 * overlay of it, unless that machine runs again. */
static gboolean
is_wanted(const Deciding *d, const char *target)
{
    const ModelDomain *then = model_snapshot_definition(d->wish->snapshot);

    return (then && model_domain_disk(then, target)) || (d->memory && model_domain_disk(d->memory, target));
}

static gboolean
check_files(const Deciding *d, GError **error)
{
    return d->n_files <= VM_START_FILES_MAX
           || fail(error, KHO_ERROR_UNSUPPORTED,
                   "machine '%s' would have %u files in the chains of its disks, and could not start with "
                   "more than %d: delete a snapshot first",
                   d->plan->machine, d->n_files, VM_START_FILES_MAX);
}

static gboolean
decide(Deciding *d, GError **error)
{
    const ModelSnapshot *snapshot = d->wish->snapshot;

    if (!d->all)
        return FALSE;
    add_old(d->plan, d->wish->definition, d->overlays);
    add_old(d->plan, d->wish->live, d->overlays);
    if (!find_memory(d, error))
        return FALSE;
    for (guint i = 0; i < snapshot->files->len; i++) {
        const ModelSnapshotFile *closed = snapshot->files->pdata[i];
        if (is_wanted(d, closed->name) && !add_disk(d, closed, error))
            return FALSE;
    }
    if (!write_definition(d->plan, d->wish->definition, snapshot, &d->n_files, error)
        || !check_files(d, error))
        return FALSE;
    plan_state(d);
    return TRUE;
}

RevertPlan *
snapshot_revert_plan(const StoreTree *tree, const RevertWish *wish, SnapshotOverlays *overlays,
                     GError **error)
{
    g_autoptr(RevertPlan) plan = plan_new(&snapshot_revert_table);
    const char *machine = wish->definition->name, *name = wish->snapshot->name;

    if (wish->snapshot->deleting == MODEL_SWITCH_ON) {
        fail(error, KHO_ERROR_INVALID,
             "snapshot '%s' of machine '%s' is half deleted: `kho snapshot-delete %s %s` goes on with that",
             name, machine, machine, name);
        return NULL;
    }
    plan->machine = g_strdup(machine);
    plan->uuid = g_strdup(wish->definition->uuid);
    plan->name = g_strdup(name);
    plan->active = wish->live != NULL;
    g_autoptr(GPtrArray) all = snapshot_read_all(tree, machine, error);
    Deciding d = { .tree = tree, .wish = wish, .all = all, .overlays = overlays, .plan = plan };
    gboolean decided = decide(&d, error);
    model_domain_free(d.memory);
    return decided ? g_steal_pointer(&plan) : NULL;
}
