#include "qcow2/resize.h"

#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/flush.h"
#include "qcow2/l1.h"
#include "qcow2/l2.h"
#include "qcow2/map.h"
#include "qcow2/refcount.h"

#include <string.h>

/* One L2 table past the border: every entry from @first on can be let go. */
static gboolean
look_at_table(Qcow2Image *image, guint64 l1_index, guint64 first, gboolean *mapped, GError **error)
{
    Qcow2Table *table;

    if (!qcow2_l2_get_locked(image, l1_index, &table, error))
        return FALSE;
    for (guint64 i = first; table && i < image->geo.l2_entries; i++) {
        Qcow2Cluster c;
        if (!qcow2_l2_cluster_locked(image, table, (Qcow2Index){ l1_index, i }, &c, error))
            return FALSE;
        Qcow2Entry entry = qcow2_l2_entry(&image->geo, table, i);
        *mapped = *mapped || entry.word != 0 || entry.bitmap != 0;
    }
    return qcow2_settle_locked(image, error);
}

/* Is anything mapped past @from guest bytes, up to where the L1 table reaches? Found wrong before anything is
 * changed, and the time to be cancelled: what follows is quick. */
static gboolean
look_past(Qcow2Image *image, guint64 from, const KhoJob *job, gboolean *mapped, GError **error)
{
    Qcow2Index index = qcow2_index(&image->geo, num_align_up(from, image->geo.cluster_bytes));

    *mapped = FALSE;
    for (; index.l1_index < image->l1.n; index = (Qcow2Index){ index.l1_index + 1, 0 }) {
        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is unchanged", image->base.file->label);
        if (image->l1.words[index.l1_index] == 0)
            continue;
        *mapped = *mapped || index.l2_index == 0;
        if (!look_at_table(image, index.l1_index, index.l2_index, mapped, error))
            return FALSE;
    }
    return TRUE;
}

/* A cluster that may not be written in place gets a new one with @bytes. Rules, kept by the flush before the
 * header's write: DATA_BEFORE_L2, REFCOUNT_BEFORE_REFERENCE, L2_BEFORE_LOWER. */
static gboolean
replace_cluster(Qcow2Image *image, Qcow2Index index, Qcow2Cluster new, const guint8 *bytes, GError **error)
{
    guint64 cluster, got;
    Qcow2Table *table;

    if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error)
        || !qcow2_alloc(image, 1, TRUE, &cluster, &got, error))
        return FALSE;
    guint64 off = cluster << image->geo.cluster_bits;
    if (!blk_pwrite(image->base.data, off, bytes, image->geo.cluster_bytes, error)) {
        qcow2_refcount_lower(image, cluster, 1, NULL);
        return FALSE;
    }
    qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(&image->geo, table, index.l2_index));
    new.host_bytes = off;
    new.placed = new.copied = TRUE;
    qcow2_l2_set(image, table, index.l2_index, qcow2_l2_encode(&new, &image->header));
    return TRUE;
}

/* The bytes past the end, within the subcluster that it lies in. */
static gboolean
clean_data(Qcow2Image *image, Qcow2Index index, const Qcow2Cluster *c, guint64 inside, GError **error)
{
    g_autofree guint8 *bytes = g_malloc0(image->geo.cluster_bytes);
    guint64 rest = num_align_up(inside, image->geo.sub_bytes) - inside;
    Qcow2Cluster new = { .data = c->compressed ? qcow2_subs_all(&image->header) : c->data,
                         .zeros = c->zeros };

    if (c->compressed ? !qcow2_unpack(image, c, bytes, error)
                      : !blk_pread_padded(image->base.data, c->host_bytes, bytes, inside, error))
        return FALSE;
    memset(bytes + inside, 0, image->geo.cluster_bytes - inside);
    if (c->compressed || !c->copied)
        return replace_cluster(image, index, new, bytes, error);
    if (qcow2_guard_holds(&image->guard, c->host_bytes >> image->geo.cluster_bits, 1))
        return qcow2_corrupt_locked(image, error,
                                    "guest offset %" G_GUINT64_FORMAT
                                    ": data is mapped to byte %" G_GUINT64_FORMAT ", where metadata lies",
                                    image->base.guest_bytes - inside, c->host_bytes);
    return blk_pwrite(image->base.data, c->host_bytes + inside, bytes + inside, rest, error);
}

