#include "qcow2/state.h"

#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/copied.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/place.h"
#include "qcow2/qcow2.h"
#include "qcow2/refcount.h"

#include <string.h>

static void
set_size(Qcow2Image *image, guint64 guest_bytes)
{
    image->base.guest_bytes = guest_bytes;
    image->geo.l1_guest_entries = qcow2_l1_entries_for(&image->geo, guest_bytes);
}

gboolean
qcow2_state_begin(FormatImage *format, guint64 bytes, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    guint64 entries = qcow2_l1_entries_for(&image->geo, bytes), first, got;

    g_assert(bytes > 0 && (format->flags & FORMAT_UNPUBLISHED) && !image->held.is_set && !image->state.is_set
             && !image->state.written.words);
    if (entries + image->geo.l1_guest_entries > QCOW2_L1_BYTES_MAX / 8)
        return fail(error, KHO_ERROR_NO_SPACE,
                    "%s: with %" G_GUINT64_FORMAT
                    " bytes of VM state its L1 table would pass 32 MiB; larger clusters reach further",
                    format->file->label, bytes);
    /* Where it lies until then: the state's L1 table is in use like the disk's. */
    if (!qcow2_begin_write_locked(image, error) || !qcow2_flush_locked(image, FALSE, error)
        || !qcow2_alloc(image, num_div_up(entries * 8, image->geo.cluster_bytes), TRUE, &first, &got, error))
        return FALSE;
    qcow2_guard_mark(&image->guard, first, got);
    image->state = (Qcow2State){ .is_set = TRUE, .disk_l1 = image->l1, .disk_bytes = format->guest_bytes };
    qcow2_words_init(&image->l1, first << image->geo.cluster_bits, entries, NULL);
    set_size(image, bytes);
    return TRUE;
}

/* Its clusters have one user, the snapshot; COPIED is for the disk's alone. */
gboolean
qcow2_state_end(FormatImage *format, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    g_assert(image->state.is_set);
    gboolean done = qcow2_flush_locked(image, FALSE, error)
                    && qcow2_copied_clear_locked(image, &image->l1, error)
                    && qcow2_flush_locked(image, FALSE, error);
    guint64 first = image->l1.off >> image->geo.cluster_bits;
    guint64 clusters = num_div_up(image->l1.n * 8, image->geo.cluster_bytes);
    image->state.written = image->l1;
    image->state.is_set = FALSE;
    image->l1 = image->state.disk_l1;
    image->state.disk_l1 = (Qcow2Words){ 0 };
    set_size(image, image->state.disk_bytes);
    qcow2_guard_unmark(&image->guard, first, clusters);
    return done && qcow2_refcount_lower(image, first, clusters, error);
}

void
qcow2_state_take_locked(Qcow2Image *image, Qcow2Words *both)
{
    Qcow2Words *state = &image->state.written;
    guint64 disk = image->geo.l1_guest_entries;

    if (!state->words)
        return;
    qcow2_words_init(both, 0, disk + state->n, NULL);
    memcpy(both->words, image->l1.words, MIN(disk, image->l1.n) * 8);
    memcpy(both->words + disk, state->words, state->n * 8);
    qcow2_words_clear(state);
}

/* --- sharing with a snapshot --- */

/* The @n entries from @index on, which are alike in the way that qcow2_l2_run tells, become the disk's. */
static gboolean
take_entries(Qcow2Image *image, Qcow2Index index, Qcow2Entry first, const Qcow2Table *theirs, guint64 n,
             GError **error)
{
    guint bits = image->geo.cluster_bits;
    Qcow2Table *mine;
    Qcow2Cluster c;
    const char *wrong = qcow2_l2_decode(first, &image->header, &c);

    if (wrong)
        return qcow2_corrupt_locked(image, error, "L2 entry 0x%016" G_GINT64_MODIFIER "x %s", first.word,
                                    wrong);
    guint64 clusters = qcow2_cluster_host_clusters(&c, bits);
    if (clusters > 0 && n > 1)
        clusters = n; /* plain ones, one behind the other */
    if (clusters > 0 && !qcow2_refcount_raise(image, c.host_bytes >> bits, clusters, error))
        return FALSE;
    if (!qcow2_l2_writable_locked(image, index.l1_index, &mine, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++) {
        Qcow2Entry entry = qcow2_l2_entry(&image->geo, theirs, index.l2_index + i);

        entry.word &= entry.word & QCOW2_ENTRY_COMPRESSED ? G_MAXUINT64 : ~QCOW2_ENTRY_COPIED;
        qcow2_refcount_release_later(image, &image->header,
                                     qcow2_l2_entry(&image->geo, mine, index.l2_index + i));
        qcow2_l2_set(image, mine, index.l2_index + i, entry);
    }
    return TRUE;
}

static gboolean
make_holes(Qcow2Image *image, Qcow2Index index, guint64 n, GError **error)
{
    Qcow2Table *mine;

    if (!qcow2_l2_get_locked(image, index.l1_index, &mine, error))
        return FALSE;
    if (!mine)
        return TRUE;
    if (!qcow2_l2_writable_locked(image, index.l1_index, &mine, error))
        return FALSE;
    for (guint64 i = index.l2_index; i < index.l2_index + n; i++) {
        qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(&image->geo, mine, i));
        qcow2_l2_set(image, mine, i, (Qcow2Entry){ 0 });
    }
    return qcow2_settle_locked(image, error);
}

/* Up to the end of one L2 table: how many clusters of @n that were. */
static gboolean
share_in_table(Qcow2Image *image, Qcow2Image *view, guint64 at, guint64 *n, GError **error)
{
    Qcow2Index index = qcow2_index(&image->geo, at);
    Qcow2Table *theirs;
    guint64 taken;

    *n = MIN(*n, image->geo.l2_entries - index.l2_index);
    if (!qcow2_l2_get_locked(view, index.l1_index, &theirs, error))
        return FALSE;
    if (!theirs)
        return make_holes(image, index, *n, error);
    for (guint64 i = 0; i < *n; i += taken) {
        Qcow2Index each = { index.l1_index, index.l2_index + i };
        Qcow2Entry first = qcow2_l2_entry(&image->geo, theirs, each.l2_index);
        guint64 word = first.word & ~(QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED);
        gboolean plain = word == 0 && (first.word & QCOW2_ENTRY_OFFSET);

        taken =
            plain ? qcow2_l2_run(&image->geo, theirs, each.l2_index, image->geo.cluster_bytes, *n - i) : 1;
        if (!take_entries(image, each, first, theirs, taken, error))
            return FALSE;
    }
    return qcow2_settle_locked(image, error);
}

gboolean
qcow2_snapshot_share(FormatImage *format, FormatImage *view, GuestOff at, guint64 bytes, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    guint64 left = num_div_up(bytes, image->geo.cluster_bytes), off = at.bytes, n;

    g_assert((format->flags & FORMAT_UNPUBLISHED) && off % image->geo.cluster_bytes == 0);
    qcow2_wait_places_locked(image, off, off + bytes);
    if (!qcow2_begin_write_locked(image, error) || !qcow2_bitmaps_begin_locked(image, error)
        || !qcow2_load_l1_locked(qcow2_image(view), error))
        return FALSE;
    qcow2_bitmaps_mark_locked(image, off, bytes);
    for (; left > 0; left -= n, off += n << image->geo.cluster_bits) {
        n = left;
        if (!share_in_table(image, qcow2_image(view), off, &n, error))
            return FALSE;
    }
    return TRUE;
}
