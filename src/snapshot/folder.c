#include "snapshot/folder.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/owner.h"
#include "base/xml.h"
#include "store/list.h"
#include "store/publish.h"

#include <dirent.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define WORD_MAX_BYTES 1024
/* A thousand paths of 4 KiB, of which most machines have a few. */
#define OVERLAYS_MAX_BYTES (4 << 20)

static char *
path_in(const StoreTree *tree, const char *machine, const char *name, const char *suffix)
{
    g_autofree char *folder = store_path_snapshots(tree, machine);
    return g_strconcat(folder, "/", name, suffix, NULL);
}

char *
snapshot_memory_path(const StoreTree *tree, const char *machine, const char *name)
{
    return path_in(tree, machine, name, ".mem");
}

gboolean
snapshot_folder_make(const StoreTree *tree, const char *machine, GError **error)
{
    g_autofree char *folder = store_path_snapshots(tree, machine);

    /* QEMU never opens a path in it: 0700 keeps what guests had in memory from others. */
    return g_file_test(folder, G_FILE_TEST_IS_DIR)
           || (owner_mkdir(folder, 0700, error) && fd_sync_parent(folder, error));
}

gboolean
snapshot_folder_remove(const StoreTree *tree, const char *machine, GError **error)
{
    g_autofree char *folder = store_path_snapshots(tree, machine);
    g_autoptr(GDir) entries = g_dir_open(folder, 0, NULL);

    if (!entries)
        return TRUE;
    for (const char *name = g_dir_read_name(entries); name; name = g_dir_read_name(entries)) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        if (!fd_unlink(path, error))
            return FALSE;
    }
    return entry_remove_folder(folder, error) && fd_sync_parent(folder, error);
}

ModelSnapshot *
snapshot_read(const StoreTree *tree, const char *machine, const char *name, GError **error)
{
    g_autofree char *path = path_in(tree, machine, name, ".xml");
    g_autoptr(GError) why = NULL;
    gsize len;
    g_autofree char *text = fd_read_file(path, XML_TEXT_MAX, &len, &why);
    gboolean is_long = g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID);

    if (!text && g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        fail(error, KHO_ERROR_NOT_FOUND,
             "machine '%s' has no snapshot '%s': `kho snapshot-list %s` shows all", machine, name, machine);
        return NULL;
    }
    if (!text && !is_long) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    g_autoptr(ModelSnapshot) snapshot = text ? model_snapshot_parse(text, len, &why) : NULL;
    if (snapshot && strcmp(snapshot->name, name) == 0)
        return g_steal_pointer(&snapshot);
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_UNSUPPORTED)) {
        fail(error, KHO_ERROR_UNSUPPORTED, "the snapshot %s cannot be read: %s", path, why->message);
        return NULL;
    }
    g_autofree char *what =
        snapshot ? g_strdup_printf("it says that its name is '%s'", snapshot->name) : g_strdup(why->message);
    fail(error, KHO_ERROR_CORRUPT,
         "the snapshot %s cannot be read: %s: mend it, or forget it with `kho snapshot-delete --metadata %s "
         "%s`",
         path, what, machine, name);
    return NULL;
}

ModelSnapshot *
snapshot_find(const GPtrArray *all, const char *name)
{
    for (guint i = 0; name && i < all->len; i++) {
        ModelSnapshot *snapshot = all->pdata[i];
        if (strcmp(snapshot->name, name) == 0)
            return snapshot;
    }
    return NULL;
}

/* No walk upwards is longer than there are snapshots. */
static gboolean
check_parents(const GPtrArray *all, const char *machine, GError **error)
{
    for (guint i = 0; i < all->len; i++) {
        const ModelSnapshot *at = all->pdata[i];
        guint steps = 0;
        while ((at = snapshot_find(all, at->parent)) && steps <= all->len)
            steps++;
        if (at)
            return fail(error, KHO_ERROR_CORRUPT,
                        "machine '%s': the parents of snapshot '%s' go in a circle: mend its <parent> in "
                        "lib/qemu/snapshot/%s",
                        machine, ((ModelSnapshot *) all->pdata[i])->name, machine);
    }
    return TRUE;
}