/* The subclusters behind the one that the end lies in become zeros, as far as they would show something. */
static gboolean
clean_subs(Qcow2Image *image, Qcow2Index index, Qcow2Cluster *c, guint64 inside, GError **error)
{
    guint first = (guint) num_div_up(inside, image->geo.sub_bytes);
    guint32 behind = qcow2_subs_mask(first, image->geo.subs);
    guint32 shows = behind & (qcow2_has_below(image) ? ~c->zeros : c->data);
    Qcow2Table *table;

    if (c->compressed || shows == 0)
        return TRUE;
    if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error))
        return FALSE;
    c->data &= ~shows;
    c->zeros |= shows;
    qcow2_l2_set(image, table, index.l2_index, qcow2_l2_encode(c, &image->header));
    return TRUE;
}

/* The bytes behind the end in a data file, up to the end of their cluster. What the file has not got yet will
 * be a hole, which is zeros where nothing deciphers it. */
static gboolean
clean_data_file(Qcow2Image *image, guint64 end, guint64 to, GError **error)
{
    guint64 data_bytes;

    if (!blk_size(image->base.data, &data_bytes, error))
        return FALSE;
    to = MIN(to, num_align_up(end, image->geo.cluster_bytes));
    if (!image->base.encrypted)
        to = MIN(to, data_bytes);
    return to <= end || blk_zero(image->base.data, end, to - end, BLK_ZERO_MAY_PUNCH, error);
}

/* The rest of the last cluster, as far as the disk of @guest_bytes has it, was past the end until now, and
 * may hold anything: what the disk held before it shrank, for one. */
static gboolean
clean_last_cluster(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    guint64 end = image->base.guest_bytes, inside = end & (image->geo.cluster_bytes - 1);
    Qcow2Index index = qcow2_index(&image->geo, end);
    Qcow2Cluster c = { 0 };
    Qcow2Table *table;

    if (inside == 0)
        return TRUE;
    if (!qcow2_l2_get_locked(image, index.l1_index, &table, error)
        || (table && !qcow2_l2_cluster_locked(image, table, index, &c, error))
        || !clean_subs(image, index, &c, inside, error))
        return FALSE;
    gboolean has_data = c.compressed || (c.data >> qcow2_sub(&image->geo, end - 1) & 1);
    if (qcow2_has_data(image))
        return (image->base.encrypted && !has_data) || clean_data_file(image, end, guest_bytes, error);
    return !has_data || (!c.compressed && inside % image->geo.sub_bytes == 0)
           || clean_data(image, index, &c, inside, error);
}

/* Entries that read as zeros whatever the backing file holds: flags, or in version 2, which has none,
 * clusters of zeros that nothing names yet. Rules, kept by whoever writes the entries: DATA_BEFORE_L2,
 * REFCOUNT_BEFORE_REFERENCE. */
static gboolean
make_zero_entries(Qcow2Image *image, guint64 n, Qcow2Entry *entries, GError **error)
{
    guint bits = image->geo.cluster_bits;
    guint64 done = 0, first, got;
    Qcow2Cluster zeros = { .zeros = qcow2_subs_all(&image->header) };

    if (image->header.version >= 3) {
        for (; done < n; done++)
            entries[done] = qcow2_l2_encode(&zeros, &image->header);
        return TRUE;
    }
    while (done < n && qcow2_alloc(image, n - done, FALSE, &first, &got, error)) {
        for (guint64 i = 0; i < got; i++)
            entries[done++] = (Qcow2Entry){ ((first + i) << bits) | QCOW2_ENTRY_COPIED, 0 };
        if (!blk_zero(image->base.data, first << bits, got << bits, BLK_ZERO_MAY_PUNCH, error))
            break;
        if (done == n)
            return TRUE;
    }
    for (guint64 i = 0; i < done; i++)
        qcow2_refcount_lower(image, (entries[i].word & QCOW2_ENTRY_OFFSET) >> bits, 1, NULL);
    return FALSE;
}

