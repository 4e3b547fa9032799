/* Making, copying, resizing and deleting volumes. */
#include "base/error.h"
#include "base/num.h"
#include "host/volume.h"
#include "snapshot/guard.h"

#include <kho/save.h>
#include <string.h>

/* The path of the backing volume that the user named: a name in @pool, or a path anywhere. It must be there.
 */
static char *
resolve_backing(const HostPool *pool, const char *backing, GError **error)
{
    g_autofree char *path = g_path_is_absolute(backing) ? g_canonicalize_filename(backing, "/")
                                                        : pool_volume_path(pool->live, backing);

    if (!g_path_is_absolute(backing) && !store_file_name_check(backing, "volume", error))
        return NULL;
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        fail(error, KHO_ERROR_NOT_FOUND,
             "backing volume \"%s\" does not exist: `kho vol-list %s` lists those of the pool", backing,
             pool->name);
        return NULL;
    }
    return g_steal_pointer(&path);
}

/* What a guest will write into a raw volume must not be able to make another format of it. (A qcow2 header is
 * never the guest's.) A volume that cannot be recorded is not left. */
static gboolean
record(KhoHost *host, const HostPool *pool, const char *name, const char *format, GError **error)
{
    if (strcmp(format, "raw") != 0
        || pool_formats_set(host->tree, pool->live, name, format, &host->wait, error))
        return TRUE;
    pool_volume_delete(pool->live, name, NULL);
    return FALSE;
}

/* A delete that began before the new volume could be seen does not know of it: it is not left. */
static gboolean
keep_sound(KhoHost *host, const HostPool *pool, const char *name, GError **error)
{
    g_autofree char *path = pool_volume_path(pool->live, name);

    if (guard_check_built(host->tree, path, &host->wait, error))
        return TRUE;
    pool_volume_delete(pool->live, name, NULL);
    return FALSE;
}

static gboolean
create(KhoHost *host, const HostPool *pool, ModelVolume *wanted, gboolean metadata, const KhoJob *job,
       GError **error)
{
    g_auto(HostGate) gate = { 0 };
    g_autoptr(KhoImage) backing = NULL;

    if (!store_file_name_check(wanted->name, "volume", error))
        return FALSE;
    if (wanted->backing_path) {
        char *path = resolve_backing(pool, wanted->backing_path, error);
        if (!path)
            return FALSE;
        g_free(wanted->backing_path);
        wanted->backing_path = path;
        /* Held until the new volume can be seen, so that nobody deletes the backing file before. */
        backing = pool_volume_hold(path, FALSE, error);
        if (!backing)
            return FALSE;
    }
    g_autofree char *place = pool_volume_path(pool->live, wanted->name);
    if (g_file_test(place, G_FILE_TEST_EXISTS))
        return fail(error, KHO_ERROR_EXISTS, "pool %s has a volume \"%s\" already: choose another name",
                    pool->name, wanted->name);
    return (!wanted->backing_path
            || guard_check_read(host->tree, NULL, wanted->backing_path, wanted->backing_format, error))
           && host_gate_init(&gate, host, wanted->backing_path, error)
           && pool_volume_create(pool->live, wanted, metadata, &gate.gate, job, error)
           && record(host, pool, wanted->name, wanted->format ? wanted->format : "raw", error)
           && (!wanted->backing_path || keep_sound(host, pool, wanted->name, error));
}

gboolean
kho_volume_create(KhoHost *host, const char *pool_name, const KhoVolumeCreate *options, const KhoJob *job,
                  GError **error)
{
    g_autoptr(HostPool) pool = host_pool_find_active(host, pool_name, error);

    if (!pool)
        return FALSE;
    g_autoptr(ModelVolume) wanted = model_volume_new(options->name);
    wanted->capacity_bytes = options->capacity_bytes;
    wanted->allocation_bytes = options->allocation_bytes;
    wanted->format = g_strdup(options->format);
    wanted->backing_path = g_strdup(options->backing_volume);
    wanted->backing_format = g_strdup(options->backing_format);
    return create(host, pool, wanted, options->prealloc_metadata, job, error);
}

/* An element that is not known is passed over, but not this one: the data would lie there in the clear. */
static gboolean
check_clear(const ModelVolume *wanted, GError **error)
{
    g_autoptr(GPtrArray) unknown = model_volume_unknown(wanted);

    for (guint i = 0; i < unknown->len; i++)
        if (g_str_has_prefix(unknown->pdata[i], "<encryption>"))
            return fail(error, KHO_ERROR_UNSUPPORTED,
                        "volume %s: %s: this kho makes no encrypted volumes: leave it out", wanted->name,
                        (const char *) unknown->pdata[i]);
    return TRUE;
}

gboolean
kho_volume_create_xml(KhoHost *host, const char *pool_name, const char *xml, gsize len, const KhoJob *job,
                      char **name, GError **error)
{
    g_autoptr(ModelVolume) wanted = model_volume_parse(xml, len, error);
    g_autoptr(HostPool) pool = wanted ? host_pool_find_active(host, pool_name, error) : NULL;

    if (!pool || !check_clear(wanted, error) || !create(host, pool, wanted, FALSE, job, error))
        return FALSE;
    *name = g_strdup(wanted->name);
    return TRUE;
}

/* A volume found, claimed, and then read again: it may have changed during the wait. */
static PoolVolume *
claim_and_read(KhoHost *host, HostVolume *volume, GError **error)
{
    g_autoptr(PoolVolume) there = host_volume_read(host, volume->pool, volume->name, error);

    if (!there)
        return NULL;
    volume->lock = host_volume_claim(host, volume->pool, volume->name, error);
    return volume->lock ? host_volume_read(host, volume->pool, volume->name, error) : NULL;
}

