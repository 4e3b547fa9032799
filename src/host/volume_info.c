/* What is known of volumes, for those who ask. */
#include "base/error.h"
#include "host/volume.h"

#include <string.h>

void
kho_volume_free(KhoVolume *volume)
{
    if (!volume)
        return;
    g_free(volume->name);
    g_free(volume->pool);
    g_free(volume->path);
    g_free(volume->key);
    g_free(volume->format);
    g_free(volume->backing_path);
    g_free(volume->backing_format);
    g_free(volume->problem);
    g_free(volume);
}

static KhoVolume *
describe(const HostPool *pool, const PoolVolume *found)
{
    const ModelVolume *model = found->model;
    KhoVolume *volume = g_new0(KhoVolume, 1);

    *volume = (KhoVolume){
        .name = g_strdup(model->name),
        .pool = g_strdup(pool->name),
        .path = g_strdup(model->target_path),
        .key = g_strdup(model->key),
        .type = model_volume_type_word(model->type),
        .format = g_strdup(model->format),
        .capacity_bytes = model->capacity_bytes,
        .allocation_bytes = model->allocation_bytes,
        .physical_bytes = model->physical_bytes,
        .backing_path = g_strdup(model->backing_path),
        .backing_format = g_strdup(model->backing_format),
        .problem = found->problem ? error_one_line(found->problem->message) : NULL,
    };
    return volume;
}

GPtrArray *
kho_volume_list(KhoHost *host, const char *pool_name, GError **error)
{
    g_autoptr(HostPool) pool = host_pool_find_active(host, pool_name, error);
    g_autoptr(GPtrArray) names = pool ? pool_list(pool->live, error) : NULL;
    g_auto(HostReader) reader = { 0 };

    if (!names || !host_reader_init(&reader, host, pool->live, error))
        return NULL;
    GPtrArray *volumes = g_ptr_array_new_with_free_func((GDestroyNotify) kho_volume_free);
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(PoolVolume) found = NULL;
        if (!host_reader_next(&reader, names->pdata[i], &found, error)) {
            g_ptr_array_unref(volumes);
            return NULL;
        }
        if (found)
            g_ptr_array_add(volumes, describe(pool, found));
    }
    return volumes;
}

KhoVolume *
kho_volume_info(KhoHost *host, const char *pool, const char *name, GError **error)
{
    g_autoptr(HostVolume) volume = host_volume_find(host, pool, name, error);
    g_autoptr(PoolVolume) found = volume ? host_volume_read(host, volume->pool, volume->name, error) : NULL;

    return found ? describe(volume->pool, found) : NULL;
}

char *
kho_volume_xml(KhoHost *host, const char *pool, const char *name, GError **error)
{
    g_autoptr(HostVolume) volume = host_volume_find(host, pool, name, error);
    g_autoptr(PoolVolume) found = volume ? host_volume_read(host, volume->pool, volume->name, error) : NULL;

    if (!found || !pool_volume_image_format(found, error))
        return NULL;
    /* As libvirt: version 3 is not worth a word. */
    if (g_strcmp0(found->model->compat, "1.1") == 0)
        g_clear_pointer(&found->model->compat, g_free);
    return model_volume_format(found->model);
}
