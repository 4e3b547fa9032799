/* Defining and undefining pools. */
#include "base/error.h"
#include "base/xml.h"
#include "host/pool.h"
#include "pool/pool.h"
#include "store/publish.h"

#include <string.h>

/* Whether no other pool has the uuid or the target of @wanted, and no pool of its name has another uuid. The
 * caller holds the claims on all three. */
static gboolean
check_duplicates(KhoHost *host, const ModelPool *wanted, GError **error)
{
    g_autoptr(GPtrArray) names = host_pool_names(host, error);
    g_autofree char *place = pool_place(wanted);

    if (!names)
        return FALSE;
    for (guint i = 0; i < names->len; i++) {
        gboolean same_name = strcmp(names->pdata[i], wanted->name) == 0;
        g_autoptr(HostPool) pool = host_pool_load(host, names->pdata[i], same_name ? error : NULL);
        const ModelPool *model = pool ? host_pool_model(pool) : NULL;

        if (!pool && same_name)
            return FALSE;
        if (!model)
            continue;
        gboolean same_uuid = model->uuid && g_ascii_strcasecmp(model->uuid, wanted->uuid) == 0;
        g_autofree char *other = pool_check(model, NULL) ? pool_place(model) : NULL;

        if (same_name && !same_uuid)
            return fail(error, KHO_ERROR_EXISTS, "pool %s exists already, with uuid %s: undefine it first",
                        wanted->name, model->uuid);
        if (!same_name && same_uuid)
            return fail(error, KHO_ERROR_EXISTS,
                        "uuid %s belongs to pool %s already: leave it out for a new one", wanted->uuid,
                        pool->name);
        if (!same_name && g_strcmp0(other, place) == 0)
            return host_pool_fail_taken(wanted, model, error);
    }
    return TRUE;
}

static gboolean
define(KhoHost *host, ModelPool *wanted, GError **error)
{
    if (!pool_check(wanted, error) || !pool_check_target(wanted, error)
        || !model_pool_complete(wanted, error))
        return FALSE;
    g_autofree char *object = g_strdup_printf("pool %s", wanted->name);
    g_autofree char *key = host_pool_place_key(wanted);
    /* Name, then target, then uuid: the same order in every process. */
    g_autoptr(StoreLock) name =
        store_lock_name(host->tree, STORE_LOCK_POOL, wanted->name, &host->wait, error);
    g_autoptr(StoreLock) target =
        name ? store_lock_name(host->tree, "target", key, &host->wait, error) : NULL;
    g_autoptr(StoreLock) change =
        target ? store_lock_take(host->tree, STORE_LOCK_POOL, wanted->uuid, object, &host->wait, error)
               : NULL;

    if (!change || !check_duplicates(host, wanted, error))
        return FALSE;
    g_autofree char *path = store_path_pool(host->tree, wanted->name);
    g_autofree char *xml = model_pool_format(wanted);
    return store_publish(path, xml, strlen(xml), 0644, error);
}

gboolean
kho_pool_define(KhoHost *host, const char *xml, gsize len, char **name, GError **error)
{
    g_autoptr(ModelPool) wanted = model_pool_parse(xml, len, error);

    if (!wanted || !define(host, wanted, error))
        return FALSE;
    *name = g_strdup(wanted->name);
    return TRUE;
}

static ModelPoolType
type_of_word(const char *word)
{
    for (ModelPoolType type = MODEL_POOL_DIR; type <= MODEL_POOL_VSTORAGE; type++)
        if (strcmp(model_pool_type_word(type), word) == 0)
            return type;
    return MODEL_POOL_UNSET;
}

gboolean
kho_pool_define_as(KhoHost *host, const char *name, const char *uuid, const char *type, const char *target,
                   GError **error)
{
    ModelPoolType known = type_of_word(type);

    if (!store_name_check(name, "pool", error))
        return FALSE;
    if (known == MODEL_POOL_UNSET)
        return fail(error, KHO_ERROR_INVALID, "pool %s: '%s' is no type of pool: this kho has type 'dir'",
                    name, type);
    if (!target && known == MODEL_POOL_DIR)
        return fail(error, KHO_ERROR_INVALID, "pool %s: a target is needed: --target /its/folder", name);
    if (uuid && !g_uuid_string_is_valid(uuid))
        return fail(error, KHO_ERROR_INVALID, "pool %s: \"%s\" is not a uuid", name, uuid);
    g_autoptr(ModelPool) wanted = model_pool_new(known, name, target);
    g_free(wanted->uuid);
    wanted->uuid = uuid ? g_ascii_strdown(uuid, -1) : NULL;
    return define(host, wanted, error);
}

gboolean
kho_pool_undefine(KhoHost *host, const char *name_or_uuid, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_lock(host, name_or_uuid, error);

    if (!pool)
        return FALSE;
    if (pool->live)
        return fail(error, KHO_ERROR_INVALID, "pool %s is active: `kho pool-destroy %s` stops it first",
                    pool->name, pool->name);
    g_autofree char *path = store_path_pool(host->tree, pool->name);
    g_autofree char *autostart = store_path_pool_autostart(host->tree, pool->name);
    return store_autostart_set(autostart, FALSE, error) && store_unlink(path, error);
}
