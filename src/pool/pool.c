/* The dispatcher of pool types. */
#include "pool/pool.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/xml.h"
#include "store/tree.h"

#include <stdlib.h>
#include <string.h>

static const PoolType *const types[] = { &pool_type_dir };

static const PoolType *
type_of(const ModelPool *pool)
{
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++)
        if (types[i]->type == pool->type)
            return types[i];
    return NULL;
}

gboolean
pool_read_model(const char *path, ModelPool **model, GError **error)
{
    g_autoptr(GError) met = NULL;
    gsize len = 0;
    g_autofree char *text = fd_read_file(path, XML_TEXT_MAX, &len, &met);

    if (!text && g_error_matches(met, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    if (text)
        *model = model_pool_parse(text, len, &met);
    if (*model)
        return TRUE;
    if (!text) {
        g_propagate_error(error, g_steal_pointer(&met));
        return FALSE;
    }
    return fail(error, KHO_ERROR_CORRUPT, "%s is damaged: %s", path, met->message);
}

gboolean
pool_check(const ModelPool *pool, GError **error)
{
    if (!store_name_check(pool->name, "pool", error))
        return FALSE;
    if (!type_of(pool))
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "pool %s has type '%s': this kho has pools of type 'dir' only", pool->name,
                    model_pool_type_word(pool->type));
    if (!pool->target_path || !g_path_is_absolute(pool->target_path))
        return fail(error, KHO_ERROR_INVALID, "pool %s has the target path '%s': an absolute path is needed",
                    pool->name, pool->target_path ? pool->target_path : "");
    return TRUE;
}

/* Below these nothing is a file that somebody keeps; but /dev/shm is a folder as any other. */
static gboolean
is_kernels(const char *path)
{
    static const char *const tops[] = { "/dev", "/proc", "/sys" };

    for (gsize i = 0; i < G_N_ELEMENTS(tops); i++) {
        gsize len = strlen(tops[i]);
        if (g_str_has_prefix(path, tops[i]) && (path[len] == '/' || !path[len]))
            return !g_str_has_prefix(path, "/dev/shm/");
    }
    return FALSE;
}

gboolean
pool_check_target(const ModelPool *pool, GError **error)
{
    g_autofree char *named = g_canonicalize_filename(pool->target_path, "/");
    char *real = realpath(named, NULL);
    gboolean kernels = is_kernels(named) || (real && is_kernels(real));
    gboolean root = strcmp(real ? real : named, "/") == 0;

    free(real);
    if (!kernels && !root)
        return TRUE;
    return fail(error, KHO_ERROR_INVALID,
                "pool %s: %s is %s, no place for volumes: choose a folder of its own", pool->name,
                pool->target_path, root ? "the system's root folder" : "the kernel's");
}

char *
pool_place(const ModelPool *pool)
{
    g_assert(type_of(pool));
    return type_of(pool)->place(pool);
}

gboolean
pool_build(const ModelPool *pool, char **made, GError **error)
{
    char *new = NULL;

    if (!pool_check(pool, error) || !type_of(pool)->build(pool, &new, error))
        return FALSE;
    *made = new;
    return TRUE;
}

void
pool_unbuild(const ModelPool *pool, const char *made)
{
    if (made)
        type_of(pool)->unbuild(pool, made);
}

gboolean
pool_start(const ModelPool *pool, GError **error)
{
    return pool_check(pool, error) && type_of(pool)->start(pool, error);
}

gboolean
pool_usage(const ModelPool *pool, PoolUsage *usage, GError **error)
{
    PoolUsage found = { 0 };

    if (!pool_check(pool, error) || !type_of(pool)->usage(pool, &found, error))
        return FALSE;
    g_assert(found.allocation_bytes <= found.capacity_bytes && found.available_bytes <= found.capacity_bytes);
    *usage = found;
    return TRUE;
}

static gint
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

GPtrArray *
pool_list(const ModelPool *pool, GError **error)
{
    GPtrArray *names = pool_check(pool, error) ? type_of(pool)->list(pool, error) : NULL;

    if (names)
        g_ptr_array_sort(names, compare_names);
    return names;
}

char *
pool_volume_path(const ModelPool *pool, const char *name)
{
    return g_build_filename(pool->target_path, name, NULL);
}
