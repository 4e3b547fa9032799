/* The checked dispatcher: what a caller asks is verified before an implementation sees it, and what an
 * implementation answers is verified before a caller sees it. */
#include "block/blk.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

/* Written zeros go out in pieces of this size. */
static const guint8 zeros[64 * 1024];

/* An implementation's answer: TRUE without an error, or FALSE with one. */
static gboolean
answered(BlkStore *store, const char *call, gboolean ok, GError *inner, GError **error)
{
    if (ok && !inner)
        return TRUE;
    if (!ok && inner) {
        g_propagate_error(error, inner);
        return FALSE;
    }
    g_clear_error(&inner);
    return fail(error, KHO_ERROR_INTERNAL, "%s: %s of a %s store answered %s error", store->label, call,
                store->ops->name, ok ? "success with an" : "failure without an");
}

static gboolean
range_ok(BlkStore *store, const char *what, guint64 off, guint64 len, GError **error)
{
    if (off <= NUM_OFFSET_MAX && len <= NUM_OFFSET_MAX - off)
        return TRUE;
    return fail(error, KHO_ERROR_INVALID,
                "cannot %s %" G_GUINT64_FORMAT " bytes of %s at byte %" G_GUINT64_FORMAT
                ": past the largest offset there is",
                what, len, store->label, off);
}

static gboolean
writable_ok(BlkStore *store, const char *what, GError **error)
{
    return store->writable
           || fail(error, KHO_ERROR_DENIED, "cannot %s %s: it is open for reading only", what, store->label);
}

gboolean
blk_size(BlkStore *store, guint64 *bytes, GError **error)
{
    GError *inner = NULL;
    guint64 size = 0;
    gboolean ok = store->ops->size(store, &size, &inner);

    if (!answered(store, "size", ok, inner, error))
        return FALSE;
    if (size > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "%s says that it is %" G_GUINT64_FORMAT " bytes long: too large", store->label, size);
    *bytes = size;
    return TRUE;
}

gboolean
blk_pread_upto(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    GError *inner = NULL;
    gsize found = 0;

    if (!range_ok(store, "read", off, len, error))
        return FALSE;
    gboolean ok = len == 0 || store->ops->pread(store, off, buf, len, &found, &inner);
    if (!answered(store, "read", ok, inner, error))
        return FALSE;
    if (found > len)
        return fail(error, KHO_ERROR_INTERNAL, "%s: a %s store read more than it was asked for", store->label,
                    store->ops->name);
    *got = found;
    return TRUE;
}

gboolean
blk_pread(BlkStore *store, guint64 off, void *buf, gsize len, GError **error)
{
    guint64 size;
    gsize got;

    if (!blk_pread_upto(store, off, buf, len, &got, error))
        return FALSE;
    if (got == len)
        return TRUE;
    return blk_size(store, &size, error)
           && fail(error, KHO_ERROR_CORRUPT,
                   "cannot read %" G_GSIZE_FORMAT " bytes of %s at byte %" G_GUINT64_FORMAT
                   ": it is %" G_GUINT64_FORMAT " bytes long",
                   len, store->label, off, size);
}

gboolean
blk_pread_padded(BlkStore *store, guint64 off, void *buf, gsize len, GError **error)
{
    gsize got;

    if (!blk_pread_upto(store, off, buf, len, &got, error))
        return FALSE;
    memset((guint8 *) buf + got, 0, len - got);
    return TRUE;
}

gboolean
blk_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    GError *inner = NULL;

    if (!writable_ok(store, "write", error) || !range_ok(store, "write", off, len, error))
        return FALSE;
    if (len == 0)
        return TRUE;
    gboolean ok = store->ops->pwrite(store, off, buf, len, &inner);
    return answered(store, "write", ok, inner, error);
}

gboolean
blk_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    if (!writable_ok(store, "zero", error) || !range_ok(store, "zero", off, len, error))
        return FALSE;
    if (len == 0)
        return TRUE;
    if (!store->ops->zero && mode == BLK_ZERO_GIVE_BACK)
        return TRUE;
    if (store->ops->zero) {
        GError *inner = NULL;
        gboolean ok = store->ops->zero(store, off, len, mode, &inner);
        return answered(store, "zero", ok, inner, error);
    }
    for (guint64 done = 0; done < len;) {
        gsize piece = (gsize) MIN(len - done, sizeof zeros);
        if (!blk_pwrite(store, off + done, zeros, piece, error))
            return FALSE;
        done += piece;
    }
    return TRUE;
}

gboolean
blk_can_share(const BlkStore *store)
{
    return store->ops->share != NULL;
}

gboolean
blk_share(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error)
{
    GError *inner = NULL;

    *done = FALSE;
    if (!writable_ok(store, "share", error) || !range_ok(store, "share", off, from->len, error)
        || !range_ok(from->store, "share", from->off, from->len, error))
        return FALSE;
    if (!store->ops->share || (off | from->off | from->len) % BLK_SHARE_BYTES != 0)
        return TRUE;
    gboolean ok = store->ops->share(store, off, from, done, &inner);
    return answered(store, "share", ok, inner, error);
}

gboolean
blk_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    GError *inner = NULL;

    if (!writable_ok(store, "resize", error) || !range_ok(store, "resize", bytes, 0, error))
        return FALSE;
    gboolean ok = store->ops->truncate(store, bytes, &inner);
    return answered(store, "resize", ok, inner, error);
}

gboolean
blk_flush(BlkStore *store, GError **error)
{
    GError *inner = NULL;

    if (!store->writable)
        return TRUE;
    gboolean ok = store->ops->flush(store, &inner);
    return answered(store, "flush", ok, inner, error);
}

gboolean
blk_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error)
{
    GError *inner = NULL;
    guint64 size;

    if (!blk_size(store, &size, error))
        return FALSE;
    if (off >= size || max_bytes == 0)
        return fail(error, KHO_ERROR_INVALID,
                    "no extent of %s at byte %" G_GUINT64_FORMAT ": it is %" G_GUINT64_FORMAT " bytes long",
                    store->label, off, size);
    guint64 most = MIN(max_bytes, size - off);
    BlkExtent answer = { BLK_EXTENT_DATA, most };
    if (store->ops->extent) {
        gboolean ok = store->ops->extent(store, off, most, &answer, &inner);
        if (!answered(store, "extent", ok, inner, error))
            return FALSE;
    }
    if (answer.bytes == 0 || answer.bytes > most)
        return fail(error, KHO_ERROR_INTERNAL,
                    "%s: a %s store answered an extent of %" G_GUINT64_FORMAT " of at most %" G_GUINT64_FORMAT
                    " bytes",
                    store->label, store->ops->name, answer.bytes, most);
    *extent = answer;
    return TRUE;
}

int
blk_fd(BlkStore *store)
{
    return store->ops->fd ? store->ops->fd(store) : -1;
}

void
blk_free(BlkStore *store)
{
    if (!store)
        return;
    g_free(g_steal_pointer(&store->label));
    store->ops->free(store);
}
