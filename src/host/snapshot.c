/* Looking at the snapshots of a machine. */
#include "host/machine.h"

#include "base/error.h"
#include "snapshot/folder.h"
#include "snapshot/guard.h"
#include "vm/definition.h"

#include <kho/snapshot.h>
#include <string.h>

void
kho_snapshot_free(KhoSnapshot *snapshot)
{
    if (!snapshot)
        return;
    g_free(snapshot->name);
    g_free(snapshot->description);
    g_free(snapshot->parent);
    g_free(snapshot->memory_file);
    g_ptr_array_unref(snapshot->disks);
    g_free(snapshot);
}

static void
disk_free(gpointer data)
{
    KhoSnapshotDisk *disk = data;

    g_free(disk->target);
    g_free(disk->file);
    g_free(disk->format);
    g_free(disk);
}

static KhoSnapshot *
describe(const ModelSnapshot *from, const SnapshotCount *count, const char *current)
{
    KhoSnapshot *snapshot = g_new0(KhoSnapshot, 1);
    const char *state = model_snapshot_state_word(from->state);

    *snapshot = (KhoSnapshot){
        .name = g_strdup(from->name),
        .description = g_strdup(from->description),
        .parent = g_strdup(from->parent),
        .state = state ? state : "nostate",
        .created_s = from->created_s == MODEL_UNSET ? 0 : from->created_s,
        .pause_ms = from->pause_ms == MODEL_UNSET ? -1 : from->pause_ms,
        .memory_file = from->memory == MODEL_LOCATION_EXTERNAL ? g_strdup(from->memory_file) : NULL,
        .current = g_strcmp0(from->name, current) == 0,
        .deleting = from->deleting == MODEL_SWITCH_ON,
        .children = count->children,
        .descendants = count->descendants,
        .disks = g_ptr_array_new_with_free_func(disk_free),
    };
    for (guint i = 0; i < from->files->len; i++) {
        const ModelSnapshotFile *file = from->files->pdata[i];
        KhoSnapshotDisk *disk = g_new0(KhoSnapshotDisk, 1);
        *disk = (KhoSnapshotDisk){ .target = g_strdup(file->name),
                                   .file = g_strdup(file->file),
                                   .format = g_strdup(file->format) };
        g_ptr_array_add(snapshot->disks, disk);
    }
    return snapshot;
}

GPtrArray *
kho_snapshot_list(KhoDomain *domain, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_autofree char *current = NULL;
    g_autoptr(GPtrArray) all = snapshot_read_all(tree, domain->name, error);

    if (!all || !snapshot_current(tree, domain->name, &current, error))
        return NULL;
    g_autofree SnapshotCount *counts = g_new0(SnapshotCount, all->len + 1);
    GPtrArray *snapshots = g_ptr_array_new_with_free_func((GDestroyNotify) kho_snapshot_free);
    snapshot_count(all, counts);
    for (guint i = 0; i < all->len; i++)
        g_ptr_array_add(snapshots, describe(all->pdata[i], &counts[i], current));
    return snapshots;
}

KhoSnapshot *
kho_snapshot_info(KhoDomain *domain, const char *name, GError **error)
{
    if (!store_name_check(name, "snapshot", error))
        return NULL;
    g_autoptr(ModelSnapshot) there = snapshot_read(domain->host->tree, domain->name, name, error);
    g_autoptr(GPtrArray) all = there ? kho_snapshot_list(domain, error) : NULL;
    for (guint i = 0; all && i < all->len; i++)
        if (strcmp(((KhoSnapshot *) all->pdata[i])->name, name) == 0)
            return g_ptr_array_steal_index(all, i);
    if (all)
        fail(error, KHO_ERROR_NOT_FOUND, "snapshot '%s' of machine '%s' was deleted just now", name,
             domain->name);
    return NULL;
}

char *
kho_snapshot_xml(KhoDomain *domain, const char *name, GError **error)
{
    if (!store_name_check(name, "snapshot", error))
        return NULL;
    g_autoptr(ModelSnapshot) snapshot = snapshot_read(domain->host->tree, domain->name, name, error);
    return snapshot ? model_snapshot_format(snapshot) : NULL;
}

char *
kho_snapshot_current(KhoDomain *domain, GError **error)
{
    char *name = NULL;

    if (!snapshot_current(domain->host->tree, domain->name, &name, error))
        return NULL;
    if (!name)
        fail(error, KHO_ERROR_NOT_FOUND, "machine '%s' has no current snapshot", domain->name);
    return name;
}

gboolean
kho_snapshot_check_file(KhoHost *host, const char *path, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    return guard_check_file(host->tree, absolute, error);
}

gboolean
kho_snapshot_check_read(KhoHost *host, const char *path, const char *format, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    return guard_check_read(host->tree, NULL, absolute, format, error);
}

gboolean
kho_snapshot_check_built(KhoHost *host, const char *path, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    return guard_check_built(host->tree, absolute, &host->wait, error);
}

gboolean
kho_snapshot_check_disks(KhoDomain *domain, GError **error)
{
    g_autoptr(ModelDomain) model = vm_definition(domain->host->tree, domain->name, error);

    return model && guard_check_machine(domain->host->tree, model, error);
}
