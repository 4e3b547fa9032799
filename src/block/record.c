#include "block/record.h"

typedef struct {
    BlkStore store;
    BlkStore *below;
    GPtrArray *log;
    GMutex lock; /* held over a change and its entry: guards the log and its order */
} RecordStore;

static RecordStore *
record_of(BlkStore *store)
{
    return (RecordStore *) store;
}

static void
event_free(gpointer data)
{
    BlkEvent *event = data;

    g_free(event->bytes);
    g_free(event);
}

GPtrArray *
blk_record_log_new(void)
{
    return g_ptr_array_new_with_free_func(event_free);
}

static gboolean
note_locked(RecordStore *record, gboolean ok, BlkEvent event)
{
    event.below = record->below;
    if (ok)
        g_ptr_array_add(record->log, g_memdup2(&event, sizeof event));
    else
        g_free(event.bytes);
    return ok;
}

static gboolean
record_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    return blk_pread_upto(record_of(store)->below, off, buf, len, got, error);
}

static gboolean
record_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    RecordStore *record = record_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&record->lock);

    return note_locked(record, blk_pwrite(record->below, off, buf, len, error),
                       (BlkEvent){ BLK_EVENT_WRITE, off, len, g_memdup2(buf, len) });
}

static gboolean
record_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    RecordStore *record = record_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&record->lock);

    return note_locked(record, blk_zero(record->below, off, len, mode, error),
                       (BlkEvent){ BLK_EVENT_ZERO, off, len, NULL });
}

static gboolean
record_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    RecordStore *record = record_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&record->lock);

    return note_locked(record, blk_truncate(record->below, bytes, error),
                       (BlkEvent){ BLK_EVENT_TRUNCATE, bytes, 0, NULL });
}

/* What reached the store that way is a write as any other. */
static gboolean
record_share(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error)
{
    RecordStore *record = record_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&record->lock);

    if (!blk_share(record->below, off, from, done, error))
        return FALSE;
    if (!*done)
        return TRUE;
    guint8 *bytes = g_malloc(from->len);
    gboolean ok = blk_pread(record->below, off, bytes, from->len, error);
    return note_locked(record, ok, (BlkEvent){ BLK_EVENT_WRITE, off, from->len, bytes });
}

static gboolean
record_flush(BlkStore *store, GError **error)
{
    RecordStore *record = record_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&record->lock);

    return note_locked(record, blk_flush(record->below, error), (BlkEvent){ BLK_EVENT_FLUSH, 0, 0, NULL });
}

static gboolean
record_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(record_of(store)->below, bytes, error);
}

static gboolean
record_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error)
{
    return blk_extent(record_of(store)->below, off, max_bytes, extent, error);
}

static void
record_free(BlkStore *store)
{
    RecordStore *record = record_of(store);

    g_ptr_array_unref(record->log);
    g_mutex_clear(&record->lock);
    g_free(record);
}

static const BlkOps record_ops = {
    .name = "recording",
    .pread = record_pread,
    .pwrite = record_pwrite,
    .zero = record_zero,
    .truncate = record_truncate,
    .share = record_share,
    .flush = record_flush,
    .size = record_size,
    .extent = record_extent,
    .free = record_free,
};

BlkStore *
blk_record_new(BlkStore *below, GPtrArray *log)
{
    RecordStore *record = g_new0(RecordStore, 1);

    record->store =
        (BlkStore){ .ops = &record_ops, .label = g_strdup(below->label), .writable = below->writable };
    record->below = below;
    record->log = g_ptr_array_ref(log);
    g_mutex_init(&record->lock);
    return &record->store;
}
