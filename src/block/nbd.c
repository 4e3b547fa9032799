/* Threads take a connection each, and leave it to the next. Once one was given up, or ended by the server,
 * the store is dead: what had been written since the last flush may be lost, and nobody shall take it for
 * written. */
#include "block/nbd.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "block/nbd_link.h"

#include <string.h>

#define LINKS_MAX 8
/* A flush may have to bring out all that the server has cached. */
#define PATIENCE_MS 60000
/* What one request zeroes, trims or maps: seconds of work at most. */
#define RANGE_BYTES_MAX ((guint64) 128 << 20)
#define MAP_BYTES_MAX   ((guint64) 1 << 30)

typedef struct {
    BlkStore store;
    NbdAddress *address;
    NbdTerms terms;
    NbdDisk disk;

    GMutex mutex;
    GCond returned;
    /* Under mutex. */
    NbdLink *idle[LINKS_MAX];
    guint n_idle, n_links, max_links;
    gboolean dead;
    int spare[LINKS_MAX]; /* connected sockets that no connection uses yet */
    guint n_spare;
    GArray *extents; /* of NbdExtent: what the server said last, of a disk that is only read */
    guint64 extents_off;

    GRWLock blocks; /* who writes a part of a block reads the rest of it first, and is alone then */
} NbdStore;

static NbdStore *
nbd_of(BlkStore *store)
{
    return (NbdStore *) store;
}

gboolean
blk_nbd_is_name(const char *name)
{
    return nbd_address_is(name);
}

/* A build with tests may be told to be less patient: KHO_NBD_PATIENCE_MS. */
static gint64
patience_ms(void)
{
#ifdef KHO_STEPS
    const char *text = g_getenv("KHO_NBD_PATIENCE_MS");

    if (text)
        return g_ascii_strtoll(text, NULL, 10);
#endif
    return PATIENCE_MS;
}

static NbdLink *
connect_one(NbdStore *nbd, int fd, GError **error)
{
    return nbd_link_open(nbd->address, fd, &nbd->terms, error);
}

/* One more connection, where that is allowed and works: a server may say that it bears many, and have no room
 * for this one. Called and returns with the mutex held. */
static NbdLink *
add_link_locked(NbdStore *nbd)
{
    g_autoptr(GError) error = NULL;
    gboolean over_spare = nbd->n_spare > 0;
    int fd = over_spare ? nbd->spare[--nbd->n_spare] : -1;

    nbd->n_links++;
    g_mutex_unlock(&nbd->mutex);
    NbdLink *link = connect_one(nbd, fd, &error);
    g_mutex_lock(&nbd->mutex);
    if (link)
        return link;
    g_debug("%s", error->message);
    nbd->n_links--;
    nbd->max_links = nbd->n_links;
    return NULL;
}

/* A connection for the calling thread alone. */
static NbdLink *
take_link(NbdStore *nbd, GError **error)
{
    NbdLink *link = NULL;

    g_mutex_lock(&nbd->mutex);
    while (!link && !nbd->dead) {
        if (nbd->n_idle > 0)
            link = nbd->idle[--nbd->n_idle];
        else if (nbd->n_links < nbd->max_links)
            link = add_link_locked(nbd);
        else
            g_cond_wait(&nbd->returned, &nbd->mutex);
    }
    g_mutex_unlock(&nbd->mutex);
    if (!link)
        fail(error, KHO_ERROR_IO, "%s: the connection was lost", nbd->store.label);
    return link;
}

static void
return_link(NbdStore *nbd, NbdLink *link)
{
    gboolean broken = nbd_link_is_broken(link);

    if (broken)
        nbd_link_free(link);
    g_mutex_lock(&nbd->mutex);
    if (broken) {
        nbd->dead = TRUE;
        g_cond_broadcast(&nbd->returned);
    } else {
        nbd->idle[nbd->n_idle++] = link;
        g_cond_signal(&nbd->returned);
    }
    g_mutex_unlock(&nbd->mutex);
}

static gboolean
read_pieces(NbdStore *nbd, NbdLink *link, guint64 off, guint8 *to, guint64 len, GError **error)
{
    while (len > 0) {
        gsize piece = (gsize) MIN(len, nbd->disk.request_bytes);

        if (!nbd_link_read(link, off, to, piece, error))
            return FALSE;
        off += piece;
        to += piece;
        len -= piece;
    }
    return TRUE;
}

