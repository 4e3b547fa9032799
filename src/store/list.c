#include "store/list.h"

#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

static gint
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Whether @entry can be an object: with @suffix NULL a folder, otherwise NAME@suffix. Temporary files and
 * what people left there (editors' backups, "README") have names that no object may have, or no suffix. */
static gboolean
is_object(const struct dirent *entry, const char *suffix)
{
    if (entry->d_name[0] == '.')
        return FALSE;
    if (!suffix)
        return entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
    return entry->d_type != DT_DIR && g_str_has_suffix(entry->d_name, suffix)
           && strlen(entry->d_name) > strlen(suffix);
}

static GPtrArray *
list_folder(const char *root, const char *below, const char *suffix, GError **error)
{
    g_autofree char *path = g_build_filename(root, below, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    DIR *folder = opendir(path);

    if (!folder && errno != ENOENT) {
        fail_errno(error, errno, "cannot list %s", path);
        return NULL;
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = folder ? readdir(folder) : NULL;
        if (!entry)
            break;
        if (is_object(entry, suffix))
            g_ptr_array_add(names,
                            g_strndup(entry->d_name, strlen(entry->d_name) - (suffix ? strlen(suffix) : 0)));
    }
    int failed = folder ? errno : 0;
    if (folder)
        closedir(folder);
    if (failed) {
        fail_errno(error, failed, "cannot list %s", path);
        return NULL;
    }
    g_ptr_array_sort(names, compare_names);
    return g_steal_pointer(&names);
}

GPtrArray *
store_list_domains(const StoreTree *tree, GError **error)
{
    return list_folder(tree->etc, "qemu", ".xml", error);
}

GPtrArray *
store_list_domains_run(const StoreTree *tree, GError **error)
{
    return list_folder(tree->run, "qemu", NULL, error);
}

GPtrArray *
store_list_pools(const StoreTree *tree, GError **error)
{
    return list_folder(tree->etc, "storage", ".xml", error);
}

GPtrArray *
store_list_pools_active(const StoreTree *tree, GError **error)
{
    return list_folder(tree->run, "storage", ".xml", error);
}

GPtrArray *
store_list_snapshots(const StoreTree *tree, const char *domain, GError **error)
{
    g_autofree char *path = store_path_snapshots(tree, domain);
    return list_folder(path, "", ".xml", error);
}

GPtrArray *
store_list_domains_snapshots(const StoreTree *tree, GError **error)
{
    return list_folder(tree->lib, "qemu/snapshot", NULL, error);
}
