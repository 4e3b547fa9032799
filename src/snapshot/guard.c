#include "snapshot/guard.h"

#include "base/error.h"
#include "snapshot/create.h"
#include "snapshot/files.h"
#include "snapshot/folder.h"
#include "snapshot/overlay.h"
#include "store/journal.h"
#include "store/list.h"
#include "vm/definition.h"
#include "vm/stamp.h"

#include <glib/gstdio.h>
#include <string.h>

/* The snapshot that closed a file, or what lies on it. */
typedef struct {
    char *machine, *snapshot;
    gboolean unfinished; /* it is being taken */
    gboolean above;      /* it did not close the file itself */
} Closer;

static void
closer_clear(Closer *closer)
{
    g_clear_pointer(&closer->machine, g_free);
    g_clear_pointer(&closer->snapshot, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Closer, closer_clear)

static gboolean
is_file(const char *path, const GStatBuf *wanted)
{
    GStatBuf st;

    return g_stat(path, &st) == 0 && st.st_dev == wanted->st_dev && st.st_ino == wanted->st_ino;
}

static gboolean
is_among(const GPtrArray *files, const GStatBuf *wanted)
{
    for (guint i = 0; i < files->len; i++)
        if (is_file(((ModelSnapshotFile *) files->pdata[i])->file, wanted))
            return TRUE;
    return FALSE;
}

/* Each is read by itself, so that a damaged one hides no other. */
static void
find_closer_of(const StoreTree *tree, const char *machine, const GStatBuf *wanted, Closer *closer)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, machine, NULL);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(ModelSnapshot) snapshot = snapshot_read(tree, machine, names->pdata[i], NULL);
        if (!snapshot || snapshot->deleting == MODEL_SWITCH_ON)
            continue;
        gboolean closed = is_among(snapshot->files, wanted);
        if (!closed && !is_among(snapshot->below, wanted))
            continue;
        *closer = (Closer){ g_strdup(machine), g_strdup(snapshot->name), FALSE, !closed };
        return;
    }
}

static gboolean
lies_on(const char *path, const char *format, const GStatBuf *wanted)
{
    g_autoptr(GPtrArray) below = vm_stamps_below(path, format, NULL);

    for (guint i = 0; below && i < below->len; i++)
        if (is_file(below->pdata[i], wanted))
            return TRUE;
    return FALSE;
}

static gboolean
is_closing(const CreatePlan *plan, const GStatBuf *wanted)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const CreateDisk *disk = plan->disks->pdata[i];
        if (is_file(disk->file, wanted) || lies_on(disk->file, disk->format, wanted))
            return TRUE;
    }
    return FALSE;
}

/* A snapshot that is being taken, or whose taker died, has its metadata in the journal. */
static gboolean
find_unfinished(const StoreTree *tree, const GStatBuf *wanted, Closer *closer, GError **error)
{
    g_autoptr(GPtrArray) all = store_journal_list(tree, STORE_LOCK_DOMAIN, error);

    for (guint i = 0; all && !closer->machine && i < all->len; i++) {
        const StoreJournalInfo *info = all->pdata[i];
        CreatePlan *plan = g_strcmp0(info->change, snapshot_create_kind.name) == 0
                               ? plan_read(&snapshot_create_table, info->plan, NULL)
                               : NULL;
        if (plan && is_closing(plan, wanted))
            *closer = (Closer){ g_strdup(info->name), g_strdup(plan->name), TRUE, FALSE };
        snapshot_create_plan_free(plan);
    }
    return all != NULL;
}

/* closer->machine is NULL where there is none. The journal is asked first: its entry goes when the metadata
 * stands. */
static gboolean
find_closer(const StoreTree *tree, const char *path, Closer *closer, GError **error)
{
    GStatBuf wanted;

    if (g_stat(path, &wanted) < 0)
        return TRUE;
    if (!find_unfinished(tree, &wanted, closer, error))
        return FALSE;
    g_autoptr(GPtrArray) machines = store_list_domains_snapshots(tree, error);
    for (guint i = 0; machines && !closer->machine && i < machines->len; i++)
        find_closer_of(tree, machines->pdata[i], &wanted, closer);
    return machines != NULL;
}

/* The newest overlay of the machine over the file that no snapshot closed; NULL where there is none. */
static char *
find_open_overlay(const StoreTree *tree, const char *machine, const char *path)
{
    g_auto(SnapshotOverlays) overlays = { 0 };
    GStatBuf wanted;

    if (g_stat(path, &wanted) < 0 || !snapshot_overlays(tree, machine, &overlays, NULL))
        return NULL;
    for (guint i = overlays.paths->len; i-- > 0;) {
        const char *overlay = overlays.paths->pdata[i];
        g_auto(Closer) closer = { NULL, NULL, FALSE, FALSE };
        if (lies_on(overlay, "qcow2", &wanted) && find_closer(tree, overlay, &closer, NULL)
            && !closer.machine)
            return g_strdup(overlay);
    }
    return NULL;
}

