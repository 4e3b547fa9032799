#include "qcow2/l1.h"

#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/refcount.h"

#include <string.h>

static void
set_size(Qcow2Image *image, guint64 guest_bytes)
{
    image->base.guest_bytes = guest_bytes;
    image->geo.l1_guest_entries = qcow2_l1_entries_for(&image->geo, guest_bytes);
}

/* The L2 table that the border cuts, for the new L1 table: up to the border as it was. */
static gboolean
copy_border(Qcow2Image *image, GError **error)
{
    const Qcow2Held *held = &image->held;
    guint64 cluster, got;
    Qcow2Table *old;

    if (held->shared == 0 || held->kept >= held->l1.n)
        return TRUE;
    if (!qcow2_l2_find_locked(image, &held->l1, held->kept, &old, error))
        return FALSE;
    if (!old)
        return TRUE;
    if (!qcow2_alloc(image, 1, TRUE, &cluster, &got, error))
        return FALSE;
    Qcow2Table *new = qcow2_cache_add(&image->cache, QCOW2_TABLE_L2, cluster << image->geo.cluster_bits);
    memcpy(new->bytes, old->bytes, held->shared * image->geo.l2_entry_bytes);
    qcow2_guard_mark(&image->guard, cluster, 1);
    qcow2_words_set(&image->l1, held->kept, new->off | QCOW2_ENTRY_COPIED);
    return TRUE;
}

gboolean
qcow2_l1_reaches(const Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    return qcow2_l1_entries_for(&image->geo, guest_bytes) <= QCOW2_L1_BYTES_MAX / 8
           || fail(error, KHO_ERROR_NO_SPACE,
                   "%s cannot grow so far: its L1 table would pass 32 MiB; larger clusters reach further",
                   image->base.file->label);
}

/* @both: up to where both tables say the same; a cluster's boundary. */
static gboolean
begin(Qcow2Image *image, guint64 guest_bytes, guint64 both, GError **error)
{
    Qcow2Held held = { .is_set = TRUE, .guest_bytes = image->base.guest_bytes, .l1 = image->l1 };
    Qcow2Index border = qcow2_index(&image->geo, both);
    guint64 entries = qcow2_l1_entries_for(&image->geo, guest_bytes);
    guint64 clusters = num_div_up(entries * 8, image->geo.cluster_bytes), first = 0, got;

    g_assert(!image->held.is_set && image->lowers->len == 0);
    if (!qcow2_l1_reaches(image, guest_bytes, error) || !blk_size(image->base.file, &held.file_bytes, error)
        || (qcow2_has_data(image) && !blk_size(image->base.data, &held.data_bytes, error))
        || (clusters > 0 && !qcow2_alloc(image, clusters, TRUE, &first, &got, error)))
        return FALSE;
    held.kept = border.l1_index;
    held.shared = border.l2_index;
    qcow2_words_init(&image->l1, first << image->geo.cluster_bits, entries, &held.l1);
    if (held.kept < entries)
        memset(image->l1.words + held.kept, 0, (entries - held.kept) * 8);
    qcow2_guard_mark(&image->guard, first, clusters);
    image->held = held;
    set_size(image, guest_bytes);
    if (copy_border(image, error))
        return TRUE;
    qcow2_l1_take_back_locked(image);
    return FALSE;
}

gboolean
qcow2_l1_begin_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    guint64 both = MIN(guest_bytes, image->base.guest_bytes);

    return begin(image, guest_bytes, num_align_up(both, image->geo.cluster_bytes), error);
}

gboolean
qcow2_l1_begin_empty_locked(Qcow2Image *image, GError **error)
{
    return begin(image, image->base.guest_bytes, 0, error);
}

/* What one L2 table names from @first on, and the table itself. */
static gboolean
let_go_table(Qcow2Image *image, const Qcow2Words *l1, guint64 l1_index, guint64 first, GError **error)
{
    Qcow2Table *table;

    if (!qcow2_l2_find_locked(image, l1, l1_index, &table, error))
        return FALSE;
    if (!table)
        return TRUE;
    /* A table that a snapshot shares names its clusters for both: each reference counts. */
    for (guint64 i = first; i < image->geo.l2_entries; i++)
        qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(&image->geo, table, i));
    guint64 off = table->off;
    qcow2_refcount_lower_later(image, off >> image->geo.cluster_bits, 1);
    qcow2_guard_unmark(&image->guard, off >> image->geo.cluster_bits, 1);
    qcow2_cache_drop(&image->cache, off);
    return (image->lowers->len < QCOW2_LOWERS_MAX || qcow2_lower_now_locked(image, error))
           && qcow2_settle_locked(image, error);
}