static gboolean
write_pieces(NbdStore *nbd, NbdLink *link, guint64 off, const guint8 *from, guint64 len, GError **error)
{
    while (len > 0) {
        gsize piece = (gsize) MIN(len, nbd->disk.request_bytes);

        if (!nbd_link_write(link, off, from, piece, error))
            return FALSE;
        off += piece;
        from += piece;
        len -= piece;
    }
    return TRUE;
}

static gboolean
is_aligned(const NbdStore *nbd, guint64 off, guint64 len)
{
    return ((off | len) & (nbd->disk.block_bytes - 1)) == 0;
}

/* Reads what does not begin or end at blocks through one that does; what lies in between goes to @to at once.
 */
static gboolean
read_unaligned(NbdStore *nbd, NbdLink *link, guint64 off, guint8 *to, guint64 len, GError **error)
{
    guint64 block = nbd->disk.block_bytes;
    g_autofree guint8 *bytes = g_malloc(block); /* at most 64 KiB: nbd_link.c */

    while (len > 0) {
        guint64 from = num_align_down(off, block);
        guint64 head = off - from;
        guint64 whole = head == 0 ? num_align_down(len, block) : 0;
        guint64 part = whole > 0 ? whole : MIN(len, block - head);

        if (whole > 0 ? !read_pieces(nbd, link, off, to, whole, error)
                      : !nbd_link_read(link, from, bytes, block, error))
            return FALSE;
        if (whole == 0)
            memcpy(to, bytes + head, part);
        off += part;
        to += part;
        len -= part;
    }
    return TRUE;
}

static gboolean
nbd_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    NbdStore *nbd = nbd_of(store);
    guint64 there = off >= nbd->disk.bytes ? 0 : MIN(len, nbd->disk.bytes - off);
    NbdLink *link = there > 0 ? take_link(nbd, error) : NULL;

    *got = there;
    if (!link)
        return there == 0;
    gboolean done = is_aligned(nbd, off, there) ? read_pieces(nbd, link, off, buf, there, error)
                                                : read_unaligned(nbd, link, off, buf, there, error);
    return_link(nbd, link);
    return done;
}

/* Writes the parts of blocks that @len bytes at @off begin and end with, and the blocks between. */
static gboolean
write_unaligned(NbdStore *nbd, NbdLink *link, guint64 off, const guint8 *from, guint64 len, GError **error)
{
    guint64 block = nbd->disk.block_bytes;
    g_autofree guint8 *bytes = g_malloc(block); /* at most 64 KiB: nbd_link.c */

    while (len > 0) {
        guint64 start = num_align_down(off, block);
        guint64 head = off - start;
        guint64 whole = head == 0 ? num_align_down(len, block) : 0;
        guint64 part = whole > 0 ? whole : MIN(len, block - head);

        if (whole > 0) {
            if (!write_pieces(nbd, link, off, from, whole, error))
                return FALSE;
        } else {
            if (!nbd_link_read(link, start, bytes, block, error))
                return FALSE;
            memcpy(bytes + head, from, part);
            if (!nbd_link_write(link, start, bytes, block, error))
                return FALSE;
        }
        off += part;
        from += part;
        len -= part;
    }
    return TRUE;
}

static gboolean
check_room(NbdStore *nbd, guint64 end, GError **error)
{
    return end <= nbd->disk.bytes
           || fail(error, KHO_ERROR_NO_SPACE,
                   "%s has %" G_GUINT64_FORMAT " bytes, and %" G_GUINT64_FORMAT
                   " are needed: make it larger at its server",
                   nbd->store.label, nbd->disk.bytes, end);
}

static gboolean
nbd_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    NbdStore *nbd = nbd_of(store);
    gboolean aligned = is_aligned(nbd, off, len);
    NbdLink *link = check_room(nbd, off + len, error) ? take_link(nbd, error) : NULL;

    if (!link)
        return FALSE;
    aligned ? g_rw_lock_reader_lock(&nbd->blocks) : g_rw_lock_writer_lock(&nbd->blocks);
    gboolean done = aligned ? write_pieces(nbd, link, off, buf, len, error)
                            : write_unaligned(nbd, link, off, buf, len, error);
    aligned ? g_rw_lock_reader_unlock(&nbd->blocks) : g_rw_lock_writer_unlock(&nbd->blocks);
    return_link(nbd, link);
    return done;
}

