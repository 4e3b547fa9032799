#include "vm/stamp.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"

#include <fcntl.h>
#include <kho/image.h>
#include <string.h>

#define LABEL "the save file's list of disks"

typedef struct {
    gint64 bytes, mtime_ns;
} Stamp;

static gboolean
look(int fd, const char *path, Stamp *stamp, GError **error)
{
    struct stat st;

    if (!fd_stat(fd, &st, path, error))
        return FALSE;
    *stamp = (Stamp){ st.st_size,
                      (gint64) st.st_mtim.tv_sec * G_GINT64_CONSTANT(1000000000) + st.st_mtim.tv_nsec };
    return TRUE;
}

static void
add_file(GPtrArray *files, const char *path)
{
    if (path)
        g_ptr_array_add(files, g_canonicalize_filename(path, NULL));
}

GPtrArray *
vm_stamps_below(const char *path, const char *format, GError **error)
{
    g_autoptr(KhoImage) image = kho_image_open(
        path, format ? format : "raw", KHO_IMAGE_LOCAL | KHO_IMAGE_NO_LOCK, &kho_image_gate_open, error);
    GPtrArray *files = image ? g_ptr_array_new_with_free_func(g_free) : NULL;

    for (const KhoImage *layer = image; layer; layer = kho_image_backing(layer)) {
        if (layer != image)
            add_file(files, kho_image_path(layer));
        add_file(files, kho_image_data_path(layer));
    }
    return files;
}

static json_t *
row_of(const char *path, const Stamp *stamp)
{
    json_t *row = json_object();

    json_set_string(row, "path", path);
    json_object_set_new(row, "bytes", json_integer(stamp->bytes));
    json_object_set_new(row, "mtime-ns", json_integer(stamp->mtime_ns));
    return row;
}

/* What the guest does not write may lie where nothing can be flushed, on a read-only medium. */
static json_t *
take_below(const char *path, GError **error)
{
    Stamp stamp;
    fd_auto int fd = fd_open(path, O_RDONLY, 0, error);

    if (fd < 0)
        return NULL;
    fd_sync(fd, path, NULL);
    return look(fd, path, &stamp, error) ? row_of(path, &stamp) : NULL;
}

/* The time is made durable as well, which QEMU's flush leaves out: it must be the same after a power failure.
 */
static json_t *
take(const ModelDisk *disk, GError **error)
{
    Stamp stamp;
    fd_auto int fd = fd_open(disk->source_file, O_RDONLY, 0, error);

    if (fd < 0 || !fd_sync(fd, disk->source_file, error) || !look(fd, disk->source_file, &stamp, error))
        return NULL;
    g_autoptr(GPtrArray) files = vm_stamps_below(disk->source_file, disk->format, error);
    if (!files)
        return NULL;
    json_auto json_t *row = row_of(disk->source_file, &stamp);
    json_t *below = json_array();
    json_set_string(row, "target", disk->target);
    json_object_set_new(row, "below", below);
    for (guint i = 0; i < files->len; i++) {
        if (!g_file_test(files->pdata[i], G_FILE_TEST_IS_REGULAR))
            continue; /* a device's size and time tell nothing */
        json_t *one = take_below(files->pdata[i], error);
        if (!one)
            return NULL;
        json_array_append_new(below, one);
    }
    return json_incref(row);
}

char *
vm_stamps_take(const ModelDomain *model, GError **error)
{
    json_auto json_t *json = json_object();
    json_t *list = json_array();

    json_object_set_new(json, "disks", list);
    for (guint i = 0; i < model->disks->len; i++) {
        const ModelDisk *disk = model->disks->pdata[i];
        if (!disk->source_file || disk->readonly || disk->device == MODEL_DISK_CDROM)
            continue;
        json_t *row = take(disk, error);
        if (!row)
            return NULL;
        json_array_append_new(list, row);
    }
    return json_line(json);
}

static gboolean
read_row(const json_t *row, char **path, Stamp *stamp, GError **error)
{
    g_autoptr(GError) why = NULL;

    return (json_get_string(row, "path", LABEL, path, &why)
            && json_get_int(row, "bytes", LABEL, &stamp->bytes, &why)
            && json_get_int(row, "mtime-ns", LABEL, &stamp->mtime_ns, &why))
           || fail(error, KHO_ERROR_CORRUPT, "%s", why->message);
}

/* @of: NULL, or the file that the one in @row lies below. */
static gboolean
check_file(const json_t *row, const char *target, const char *of, GError **error)
{
    g_autofree char *path = NULL;
    Stamp then, now;

    if (!read_row(row, &path, &then, error))
        return FALSE;
    fd_auto int fd = fd_open(path, O_PATH, 0, error);
    if (fd < 0 || !look(fd, path, &now, error)) {
        g_prefix_error(error, "disk '%s': ", target);
        return FALSE;
    }
    if (now.bytes == then.bytes && now.mtime_ns == then.mtime_ns)
        return TRUE;
    return of ? fail(error, KHO_ERROR_INVALID,
                     "disk '%s': %s, which %s lies on, has been written since the memory was saved", target,
                     path, of)
              : fail(error, KHO_ERROR_INVALID, "disk '%s' (%s) has been written since the memory was saved",
                     target, path);
}

static gboolean
check_one(const json_t *row, GError **error)
{
    const json_t *list = json_object_get(row, "below");
    g_autofree char *target = NULL;
    g_autoptr(GError) why = NULL;
    gsize i;
    json_t *below;

    if (!json_get_string(row, "target", LABEL, &target, &why))
        return fail(error, KHO_ERROR_CORRUPT, "%s", why->message);
    if (!check_file(row, target, NULL, error))
        return FALSE;
    json_array_foreach (list, i, below)
        if (!check_file(below, target, json_string_or(row, "path", ""), error))
            return FALSE;
    return TRUE;
}

gboolean
vm_stamps_check(const char *stamps, GError **error)
{
    g_autoptr(GError) why = NULL;
    json_auto json_t *json = json_parse(stamps, strlen(stamps), LABEL, &why);
    const json_t *list = json_object_get(json, "disks");
    gsize i;
    json_t *row;

    if (!json_is_array(list))
        return fail(error, KHO_ERROR_CORRUPT, "%s", why ? why->message : LABEL " is none");
    json_array_foreach (list, i, row)
        if (!check_one(row, error))
            return FALSE;
    return TRUE;
}
