#include "snapshot/drop.h"

#include "base/error.h"
#include "base/fd.h"
#include "snapshot/files.h"
#include "snapshot/folder.h"
#include "snapshot/guard.h"

#include <glib/gstdio.h>

void
drop_leave(char **left, const GError *why)
{
    g_autofree char *before = *left;

    *left = g_strconcat(before ? before : "", before ? "; " : "", why->message, NULL);
}

static gboolean
is_named(const GPtrArray *files, const char *path)
{
    return named_files_other_user(files, path, NULL, NULL) || named_files_above(files, path);
}

/* Takes @dropped (NULL: none) out of the list of overlays, and those that are gone and that nobody of @files
 * names. */
static gboolean
forget(const Drop *drop, const char *dropped, const GPtrArray *files, GError **error)
{
    g_auto(SnapshotOverlays) overlays = { 0 };
    guint before;

    if (!snapshot_overlays(drop->tree, drop->machine, &overlays, error))
        return FALSE;
    before = overlays.paths->len;
    for (guint i = before; i-- > 0;) {
        const char *path = overlays.paths->pdata[i];
        if (g_strcmp0(path, dropped) == 0 || (snapshot_overlay_is_gone(path) && !is_named(files, path)))
            g_ptr_array_remove_index(overlays.paths, i);
    }
    return overlays.paths->len == before
           || snapshot_set_overlays(drop->tree, drop->machine, &overlays, error);
}

static gboolean
drop_one(const Drop *drop, const char *path, const GPtrArray *files, GError **error)
{
    const NamedFile *unseen = drop->force ? NULL : named_files_unseen(files, path);

    if (named_files_other_user(files, path, drop->machine, drop->snapshot) || named_files_above(files, path))
        return TRUE;
    if (unseen) {
        g_autofree char *text = named_file_unseen_text(unseen);
        return fail(error, KHO_ERROR_BUSY, "%s stays, which machine '%s' does not need any more: %s", path,
                    drop->machine, text);
    }
    return fd_unlink(path, error) && fd_sync_parent(path, error) && forget(drop, path, files, error);
}

/* Whether the file went when this was run before. */
static gboolean
is_dropped(const Drop *drop, const char *path)
{
    g_auto(SnapshotOverlays) overlays = { 0 };
    GStatBuf st;

    return g_lstat(path, &st) < 0
           && (snapshot_overlay_is_gone(path)
               || (snapshot_overlays(drop->tree, drop->machine, &overlays, NULL)
                   && !snapshot_overlays_have(&overlays, path)));
}

void
drop_unless_needed(const Drop *drop, const char *path)
{
    g_autoptr(GError) why = NULL;

    if (is_dropped(drop, path))
        return;
    g_autoptr(StoreLock) lock = guard_lock(drop->tree, NULL, &why);
    g_autoptr(GPtrArray) files = lock ? named_files(drop->tree, &why) : NULL;
    if (!files || !named_files_add_folder(files, path, &why))
        g_prefix_error(&why, "whether %s is needed cannot be told: ", path);
    else if (drop_one(drop, path, files, &why))
        return;
    drop_leave(drop->left, why);
}

void
drop_forget_gone(const Drop *drop)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) files = named_files(drop->tree, NULL);

    /* where it cannot be told what is named, the names stay: that costs nothing */
    if (files && !forget(drop, NULL, files, &why))
        drop_leave(drop->left, why);
}