static gboolean
write_zeros(BlkStore *store, guint64 off, guint64 len, GError **error)
{
    static const guint8 zeros[64 * 1024];

    while (len > 0) {
        gsize piece = (gsize) MIN(len, sizeof zeros);

        if (!nbd_pwrite(store, off, zeros, piece, error))
            return FALSE;
        off += piece;
        len -= piece;
    }
    return TRUE;
}

/* Zeroes or trims whole blocks. */
static gboolean
change_range(NbdStore *nbd, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    NbdLink *link = len > 0 ? take_link(nbd, error) : NULL;
    gboolean done = TRUE;

    if (!link)
        return len == 0;
    g_rw_lock_reader_lock(&nbd->blocks);
    while (done && len > 0) {
        guint64 piece = MIN(len, RANGE_BYTES_MAX);

        done = mode == BLK_ZERO_GIVE_BACK ? nbd_link_trim(link, off, piece, error)
                                          : nbd_link_zero(link, off, piece, mode == BLK_ZERO_RESERVE, error);
        off += piece;
        len -= piece;
    }
    g_rw_lock_reader_unlock(&nbd->blocks);
    return_link(nbd, link);
    return done;
}

static gboolean
nbd_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    NbdStore *nbd = nbd_of(store);
    guint64 block = nbd->disk.block_bytes;
    guint64 first = num_align_up(off, block), last = num_align_down(off + len, block);

    if (!check_room(nbd, off + len, error))
        return FALSE;
    if (mode == BLK_ZERO_GIVE_BACK)
        return !nbd->disk.can_trim || first >= last || change_range(nbd, first, last - first, mode, error);
    if (!nbd->disk.can_zero || first >= last)
        return write_zeros(store, off, len, error);
    return write_zeros(store, off, first - off, error) && change_range(nbd, first, last - first, mode, error)
           && write_zeros(store, last, off + len - last, error);
}

/* As on a block device: what is kept there may end anywhere before the end. */
static gboolean
nbd_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    return check_room(nbd_of(store), bytes, error);
}

static gboolean
nbd_flush(BlkStore *store, GError **error)
{
    NbdStore *nbd = nbd_of(store);
    NbdLink *link = take_link(nbd, error);

    if (!link)
        return FALSE;
    /* Several are open only where the server says that a flush on one brings out the writes of all. */
    gboolean done = nbd_link_flush(link, error);
    return_link(nbd, link);
    return done;
}

static gboolean
nbd_size(BlkStore *store, guint64 *bytes, GError **error)
{
    *bytes = nbd_of(store)->disk.bytes;
    return TRUE;
}

/* What the server said before of @off, where that still holds. */
static gboolean
find_known_locked(NbdStore *nbd, guint64 off, NbdExtent *found)
{
    guint64 at = nbd->extents_off;

    if (nbd->store.writable || off < at)
        return FALSE;
    for (guint i = 0; i < nbd->extents->len; i++) {
        const NbdExtent *extent = &g_array_index(nbd->extents, NbdExtent, i);

        if (off - at < extent->bytes) {
            *found = (NbdExtent){ extent->bytes - (off - at), extent->zero };
            return TRUE;
        }
        at += extent->bytes;
    }
    return FALSE;
}

/* Asks the server what lies at @off, which begins a block. */
static gboolean
ask_extents(NbdStore *nbd, guint64 off, guint64 len, NbdExtent *found, GError **error)
{
    g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(NbdExtent));
    NbdLink *link = take_link(nbd, error);

    if (!link)
        return FALSE;
    gboolean done = nbd_link_extents(link, off, len, extents, error);
    return_link(nbd, link);
    if (!done)
        return FALSE;
    *found = g_array_index(extents, NbdExtent, 0);
    g_mutex_lock(&nbd->mutex);
    g_array_unref(nbd->extents);
    nbd->extents = g_steal_pointer(&extents);
    nbd->extents_off = off;
    g_mutex_unlock(&nbd->mutex);
    return TRUE;
}

