/* 4 KiB hold whatever says what a disk is: a boot sector, a partition table with its first GPT header, the
 * first superblock of most file systems, an image's header. */
#include "block/hold.h"

#include "base/error.h"

#include <string.h>

#define HEAD_BYTES 4096

static const char mark[] = "kho: this disk is incomplete: the copy into it did not end, make it again\n";

struct BlkHold {
    BlkStore *below;
    guint64 head_bytes;
    GMutex mutex;
    guint8 head[HEAD_BYTES]; /* under mutex */
};

typedef struct {
    BlkStore store;
    BlkHold *hold;
} HoldStore;

static BlkHold *
hold_of(BlkStore *store)
{
    return ((HoldStore *) store)->hold;
}

/* How much of [off, off + len) lies in the head. */
static gsize
in_head(const BlkHold *hold, guint64 off, guint64 len)
{
    return off >= hold->head_bytes ? 0 : (gsize) MIN(len, hold->head_bytes - off);
}

static gboolean
hold_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    BlkHold *hold = hold_of(store);
    gsize head = in_head(hold, off, len);
    gsize rest = 0;

    if (head < len
        && !blk_pread_upto(hold->below, off + head, (guint8 *) buf + head, len - head, &rest, error))
        return FALSE;
    g_mutex_lock(&hold->mutex);
    memcpy(buf, hold->head + (head ? off : 0), head);
    g_mutex_unlock(&hold->mutex);
    *got = head + rest;
    return TRUE;
}

static gboolean
hold_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    BlkHold *hold = hold_of(store);
    gsize head = in_head(hold, off, len);

    g_mutex_lock(&hold->mutex);
    memcpy(hold->head + (head ? off : 0), buf, head);
    g_mutex_unlock(&hold->mutex);
    return head == len || blk_pwrite(hold->below, off + head, (const guint8 *) buf + head, len - head, error);
}

static gboolean
hold_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    BlkHold *hold = hold_of(store);
    gsize head = in_head(hold, off, len);

    g_mutex_lock(&hold->mutex);
    memset(hold->head + (head ? off : 0), 0, head);
    g_mutex_unlock(&hold->mutex);
    return head == len || blk_zero(hold->below, off + head, len - head, mode, error);
}

static gboolean
hold_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    BlkHold *hold = hold_of(store);

    if (bytes < hold->head_bytes)
        return fail(error, KHO_ERROR_INVALID,
                    "cannot resize %s to %" G_GUINT64_FORMAT " bytes while it is being written", store->label,
                    bytes);
    return blk_truncate(hold->below, bytes, error);
}

static gboolean
hold_flush(BlkStore *store, GError **error)
{
    return blk_flush(hold_of(store)->below, error);
}

static gboolean
hold_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(hold_of(store)->below, bytes, error);
}

static gboolean
hold_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error)
{
    BlkHold *hold = hold_of(store);
    gsize head = in_head(hold, off, max_bytes);

    if (head == 0)
        return blk_extent(hold->below, off, max_bytes, extent, error);
    *extent = (BlkExtent){ BLK_EXTENT_DATA, head };
    return TRUE;
}

static void
hold_store_free(BlkStore *store)
{
    g_free(store);
}

/* No descriptor: what goes past the store would write the head over the mark. */
static const BlkOps hold_ops = {
    .name = "hold",
    .pread = hold_pread,
    .pwrite = hold_pwrite,
    .zero = hold_zero,
    .truncate = hold_truncate,
    .flush = hold_flush,
    .size = hold_size,
    .extent = hold_extent,
    .free = hold_store_free,
};

BlkHold *
blk_hold_begin(BlkStore *store, GError **error)
{
    g_autoptr(BlkHold) hold = g_new0(BlkHold, 1);
    guint8 marked[HEAD_BYTES] = { 0 };
    guint64 bytes;

    g_mutex_init(&hold->mutex);
    hold->below = store;
    memcpy(marked, mark, sizeof mark - 1);
    if (!blk_size(store, &bytes, error))
        return NULL;
    hold->head_bytes = MIN(bytes, HEAD_BYTES);
    if (!blk_pwrite(store, 0, marked, hold->head_bytes, error) || !blk_flush(store, error))
        return NULL;
    return g_steal_pointer(&hold);
}

BlkStore *
blk_hold_store(BlkHold *hold)
{
    HoldStore *view = g_new0(HoldStore, 1);

    view->store = (BlkStore){ .ops = &hold_ops,
                              .label = g_strdup(hold->below->label),
                              .writable = hold->below->writable };
    view->hold = hold;
    return &view->store;
}

gboolean
blk_hold_finish(BlkHold *hold, GError **error)
{
    return blk_flush(hold->below, error) && blk_pwrite(hold->below, 0, hold->head, hold->head_bytes, error)
           && blk_flush(hold->below, error);
}

void
blk_hold_free(BlkHold *hold)
{
    g_clear_pointer(&hold->below, blk_free);
    g_mutex_clear(&hold->mutex);
    g_free(hold);
}

gboolean
blk_hold_is_mark(const guint8 *head, gsize len)
{
    return len >= sizeof mark - 1 && memcmp(head, mark, sizeof mark - 1) == 0;
}
