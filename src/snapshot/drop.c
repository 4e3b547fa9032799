#include "snapshot/drop.h"

#include "base/error.h"
#include "base/fd.h"
#include "snapshot/files.h"
#include "snapshot/folder.h"
#include "snapshot/guard.h"

#include <glib/gstdio.h>

static gboolean
is_there(const char *path)
{
    GStatBuf st;
    return g_lstat(path, &st) == 0;
}

static gboolean
drop_unless_needed(const StoreTree *tree, const char *path, const char *machine, const char *snapshot,
                   GError **error)
{
    if (!is_there(path))
        return TRUE;
    g_autoptr(StoreLock) lock = guard_lock(tree, NULL, error);
    g_autoptr(GPtrArray) files = lock ? named_files(tree, error) : NULL;
    if (!files || !named_files_add_folder(files, path, error)) {
        g_prefix_error(error, "whether %s is needed cannot be told: ", path);
        return FALSE;
    }
    if (named_files_other_user(files, path, machine, snapshot) || named_files_above(files, path))
        return TRUE;
    return fd_unlink(path, error) && fd_sync_parent(path, error);
}

void
drop_leave(char **left, const GError *why)
{
    g_autofree char *before = *left;

    *left = g_strconcat(before ? before : "", before ? "; " : "", why->message, NULL);
}

void
drop_or_leave(const StoreTree *tree, const char *path, const char *machine, const char *snapshot, char **left)
{
    g_autoptr(GError) why = NULL;

    if (!drop_unless_needed(tree, path, machine, snapshot, &why))
        drop_leave(left, why);
}

gboolean
drop_forget_gone(const StoreTree *tree, const char *machine, GError **error)
{
    g_auto(SnapshotOverlays) overlays = { 0 };
    guint before;

    if (!snapshot_overlays(tree, machine, &overlays, error))
        return FALSE;
    before = overlays.paths->len;
    for (guint i = before; i-- > 0;)
        if (!is_there(overlays.paths->pdata[i]))
            g_ptr_array_remove_index(overlays.paths, i);
    return overlays.paths->len == before || snapshot_set_overlays(tree, machine, &overlays, error);
}
