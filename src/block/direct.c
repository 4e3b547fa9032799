#include "block/direct.h"

#include "base/aio.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* What is gathered before it is written: a write of this size costs a disk hardly more than a small one. */
#define WINDOW_BYTES ((guint64) 1 << 20)
#define WINDOWS      16
/* Windows that wait for the rest of their bytes; the oldest goes as it is when there are more. */
#define GATHERING_MAX 4
/* Memory, offsets and lengths are multiples of it: the page of the cache, and no disk has larger sectors. */
#define PAGE_BYTES ((guint64) 4096)
#define PAGES      (WINDOW_BYTES / PAGE_BYTES)
/* The file is made longer by so much before it is written there: file systems let a write that makes it
 * longer wait for all others. */
#define AHEAD_BYTES ((guint64) 256 << 20)
/* Smaller ones are metadata, soon written or read again. */
#define LEAST_BYTES ((guint64) 64 << 10)

typedef enum { FREE, GATHERING, WRITING } WindowState;

typedef struct {
    WindowState state;
    guint64 off;    /* in the file; a multiple of WINDOW_BYTES */
    guint64 number; /* of those begun: the smallest is the oldest */
    guint8 *bytes;
    gboolean filled[PAGES];
    guint n_filled, next; /* pages; what lies before next is written */
    AioWrite write;       /* one run of filled pages */
} Window;

typedef struct {
    BlkStore store;
    BlkStore *below;
    guint64 after_bytes;

    GMutex lock;    /* guards all that follows */
    guint64 passed; /* bytes, while it was not worth it */
    gboolean begun, is_used;
    int fd; /* of the same file, past the page cache; -1: it cannot be */
    Aio *aio;
    Window windows[WINDOWS];
    guint64 numbers;
    guint64 end;   /* of what was written here; of the file, where that is ahead */
    guint64 ahead; /* how long the file was made for what is to come; 0: it has the length it has */
    GError *error; /* the first that nobody was told of */
} DirectStore;

static DirectStore *
direct_of(BlkStore *store)
{
    return (DirectStore *) store;
}

/* ---- the file's length ---- */

/* A file without holes would be filled: where that may be, or the file may not be so long, it grows as it is
 * written. */
static void
go_ahead_locked(DirectStore *direct, guint64 end)
{
    guint64 size, wanted = end + AHEAD_BYTES;

    if (end <= direct->ahead || !fd_keeps_holes(blk_fd(direct->below))
        || !blk_size(direct->below, &size, NULL))
        return;
    if (direct->ahead == 0)
        direct->end = MAX(direct->end, size);
    if (end <= size)
        direct->ahead = size;
    else if (blk_truncate(direct->below, wanted, NULL))
        direct->ahead = wanted;
}

/* Others see the file as long as it is. */
static gboolean
come_back_locked(DirectStore *direct, GError **error)
{
    gboolean is_ahead = direct->ahead > direct->end;

    direct->ahead = 0;
    return !is_ahead || blk_truncate(direct->below, direct->end, error);
}

/* ---- windows ---- */

/* Another description of the file, whether or not it has a name. */
static void
begin_locked(DirectStore *direct)
{
    int below = blk_fd(direct->below);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", below);

    direct->begun = TRUE;
    direct->fd = below < 0 ? -1 : fd_open(path, O_WRONLY | O_DIRECT, 0, NULL);
    if (direct->fd >= 0)
        direct->aio = aio_new(WINDOWS);
}

/* Writes the next run of filled pages, or ends the window. */
static void
write_next_locked(DirectStore *direct, Window *window)
{
    guint first = window->next, end;

    while (first < PAGES && !window->filled[first])
        first++;
    for (end = first; end < PAGES && window->filled[end]; end++)
        ;
    window->next = end;
    window->state = first < PAGES ? WRITING : FREE;
    if (window->state == FREE)
        return;
    window->write = (AioWrite){
        .fd = direct->fd,
        .bytes = window->bytes + first * PAGE_BYTES,
        .len = (end - first) * PAGE_BYTES,
        .off = window->off + first * PAGE_BYTES,
    };
    direct->is_used = TRUE;
    go_ahead_locked(direct, window->write.off + window->write.len);
    aio_begin(direct->aio, &window->write);
}

/* Waits for one write. What did not get through whole goes to the store below, which succeeds or knows the
 * words for it. */
