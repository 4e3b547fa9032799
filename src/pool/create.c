/* Making, copying and removing volumes: what a volume's XML asks for, as options of the image functions. */
#include "base/error.h"
#include "base/fd.h"
#include "pool/volume.h"
#include "store/tree.h"

#include <glib/gstdio.h>
#include <kho/image_convert.h>
#include <string.h>
#include <unistd.h>

/* A volume holds a guest's data: nobody else reads it unless its XML says so. */
#define VOLUME_MODE_DEFAULT 0600

/* What must be refused before any file is made. */
static gboolean
check_wanted(const ModelPool *pool, const ModelVolume *wanted, const char *format, GError **error)
{
    gboolean raw = strcmp(format, "raw") == 0;
    const ModelPermissions *p = &wanted->permissions;

    if (!store_file_name_check(wanted->name, "volume", error))
        return FALSE;
    if (!raw && strcmp(format, "qcow2") != 0)
        return fail(error, KHO_ERROR_UNSUPPORTED, "volume %s: format '%s' cannot be made: raw and qcow2 can",
                    wanted->name, format);
    if (raw && wanted->backing_path)
        return fail(error, KHO_ERROR_INVALID,
                    "volume %s: a raw volume cannot have a backing file: use --format qcow2", wanted->name);
    if (wanted->backing_path && !wanted->backing_format)
        return fail(
            error, KHO_ERROR_INVALID,
            "volume %s: the format of its backing file %s must be stated: --backing-vol-format raw or qcow2",
            wanted->name, wanted->backing_path);
    if (wanted->capacity_bytes == 0 || (wanted->capacity_bytes == MODEL_SIZE_UNSET && !wanted->backing_path))
        return fail(error, KHO_ERROR_INVALID, "volume %s: its capacity must be greater than 0", wanted->name);
    if (wanted->allocation_bytes != MODEL_SIZE_UNSET && wanted->capacity_bytes != MODEL_SIZE_UNSET
        && wanted->allocation_bytes > wanted->capacity_bytes)
        return fail(error, KHO_ERROR_INVALID,
                    "volume %s: allocation %" G_GUINT64_FORMAT " is greater than capacity %" G_GUINT64_FORMAT,
                    wanted->name, wanted->allocation_bytes, wanted->capacity_bytes);
    if ((p->owner >= 0 && p->owner != geteuid()) || (p->group >= 0 && p->group != getegid()))
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "volume %s cannot be made for another owner or group than one's own: leave <owner> and "
                    "<group> out",
                    wanted->name);
    return TRUE;
}

static KhoPrealloc
prealloc_of(const ModelVolume *wanted, gboolean raw, gboolean metadata)
{
    gboolean all = wanted->allocation_bytes == wanted->capacity_bytes;

    if (raw)
        return wanted->allocation_bytes == 0 ? KHO_PREALLOC_OFF : KHO_PREALLOC_FALLOC;
    if (all && wanted->capacity_bytes != MODEL_SIZE_UNSET)
        return KHO_PREALLOC_FALLOC;
    return metadata ? KHO_PREALLOC_METADATA : KHO_PREALLOC_OFF;
}

/* A backing file of the same folder is named relative to it, so that the folder can be moved. */
static char *
backing_name(const ModelPool *pool, const char *backing_path)
{
    g_autofree char *folder = g_canonicalize_filename(pool->target_path, "/");
    g_autofree char *path = g_canonicalize_filename(backing_path, folder);
    g_autofree char *parent = g_path_get_dirname(path);

    return strcmp(parent, folder) == 0 ? g_path_get_basename(path) : g_steal_pointer(&path);
}

static gboolean
qcow2_version_of(const ModelVolume *wanted, guint *version, GError **error)
{
    static const struct {
        const char *compat;
        guint version;
    } rows[] = { { "0.10", 2 }, { "1.1", 3 } };

    *version = 3;
    if (!wanted->compat)
        return TRUE;
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (strcmp(wanted->compat, rows[i].compat) == 0) {
            *version = rows[i].version;
            return TRUE;
        }
    return fail(error, KHO_ERROR_INVALID, "volume %s: compat '%s' is not one of 0.10, 1.1", wanted->name,
                wanted->compat);
}

gboolean
pool_volume_create(const ModelPool *pool, const ModelVolume *wanted, gboolean metadata,
                   const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    const char *format = wanted->format ? wanted->format : "raw";
    g_autofree char *path = pool_volume_path(pool, wanted->name);
    g_autofree char *backing = wanted->backing_path ? backing_name(pool, wanted->backing_path) : NULL;
    gboolean raw = strcmp(format, "raw") == 0;
    KhoImageCreate options = {
        .format = format,
        .size_bytes = wanted->capacity_bytes == MODEL_SIZE_UNSET ? 0 : wanted->capacity_bytes,
        .prealloc = prealloc_of(wanted, raw, metadata),
        .prealloc_bytes = raw && wanted->allocation_bytes != MODEL_SIZE_UNSET ? wanted->allocation_bytes : 0,
        .backing_file = backing,
        .backing_format = wanted->backing_format,
        .mode = wanted->permissions.mode >= 0 ? (mode_t) wanted->permissions.mode : VOLUME_MODE_DEFAULT,
    };

    if (!check_wanted(pool, wanted, format, error))
        return FALSE;
    if (!raw) {
        options.cluster_bytes =
            wanted->cluster_bytes == MODEL_SIZE_UNSET ? 0 : (guint32) MIN(wanted->cluster_bytes, G_MAXUINT32);
        options.lazy_refcounts = wanted->lazy_refcounts;
        if (!qcow2_version_of(wanted, &options.qcow2_version, error))
            return FALSE;
    }
    return kho_image_create(path, &options, gate, job, error);
}

gboolean
pool_volume_clone(const ModelPool *pool, const PoolVolume *source, const char *name, gboolean metadata,
                  const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    const ModelVolume *from = source->model;
    g_autofree char *path = pool_volume_path(pool, name);
    const char *format = pool_volume_image_format(source, error);

    if (!format || !store_file_name_check(name, "volume", error))
        return FALSE;
    gboolean qcow2 = strcmp(format, "qcow2") == 0;
    KhoImageConvert options = {
        .source_format = format,
        .target = {
            .format = format,
            .prealloc = qcow2 && metadata ? KHO_PREALLOC_METADATA : KHO_PREALLOC_OFF,
            .backing_file = source->backing_stated,
            .backing_format = from->backing_format,
            .mode = (mode_t) from->permissions.mode,
        },
    };
    if (qcow2) {
        options.target.cluster_bytes = (guint32) from->cluster_bytes;
        options.target.lazy_refcounts = from->lazy_refcounts;
        options.target.qcow2_version = g_strcmp0(from->compat, "0.10") == 0 ? 2 : 3;
    }
    return kho_image_convert(from->target_path, path, &options, gate, job, error);
}

KhoImage *
pool_volume_hold(const char *path, gboolean alone, GError **error)
{
    return kho_image_open(path, "raw", KHO_IMAGE_NO_BACKING | (alone ? KHO_IMAGE_WRITE : KHO_IMAGE_READ),
                          NULL, error);
}

gboolean
pool_volume_delete(const ModelPool *pool, const char *name, GError **error)
{
    g_autofree char *path = pool_volume_path(pool, name);

    return fd_unlink(path, error) && fd_sync_parent(path, error);
}