static gboolean
check_write(const StoreTree *tree, const char *path, GError **error)
{
    g_auto(Closer) closer = { NULL, NULL, FALSE, FALSE };

    if (!find_closer(tree, path, &closer, error))
        return FALSE;
    if (!closer.machine)
        return TRUE;
    if (closer.unfinished)
        return fail(error, KHO_ERROR_BUSY,
                    "snapshot '%s' of machine '%s', which is being taken, needs %s, and writing to it would "
                    "destroy that: let it end, or `kho recover %s`, first",
                    closer.snapshot, closer.machine, path, closer.machine);
    if (closer.above)
        return fail(error, KHO_ERROR_BUSY,
                    "snapshot '%s' of machine '%s' needs %s, which what it closed lies on, and writing to it "
                    "would destroy that: write to an overlay of it, or `kho snapshot-delete %s %s` first",
                    closer.snapshot, closer.machine, path, closer.machine, closer.snapshot);
    g_autofree char *open = find_open_overlay(tree, closer.machine, path);
    g_autofree char *where =
        open ? g_strdup_printf("machine '%s' went on in %s: write there, or ", closer.machine, open)
             : g_strdup("");
    return fail(error, KHO_ERROR_BUSY,
                "snapshot '%s' of machine '%s' closed %s, and writing to it would destroy that: %s"
                "go back with `kho snapshot-revert %s %s`, or `kho snapshot-delete %s %s` first",
                closer.snapshot, closer.machine, path, where, closer.machine, closer.snapshot, closer.machine,
                closer.snapshot);
}

/* ---- reading ---- */

/* A machine with snapshots that are being deleted, or half deleted. */
typedef struct {
    char *machine;
    GPtrArray *half; /* ModelSnapshot: those */
    GPtrArray *own;  /* char *: all files that kho knows as the machine's */
} Deleting;

static void
deleting_free(gpointer data)
{
    Deleting *deleting = data;

    g_free(deleting->machine);
    g_ptr_array_unref(deleting->half);
    g_ptr_array_unref(deleting->own);
    g_free(deleting);
}

static void
add_own(const StoreTree *tree, Deleting *deleting)
{
    g_autoptr(ModelDomain) model = vm_definition(tree, deleting->machine, NULL);
    g_auto(SnapshotOverlays) overlays = { 0 };

    for (guint i = 0; model && i < model->disks->len; i++)
        if (((ModelDisk *) model->disks->pdata[i])->source_file)
            g_ptr_array_add(deleting->own, g_strdup(((ModelDisk *) model->disks->pdata[i])->source_file));
    if (!snapshot_overlays(tree, deleting->machine, &overlays, NULL))
        return;
    for (guint i = 0; i < overlays.paths->len; i++)
        g_ptr_array_add(deleting->own, g_strdup(overlays.paths->pdata[i]));
}

/* NULL where the machine has none that is half deleted. */
static Deleting *
find_deleting_of(const StoreTree *tree, const char *machine)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, machine, NULL);
    Deleting *found = g_new0(Deleting, 1);

    *found = (Deleting){ .machine = g_strdup(machine),
                         .half = g_ptr_array_new_with_free_func((GDestroyNotify) model_snapshot_free),
                         .own = g_ptr_array_new_with_free_func(g_free) };
    for (guint i = 0; names && i < names->len; i++) {
        ModelSnapshot *snapshot = snapshot_read(tree, machine, names->pdata[i], NULL);
        for (guint f = 0; snapshot && f < snapshot->files->len; f++)
            g_ptr_array_add(found->own, g_strdup(((ModelSnapshotFile *) snapshot->files->pdata[f])->file));
        if (snapshot && snapshot->deleting == MODEL_SWITCH_ON)
            g_ptr_array_add(found->half, snapshot);
        else
            model_snapshot_free(snapshot);
    }
    if (found->half->len > 0) {
        add_own(tree, found);
        return found;
    }
    deleting_free(found);
    return NULL;
}

/* Of Deleting; @but (NULL: nobody) is left out. */
static GPtrArray *
find_deleting(const StoreTree *tree, const char *but, GError **error)
{
    g_autoptr(GPtrArray) machines = store_list_domains_snapshots(tree, error);
    GPtrArray *all = machines ? g_ptr_array_new_with_free_func(deleting_free) : NULL;

    for (guint i = 0; machines && i < machines->len; i++) {
        Deleting *one =
            g_strcmp0(machines->pdata[i], but) != 0 ? find_deleting_of(tree, machines->pdata[i]) : NULL;
        if (one)
            g_ptr_array_add(all, one);
    }
    return all;
}

static gboolean
is_own(const Deleting *deleting, const NamedFile *file)
{
    for (guint i = 0; i < deleting->own->len; i++)
        if (named_file_is(file, deleting->own->pdata[i]))
            return TRUE;
    return FALSE;
}