/* What is new reads as zeros, as far as a backing file would show. */
static gboolean
hide_backing(Qcow2Image *image, guint64 from, GError **error)
{
    guint64 end = MIN(image->base.guest_bytes, image->base.backing_bytes);
    guint64 at = num_align_up(from, image->geo.cluster_bytes);
    g_autofree Qcow2Entry *entries = at < end ? g_new(Qcow2Entry, image->geo.l2_entries) : NULL;

    while (at < end) {
        Qcow2Index index = qcow2_index(&image->geo, at);
        guint64 n =
            MIN(num_div_up(end - at, image->geo.cluster_bytes), image->geo.l2_entries - index.l2_index);
        Qcow2Table *table;
        /* First of all, so that nothing else is left over where it cannot be had; and again, since making
         * entries may flush, and a table is kept no longer than that. */
        if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error)
            || !make_zero_entries(image, n, entries, error)
            || !qcow2_l2_writable_locked(image, index.l1_index, &table, error))
            return FALSE;
        for (guint64 i = 0; i < n; i++)
            qcow2_l2_set(image, table, index.l2_index + i, entries[i]);
        at += n << image->geo.cluster_bits;
        if (!qcow2_settle_locked(image, error))
            return FALSE;
    }
    return TRUE;
}

/* A data file is as long as the disk, at least. */
static gboolean
reach_in_data_file(Qcow2Image *image, guint64 bytes, GError **error)
{
    guint64 now;

    if (!qcow2_has_data(image))
        return TRUE;
    return blk_size(image->base.data, &now, error)
           && (now >= bytes || blk_truncate(image->base.data, bytes, error));
}

/* All that the new size takes, up to the header. Where the L1 table in use can serve both sizes, it does,
 * unless the new one is to be @held for a while. */
static gboolean
prepare_size(Qcow2Image *image, guint64 guest_bytes, gboolean held, const KhoJob *job, GError **error)
{
    guint64 from = image->base.guest_bytes;
    guint64 cluster_end = num_align_up(from, image->geo.cluster_bytes);
    gboolean hides = cluster_end < MIN(guest_bytes, image->base.backing_bytes), mapped;

    if (!look_past(image, MIN(from, guest_bytes), job, &mapped, error)
        || (guest_bytes > from && !clean_last_cluster(image, guest_bytes, error))
        || !qcow2_flush_locked(image, FALSE, error))
        return FALSE;
    if (!held && !mapped && !hides && qcow2_l1_entries_for(&image->geo, guest_bytes) <= image->l1.n)
        return reach_in_data_file(image, guest_bytes, error);
    if (!qcow2_l1_begin_locked(image, guest_bytes, error))
        return FALSE;
    if (reach_in_data_file(image, guest_bytes, error) && hide_backing(image, from, error))
        return TRUE;
    qcow2_l1_take_back_locked(image);
    return FALSE;
}

static gboolean
publish_size(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    if (qcow2_l1_commit_locked(image, guest_bytes, error))
        return TRUE;
    if (image->held.is_set)
        qcow2_l1_take_back_locked(image);
    return FALSE;
}

gboolean
qcow2_grow_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    return prepare_size(image, guest_bytes, FALSE, NULL, error) && publish_size(image, guest_bytes, error);
}

static gboolean
is_free_before(Qcow2Image *image, guint64 end, gboolean *found, GError **error)
{
    guint64 count;

    *found = FALSE;
    for (guint64 c = image->free_hint; c < end && !*found; c++) {
        if (!qcow2_refcount_get(image, c, &count, error))
            return FALSE;
        *found = count == 0;
    }
    return TRUE;
}

/* The new tables were written while all that they replaced was still in use, which most often is at the
 * file's end. Now there is room before it, and the file can be cut once they have moved there: by the same
 * steps, to the same size. Space only: where that fails the file stays longer. */
static void
move_tables_down(Qcow2Image *image)
{
    guint64 bytes = image->base.guest_bytes;
    guint64 border = image->l1.n > 0 ? image->l1.words[image->l1.n - 1] & QCOW2_ENTRY_OFFSET : 0;
    gboolean found;

    if (is_free_before(image, MAX(image->l1.off, border) >> image->geo.cluster_bits, &found, NULL) && found
        && qcow2_l1_begin_locked(image, bytes, NULL))
        publish_size(image, bytes, NULL);
}

