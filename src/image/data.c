/* Data files: the file of its own that a qcow2 image may keep its guest's bytes in. It is opened, locked and
 * told apart from the rest of the chain like an image's own file. */
#include "base/error.h"
#include "base/fd.h"
#include "image/image.h"

const KhoImage *
image_find_file(const KhoImage *chain, const struct stat *st)
{
    for (; chain; chain = chain->backing)
        if (image_same_file(&chain->identity, st)
            || (chain->data_path && image_same_file(&chain->data_identity, st)))
            return chain;
    return NULL;
}

guint64
image_place_bytes(const KhoImage *image, guint64 off, guint64 bytes)
{
    guint64 size = image->format->guest_bytes;

    if (!image->has_data_file)
        return bytes;
    return off >= size ? 0 : MIN(bytes, size - off);
}

gboolean
image_set_data(KhoImage *image, BlkStore *data, const char *path, GError **error)
{
    g_autoptr(BlkStore) owned = data;
    int fd = blk_fd(data);

    if (fd >= 0 && !fd_stat(fd, &image->data_identity, path, error))
        return FALSE;
    image->data_path = g_strdup(path);
    image->data_fd = fd;
    format_set_data(image->format, g_steal_pointer(&owned));
    return TRUE;
}

static gboolean
no_data_file(const KhoImage *image, const char *path, GError *cause, GError **error)
{
    if (cause->code != KHO_ERROR_NOT_FOUND) {
        g_propagate_error(error, cause);
        return FALSE;
    }
    g_error_free(cause);
    return fail(error, KHO_ERROR_NOT_FOUND, "%s: its data file %s does not exist", image->path, path);
}

/* Before the lock, which it would meet itself. */
static gboolean
check_apart(const KhoImage *image, const KhoImage *chain, BlkStore *data, GError **error)
{
    int fd = blk_fd(data);
    struct stat st;

    if (fd < 0)
        return TRUE;
    if (!fd_stat(fd, &st, data->label, error))
        return FALSE;
    return (!image_same_file(&image->identity, &st) && !image_find_file(chain, &st))
           || fail(error, KHO_ERROR_INVALID, "%s has the data file %s, which is a part of its own chain",
                   image->path, data->label);
}

gboolean
image_open_data(KhoImage *image, const KhoImageSource *source, const KhoImage *chain, GError **error)
{
    GError *cause = NULL;

    if (!image->has_data_file || (source->flags & (KHO_IMAGE_IDLE_LOCK | KHO_IMAGE_NO_DATA)))
        return TRUE;
    if (!image->data_name)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s keeps its data in another file, and does not say in which", image->path);
    g_autofree char *path = image_data_path(image->path, image->data_name, error);
    if (!path || !image_pass_gate(source->gate, path, image->path, error))
        return FALSE;
    KhoImageSource its = *source;
    its.path = path;
    g_autoptr(BlkStore) data = image_open_store(&its, image->writable, &cause);
    if (!data)
        return no_data_file(image, path, cause, error);
    if (!check_apart(image, chain, data, error))
        return FALSE;
    if (!(source->flags & KHO_IMAGE_NO_LOCK)
        && !image_lock(data, image->writable ? IMAGE_LOCK_WRITE : IMAGE_LOCK_READ, error))
        return FALSE;
    return image_set_data(image, g_steal_pointer(&data), path, error);
}