static GPtrArray *
read_those(const StoreTree *tree, const char *machine, gboolean sound_only, GError **error)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, machine, error);
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify) model_snapshot_free);

    if (!names)
        return NULL;
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(GError) why = NULL;
        ModelSnapshot *snapshot = snapshot_read(tree, machine, names->pdata[i], &why);
        if (snapshot)
            g_ptr_array_add(all, snapshot);
        else if (!(sound_only && g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT))
                 && !g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) { /* it may have gone meanwhile */
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
    }
    return g_steal_pointer(&all);
}

GPtrArray *
snapshot_read_all(const StoreTree *tree, const char *machine, GError **error)
{
    g_autoptr(GPtrArray) all = read_those(tree, machine, FALSE, error);

    return all && check_parents(all, machine, error) ? g_steal_pointer(&all) : NULL;
}

GPtrArray *
snapshot_read_sound(const StoreTree *tree, const char *machine, GError **error)
{
    return read_those(tree, machine, TRUE, error);
}

gboolean
snapshot_have_any(const StoreTree *tree, const char *machine)
{
    g_autoptr(GPtrArray) names = store_list_snapshots(tree, machine, NULL);
    return names && names->len > 0;
}

gboolean
snapshot_write(const StoreTree *tree, const char *machine, const ModelSnapshot *snapshot, GError **error)
{
    g_autofree char *path = path_in(tree, machine, snapshot->name, ".xml");
    g_autofree char *text = model_snapshot_format(snapshot);

    /* it may hold passwords, as the definition does */
    return snapshot_folder_make(tree, machine, error) && store_publish(path, text, strlen(text), 0600, error);
}

