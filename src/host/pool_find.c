/* Finding pools. */
#include "base/error.h"
#include "host/pool.h"
#include "pool/pool.h"
#include "store/list.h"

#include <string.h>

void
host_pool_free(HostPool *pool)
{
    if (!pool)
        return;
    g_free(pool->name);
    model_pool_free(pool->defined);
    model_pool_free(pool->live);
    store_lock_release(pool->lock);
    g_free(pool);
}

const ModelPool *
host_pool_model(const HostPool *pool)
{
    return pool->live ? pool->live : pool->defined;
}

HostPool *
host_pool_load(KhoHost *host, const char *name, GError **error)
{
    g_autofree char *defined = store_path_pool(host->tree, name);
    g_autofree char *live = store_path_pool_run(host->tree, name);
    g_autoptr(HostPool) pool = g_new0(HostPool, 1);

    pool->name = g_strdup(name);
    if (!pool_read_model(defined, &pool->defined, error) || !pool_read_model(live, &pool->live, error))
        return NULL;
    return g_steal_pointer(&pool);
}

static gint
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

GPtrArray *
host_pool_names(KhoHost *host, GError **error)
{
    g_autoptr(GPtrArray) names = store_list_pools(host->tree, error);
    g_autoptr(GPtrArray) active = names ? store_list_pools_active(host->tree, error) : NULL;

    if (!active)
        return NULL;
    for (guint i = 0, defined = names->len; i < active->len; i++)
        if (!bsearch(&active->pdata[i], names->pdata, defined, sizeof(gpointer), compare_names))
            g_ptr_array_add(names, g_strdup(active->pdata[i]));
    g_ptr_array_sort(names, compare_names);
    return g_steal_pointer(&names);
}

GPtrArray *
host_pools_active(KhoHost *host, GError **error)
{
    g_autoptr(GPtrArray) names = store_list_pools_active(host->tree, error);
    g_autoptr(GPtrArray) pools = g_ptr_array_new_with_free_func((GDestroyNotify) host_pool_free);

    if (!names)
        return NULL;
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(HostPool) pool = host_pool_load(host, names->pdata[i], NULL);
        if (pool && pool->live)
            g_ptr_array_add(pools, g_steal_pointer(&pool));
    }
    return g_steal_pointer(&pools);
}

/* The pool whose uuid is @uuid; NULL without error where there is none. Definitions that cannot be read are
 * passed over: they would make every pool unreachable otherwise. */
static HostPool *
find_by_uuid(KhoHost *host, const char *uuid, GError **error)
{
    g_autoptr(GPtrArray) names = host_pool_names(host, error);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(HostPool) pool = host_pool_load(host, names->pdata[i], NULL);
        const ModelPool *model = pool ? host_pool_model(pool) : NULL;

        if (model && model->uuid && g_ascii_strcasecmp(model->uuid, uuid) == 0)
            return g_steal_pointer(&pool);
    }
    return NULL;
}

HostPool *
host_pool_find(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) pool = NULL;
    g_autoptr(GError) met = NULL;

    if (store_name_check(name_or_uuid, "pool", NULL)) {
        pool = host_pool_load(host, name_or_uuid, error);
        if (!pool || host_pool_model(pool))
            return g_steal_pointer(&pool);
    }
    if (g_uuid_string_is_valid(name_or_uuid)) {
        HostPool *by_uuid = find_by_uuid(host, name_or_uuid, &met);
        if (by_uuid)
            return by_uuid;
        if (met) {
            g_propagate_error(error, g_steal_pointer(&met));
            return NULL;
        }
    }
    g_autofree char *valid = g_utf8_make_valid(name_or_uuid, -1);
    g_autofree char *shown = error_one_line(valid);
    fail(error, KHO_ERROR_NOT_FOUND, "there is no pool \"%s\": `kho pool-list --all` lists them", shown);
    return NULL;
}

HostPool *
host_pool_lock(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) seen = host_pool_find(host, name_or_uuid, error);

    if (!seen)
        return NULL;
    g_autofree char *object = g_strdup_printf("pool %s", seen->name);
    const char *uuid = host_pool_model(seen)->uuid;
    if (!uuid || !g_uuid_string_is_valid(uuid)) {
        fail(error, KHO_ERROR_CORRUPT, "the definition of %s has no uuid: define it again", object);
        return NULL;
    }
    g_autoptr(StoreLock) lock =
        store_lock_take(host->tree, STORE_LOCK_POOL, uuid, object, &host->wait, error);
    if (!lock)
        return NULL;
    /* Now that nobody changes it: what was read before the wait may be gone, or be another pool. */
    g_autoptr(HostPool) pool = host_pool_load(host, seen->name, error);
    if (!pool)
        return NULL;
    if (!host_pool_model(pool) || g_strcmp0(host_pool_model(pool)->uuid, uuid) != 0) {
        fail(error, KHO_ERROR_NOT_FOUND, "there is no pool \"%s\" any more: another process removed it",
             seen->name);
        return NULL;
    }
    pool->lock = g_steal_pointer(&lock);
    return g_steal_pointer(&pool);
}

HostPool *
host_pool_find_active(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_find(host, name_or_uuid, error);

    if (pool && !pool->live) {
        fail(error, KHO_ERROR_INVALID, "pool %s is not active: `kho pool-start %s` starts it", pool->name,
             pool->name);
        return NULL;
    }
    return g_steal_pointer(&pool);
}

char *
host_pool_place_key(const ModelPool *pool)
{
    g_autofree char *place = pool_place(pool);

    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, place, -1);
}

gboolean
host_pool_fail_taken(const ModelPool *wanted, const ModelPool *other, GError **error)
{
    g_autofree char *target = g_canonicalize_filename(wanted->target_path, "/");
    g_autofree char *theirs = g_canonicalize_filename(other->target_path, "/");

    if (strcmp(target, theirs) == 0)
        return fail(error, KHO_ERROR_EXISTS, "folder %s belongs to pool %s already: choose another", target,
                    other->name);
    return fail(error, KHO_ERROR_EXISTS,
                "folder %s is the same as %s, which belongs to pool %s already: choose another", target,
                theirs, other->name);
}