/* What @l1 alone names, and the clusters that it lies in. Nothing durable names them any more, or yet. */
static gboolean
let_go(Qcow2Image *image, const Qcow2Words *l1, GError **error)
{
    const Qcow2Held *held = &image->held;
    guint64 first = l1->off >> image->geo.cluster_bits;
    guint64 clusters = num_div_up(l1->n * 8, image->geo.cluster_bytes);
    gboolean done = TRUE;

    image->give_back = TRUE;
    for (guint64 i = held->kept; done && i < l1->n; i++)
        done = let_go_table(image, l1, i, i == held->kept ? held->shared : 0, error);
    if (done && clusters > 0) {
        qcow2_guard_unmark(&image->guard, first, clusters);
        qcow2_refcount_lower_later(image, first, clusters);
    }
    done = done && qcow2_lower_now_locked(image, error);
    image->give_back = FALSE;
    return done;
}

void
qcow2_l1_take_back_locked(Qcow2Image *image)
{
    Qcow2Words mine = image->l1;
    gboolean shorter = image->held.guest_bytes < image->base.guest_bytes;

    image->l1 = image->held.l1;
    set_size(image, image->held.guest_bytes);
    if (shorter)
        qcow2_bitmaps_cut_locked(image);
    image->held.is_set = FALSE;
    /* Only a refcount table that moved has let something go meanwhile. */
    if (!image->broken && (image->lowers->len == 0 || qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, NULL))
        && let_go(image, &mine, NULL) && qcow2_reftable_trim(image, NULL)
        && qcow2_flush_locked(image, FALSE, NULL))
        qcow2_cut_file_locked(image, image->held.file_bytes, NULL);
    if (qcow2_has_data(image))
        qcow2_cut_data_locked(image, image->held.data_bytes);
    image->held = (Qcow2Held){ 0 };
    qcow2_words_clear(&mine);
}

static gboolean
write_header(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    /* All tables are written; from here on the new L1 table may name them. */
    for (GList *link = image->cache.ages.head; link; link = link->next)
        ((Qcow2Table *) link->data)->fresh = FALSE;
    image->header.guest_bytes = guest_bytes;
    image->header.l1_off = image->l1.off;
    image->header.l1_entries = (guint32) image->l1.n;
    if (qcow2_header_write_locked(image, error))
        return TRUE;
    image->broken = TRUE; /* nobody can say which size the file has now */
    return FALSE;
}

gboolean
qcow2_l1_commit_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    Qcow2Words old = image->held.l1;
    guint64 was_bytes = image->header.guest_bytes;

    if ((image->held.is_set && !qcow2_words_write(&image->l1, image->base.file, error))
        || !qcow2_flush_locked(image, FALSE, error) || !qcow2_write_refcounts_locked(image, error)
        || !qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER | QCOW2_RULE_DATA_FILE_BEFORE_L2, error))
        return FALSE;
    if (!write_header(image, guest_bytes, error))
        return FALSE;
    set_size(image, guest_bytes);
    if (guest_bytes < was_bytes)
        qcow2_bitmaps_cut_locked(image);
    if (!image->held.is_set)
        return TRUE;
    image->held.is_set = FALSE;
    gboolean done = qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error) && let_go(image, &old, error);
    if (!done)
        g_prefix_error(error, "%s has its new size, but what it no longer needs was not freed: ",
                       image->base.file->label);
    image->held = (Qcow2Held){ 0 };
    qcow2_words_clear(&old);
    return done;
}

void
qcow2_cut_data_locked(Qcow2Image *image, guint64 bytes)
{
    guint64 now;

    if (blk_size(image->base.data, &now, NULL) && now > bytes)
        blk_truncate(image->base.data, bytes, NULL);
}

gboolean
qcow2_cut_file_locked(Qcow2Image *image, guint64 at_least, GError **error)
{
    guint64 end, count = 0;

    if (!blk_size(image->base.file, &image->file_bytes, error))
        return FALSE;
    for (end = num_div_up(image->file_bytes, image->geo.cluster_bytes); end > 1; end--) {
        if (!qcow2_refcount_get(image, end - 1, &count, error))
            return FALSE;
        if (count > 0)
            break;
    }
    guint64 bytes = end << image->geo.cluster_bits;
    if (at_least < bytes && num_align_up(at_least, image->geo.cluster_bytes) == bytes)
        bytes = at_least;
    if (bytes < image->file_bytes && blk_truncate(image->base.file, bytes, NULL))
        image->file_bytes = bytes;
    return TRUE;
}