static gboolean
cut_down(Qcow2Image *image, GError **error)
{
    return qcow2_reftable_trim(image, error) && qcow2_flush_locked(image, TRUE, error)
           && qcow2_cut_file_locked(image, 0, error);
}

static gboolean
shrink_locked(Qcow2Image *image, guint64 guest_bytes, const KhoJob *job, GError **error)
{
    guint64 l1_off = image->l1.off;

    if (!prepare_size(image, guest_bytes, FALSE, job, error) || !publish_size(image, guest_bytes, error))
        return FALSE;
    /* Until the header is durable the rest belongs to the disk. */
    if (qcow2_has_data(image)) {
        if (!qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error))
            return FALSE;
        qcow2_cut_data_locked(image, guest_bytes);
    }
    if (l1_off != image->l1.off)
        move_tables_down(image);
    return cut_down(image, error);
}

/* The size that the header names is not the one in use: that one is published, or goes. */
static gboolean
end_extended(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    if (guest_bytes == image->base.guest_bytes)
        return publish_size(image, guest_bytes, error) && qcow2_flush_locked(image, TRUE, error);
    g_assert(guest_bytes == image->held.guest_bytes);
    qcow2_l1_take_back_locked(image);
    return TRUE;
}

static gboolean
check_size(Qcow2Image *image, guint64 guest_bytes, gboolean may_shrink, GError **error)
{
    const char *label = image->base.file->label;

    if (guest_bytes > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID, "%s: a size of %" G_GUINT64_FORMAT " bytes is too large", label,
                    guest_bytes);
    if (guest_bytes < image->base.guest_bytes && !may_shrink)
        return fail(error, KHO_ERROR_INVALID,
                    "%s: shrinking from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                    " bytes loses what lies past the end; say so to allow it",
                    label, image->base.guest_bytes, guest_bytes);
    if (image->header.snapshots > 0 && image->header.version < 3)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s: a version 2 image with snapshots cannot change its size: they do not record theirs",
                    label);
    return TRUE;
}

gboolean
qcow2_resize_check_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    return check_size(image, guest_bytes, TRUE, error) && qcow2_l1_reaches(image, guest_bytes, error)
           && qcow2_bitmaps_check_resize_locked(image, guest_bytes, error);
}

gboolean
qcow2_extend(FormatImage *format, guint64 guest_bytes, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    return qcow2_begin_write_locked(image, error) && check_size(image, guest_bytes, FALSE, error)
           && qcow2_bitmaps_begin_resize_locked(image, guest_bytes, error)
           && prepare_size(image, guest_bytes, TRUE, NULL, error);
}

gboolean
qcow2_resize(FormatImage *format, guint64 guest_bytes, gboolean may_shrink, const KhoJob *job, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    if (image->held.is_set)
        return end_extended(image, guest_bytes, error);
    if (!qcow2_begin_write_locked(image, error) || !check_size(image, guest_bytes, may_shrink, error))
        return FALSE;
    if (guest_bytes == format->guest_bytes)
        return qcow2_flush_locked(image, TRUE, error);
    if (!qcow2_bitmaps_begin_resize_locked(image, guest_bytes, error))
        return FALSE;
    if (guest_bytes < format->guest_bytes)
        return shrink_locked(image, guest_bytes, job, error);
    return prepare_size(image, guest_bytes, FALSE, job, error) && publish_size(image, guest_bytes, error)
           && qcow2_flush_locked(image, TRUE, error);
}

gboolean
qcow2_empty(FormatImage *format, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    if (qcow2_data_is_raw(image))
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s cannot be emptied: its data file reads like the disk by itself (data_file_raw)",
                    format->file->label);
    if (!qcow2_begin_write_locked(image, error) || !qcow2_flush_locked(image, FALSE, error)
        || !qcow2_l1_begin_empty_locked(image, error) || !publish_size(image, format->guest_bytes, error))
        return FALSE;
    move_tables_down(image);
    return cut_down(image, error);
}
