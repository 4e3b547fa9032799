#include "block/fault.h"

#include "base/error.h"
#include "base/num.h"

#define SECTOR_BYTES 512

typedef struct {
    BlkStore store;
    BlkStore *below;
    FaultKind kind;
    guint64 n;
    gboolean for_ever;
    GMutex lock; /* guards the counts */
    FaultCounts counts;
} FaultStore;

static FaultStore *
fault_of(BlkStore *store)
{
    return (FaultStore *) store;
}

static gboolean
due(const FaultStore *fault, guint64 count)
{
    return fault->for_ever ? count >= fault->n : count == fault->n;
}

/* Counts a write that makes the store at least @end bytes long; FALSE with @error when it is to fail. */
static gboolean
write_allowed(FaultStore *fault, guint64 end, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&fault->lock);
    guint64 size;

    fault->counts.writes++;
    if ((fault->kind == FAULT_NTH_WRITE || fault->kind == FAULT_TORN) && due(fault, fault->counts.writes)) {
        fault->counts.faults++;
        return fail(error, KHO_ERROR_IO, "%s: write %" G_GUINT64_FORMAT " fails as it was told",
                    fault->store.label, fault->counts.writes);
    }
    if (fault->kind != FAULT_NO_SPACE || end <= fault->n)
        return TRUE;
    if (!blk_size(fault->below, &size, error))
        return FALSE;
    if (end <= size)
        return TRUE;
    fault->counts.faults++;
    return fail(error, KHO_ERROR_NO_SPACE, "%s: no space past %" G_GUINT64_FORMAT " bytes",
                fault->store.label, fault->n);
}

static gboolean
fault_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    return blk_pread_upto(fault_of(store)->below, off, buf, len, got, error);
}

static gboolean
fault_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    FaultStore *fault = fault_of(store);

    if (write_allowed(fault, off + len, error))
        return blk_pwrite(fault->below, off, buf, len, error);
    if (fault->kind == FAULT_TORN) {
        gsize half = (gsize) num_align_down(len / 2, SECTOR_BYTES);
        if (!blk_pwrite(fault->below, off, buf, half, NULL))
            g_error("%s: the store below a faulty one failed", store->label);
    }
    return FALSE;
}

static gboolean
fault_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    FaultStore *fault = fault_of(store);

    return write_allowed(fault, off + len, error) && blk_zero(fault->below, off, len, mode, error);
}

static gboolean
fault_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    FaultStore *fault = fault_of(store);

    return write_allowed(fault, bytes, error) && blk_truncate(fault->below, bytes, error);
}

static gboolean
fault_share(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error)
{
    FaultStore *fault = fault_of(store);

    return write_allowed(fault, off + from->len, error) && blk_share(fault->below, off, from, done, error);
}

static gboolean
fault_flush(BlkStore *store, GError **error)
{
    FaultStore *fault = fault_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&fault->lock);

    fault->counts.flushes++;
    if (fault->kind == FAULT_NTH_FLUSH && due(fault, fault->counts.flushes)) {
        fault->counts.faults++;
        return fail(error, KHO_ERROR_IO, "%s: flush %" G_GUINT64_FORMAT " fails as it was told", store->label,
                    fault->counts.flushes);
    }
    return blk_flush(fault->below, error);
}

static gboolean
fault_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(fault_of(store)->below, bytes, error);
}

static void
fault_free(BlkStore *store)
{
    FaultStore *fault = fault_of(store);

    g_mutex_clear(&fault->lock);
    g_free(fault);
}

static const BlkOps fault_ops = {
    .name = "faulty",
    .pread = fault_pread,
    .pwrite = fault_pwrite,
    .zero = fault_zero,
    .truncate = fault_truncate,
    .share = fault_share,
    .flush = fault_flush,
    .size = fault_size,
    .free = fault_free,
};

BlkStore *
blk_fault_new(BlkStore *below, FaultKind kind, guint64 n, gboolean for_ever)
{
    FaultStore *fault = g_new0(FaultStore, 1);

    fault->store =
        (BlkStore){ .ops = &fault_ops, .label = g_strdup(below->label), .writable = below->writable };
    fault->below = below;
    fault->kind = kind;
    fault->n = n;
    fault->for_ever = for_ever;
    g_mutex_init(&fault->lock);
    return &fault->store;
}

FaultCounts
blk_fault_counts(BlkStore *store)
{
    g_assert(store->ops == &fault_ops);
    FaultStore *fault = fault_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&fault->lock);

    return fault->counts;
}