static void
end_one_locked(DirectStore *direct)
{
    AioWrite *write = aio_wait(direct->aio);
    Window *window = (Window *) ((char *) write - G_STRUCT_OFFSET(Window, write));
    gsize written = write->result > 0 ? (gsize) write->result : 0;
    g_autoptr(GError) error = NULL;

    if (written < write->len
        && !blk_pwrite(direct->below, write->off + written, (const char *) write->bytes + written,
                       write->len - written, &error)
        && !direct->error)
        direct->error = g_steal_pointer(&error);
    write_next_locked(direct, window);
}

static gboolean
overlaps(const Window *window, guint64 off, guint64 len)
{
    return window->state != FREE && window->off < off + len && off < window->off + WINDOW_BYTES;
}

/* Sees that what was written to the range has left the windows. */
static void
settle_locked(DirectStore *direct, guint64 off, guint64 len)
{
    for (guint i = 0; i < WINDOWS; i++)
        if (overlaps(&direct->windows[i], off, len) && direct->windows[i].state == GATHERING)
            write_next_locked(direct, &direct->windows[i]);
    for (guint i = 0; i < WINDOWS; i++)
        while (overlaps(&direct->windows[i], off, len))
            end_one_locked(direct);
}

static void
settle_all_locked(DirectStore *direct)
{
    settle_locked(direct, 0, G_MAXUINT64);
}

/* The oldest that gathers, where there are too many of them. */
static Window *
overdue_locked(DirectStore *direct)
{
    Window *oldest = NULL;
    guint n = 0;

    for (guint i = 0; i < WINDOWS; i++) {
        Window *window = &direct->windows[i];
        if (window->state != GATHERING)
            continue;
        n++;
        if (!oldest || window->number < oldest->number)
            oldest = window;
    }
    return n > GATHERING_MAX ? oldest : NULL;
}

static Window *
free_window_locked(DirectStore *direct)
{
    for (;;) {
        for (guint i = 0; i < WINDOWS; i++)
            if (direct->windows[i].state == FREE)
                return &direct->windows[i];
        end_one_locked(direct); /* at most GATHERING_MAX + 1 gather: the others are being written */
    }
}

/* NULL where there is no memory for it. */
static Window *
window_at_locked(DirectStore *direct, guint64 off)
{
    for (guint i = 0; i < WINDOWS; i++) {
        Window *window = &direct->windows[i];
        while (window->state == WRITING && window->off == off)
            end_one_locked(direct);
        if (window->state == GATHERING && window->off == off)
            return window;
    }
    Window *window = free_window_locked(direct);
    void *bytes = window->bytes;

    if (!bytes && posix_memalign(&bytes, PAGE_BYTES, WINDOW_BYTES) != 0)
        return NULL;
    *window = (Window){ .state = GATHERING, .off = off, .number = direct->numbers++, .bytes = bytes };
    return window;
}

/* @len bytes at @off lie in one window. */
static gboolean
gather_locked(DirectStore *direct, guint64 off, const void *bytes, gsize len)
{
    Window *window = window_at_locked(direct, num_align_down(off, WINDOW_BYTES));

    if (!window)
        return FALSE;
    memcpy(window->bytes + (off - window->off), bytes, len);
    for (guint64 page = (off - window->off) / PAGE_BYTES; page < (off - window->off + len) / PAGE_BYTES;
         page++) {
        window->n_filled += !window->filled[page];
        window->filled[page] = TRUE;
    }
    Window *due = window->n_filled == PAGES ? window : overdue_locked(direct);
    if (due)
        write_next_locked(direct, due);
    return TRUE;
}

/* ---- the store ---- */

static gboolean
fail_late_locked(DirectStore *direct, GError **error)
{
    if (error)
        *error = g_error_copy(direct->error);
    return FALSE;
}

static gboolean
is_worth_it_locked(DirectStore *direct, guint64 off, gsize len)
{
    if (direct->passed < direct->after_bytes) {
        direct->passed += len;
        return FALSE;
    }
    if (!direct->begun)
        begin_locked(direct);
    return direct->fd >= 0 && len >= LEAST_BYTES && off % PAGE_BYTES == 0 && len % PAGE_BYTES == 0;
}