static gboolean
new_capacity(const ModelVolume *model, const KhoVolumeResize *options, guint64 *capacity, GError **error)
{
    gboolean shrink = (options->flags & KHO_RESIZE_SHRINK) != 0;
    guint64 bytes = options->bytes, wanted = bytes;

    if (options->flags & KHO_RESIZE_DELTA) {
        if (shrink && bytes >= model->capacity_bytes)
            return fail(error, KHO_ERROR_INVALID,
                        "volume %s has %" G_GUINT64_FORMAT " bytes: it cannot shrink by %" G_GUINT64_FORMAT,
                        model->name, model->capacity_bytes, bytes);
        if (shrink)
            wanted = model->capacity_bytes - bytes;
        else if (!num_add(model->capacity_bytes, bytes, &wanted) || wanted > NUM_OFFSET_MAX)
            return fail(error, KHO_ERROR_INVALID,
                        "volume %s cannot grow by %" G_GUINT64_FORMAT " bytes: that is too large",
                        model->name, bytes);
    }
    if (wanted == 0)
        return fail(error, KHO_ERROR_INVALID, "volume %s: its capacity must be greater than 0", model->name);
    if (wanted < model->capacity_bytes && !shrink)
        return fail(error, KHO_ERROR_INVALID,
                    "volume %s has %" G_GUINT64_FORMAT " bytes, more than %" G_GUINT64_FORMAT
                    ": --shrink says that the data past the new end may go",
                    model->name, model->capacity_bytes, wanted);
    *capacity = wanted;
    return TRUE;
}

guint64
kho_volume_resize(KhoHost *host, const char *pool_name, const char *name, const KhoVolumeResize *options,
                  const KhoJob *job, GError **error)
{
    g_autoptr(HostVolume) volume = host_volume_find(host, pool_name, name, error);
    g_autoptr(PoolVolume) found = volume ? claim_and_read(host, volume, error) : NULL;
    const char *format = found ? pool_volume_image_format(found, error) : NULL;
    g_auto(HostGate) gate = { 0 };
    guint64 wanted = 0;

    if (!format || !new_capacity(found->model, options, &wanted, error))
        return 0;
    gboolean shrinks = wanted < found->model->capacity_bytes;
    const char *path = found->model->target_path;
    if (!guard_check_file(host->tree, path, error) || !kho_save_check_file(host, path, error))
        return 0;
    if (shrinks && !host_volume_check_unused(host, path, "shrinking it", TRUE, error))
        return 0;
    gboolean reserves = options->flags & KHO_RESIZE_ALLOCATE && !shrinks;
    const KhoImageResize image = { .size_bytes = wanted,
                                   .may_shrink = shrinks,
                                   .prealloc = reserves ? KHO_PREALLOC_FALLOC : KHO_PREALLOC_OFF };
    return host_gate_init(&gate, host, NULL, error)
                   && kho_image_resize(path, format, &image, &gate.gate, job, error)
               ? wanted
               : 0;
}

gboolean
kho_volume_clone(KhoHost *host, const char *pool_name, const char *name, const char *new_name,
                 gboolean metadata, const KhoJob *job, GError **error)
{
    g_autoptr(HostVolume) volume = host_volume_find(host, pool_name, name, error);
    g_autoptr(PoolVolume) found = volume ? host_volume_read(host, volume->pool, volume->name, error) : NULL;
    g_autoptr(KhoImage) held = NULL;
    g_auto(HostGate) gate = { 0 };

    if (!found || !store_file_name_check(new_name, "volume", error))
        return FALSE;
    g_autofree char *place = pool_volume_path(volume->pool->live, new_name);
    if (g_file_test(place, G_FILE_TEST_EXISTS))
        return fail(error, KHO_ERROR_EXISTS, "pool %s has a volume \"%s\" already: choose another name",
                    volume->pool->name, new_name);
    /* The source is kept by its image locks while it is copied; the backing file until the copy can be seen,
     * too. */
    const char *backing = found->model->backing_path;
    if (backing) {
        held = pool_volume_hold(backing, FALSE, error);
        if (!held)
            return FALSE;
    }
    const char *format = pool_volume_image_format(found, error);
    if (format)
        host_warn_of_loss(host, found->model->target_path, format, "the clone");
    return format && guard_check_read(host->tree, NULL, found->model->target_path, format, error)
           && host_gate_init(&gate, host, NULL, error)
           && pool_volume_clone(volume->pool->live, found, new_name, metadata, &gate.gate, job, error)
           && record(host, volume->pool, new_name, format, error)
           && (!backing || keep_sound(host, volume->pool, new_name, error));
}

gboolean
kho_volume_delete(KhoHost *host, const char *pool_name, const char *name, GError **error)
{
    g_autoptr(HostVolume) volume = host_volume_find(host, pool_name, name, error);
    g_autoptr(PoolVolume) found = volume ? claim_and_read(host, volume, error) : NULL;

    if (!found)
        return FALSE;
    /* Held before the check: who makes an overlay holds its backing file until the overlay can be seen. */
    const char *path = found->model->target_path;
    g_autoptr(KhoImage) held = pool_volume_hold(path, TRUE, error);
    if (!held || !host_volume_check_unused(host, path, "deleting it", FALSE, error)
        || !pool_volume_delete(volume->pool->live, volume->name, error))
        return FALSE;
    /* A record that stays holds for no other file. */
    pool_formats_forget(host->tree, volume->pool->live, volume->name, &host->wait);
    return TRUE;
}
