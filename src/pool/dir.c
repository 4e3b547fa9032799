/* Pools of type dir: a folder, whose regular files are the volumes. */
#include "base/error.h"
#include "base/fd.h"
#include "pool/pool.h"
#include "store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_MODE_DEFAULT 0755

/* The topmost folder of @path that does not exist; NULL where @path exists. */
static char *
topmost_missing(const char *path)
{
    g_autofree char *missing = NULL;
    g_autofree char *at = g_strdup(path);

    while (!g_file_test(at, G_FILE_TEST_EXISTS)) {
        char *parent = g_path_get_dirname(at);
        g_free(missing);
        missing = at;
        at = parent;
    }
    return g_steal_pointer(&missing);
}

/* The part of the path that exists, as device and inode, and the rest by name. */
static char *
dir_place(const ModelPool *pool)
{
    g_autofree char *path = g_canonicalize_filename(pool->target_path, "/");
    g_autofree char *there = g_strdup(path);
    GStatBuf st;

    while (g_stat(there, &st) != 0) {
        char *parent = g_path_get_dirname(there);
        if (strcmp(parent, there) == 0) {
            g_free(parent);
            return g_steal_pointer(&path);
        }
        g_free(there);
        there = parent;
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT ":%s", (guint64) st.st_dev,
                           (guint64) st.st_ino, path + strlen(there));
}

/* Removes empty folders from @path up to @made; the first one that is not empty ends it. */
static void
remove_up_to(const char *path, const char *made)
{
    for (g_autofree char *at = g_strdup(path); g_str_has_prefix(at, made);) {
        char *parent = g_path_get_dirname(at);

        if (g_rmdir(at) != 0 && g_file_test(at, G_FILE_TEST_EXISTS)) {
            g_free(parent);
            return;
        }
        g_free(at);
        at = parent;
    }
}

static gboolean
make_folders(const char *path, mode_t mode, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);

    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return TRUE;
    return make_folders(parent, DIR_MODE_DEFAULT, error) && fd_mkdir(path, mode, error)
           && fd_sync_parent(path, error);
}

/* Giving a file away takes rights that kho may not have, so a definition that asks for it is refused, not
 * half obeyed. */
static gboolean
owner_is_own(const ModelPool *pool, GError **error)
{
    const ModelPermissions *p = &pool->permissions;

    if ((p->owner >= 0 && p->owner != geteuid()) || (p->group >= 0 && p->group != getegid()))
        return fail(
            error, KHO_ERROR_UNSUPPORTED,
            "pool %s: its folder cannot be made for another owner or group than one's own: make %s by hand",
            pool->name, pool->target_path);
    return TRUE;
}

static gboolean
dir_build(const ModelPool *pool, char **made, GError **error)
{
    g_autofree char *path = g_canonicalize_filename(pool->target_path, "/");
    g_autofree char *new = topmost_missing(path);
    mode_t mode = pool->permissions.mode >= 0 ? (mode_t) pool->permissions.mode : DIR_MODE_DEFAULT;

    if (!new && !g_file_test(path, G_FILE_TEST_IS_DIR))
        return fail(error, KHO_ERROR_INVALID, "pool %s: %s is not a folder", pool->name, path);
    if (new && !owner_is_own(pool, error))
        return FALSE;
    if (!make_folders(path, mode, error)) {
        g_prefix_error(error, "pool %s: ", pool->name);
        if (new)
            remove_up_to(path, new);
        return FALSE;
    }
    *made = g_steal_pointer(&new);
    return TRUE;
}

static void
dir_unbuild(const ModelPool *pool, const char *made)
{
    g_autofree char *path = g_canonicalize_filename(pool->target_path, "/");

    remove_up_to(path, made);
}

/* Open for listing, its entries within reach: a folder that may be read but not searched has names alone. */
static DIR *
open_folder(const ModelPool *pool, GError **error)
{
    DIR *folder = opendir(pool->target_path);

    if (folder && faccessat(dirfd(folder), ".", X_OK, AT_EACCESS) == 0)
        return folder;
    fail_errno(error, errno, "pool %s: cannot list %s", pool->name, pool->target_path);
    if (folder)
        closedir(folder);
    return NULL;
}

static gboolean
dir_start(const ModelPool *pool, GError **error)
{
    if (!g_file_test(pool->target_path, G_FILE_TEST_EXISTS))
        return fail(error, KHO_ERROR_NOT_FOUND,
                    "pool %s: its folder %s does not exist: `kho pool-build %s` makes it", pool->name,
                    pool->target_path, pool->name);
    if (!g_file_test(pool->target_path, G_FILE_TEST_IS_DIR))
        return fail(error, KHO_ERROR_INVALID, "pool %s: %s is not a folder", pool->name, pool->target_path);
    DIR *folder = open_folder(pool, error);
    if (folder)
        closedir(folder);
    return folder != NULL;
}

static gboolean
dir_usage(const ModelPool *pool, PoolUsage *usage, GError **error)
{
    FdUsage space;

    if (!fd_usage(pool->target_path, &space, error)) {
        g_prefix_error(error, "pool %s: ", pool->name);
        return FALSE;
    }
    /* As libvirt: what is kept for root counts as allocated. */
    usage->capacity_bytes = space.total_bytes;
    usage->available_bytes = MIN(space.available_bytes, space.total_bytes);
    usage->allocation_bytes = usage->capacity_bytes - usage->available_bytes;
    return TRUE;
}

/* Links are followed. What vanishes meanwhile, or has a name that no volume may have, is none. */
static gboolean
is_volume(const ModelPool *pool, const char *name)
{
    g_autofree char *path = pool_volume_path(pool, name);
    GStatBuf st;

    return store_file_name_check(name, "volume", NULL) && g_stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static GPtrArray *
dir_list(const ModelPool *pool, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    DIR *folder = open_folder(pool, error);

    if (!folder)
        return NULL;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry)
            break;
        if (is_volume(pool, entry->d_name))
            g_ptr_array_add(names, g_strdup(entry->d_name));
    }
    int failed = errno;
    closedir(folder);
    if (failed) {
        fail_errno(error, failed, "pool %s: cannot list %s", pool->name, pool->target_path);
        return NULL;
    }
    return g_steal_pointer(&names);
}

const PoolType pool_type_dir = {
    .type = MODEL_POOL_DIR,
    .place = dir_place,
    .build = dir_build,
    .unbuild = dir_unbuild,
    .start = dir_start,
    .usage = dir_usage,
    .list = dir_list,
};
