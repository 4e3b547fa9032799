/* What is known of pools, for those who ask. */
#include "base/error.h"
#include "host/pool.h"
#include "pool/pool.h"
#include "store/publish.h"

void
kho_pool_free(KhoPool *pool)
{
    if (!pool)
        return;
    g_free(pool->name);
    g_free(pool->uuid);
    g_free(pool->type);
    g_free(pool->target_path);
    g_free(pool->problem);
    g_free(pool);
}

static KhoPool *
describe(KhoHost *host, const HostPool *found, GError **error)
{
    const ModelPool *model = host_pool_model(found);
    g_autofree char *link = store_path_pool_autostart(host->tree, found->name);
    g_autoptr(KhoPool) pool = g_new0(KhoPool, 1);
    PoolUsage usage = { 0 };

    pool->name = g_strdup(found->name);
    pool->uuid = g_strdup(model->uuid);
    pool->type = g_strdup(model_pool_type_word(model->type));
    pool->target_path = g_strdup(model->target_path);
    pool->active = found->live != NULL;
    pool->persistent = found->defined != NULL;
    pool->autostart = store_autostart_get(link);
    if (pool->active && !pool_usage(model, &usage, error))
        return NULL;
    pool->capacity_bytes = usage.capacity_bytes;
    pool->allocation_bytes = usage.allocation_bytes;
    pool->available_bytes = usage.available_bytes;
    return g_steal_pointer(&pool);
}

KhoPool *
kho_pool_info(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) found = host_pool_find(host, name_or_uuid, error);

    return found ? describe(host, found, error) : NULL;
}

/* One row of the list, whatever is wrong with the pool; NULL where it has gone meanwhile. */
static KhoPool *
describe_anyhow(KhoHost *host, const char *name)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(HostPool) found = host_pool_load(host, name, &problem);

    if (found && !host_pool_model(found))
        return NULL;
    KhoPool *pool = found ? describe(host, found, &problem) : NULL;
    if (pool)
        return pool;
    g_autofree char *live = store_path_pool_run(host->tree, name);
    g_autofree char *link = store_path_pool_autostart(host->tree, name);
    const ModelPool *model = found ? host_pool_model(found) : NULL;
    pool = g_new0(KhoPool, 1);
    *pool = (KhoPool){
        .name = g_strdup(name),
        .uuid = g_strdup(model ? model->uuid : NULL),
        .type = g_strdup(model ? model_pool_type_word(model->type) : NULL),
        .target_path = g_strdup(model ? model->target_path : NULL),
        .active = g_file_test(live, G_FILE_TEST_EXISTS),
        .autostart = store_autostart_get(link),
        .persistent = !found || found->defined,
        .problem = error_one_line(problem->message),
    };
    return pool;
}

GPtrArray *
kho_pool_list(KhoHost *host, GError **error)
{
    g_autoptr(GPtrArray) names = host_pool_names(host, error);

    if (!names)
        return NULL;
    GPtrArray *pools = g_ptr_array_new_with_free_func((GDestroyNotify) kho_pool_free);
    for (guint i = 0; i < names->len; i++) {
        KhoPool *pool = describe_anyhow(host, names->pdata[i]);
        if (pool)
            g_ptr_array_add(pools, pool);
    }
    return pools;
}

char *
kho_pool_xml(KhoHost *host, const char *name_or_uuid, gboolean inactive, GError **error)
{
    g_autoptr(HostPool) found = host_pool_find(host, name_or_uuid, error);

    if (!found)
        return NULL;
    if (inactive && !found->defined) {
        fail(error, KHO_ERROR_INVALID, "pool %s is not defined, only active", found->name);
        return NULL;
    }
    ModelPool *model = found->live && !inactive ? found->live : found->defined;
    PoolUsage usage = { 0 };
    if (model == found->live && !pool_usage(model, &usage, error))
        return NULL;
    model->capacity_bytes = usage.capacity_bytes;
    model->allocation_bytes = usage.allocation_bytes;
    model->available_bytes = usage.available_bytes;
    return model_pool_format(model);
}
