/* Reading volumes. */
#include "pool/volume.h"

#include "base/error.h"
#include "base/fd.h"
#include "store/tree.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

/* ISO 9660, 8.1: the first volume descriptor lies at sector 16, its identifier one byte into it. */
#define ISO_MARK     "CD001"
#define ISO_MARK_OFF (16 * 2048 + 1)

void
pool_volume_free(PoolVolume *volume)
{
    if (!volume)
        return;
    if (volume->model)
        model_volume_free(volume->model);
    g_free(volume->backing_stated);
    g_free(volume->data_path);
    g_clear_error(&volume->problem);
    g_free(volume);
}

static gboolean
is_iso(const char *path)
{
    fd_auto int fd = fd_open(path, O_RDONLY | O_NONBLOCK, 0, NULL);
    char mark[sizeof ISO_MARK - 1];

    return fd >= 0 && fd_pread_full(fd, mark, sizeof mark, ISO_MARK_OFF, path, NULL)
           && memcmp(mark, ISO_MARK, sizeof mark) == 0;
}

static char *
format_time(const struct timespec *time)
{
    return g_strdup_printf("%" G_GINT64_FORMAT ".%09ld", (gint64) time->tv_sec, time->tv_nsec);
}

static void
fill_from_stat(ModelVolume *model, const struct stat *st)
{
    model->type = MODEL_VOLUME_FILE;
    model->physical_bytes = (guint64) st->st_size;
    model->allocation_bytes = (guint64) st->st_blocks * 512;
    model->capacity_bytes = model->physical_bytes;
    model->permissions.mode = st->st_mode & 0777;
    model->permissions.owner = st->st_uid;
    model->permissions.group = st->st_gid;
    model->atime = format_time(&st->st_atim);
    model->mtime = format_time(&st->st_mtim);
    model->ctime = format_time(&st->st_ctim);
}

static void
fill_from_info(PoolVolume *volume, const KhoImageInfo *info)
{
    ModelVolume *model = volume->model;
    gboolean qcow2 = strcmp(info->format, "qcow2") == 0;

    model->format = g_strdup(!qcow2 && is_iso(model->target_path) ? "iso" : info->format);
    model->capacity_bytes = info->virtual_bytes;
    if (qcow2) {
        model->compat = g_strdup(info->qcow2_version == 2 ? "0.10" : "1.1");
        model->cluster_bytes = info->cluster_bytes;
        model->lazy_refcounts = info->lazy_refcounts;
    }
    volume->backing_stated = g_strdup(info->backing_file);
    volume->data_path = g_strdup(info->full_data_path);
    model->backing_path = g_strdup(info->full_backing_path ? info->full_backing_path : info->backing_file);
    model->backing_format = g_strdup(info->backing_format);
}

PoolVolume *
pool_volume_read(const ModelPool *pool, const char *name, const char *format, GError **error)
{
    g_autofree char *path = pool_volume_path(pool, name);
    g_autoptr(PoolVolume) volume = g_new0(PoolVolume, 1);
    GStatBuf st;

    if (!store_file_name_check(name, "volume", error))
        return NULL;
    if (g_stat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        fail(error, KHO_ERROR_NOT_FOUND, "pool %s has no volume \"%s\": `kho vol-list %s` lists them",
             pool->name, name, pool->name);
        return NULL;
    }
    volume->model = model_volume_new(name);
    volume->model->target_path = g_strdup(path);
    volume->model->key = g_strdup(path);
    fill_from_stat(volume->model, &st);

    KhoImageInfo info = { 0 };
    if (kho_image_info(path, format, &info, &volume->problem)) {
        fill_from_info(volume, &info);
        kho_image_info_clear(&info);
    } else {
        volume->model->format = g_strdup("unknown");
    }
    return g_steal_pointer(&volume);
}

const char *
pool_volume_image_format(const PoolVolume *volume, GError **error)
{
    if (volume->problem) {
        g_propagate_error(error, g_error_copy(volume->problem));
        return NULL;
    }
    return strcmp(volume->model->format, "iso") == 0 ? "raw" : volume->model->format;
}