static gboolean
nbd_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error)
{
    NbdStore *nbd = nbd_of(store);
    guint64 block = nbd->disk.block_bytes;
    NbdExtent found = { max_bytes, FALSE };

    if (nbd->disk.has_extents) {
        guint64 from = num_align_down(off, block);
        guint64 end = MIN(num_align_up(off + max_bytes, block), num_align_down(nbd->disk.bytes, block));

        g_mutex_lock(&nbd->mutex);
        gboolean known = find_known_locked(nbd, off, &found);
        g_mutex_unlock(&nbd->mutex);
        if (!known && from < end) {
            if (!ask_extents(nbd, from, MIN(end - from, MAP_BYTES_MAX), &found, error))
                return FALSE;
            found.bytes = found.bytes > off - from ? found.bytes - (off - from) : 1;
        }
    }
    *extent = (BlkExtent){ found.zero ? BLK_EXTENT_HOLE : BLK_EXTENT_DATA, MIN(found.bytes, max_bytes) };
    return TRUE;
}

static void
nbd_free(BlkStore *store)
{
    NbdStore *nbd = nbd_of(store);

    for (guint i = 0; i < nbd->n_idle; i++)
        nbd_link_free(nbd->idle[i]);
    for (guint i = 0; i < nbd->n_spare; i++)
        fd_clear(&nbd->spare[i]);
    g_clear_pointer(&nbd->address, nbd_address_free);
    g_clear_pointer(&nbd->extents, g_array_unref);
    g_free((char *) nbd->terms.label);
    g_mutex_clear(&nbd->mutex);
    g_cond_clear(&nbd->returned);
    g_rw_lock_clear(&nbd->blocks);
    g_free(nbd);
}

static const BlkOps nbd_ops = {
    .name = "nbd",
    .pread = nbd_pread,
    .pwrite = nbd_pwrite,
    .zero = nbd_zero,
    .truncate = nbd_truncate,
    .flush = nbd_flush,
    .size = nbd_size,
    .extent = nbd_extent,
    .free = nbd_free,
};

static NbdStore *
store_new(const char *label, gboolean writable, const KhoJob *job)
{
    NbdStore *nbd = g_new0(NbdStore, 1);

    nbd->store = (BlkStore){ .ops = &nbd_ops, .label = g_strdup(label), .writable = writable };
    nbd->terms = (NbdTerms){ .label = g_strdup(label),
                             .patience_ms = patience_ms(),
                             .cancelled = job ? job->cancelled : NULL };
    nbd->extents = g_array_new(FALSE, FALSE, sizeof(NbdExtent));
    nbd->max_links = 1;
    g_mutex_init(&nbd->mutex);
    g_cond_init(&nbd->returned);
    g_rw_lock_init(&nbd->blocks);
    return nbd;
}

/* The first connection, which says what the disk can do. */
static gboolean
begin(NbdStore *nbd, int fd, GError **error)
{
    NbdLink *link = connect_one(nbd, fd, error);

    if (!link)
        return FALSE;
    nbd->disk = *nbd_link_disk(link);
    nbd->n_links = 1;
    nbd->idle[nbd->n_idle++] = link;
    if (nbd->store.writable && !nbd->disk.writable)
        return fail(error, KHO_ERROR_DENIED, "%s cannot be written: its server allows reading only",
                    nbd->store.label);
    return TRUE;
}

BlkStore *
blk_nbd_open(const char *name, gboolean writable, const KhoJob *job, GError **error)
{
    NbdAddress *address = nbd_address_parse(name, error);

    if (!address)
        return NULL;
    NbdStore *nbd = store_new(name, writable, job);
    g_autoptr(BlkStore) store = &nbd->store;
    nbd->address = address;
    if (!begin(nbd, -1, error))
        return NULL;
    if (nbd->disk.many_connections)
        nbd->max_links = LINKS_MAX;
    return g_steal_pointer(&store);
}

BlkStore *
blk_nbd_over(const int *fds, guint n_fds, const char *label, gboolean writable, const KhoJob *job,
             GError **error)
{
    NbdStore *nbd = store_new(label, writable, job);
    g_autoptr(BlkStore) store = &nbd->store;

    g_assert(n_fds > 0 && n_fds <= LINKS_MAX);
    for (guint i = 1; i < n_fds; i++)
        nbd->spare[nbd->n_spare++] = fds[i];
    nbd->address = g_new0(NbdAddress, 1);
    nbd->address->export_name = g_strdup("");
    if (!begin(nbd, fds[0], error))
        return NULL;
    if (nbd->disk.many_connections)
        nbd->max_links = n_fds;
    return g_steal_pointer(&store);
}
