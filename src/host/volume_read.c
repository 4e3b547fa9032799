/* Reading volumes as what they are known to be, and asking who needs one. */
#include "base/error.h"
#include "host/disk_user.h"
#include "host/volume.h"

#include <string.h>

gboolean
host_reader_init(HostReader *reader, KhoHost *host, const ModelPool *pool, GError **error)
{
    *reader =
        (HostReader){ .host = host, .pool = pool, .formats = pool_formats_load(host->tree, pool, error) };
    return reader->formats != NULL;
}

void
host_reader_clear(HostReader *reader)
{
    g_clear_pointer(&reader->formats, pool_formats_free);
    g_clear_pointer(&reader->disks, g_ptr_array_unref);
}

/* Of what nobody recorded, headers are believed only where no machine says that all of it is the guest's. */
static gboolean
is_guests_own(HostReader *reader, const PoolVolume *found, gboolean *own, GError **error)
{
    const ModelVolume *model = found->model;

    *own = FALSE;
    if (!found->problem && strcmp(model->format, "qcow2") != 0)
        return TRUE;
    if (!reader->disks)
        reader->disks = host_disks_all(reader->host, error);
    *own = reader->disks && host_disks_say_raw(reader->disks, model->target_path);
    return reader->disks != NULL;
}

PoolVolume *
host_reader_read(HostReader *reader, const char *name, GError **error)
{
    const char *recorded = pool_formats_get(reader->formats, name);
    g_autoptr(PoolVolume) found = pool_volume_read(reader->pool, name, recorded, error);
    gboolean own;

    if (!found || recorded)
        return g_steal_pointer(&found);
    if (!is_guests_own(reader, found, &own, error))
        return NULL;
    return own ? pool_volume_read(reader->pool, name, "raw", error) : g_steal_pointer(&found);
}

gboolean
host_reader_next(HostReader *reader, const char *name, PoolVolume **volume, GError **error)
{
    g_autoptr(GError) met = NULL;

    *volume = host_reader_read(reader, name, &met);
    if (*volume || g_error_matches(met, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&met));
    return FALSE;
}

PoolVolume *
host_volume_read(KhoHost *host, const HostPool *pool, const char *name, GError **error)
{
    g_auto(HostReader) reader = { 0 };

    return host_reader_init(&reader, host, pool->live, error) ? host_reader_read(&reader, name, error) : NULL;
}

/* The folder of an inactive pool need not be there, nor be one that may be read. */
static gboolean
check_unused_in(KhoHost *host, const HostPool *pool, const char *path, const char *doing, GError **error)
{
    const ModelPool *model = host_pool_model(pool);
    g_autoptr(GPtrArray) names = pool_list(model, pool->live ? error : NULL);
    g_auto(HostReader) reader = { 0 };

    if (!names)
        return !pool->live;
    if (!host_reader_init(&reader, host, model, error))
        return FALSE;
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(PoolVolume) volume = NULL;
        if (!host_reader_next(&reader, names->pdata[i], &volume, error))
            return FALSE;
        const char *backing = volume ? volume->model->backing_path : NULL;
        if (volume && volume->data_path && host_same_file(volume->data_path, path))
            return fail(error, KHO_ERROR_BUSY,
                        "%s holds the data of volume %s in pool %s: %s would destroy that one", path,
                        volume->model->name, pool->name, doing);
        if (backing && host_same_file(backing, path))
            return fail(error, KHO_ERROR_BUSY,
                        "%s is the backing file of volume %s in pool %s: %s would destroy that one", path,
                        volume->model->name, pool->name, doing);
    }
    return TRUE;
}

gboolean
host_volume_check_unused(KhoHost *host, const char *path, const char *doing, gboolean but_own, GError **error)
{
    g_autoptr(GPtrArray) names = host_pool_names(host, error);

    if (!names)
        return FALSE;
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(HostPool) pool = host_pool_load(host, names->pdata[i], NULL);
        const ModelPool *model = pool ? host_pool_model(pool) : NULL;
        if (model && model->uuid && !check_unused_in(host, pool, path, doing, error))
            return FALSE;
    }
    return host_disks_check_unused(host, path, doing, but_own, error);
}
