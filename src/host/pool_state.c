/* Building, starting, stopping pools. A pool is active while run/storage/NAME.xml stands. */
#include "base/error.h"
#include "host/pool.h"
#include "pool/pool.h"
#include "store/publish.h"

#include <string.h>

static gboolean
needs_definition(const HostPool *pool, GError **error)
{
    return pool->defined
           || fail(error, KHO_ERROR_INVALID,
                   "pool %s is not defined, only active: it has no definition to work with", pool->name);
}

gboolean
kho_pool_build(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_lock(host, name_or_uuid, error);
    g_autofree char *made = NULL;

    if (!pool)
        return FALSE;
    if (pool->live)
        return fail(error, KHO_ERROR_INVALID, "pool %s is active: it is built already", pool->name);
    return pool_build(pool->defined, &made, error);
}

/* A link or a mount made since the definition may have led two pools to one folder: each would then take the
 * other's volumes for its own. */
static gboolean
check_alone(KhoHost *host, const ModelPool *model, GError **error)
{
    g_autoptr(GPtrArray) active = host_pools_active(host, error);
    g_autofree char *place = pool_place(model);

    for (guint i = 0; active && i < active->len; i++) {
        const ModelPool *other = ((HostPool *) active->pdata[i])->live;
        g_autofree char *theirs = pool_check(other, NULL) ? pool_place(other) : NULL;

        if (strcmp(other->name, model->name) != 0 && g_strcmp0(theirs, place) == 0)
            return host_pool_fail_taken(model, other, error);
    }
    return active != NULL;
}

/* Two starts of one place meet at a lock of their own, which comes after the pool's. */
static gboolean
activate(KhoHost *host, const HostPool *pool, GError **error)
{
    if (!pool_start(pool->defined, error))
        return FALSE;
    g_autofree char *key = host_pool_place_key(pool->defined);
    g_autoptr(StoreLock) lock = store_lock_name(host->tree, "folder", key, &host->wait, error);
    g_autofree char *path = store_path_pool_run(host->tree, pool->name);
    g_autofree char *xml = model_pool_format(pool->defined);

    return lock && check_alone(host, pool->defined, error)
           && store_publish(path, xml, strlen(xml), 0644, error);
}

gboolean
kho_pool_start(KhoHost *host, const char *name_or_uuid, gboolean build, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_lock(host, name_or_uuid, error);
    g_autofree char *made = NULL;

    if (!pool || !needs_definition(pool, error))
        return FALSE;
    if (pool->live)
        return fail(error, KHO_ERROR_INVALID, "pool %s is active already", pool->name);
    if (build && !pool_build(pool->defined, &made, error))
        return FALSE;
    if (activate(host, pool, error))
        return TRUE;
    pool_unbuild(pool->defined, made);
    return FALSE;
}

gboolean
kho_pool_stop(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_lock(host, name_or_uuid, error);

    if (!pool)
        return FALSE;
    if (!pool->live)
        return fail(error, KHO_ERROR_INVALID, "pool %s is not active", pool->name);
    g_autofree char *path = store_path_pool_run(host->tree, pool->name);
    return store_unlink(path, error);
}

gboolean
kho_pool_set_autostart(KhoHost *host, const char *name_or_uuid, gboolean on, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_lock(host, name_or_uuid, error);

    if (!pool || !needs_definition(pool, error))
        return FALSE;
    g_autofree char *link = store_path_pool_autostart(host->tree, pool->name);
    return store_autostart_set(link, on, error);
}

gboolean
kho_pool_refresh(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_find_active(host, name_or_uuid, error);
    g_autoptr(GPtrArray) names = pool ? pool_list(pool->live, error) : NULL;

    return names != NULL;
}
