/* Finding volumes, claiming them, and the gate for their backing files. */
#include "base/error.h"
#include "host/volume.h"

#include <glib/gstdio.h>
#include <string.h>

void
host_volume_free(HostVolume *volume)
{
    if (!volume)
        return;
    host_pool_free(volume->pool);
    g_free(volume->name);
    store_lock_release(volume->lock);
    g_free(volume);
}

gboolean
host_same_file(const char *a, const char *b)
{
    GStatBuf sa, sb;

    return strcmp(a, b) == 0
           || (g_stat(a, &sa) == 0 && g_stat(b, &sb) == 0 && sa.st_dev == sb.st_dev
               && sa.st_ino == sb.st_ino);
}

/* The name that the volume at @path has in @pool, or NULL where it lies elsewhere. */
static char *
name_in_pool(const HostPool *pool, const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);

    return host_same_file(folder, pool->live->target_path) ? g_path_get_basename(path) : NULL;
}

static HostVolume *
volume_new(HostPool *pool, const char *name)
{
    HostVolume *volume = g_new0(HostVolume, 1);

    *volume = (HostVolume){ .pool = pool, .name = g_strdup(name) };
    return volume;
}

static HostVolume *
find_by_path(KhoHost *host, const char *path, GError **error)
{
    g_autoptr(GPtrArray) pools = host_pools_active(host, error);

    for (guint i = 0; pools && i < pools->len; i++) {
        g_autofree char *name = name_in_pool(pools->pdata[i], path);
        if (name)
            return volume_new(g_ptr_array_steal_index(pools, i), name);
    }
    if (pools)
        fail(error, KHO_ERROR_NOT_FOUND, "no active pool has a volume %s: `kho pool-list` lists the pools",
             path);
    return NULL;
}

HostVolume *
host_volume_find(KhoHost *host, const char *pool_name, const char *volume, GError **error)
{
    g_autofree char *path = g_path_is_absolute(volume) ? g_canonicalize_filename(volume, "/") : NULL;

    if (!pool_name && !path) {
        if (store_file_name_check(volume, "volume", error))
            fail(error, KHO_ERROR_INVALID,
                 "which pool is volume \"%s\" in? Give --pool, or the volume's path", volume);
        return NULL;
    }
    if (!pool_name)
        return find_by_path(host, path, error);
    g_autoptr(HostPool) pool = host_pool_find_active(host, pool_name, error);
    if (!pool)
        return NULL;
    g_autofree char *name = path ? name_in_pool(pool, path) : g_strdup(volume);
    if (!name) {
        fail(error, KHO_ERROR_NOT_FOUND, "pool %s has no volume %s: its folder is %s", pool->name, path,
             pool->live->target_path);
        return NULL;
    }
    return store_file_name_check(name, "volume", error) ? volume_new(g_steal_pointer(&pool), name) : NULL;
}

StoreLock *
host_volume_claim(KhoHost *host, const HostPool *pool, const char *name, GError **error)
{
    g_autofree char *key = g_strdup_printf("volume-%s-%s", host_pool_model(pool)->uuid, name);
    g_autofree char *object = g_strdup_printf("volume %s of pool %s", name, pool->name);

    return store_lock_take(host->tree, "name", key, object, &host->wait, error);
}

static gboolean
admit(const char *path, const char *referrer, gpointer data, GError **error)
{
    const HostGate *gate = data;
    g_autofree char *folder = g_path_get_dirname(path);

    for (guint i = 0; i < gate->folders->len; i++)
        if (host_same_file(folder, gate->folders->pdata[i]))
            return TRUE;
    return fail(error, KHO_ERROR_DENIED,
                "%s names the backing file %s, which lies in no active pool: start its pool", referrer, path);
}

gboolean
host_gate_init(HostGate *gate, KhoHost *host, const char *extra, GError **error)
{
    g_autoptr(GPtrArray) pools = host_pools_active(host, error);

    if (!pools)
        return FALSE;
    gate->folders = g_ptr_array_new_with_free_func(g_free);
    gate->gate = (KhoImageGate){ .admit = admit, .data = gate };
    for (guint i = 0; i < pools->len; i++)
        g_ptr_array_add(gate->folders, g_strdup(((HostPool *) pools->pdata[i])->live->target_path));
    if (extra)
        g_ptr_array_add(gate->folders, g_path_get_dirname(extra));
    return TRUE;
}

void
host_gate_clear(HostGate *gate)
{
    g_clear_pointer(&gate->folders, g_ptr_array_unref);
}
