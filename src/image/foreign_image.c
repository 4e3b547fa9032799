/* Images of foreign formats as kho's own see them: a raw image over the disk that a storage daemon serves. */
#include "base/error.h"
#include "base/fd.h"
#include "image/image.h"
#include "raw/raw.h"

/* What the broker asks. */
static gboolean
admit_named(const char *path, gpointer data, GError **error)
{
    const ForeignImage *how = data;

    return image_pass_gate(how->gate, path, how->path, error);
}

/* The locks of what the broker opened: QEMU, which exports a disk that others may write, takes none. They
 * belong to the open file, which is the daemon's from here on. */
static gboolean
claim_named(int fd, const char *path, gboolean writes, gpointer data, GError **error)
{
    const ForeignImage *how = data;
    int same = how->flags & (KHO_IMAGE_NO_LOCK | KHO_IMAGE_IDLE_LOCK) ? -1 : fd_dup(fd, path, error);

    if (same < 0)
        return (how->flags & (KHO_IMAGE_NO_LOCK | KHO_IMAGE_IDLE_LOCK)) != 0;
    g_autoptr(BlkStore) store = blk_file_new(same, path, writes);
    return image_lock(store, writes ? IMAGE_LOCK_WRITE : IMAGE_LOCK_READ, error);
}

static ForeignSpec
spec_of(BlkStore *file, const ForeignImage *how, const char *path)
{
    return (ForeignSpec){ .format = how->format,
                          .path = path,
                          .fd = blk_fd(file),
                          .writable = how->writable,
                          .alone = (how->flags & KHO_IMAGE_NO_BACKING) != 0,
                          .admit = admit_named,
                          .claim = claim_named,
                          .data = (gpointer) how,
                          .job = how->job };
}

/* The daemon with the file, locked by the caller. */
static Foreign *
start(BlkStore *file, const ForeignImage *how, const char *path, GError **error)
{
    const ForeignSpec spec = spec_of(file, how, path);

    if (spec.fd >= 0)
        return foreign_start(&spec, error);
    fail(error, KHO_ERROR_UNSUPPORTED, "%s: a %s image is read from a file or device, not from a server",
         how->path, how->format);
    return NULL;
}

json_t *
image_check_foreign(KhoImage *image, const KhoJob *job, GError **error)
{
    g_autofree char *path = g_canonicalize_filename(image->path, NULL);
    const ForeignImage how = { .format = image->foreign_format,
                               .path = image->path,
                               .flags = KHO_IMAGE_IDLE_LOCK, /* taken already, as far as they are wanted */
                               .gate =
                                   &kho_image_gate_open, /* what it names was admitted when it was opened */
                               .job = job };
    const ForeignSpec spec = spec_of(image->foreign_file, &how, path);

    return foreign_check(&spec, error);
}

/* Opens what the daemon has. Both are taken over in every case. */
static KhoImage *
open_started(Foreign *started, BlkStore *file, const ForeignImage *how, GError **error)
{
    g_autoptr(Foreign) foreign = started;
    g_autoptr(BlkStore) owned = file;
    BlkStore *disk = foreign_open(foreign, error);
    struct stat identity;

    if (!disk)
        return NULL;
    g_autoptr(KhoImage) image =
        image_over_store(disk, &raw_format, how->writable ? FORMAT_WRITABLE : 0, how->path, error);
    if (!image || !fd_stat(blk_fd(file), &identity, how->path, error))
        return NULL;
    image->identity = identity;
    image->foreign = g_steal_pointer(&foreign);
    image->foreign_file = g_steal_pointer(&owned);
    image->foreign_format = how->format;
    return g_steal_pointer(&image);
}

KhoImage *
image_over_foreign(BlkStore *file, const ForeignImage *how, GError **error)
{
    g_autoptr(BlkStore) owned = file;
    g_autofree char *path = g_canonicalize_filename(how->path, NULL);
    Foreign *foreign = start(file, how, path, error);

    return foreign ? open_started(foreign, g_steal_pointer(&owned), how, error) : NULL;
}

KhoImage *
image_make_foreign(BlkStore *file, const ForeignImage *how, guint64 size_bytes, const char *const *options,
                   GError **error)
{
    g_autoptr(BlkStore) owned = file;
    g_autofree char *path = g_canonicalize_filename(how->path, NULL);
    g_autoptr(Foreign) foreign = start(file, how, path, error);

    if (!foreign || !foreign_make(foreign, size_bytes, options, error))
        return NULL;
    KhoImage *image = open_started(g_steal_pointer(&foreign), g_steal_pointer(&owned), how, error);
    if (!image)
        return NULL;
    image->unpublished = TRUE;
    /* The copy engine writes such units so. */
    image->cluster_bytes = image->subcluster_bytes = foreign_format_unit_bytes(how->format, options);
    return image;
}
