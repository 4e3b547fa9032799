#include "snapshot/closed.h"

#include "base/error.h"
#include "base/fd.h"
#include "snapshot/folder.h"
#include "snapshot/overlay.h"
#include "store/list.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

static char *
stamp_of(const struct stat *st)
{
    return g_strdup_printf("%" G_GINT64_FORMAT ":%" G_GINT64_FORMAT ".%09ld", (gint64) st->st_size,
                           (gint64) st->st_mtim.tv_sec, (long) st->st_mtim.tv_nsec);
}

/* fsync, too, makes the time durable, which QEMU's flush leaves out: it must be the same after a power
 * failure. */
static gboolean
note(ModelSnapshotFile *file, GError **error)
{
    struct stat st;
    fd_auto int fd = fd_open(file->file, O_RDONLY, 0, error);

    if (fd < 0 || !fd_sync(fd, file->file, error) || !fd_stat(fd, &st, file->file, error))
        return FALSE;
    g_free(file->stamp);
    file->stamp = stamp_of(&st);
    return TRUE;
}

gboolean
closed_note(ModelSnapshot *snapshot, GError **error)
{
    for (guint i = 0; i < snapshot->files->len; i++)
        if (!note(snapshot->files->pdata[i], error))
            return FALSE;
    return TRUE;
}

static gboolean
is_among(const GPtrArray *paths, const char *path)
{
    for (guint i = 0; i < paths->len; i++)
        if (overlay_is_same_file(paths->pdata[i], path))
            return TRUE;
    return FALSE;
}

static gboolean
note_those(ModelSnapshot *snapshot, const GPtrArray *paths, gboolean *changed, GError **error)
{
    *changed = FALSE;
    for (guint i = 0; i < snapshot->files->len; i++) {
        ModelSnapshotFile *file = snapshot->files->pdata[i];
        GStatBuf st;
        if (!is_among(paths, file->file) || g_stat(file->file, &st) < 0)
            continue;
        g_autofree char *before = g_strdup(file->stamp);
        if (!note(file, error))
            return FALSE;
        *changed |= g_strcmp0(before, file->stamp) != 0;
    }
    return TRUE;
}

gboolean
closed_note_again(const StoreTree *tree, const char *machine, const GPtrArray *paths, GError **error)
{
    g_autoptr(GPtrArray) all = snapshot_read_all(tree, machine, error);

    for (guint i = 0; all && i < all->len; i++) {
        gboolean changed;
        if (!note_those(all->pdata[i], paths, &changed, error)
            || (changed && !snapshot_write(tree, machine, all->pdata[i], error)))
            return FALSE;
    }
    return all != NULL;
}

static gboolean
is_as_it_was(const ModelSnapshotFile *file)
{
    GStatBuf st;

    if (!file->stamp || g_stat(file->file, &st) < 0)
        return TRUE;
    g_autofree char *now = stamp_of(&st);
    return strcmp(now, file->stamp) == 0;
}

gboolean
closed_check(const GPtrArray *all, const char *path, GError **error)
{
    for (guint i = 0; i < all->len; i++) {
        const ModelSnapshot *snapshot = all->pdata[i];
        for (guint f = 0; snapshot->deleting != MODEL_SWITCH_ON && f < snapshot->files->len; f++) {
            const ModelSnapshotFile *file = snapshot->files->pdata[f];
            if (overlay_is_same_file(file->file, path) && !is_as_it_was(file))
                return fail(error, KHO_ERROR_INVALID,
                            "%s has been changed since snapshot '%s' closed it: its size or time is another",
                            path, snapshot->name);
        }
    }
    return TRUE;
}

void
closed_tell_changed(const StoreTree *tree, const char *machine, void (*tell)(const char *line, gpointer data),
                    gpointer data)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, machine, NULL);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(ModelSnapshot) snapshot = snapshot_read(tree, machine, names->pdata[i], NULL);
        for (guint f = 0; snapshot && snapshot->deleting != MODEL_SWITCH_ON && f < snapshot->files->len;
             f++) {
            const ModelSnapshotFile *file = snapshot->files->pdata[f];
            if (is_as_it_was(file))
                continue;
            g_autofree char *line =
                g_strdup_printf("%s has been changed since snapshot '%s' of machine '%s' closed it: what "
                                "lies on it may be damaged",
                                file->file, snapshot->name, machine);
            tell(line, data);
        }
    }
}