static gboolean
direct_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    DirectStore *direct = direct_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct->lock);
    gsize done = 0;

    if (direct->error)
        return fail_late_locked(direct, error);
    if (is_worth_it_locked(direct, off, len)) {
        for (gsize piece; done < len; done += piece) {
            piece = (gsize) MIN(WINDOW_BYTES - (off + done) % WINDOW_BYTES, len - done);
            if (!gather_locked(direct, off + done, (const char *) buf + done, piece))
                break;
        }
    }
    direct->end = MAX(direct->end, off + len);
    if (done == len)
        return TRUE;
    settle_locked(direct, off + done, len - done);
    g_clear_pointer(&locker, g_mutex_locker_free);
    return blk_pwrite(direct->below, off + done, (const char *) buf + done, len - done, error);
}

/* Nothing lies behind the file's end, though it may be ahead of that. */
static gboolean
direct_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    DirectStore *direct = direct_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct->lock);

    settle_locked(direct, off, len);
    if (direct->ahead > 0)
        len = (gsize) MIN(len, direct->end > off ? direct->end - off : 0);
    g_clear_pointer(&locker, g_mutex_locker_free);
    return blk_pread_upto(direct->below, off, buf, len, got, error);
}

/* Before something else is done to the range. */
static gboolean
settle(DirectStore *direct, guint64 off, guint64 len, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct->lock);

    settle_locked(direct, off, len);
    return come_back_locked(direct, error);
}

static gboolean
direct_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    return settle(direct_of(store), off, len, error)
           && blk_zero(direct_of(store)->below, off, len, mode, error);
}

static gboolean
direct_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    DirectStore *direct = direct_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct->lock);

    settle_all_locked(direct);
    direct->end = direct->ahead = 0;
    return blk_truncate(direct->below, bytes, error);
}

static gboolean
direct_flush(BlkStore *store, GError **error)
{
    DirectStore *direct = direct_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct->lock);

    settle_all_locked(direct);
    if (direct->error)
        return fail_late_locked(direct, error);
    return come_back_locked(direct, error) && blk_flush(direct->below, error);
}

static gboolean
direct_size(BlkStore *store, guint64 *bytes, GError **error)
{
    DirectStore *direct = direct_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct->lock);

    if (!blk_size(direct->below, bytes, error))
        return FALSE;
    *bytes = direct->ahead > 0 ? direct->end : MAX(*bytes, direct->end);
    return TRUE;
}

static gboolean
direct_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error)
{
    DirectStore *direct = direct_of(store);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct->lock);

    settle_all_locked(direct); /* the range may lie past the end until then */
    return come_back_locked(direct, error) && blk_extent(direct->below, off, max_bytes, extent, error);
}

static gboolean
direct_share(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error)
{
    return settle(direct_of(store), off, from->len, error)
           && blk_share(direct_of(store)->below, off, from, done, error);
}

static int
direct_fd(BlkStore *store)
{
    return blk_fd(direct_of(store)->below);
}

static void
direct_free(BlkStore *store)
{
    DirectStore *direct = direct_of(store);

    settle(direct, 0, G_MAXUINT64, NULL);
    for (guint i = 0; i < WINDOWS; i++)
        free(direct->windows[i].bytes);
    g_clear_pointer(&direct->aio, aio_free);
    fd_clear(&direct->fd);
    blk_free(direct->below);
    g_clear_error(&direct->error);
    g_mutex_clear(&direct->lock);
    g_free(direct);
}

static const BlkOps direct_ops = {
    .name = "direct",
    .pread = direct_pread,
    .pwrite = direct_pwrite,
    .zero = direct_zero,
    .truncate = direct_truncate,
    .flush = direct_flush,
    .size = direct_size,
    .extent = direct_extent,
    .share = direct_share,
    .fd = direct_fd,
    .free = direct_free,
};

BlkStore *
blk_direct_new(BlkStore *below, guint64 after_bytes)
{
    DirectStore *direct = g_new0(DirectStore, 1);

    direct->store =
        (BlkStore){ .ops = &direct_ops, .label = g_strdup(below->label), .writable = below->writable };
    direct->below = below;
    direct->after_bytes = after_bytes;
    direct->fd = -1;
    g_mutex_init(&direct->lock);
    return &direct->store;
}

gboolean
blk_direct_is_used(BlkStore *store)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&direct_of(store)->lock);

    return direct_of(store)->is_used;
}
