#include "snapshot/closed.h"

#include "base/error.h"
#include "base/fd.h"
#include "snapshot/folder.h"
#include "snapshot/overlay.h"
#include "store/list.h"
#include "vm/stamp.h"

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

static gboolean
has_closed(const ModelSnapshot *snapshot, const char *path)
{
    for (guint i = 0; i < snapshot->files->len; i++)
        if (overlay_is_same_file(((ModelSnapshotFile *) snapshot->files->pdata[i])->file, path))
            return TRUE;
    return FALSE;
}

static gboolean
is_closed(const GPtrArray *all, const char *path)
{
    for (guint i = 0; i < all->len; i++)
        if (has_closed(all->pdata[i], path))
            return TRUE;
    return FALSE;
}

/* It may lie where nothing can be flushed, on a read-only medium. */
static void
add_below(ModelSnapshot *snapshot, const char *target, const char *path)
{
    struct stat st;
    fd_auto int fd = fd_open(path, O_RDONLY, 0, NULL);

    if (fd < 0)
        return;
    fd_sync(fd, path, NULL);
    if (!fd_stat(fd, &st, path, NULL) || !S_ISREG(st.st_mode)) /* a device's size and time tell nothing */
        return;
    g_autofree char *stamp = stamp_of(&st);
    model_snapshot_add_below(snapshot, target, path, stamp);
}

/* The chain was whole when the snapshot began. What of it cannot be looked at now stays unknown: by now the
 * snapshot stands, and a revert says what is wrong with it. */
static void
note_below(ModelSnapshot *snapshot, const ModelSnapshotFile *file, const GPtrArray *all)
{
    g_autoptr(GPtrArray) paths = vm_stamps_below(file->file, file->format, NULL);

    for (guint i = 0; paths && i < paths->len; i++)
        if (!has_closed(snapshot, paths->pdata[i]) && !is_closed(all, paths->pdata[i]))
            add_below(snapshot, file->name, paths->pdata[i]);
}

gboolean
closed_note(ModelSnapshot *snapshot, const GPtrArray *all, GError **error)
{
    g_ptr_array_set_size(snapshot->below, 0);
    for (guint i = 0; i < snapshot->files->len; i++) {
        if (!note(snapshot->files->pdata[i], error))
            return FALSE;
        note_below(snapshot, snapshot->files->pdata[i], all);
    }
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

gboolean
closed_check_below(const ModelSnapshot *snapshot, const char *target, GError **error)
{
    for (guint i = 0; snapshot->deleting != MODEL_SWITCH_ON && i < snapshot->below->len; i++) {
        const ModelSnapshotFile *file = snapshot->below->pdata[i];
        if (strcmp(file->name, target) == 0 && !is_as_it_was(file))
            return fail(error, KHO_ERROR_INVALID,
                        "%s, which the disk lies on, has been changed since snapshot '%s' was taken: its "
                        "size or time is another",
                        file->file, snapshot->name);
    }
    return TRUE;
}

static void
tell_of(const GPtrArray *files, const char *since, void (*tell)(const char *line, gpointer data),
        gpointer data)
{
    for (guint i = 0; i < files->len; i++) {
        const ModelSnapshotFile *file = files->pdata[i];
        if (is_as_it_was(file))
            continue;
        g_autofree char *line = g_strdup_printf(
            "%s has been changed since %s: what lies on it may be damaged", file->file, since);
        tell(line, data);
    }
}

void
closed_tell_changed(const StoreTree *tree, const char *machine, void (*tell)(const char *line, gpointer data),
                    gpointer data)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, machine, NULL);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(ModelSnapshot) snapshot = snapshot_read(tree, machine, names->pdata[i], NULL);
        if (!snapshot || snapshot->deleting == MODEL_SWITCH_ON)
            continue;
        g_autofree char *text = g_strdup_printf("snapshot '%s' of machine '%s'", snapshot->name, machine);
        g_autofree char *closed = g_strdup_printf("%s closed it", text);
        g_autofree char *taken = g_strdup_printf("%s, which needs it, was taken", text);
        tell_of(snapshot->files, closed, tell, data);
        tell_of(snapshot->below, taken, tell, data);
    }
}