/* The snapshot whose delete changes @file, or takes it away: it closed the file, or that is the machine's
 * next one over it. */
static const ModelSnapshot *
changed_by(const Deleting *deleting, const NamedFile *file)
{
    for (guint i = 0; i < deleting->half->len; i++) {
        const ModelSnapshot *snapshot = deleting->half->pdata[i];
        for (guint f = 0; f < snapshot->files->len; f++) {
            const char *closed = ((ModelSnapshotFile *) snapshot->files->pdata[f])->file;
            if (named_file_is(file, closed) || (named_file_lies_on(file, closed) && is_own(deleting, file)))
                return snapshot;
        }
    }
    return NULL;
}

/* What lies over the first file of the machine is others', and what is under that one goes with it. */
static gboolean
check_layers(const Deleting *deleting, const GPtrArray *layers, GError **error)
{
    for (guint i = 0; i < layers->len; i++) {
        const NamedFile *layer = layers->pdata[i];
        const ModelSnapshot *by = changed_by(deleting, layer);
        if (by)
            return fail(
                error, KHO_ERROR_BUSY,
                "%s is changed by the delete of snapshot '%s' of machine '%s', and what is read through "
                "it would change: let that end, or finish it with `kho snapshot-delete %s %s`, first",
                layer->path, by->name, deleting->machine, deleting->machine, by->name);
        if (is_own(deleting, layer))
            return TRUE;
    }
    return TRUE;
}

static gboolean
check_read(const GPtrArray *all, const char *path, const char *format, GError **error)
{
    g_autoptr(GPtrArray) layers = all->len > 0 ? named_files_chain(path, format, error) : NULL;

    if (all->len > 0 && !layers)
        return FALSE;
    for (guint i = 0; i < all->len; i++)
        if (!check_layers(all->pdata[i], layers, error))
            return FALSE;
    return TRUE;
}

gboolean
guard_check_read(const StoreTree *tree, const char *machine, const char *path, const char *format,
                 GError **error)
{
    g_autoptr(GPtrArray) all = find_deleting(tree, machine, error);

    return all && check_read(all, path, format, error);
}

gboolean
guard_check_built(const StoreTree *tree, const char *path, const StoreWait *wait, GError **error)
{
    g_autoptr(StoreLock) lock = guard_lock(tree, wait, error);
    g_autoptr(GPtrArray) layers = lock ? named_files_chain(path, "qcow2", error) : NULL;

    if (!layers || !guard_check_read(tree, NULL, path, "qcow2", error))
        return FALSE;
    const NamedFile *top = layers->pdata[0];
    return !top->backing || top->backing_ino != 0
           || fail(error, KHO_ERROR_NOT_FOUND, "its backing file %s was removed while %s was made",
                   top->backing, path);
}

gboolean
guard_check_file(const StoreTree *tree, const char *path, GError **error)
{
    return check_write(tree, path, error) && guard_check_read(tree, NULL, path, NULL, error);
}

/* ---- machines ---- */

static gboolean
check_disk(const StoreTree *tree, const GPtrArray *deleting, const ModelDisk *disk, gboolean writes,
           GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!disk->source_file)
        return TRUE;
    writes = writes && !disk->readonly && disk->device != MODEL_DISK_CDROM;
    if (check_read(deleting, disk->source_file, disk->format ? disk->format : "raw", &why)
        && (!writes || check_write(tree, disk->source_file, &why)))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk %s: ", disk->target);
    return FALSE;
}

gboolean
guard_check_disk(const StoreTree *tree, const char *machine, const ModelDisk *disk, GError **error)
{
    g_autoptr(GPtrArray) deleting = find_deleting(tree, machine, error);

    return deleting && check_disk(tree, deleting, disk, TRUE, error);
}

static gboolean
check_machine(const StoreTree *tree, const ModelDomain *machine, gboolean writes, GError **error)
{
    g_autoptr(GPtrArray) deleting = find_deleting(tree, machine->name, error);

    for (guint i = 0; deleting && i < machine->disks->len; i++)
        if (!check_disk(tree, deleting, machine->disks->pdata[i], writes, error)) {
            g_prefix_error(error, "machine '%s': ", machine->name);
            return FALSE;
        }
    return deleting != NULL;
}

gboolean
guard_check_machine(const StoreTree *tree, const ModelDomain *machine, GError **error)
{
    return check_machine(tree, machine, TRUE, error);
}

gboolean
guard_check_machine_reads(const StoreTree *tree, const ModelDomain *machine, GError **error)
{
    return check_machine(tree, machine, FALSE, error);
}

StoreLock *
guard_lock(const StoreTree *tree, const StoreWait *wait, GError **error)
{
    return store_lock_name(tree, "image", "deleting", wait, error);
}
