/* Regular files and block devices, through the page cache (no O_DIRECT: durability comes from blk_flush). */
#include "block/blk.h"

#include "base/clone.h"
#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>

typedef struct {
    BlkStore store;
    int fd;
} FileStore;

static const guint8 zeros[256 * 1024];

static FileStore *
file_of(BlkStore *store)
{
    return (FileStore *) store;
}

static gboolean
file_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    return fd_pread_upto(file_of(store)->fd, buf, len, off, got, store->label, error);
}

static gboolean
file_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    return fd_pwrite_full(file_of(store)->fd, buf, len, off, store->label, error);
}

static gboolean
file_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return fd_size(file_of(store)->fd, bytes, store->label, error);
}

static gboolean
write_zeros(FileStore *file, guint64 off, guint64 len, GError **error)
{
    while (len > 0) {
        gsize piece = (gsize) MIN(len, sizeof zeros);
        if (!fd_pwrite_full(file->fd, zeros, piece, off, file->store.label, error))
            return FALSE;
        off += piece;
        len -= piece;
    }
    return TRUE;
}

/* Makes the file at least @end bytes long by writing its last byte, which lies in the range being zeroed: a
 * truncate to @end would cut off what another thread is just writing further back. */
static gboolean
grow_to(FileStore *file, guint64 end, GError **error)
{
    guint64 size;

    if (!fd_size(file->fd, &size, file->store.label, error))
        return FALSE;
    return size >= end || fd_pwrite_full(file->fd, zeros, 1, end - 1, file->store.label, error);
}

static gboolean
zero_punch(FileStore *file, guint64 off, guint64 len, gboolean *done, GError **error)
{
    return grow_to(file, off + len, error)
           && fd_space(file->fd, FD_SPACE_PUNCH, off, len, done, file->store.label, error);
}

/* tmpfs has no FD_SPACE_ZERO: a punched range that is reserved again is the same. */
static gboolean
zero_reserve(FileStore *file, guint64 off, guint64 len, gboolean *done, GError **error)
{
    if (!fd_space(file->fd, FD_SPACE_ZERO, off, len, done, file->store.label, error))
        return FALSE;
    if (*done)
        return TRUE;
    return zero_punch(file, off, len, done, error)
           && (!*done || fd_space(file->fd, FD_SPACE_RESERVE, off, len, done, file->store.label, error));
}

static gboolean
file_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    FileStore *file = file_of(store);
    gboolean done = FALSE;

    if (mode == BLK_ZERO_GIVE_BACK)
        return fd_space(file->fd, FD_SPACE_PUNCH, off, len, &done, store->label, error);
    if (mode == BLK_ZERO_MAY_PUNCH ? !zero_punch(file, off, len, &done, error)
                                   : !zero_reserve(file, off, len, &done, error))
        return FALSE;
    return done || write_zeros(file, off, len, error);
}

static gboolean
file_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    FileStore *file = file_of(store);
    struct stat st;

    if (!fd_stat(file->fd, &st, store->label, error))
        return FALSE;
    if (S_ISREG(st.st_mode))
        return fd_truncate(file->fd, bytes, store->label, error);
    /* A device has the size that it has: an image on it may end anywhere before that. */
    guint64 size;
    if (!fd_size(file->fd, &size, store->label, error))
        return FALSE;
    return bytes <= size
           || fail(error, KHO_ERROR_NO_SPACE,
                   "cannot resize %s to %" G_GUINT64_FORMAT " bytes: the device has %" G_GUINT64_FORMAT,
                   store->label, bytes, size);
}

static gboolean
file_flush(BlkStore *store, GError **error)
{
    return fd_sync_data(file_of(store)->fd, store->label, error);
}

static gboolean
file_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error)
{
    FileStore *file = file_of(store);
    guint64 size, data, hole;

    if (!fd_size(file->fd, &size, store->label, error)
        || !fd_seek_extent(file->fd, TRUE, off, size, &data, store->label, error))
        return FALSE;
    if (data > off) {
        *extent = (BlkExtent){ BLK_EXTENT_HOLE, MIN(data - off, max_bytes) };
        return TRUE;
    }
    if (!fd_seek_extent(file->fd, FALSE, off, size, &hole, store->label, error))
        return FALSE;
    /* Another process may change the file between the two calls: at least the byte asked for is data then. */
    *extent = (BlkExtent){ BLK_EXTENT_DATA, hole > off ? MIN(hole - off, max_bytes) : 1 };
    return TRUE;
}

static const BlkOps file_ops;

/* Only of a plain file: another store may hold back what was written to it. */
static gboolean
file_share(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error)
{
    CloneResult result = CLONE_CANNOT;

    if (from->store->ops == &file_ops) {
        int to_fd = file_of(store)->fd, from_fd = file_of(from->store)->fd;
        result = clone_share(from_fd, from->off, to_fd, off, from->len, error);
        if (result == CLONE_CANNOT)
            result = clone_offload(from_fd, from->off, to_fd, off, from->len, error);
    }
    *done = result == CLONE_DONE;
    return result != CLONE_FAILED;
}

static int
file_fd(BlkStore *store)
{
    return file_of(store)->fd;
}

static void
file_free(BlkStore *store)
{
    fd_clear(&file_of(store)->fd);
    g_free(store);
}

static const BlkOps file_ops = {
    .name = "file",
    .pread = file_pread,
    .pwrite = file_pwrite,
    .zero = file_zero,
    .truncate = file_truncate,
    .flush = file_flush,
    .size = file_size,
    .extent = file_extent,
    .share = file_share,
    .fd = file_fd,
    .free = file_free,
};

BlkStore *
blk_file_new(int fd, const char *label, gboolean writable)
{
    FileStore *file = g_new0(FileStore, 1);

    file->store = (BlkStore){ .ops = &file_ops, .label = g_strdup(label), .writable = writable };
    file->fd = fd;
    return &file->store;
}

BlkStore *
blk_file_open(const char *path, gboolean writable, GError **error)
{
    /* O_NONBLOCK: opening a FIFO must not wait for its other end before it is refused. */
    fd_auto int fd = fd_open(path, (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY, 0, error);
    guint64 size;

    if (fd < 0 || !fd_size(fd, &size, path, error))
        return NULL;
    return blk_file_new(fd_steal(&fd), path, writable);
}
