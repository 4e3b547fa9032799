/* Bytes in memory: for tests, fuzzing and images that are never published. */
#include "block/blk.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

/* Sizes come from images under test: a larger one is refused before it is allocated. */
#define MEM_MAX_BYTES GIB

typedef struct {
    BlkStore store;
    GRWLock lock; /* guards all below */
    guint8 *bytes;
    gsize len;
    gsize room; /* allocated; bytes from len to room are undefined */
    gboolean shares;
} MemStore;

static MemStore *
mem_of(BlkStore *store)
{
    return (MemStore *) store;
}

/* Sets the length; what is added is zeros. */
static gboolean
resize_locked(MemStore *mem, guint64 bytes, GError **error)
{
    if (bytes > MEM_MAX_BYTES)
        return fail(error, KHO_ERROR_NO_SPACE,
                    "cannot resize %s to %" G_GUINT64_FORMAT
                    " bytes: a store in memory holds at most %" G_GUINT64_FORMAT,
                    mem->store.label, bytes, MEM_MAX_BYTES);
    if (bytes > mem->room) {
        mem->room = MIN(MAX((gsize) bytes, mem->room * 2), (gsize) MEM_MAX_BYTES);
        mem->bytes = g_realloc(mem->bytes, mem->room);
    }
    if (bytes > mem->len)
        memset(mem->bytes + mem->len, 0, (gsize) bytes - mem->len);
    mem->len = (gsize) bytes;
    return TRUE;
}

static gboolean
mem_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    MemStore *mem = mem_of(store);
    g_autoptr(GRWLockReaderLocker) locker = g_rw_lock_reader_locker_new(&mem->lock);

    *got = off < mem->len ? MIN(len, mem->len - (gsize) off) : 0;
    if (*got > 0)
        memcpy(buf, mem->bytes + off, *got);
    return TRUE;
}

static gboolean
mem_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    MemStore *mem = mem_of(store);
    g_autoptr(GRWLockWriterLocker) locker = g_rw_lock_writer_locker_new(&mem->lock);

    if (off + len > mem->len && !resize_locked(mem, off + len, error))
        return FALSE;
    memcpy(mem->bytes + off, buf, len);
    return TRUE;
}

static gboolean
mem_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    MemStore *mem = mem_of(store);
    g_autoptr(GRWLockWriterLocker) locker = g_rw_lock_writer_locker_new(&mem->lock);

    if (off + len > mem->len && !resize_locked(mem, off + len, error))
        return FALSE;
    memset(mem->bytes + off, 0, (gsize) len);
    return TRUE;
}

static gboolean
mem_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    MemStore *mem = mem_of(store);
    g_autoptr(GRWLockWriterLocker) locker = g_rw_lock_writer_locker_new(&mem->lock);

    return resize_locked(mem, bytes, error);
}

static gboolean
mem_share(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error)
{
    if (!mem_of(store)->shares)
        return TRUE;
    g_autofree guint8 *bytes = g_malloc(from->len);
    *done = blk_pread(from->store, from->off, bytes, from->len, error)
            && mem_pwrite(store, off, bytes, from->len, error);
    return *done;
}

static gboolean
mem_flush(BlkStore *store, GError **error)
{
    return TRUE;
}

static gboolean
mem_size(BlkStore *store, guint64 *bytes, GError **error)
{
    MemStore *mem = mem_of(store);
    g_autoptr(GRWLockReaderLocker) locker = g_rw_lock_reader_locker_new(&mem->lock);

    *bytes = mem->len;
    return TRUE;
}

static void
mem_free(BlkStore *store)
{
    MemStore *mem = mem_of(store);

    g_rw_lock_clear(&mem->lock);
    g_free(mem->bytes);
    g_free(mem);
}

static const BlkOps mem_ops = {
    .name = "memory",
    .pread = mem_pread,
    .pwrite = mem_pwrite,
    .zero = mem_zero,
    .truncate = mem_truncate,
    .share = mem_share,
    .flush = mem_flush,
    .size = mem_size,
    .free = mem_free,
};

BlkStore *
blk_mem_new(const void *bytes, gsize len, const char *label)
{
    MemStore *mem = g_new0(MemStore, 1);

    mem->store = (BlkStore){ .ops = &mem_ops, .label = g_strdup(label), .writable = TRUE };
    g_rw_lock_init(&mem->lock);
    mem->bytes = len ? g_memdup2(bytes, len) : NULL;
    mem->len = mem->room = len;
    return &mem->store;
}

void
blk_mem_share(BlkStore *store)
{
    g_assert(store->ops == &mem_ops);
    mem_of(store)->shares = TRUE;
}

GBytes *
blk_mem_snapshot(BlkStore *store)
{
    g_assert(store->ops == &mem_ops);
    MemStore *mem = mem_of(store);
    g_autoptr(GRWLockReaderLocker) locker = g_rw_lock_reader_locker_new(&mem->lock);

    return g_bytes_new(mem->bytes, mem->len);
}
