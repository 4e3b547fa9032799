#include "vm/stamp.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"

#include <fcntl.h>
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

/* The time is made durable as well, which QEMU's flush leaves out: it must be the same after a power failure.
 */
static json_t *
take(const ModelDisk *disk, GError **error)
{
    Stamp stamp;
    fd_auto int fd = fd_open(disk->source_file, O_RDONLY, 0, error);

    if (fd < 0 || !fd_sync(fd, disk->source_file, error) || !look(fd, disk->source_file, &stamp, error))
        return NULL;
    json_t *row = json_object();
    json_set_string(row, "target", disk->target);
    json_set_string(row, "path", disk->source_file);
    json_object_set_new(row, "bytes", json_integer(stamp.bytes));
    json_object_set_new(row, "mtime-ns", json_integer(stamp.mtime_ns));
    return row;
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
check_one(const json_t *row, GError **error)
{
    g_autofree char *target = NULL;
    g_autofree char *path = NULL;
    g_autoptr(GError) why = NULL;
    Stamp then, now;

    if (!json_get_string(row, "target", LABEL, &target, &why)
        || !json_get_string(row, "path", LABEL, &path, &why)
        || !json_get_int(row, "bytes", LABEL, &then.bytes, &why)
        || !json_get_int(row, "mtime-ns", LABEL, &then.mtime_ns, &why))
        return fail(error, KHO_ERROR_CORRUPT, "%s", why->message);
    fd_auto int fd = fd_open(path, O_PATH, 0, error);
    if (fd < 0 || !look(fd, path, &now, error)) {
        g_prefix_error(error, "disk '%s': ", target);
        return FALSE;
    }
    if (now.bytes != then.bytes || now.mtime_ns != then.mtime_ns)
        return fail(error, KHO_ERROR_INVALID, "disk '%s' (%s) has been written since the memory was saved",
                    target, path);
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
