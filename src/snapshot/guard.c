#include "snapshot/guard.h"

#include "base/error.h"
#include "snapshot/folder.h"
#include "snapshot/overlay.h"
#include "store/list.h"

#include <glib/gstdio.h>

/* The snapshot that closed a file. */
typedef struct {
    char *machine, *snapshot;
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
has_closed(const ModelSnapshot *snapshot, const GStatBuf *wanted)
{
    for (guint i = 0; snapshot->deleting != MODEL_SWITCH_ON && i < snapshot->files->len; i++)
        if (is_file(((ModelSnapshotFile *) snapshot->files->pdata[i])->file, wanted))
            return TRUE;
    return FALSE;
}

/* Each is read by itself, so that a damaged one hides no other. */
static gboolean
find_closer_of(const StoreTree *tree, const char *machine, const GStatBuf *wanted, Closer *closer)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, machine, NULL);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(ModelSnapshot) snapshot = snapshot_read(tree, machine, names->pdata[i], NULL);
        if (!snapshot || !has_closed(snapshot, wanted))
            continue;
        *closer = (Closer){ g_strdup(machine), g_strdup(snapshot->name) };
        return TRUE;
    }
    return FALSE;
}

/* closer->machine is NULL where there is none. */
static gboolean
find_closer(const StoreTree *tree, const char *path, Closer *closer, GError **error)
{
    g_autoptr(GPtrArray) machines = store_list_domains_snapshots(tree, error);
    GStatBuf wanted;

    if (!machines)
        return FALSE;
    for (guint i = 0; g_stat(path, &wanted) == 0 && i < machines->len; i++)
        if (find_closer_of(tree, machines->pdata[i], &wanted, closer))
            break;
    return TRUE;
}

static gboolean
stands_on(const char *overlay, const GStatBuf *wanted)
{
    g_autoptr(GPtrArray) paths = overlay_chain(overlay, "qcow2", KHO_IMAGE_NO_LOCK, NULL);

    for (guint i = 1; paths && i < paths->len; i++)
        if (is_file(paths->pdata[i], wanted))
            return TRUE;
    return FALSE;
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
        g_auto(Closer) closer = { NULL, NULL };
        if (stands_on(overlay, &wanted) && find_closer(tree, overlay, &closer, NULL) && !closer.machine)
            return g_strdup(overlay);
    }
    return NULL;
}

gboolean
guard_check_file(const StoreTree *tree, const char *path, GError **error)
{
    g_auto(Closer) closer = { NULL, NULL };

    if (!find_closer(tree, path, &closer, error))
        return FALSE;
    if (!closer.machine)
        return TRUE;
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

gboolean
guard_check_disk(const StoreTree *tree, const ModelDisk *disk, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!disk->source_file || disk->readonly || disk->device == MODEL_DISK_CDROM
        || guard_check_file(tree, disk->source_file, &why))
        return TRUE;
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "disk %s: ", disk->target);
    return FALSE;
}

gboolean
guard_check_machine(const StoreTree *tree, const ModelDomain *machine, GError **error)
{
    for (guint i = 0; i < machine->disks->len; i++)
        if (!guard_check_disk(tree, machine->disks->pdata[i], error)) {
            g_prefix_error(error, "machine '%s': ", machine->name);
            return FALSE;
        }
    return TRUE;
}