static gboolean
unlink_if_there(const char *path, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (store_unlink(path, &why))
        return TRUE;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

gboolean
snapshot_drop(const StoreTree *tree, const char *machine, const char *name, GError **error)
{
    g_autofree char *path = path_in(tree, machine, name, ".xml");
    return unlink_if_there(path, error);
}

/* A file of the folder, without its last line break; *text is NULL where there is none. */
static gboolean
read_text(const char *path, gsize max_bytes, char **text, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *found = fd_read_file(path, max_bytes, NULL, &why);

    if (!found && !g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    *text = found ? g_strchomp(found) : NULL;
    return TRUE;
}

gboolean
snapshot_current(const StoreTree *tree, const char *machine, char **name, GError **error)
{
    g_autofree char *path = path_in(tree, machine, ".current", "");
    g_autofree char *found = NULL;

    if (!read_text(path, WORD_MAX_BYTES, &found, error))
        return FALSE;
    g_autofree char *there = found ? path_in(tree, machine, found, ".xml") : NULL;
    /* a snapshot that was removed by hand is current no longer */
    *name = there && g_file_test(there, G_FILE_TEST_EXISTS) ? g_steal_pointer(&found) : NULL;
    return TRUE;
}

gboolean
snapshot_set_current(const StoreTree *tree, const char *machine, const char *name, GError **error)
{
    g_autofree char *path = path_in(tree, machine, ".current", "");
    g_autofree char *text = name ? g_strconcat(name, "\n", NULL) : NULL;

    if (!text)
        return unlink_if_there(path, error);
    return snapshot_folder_make(tree, machine, error) && store_publish(path, text, strlen(text), 0644, error);
}

void
snapshot_overlays_clear(SnapshotOverlays *overlays)
{
    g_clear_pointer(&overlays->paths, g_ptr_array_unref);
    g_clear_pointer(&overlays->before, g_free);
}

/* The first line is the number, each other one a path. */
gboolean
snapshot_overlays(const StoreTree *tree, const char *machine, SnapshotOverlays *overlays, GError **error)
{
    g_autofree char *path = path_in(tree, machine, ".overlays", "");
    g_autofree char *text = NULL;
    guint64 next = 1;

    if (!read_text(path, OVERLAYS_MAX_BYTES, &text, error))
        return FALSE;
    g_auto(GStrv) lines = g_strsplit(text ? text : "1", "\n", -1);
    if (!num_parse_uint(lines[0], G_MAXINT, "number", &next, NULL) || next == 0)
        return fail(error, KHO_ERROR_CORRUPT,
                    "%s holds no number: \"%s\"; write the highest N of the machine's overlays, plus one",
                    path, lines[0]);
    overlays->next = (guint) next;
    overlays->before = g_strdup(text ? text : "");
    overlays->paths = g_ptr_array_new_with_free_func(g_free);
    for (char **line = lines + 1; *line; line++)
        if (**line)
            g_ptr_array_add(overlays->paths, g_strdup(*line));
    return TRUE;
}

const char *
snapshot_overlays_name(const SnapshotOverlays *overlays, const char *path)
{
    GStatBuf st, own;
    gboolean is_there = g_stat(path, &st) == 0;

    for (guint i = 0; i < overlays->paths->len; i++) {
        const char *overlay = overlays->paths->pdata[i];
        if (strcmp(overlay, path) == 0
            || (is_there && g_stat(overlay, &own) == 0 && own.st_dev == st.st_dev && own.st_ino == st.st_ino))
            return overlay;
    }
    return NULL;
}

gboolean
snapshot_overlays_have(const SnapshotOverlays *overlays, const char *path)
{
    return snapshot_overlays_name(overlays, path) != NULL;
}

gboolean
snapshot_overlay_is_gone(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autoptr(GDir) entries = g_dir_open(folder, 0, NULL);
    GStatBuf st;

    return entries && g_dir_read_name(entries) && g_lstat(path, &st) < 0 && errno == ENOENT;
}

static gboolean
refuse_path(const char *overlay, GError **error)
{
    return fail(
        error, KHO_ERROR_UNSUPPORTED,
        "a snapshot's new layer cannot be '%s', whose path holds a line break: rename the disk's file "
        "or folder",
        overlay);
}

gboolean
snapshot_set_overlays(const StoreTree *tree, const char *machine, const SnapshotOverlays *overlays,
                      GError **error)
{
    g_autofree char *path = path_in(tree, machine, ".overlays", "");
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_append_printf(text, "%u\n", overlays->next);
    for (guint i = 0; i < overlays->paths->len; i++) {
        const char *one = overlays->paths->pdata[i];
        if (strchr(one, '\n')) /* a line each */
            return refuse_path(one, error);
        g_string_append_printf(text, "%s\n", one);
    }
    return snapshot_folder_make(tree, machine, error)
           && store_publish(path, text->str, text->len, 0600, error);
}

gboolean
snapshot_restore_overlays(const StoreTree *tree, const char *machine, const char *before, GError **error)
{
    g_autofree char *path = path_in(tree, machine, ".overlays", "");
    g_autofree char *folder = store_path_snapshots(tree, machine);
    g_autofree char *text = g_strconcat(before, "\n", NULL);
    g_autofree char *now = NULL;

    if (!read_text(path, OVERLAYS_MAX_BYTES, &now, error))
        return FALSE;
    if (*before && g_strcmp0(now, before) == 0)
        return TRUE;
    if (*before)
        return store_publish(path, text, strlen(text), 0600, error);
    return !g_file_test(folder, G_FILE_TEST_IS_DIR)
           || (unlink_if_there(path, error) && entry_remove_folder(folder, error));
}

gboolean
snapshot_descends(const GPtrArray *all, const char *name, const char *ancestor)
{
    const ModelSnapshot *at = snapshot_find(all, name);

    while (at && at->parent) {
        if (strcmp(at->parent, ancestor) == 0)
            return TRUE;
        at = snapshot_find(all, at->parent);
    }
    return FALSE;
}

static guint
index_of(const GPtrArray *all, const char *name)
{
    guint i = 0;

    while (i < all->len && strcmp(((ModelSnapshot *) all->pdata[i])->name, name) != 0)
        i++;
    return i;
}

void
snapshot_count(const GPtrArray *all, SnapshotCount *counts)
{
    memset(counts, 0, all->len * sizeof *counts);
    for (guint i = 0; i < all->len; i++) {
        const ModelSnapshot *at = all->pdata[i];
        for (guint steps = 1; at->parent; steps++) {
            guint above = index_of(all, at->parent);
            if (above == all->len)
                break;
            counts[above].children += steps == 1;
            counts[above].descendants++;
            at = all->pdata[above];
        }
    }
}
