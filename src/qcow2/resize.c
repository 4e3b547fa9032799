#include "qcow2/resize.h"

#include "base/error.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/map.h"
#include "qcow2/refcount.h"

#include <string.h>

/* The L1 entry (not empty) goes, and with it all that its table names. */
static gboolean
unmap_table(Qcow2Image *image, guint64 l1_index, GError **error)
{
    Qcow2Table *table;

    if (!qcow2_l2_get_locked(image, l1_index, &table, error))
        return FALSE;
    for (guint64 i = 0; i < image->geo.l2_entries; i++) {
        Qcow2Cluster c;
        if (!qcow2_l2_cluster_locked(image, table, (Qcow2Index){ l1_index, i }, &c, error))
            return FALSE;
    }
    /* A table that a snapshot shares names its clusters for both: each reference counts. */
    for (guint64 i = 0; i < image->geo.l2_entries; i++)
        qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(table, i));
    guint64 off = table->off;
    qcow2_words_set(&image->l1, l1_index, 0);
    qcow2_refcount_lower_later(image, off >> image->geo.cluster_bits, 1);
    qcow2_guard_unmark(&image->guard, off >> image->geo.cluster_bits, 1);
    qcow2_cache_drop(&image->cache, off);
    return TRUE;
}

/* Entries [first, end) of one L2 table. */
static gboolean
unmap_entries(Qcow2Image *image, Qcow2Index index, guint64 end, GError **error)
{
    Qcow2Table *table;

    if (!qcow2_l2_get_locked(image, index.l1_index, &table, error))
        return FALSE;
    for (; table && index.l2_index < end; index.l2_index++) {
        Qcow2Cluster c;
        guint64 entry = qcow2_l2_entry(table, index.l2_index);
        if (entry == 0)
            continue;
        if (!qcow2_l2_cluster_locked(image, table, index, &c, error)
            || !qcow2_l2_writable_locked(image, index.l1_index, &table, error))
            return FALSE;
        qcow2_refcount_release_later(image, &image->header, entry);
        qcow2_l2_set(image, table, index.l2_index, 0);
    }
    return TRUE;
}

gboolean
qcow2_unmap_locked(Qcow2Image *image, guint64 from, guint64 to, GError **error)
{
    guint64 cluster = image->geo.cluster_bytes, span = image->geo.l2_span_bytes;
    guint64 at = num_align_up(from, cluster), end = num_align_up(to, cluster);

    while (at < end) {
        Qcow2Index index = qcow2_index(&image->geo, at);
        if (index.l1_index >= image->l1.n)
            return TRUE;
        guint64 next = (index.l1_index + 1) * span;
        gboolean whole = index.l2_index == 0 && next <= end;
        guint64 l2_end =
            next <= end ? image->geo.l2_entries : (end - index.l1_index * span) >> image->geo.cluster_bits;
        if (image->l1.words[index.l1_index] != 0
            && !(whole ? unmap_table(image, index.l1_index, error)
                       : unmap_entries(image, index, l2_end, error)))
            return FALSE;
        if (!qcow2_settle_locked(image, error))
            return FALSE;
        at = next;
    }
    return TRUE;
}

/* A cluster that may not be written in place gets a new one with @bytes. Rules, kept by the flush before the
 * header's write: DATA_BEFORE_L2, REFCOUNT_BEFORE_REFERENCE, L2_BEFORE_LOWER. */
static gboolean
replace_cluster(Qcow2Image *image, Qcow2Index index, const guint8 *bytes, GError **error)
{
    guint64 cluster, got;
    Qcow2Table *table;

    if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error)
        || !qcow2_alloc(image, 1, TRUE, &cluster, &got, error))
        return FALSE;
    guint64 off = cluster << image->geo.cluster_bits;
    if (!blk_pwrite(image->base.file, off, bytes, image->geo.cluster_bytes, error)) {
        qcow2_refcount_lower(image, cluster, 1, NULL);
        return FALSE;
    }
    qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(table, index.l2_index));
    qcow2_l2_set(image, table, index.l2_index, off | QCOW2_ENTRY_COPIED);
    return TRUE;
}

/* The rest of the last cluster was past the end until now, and may hold anything: what the disk held before
 * it shrank, for one. */
static gboolean
clean_last_cluster(Qcow2Image *image, GError **error)
{
    guint64 end = image->base.guest_bytes, inside = end & (image->geo.cluster_bytes - 1);
    gsize rest = image->geo.cluster_bytes - inside;
    Qcow2Index index = qcow2_index(&image->geo, end);
    Qcow2Cluster c = { .kind = QCOW2_CLUSTER_HOLE };
    Qcow2Table *table;

    if (inside == 0)
        return TRUE;
    if (!qcow2_l2_get_locked(image, index.l1_index, &table, error)
        || (table && !qcow2_l2_cluster_locked(image, table, index, &c, error)))
        return FALSE;
    if (c.kind != QCOW2_CLUSTER_DATA && c.kind != QCOW2_CLUSTER_COMPRESSED)
        return TRUE;
    g_autofree guint8 *bytes = g_malloc0(image->geo.cluster_bytes);
    if (c.kind == QCOW2_CLUSTER_COMPRESSED
            ? !qcow2_unpack(image, &c, bytes, error)
            : !blk_pread_padded(image->base.file, c.host_bytes, bytes, inside, error))
        return FALSE;
    memset(bytes + inside, 0, rest);
    if (!c.copied)
        return replace_cluster(image, index, bytes, error);
    if (qcow2_guard_holds(&image->guard, c.host_bytes >> image->geo.cluster_bits, 1))
        return qcow2_corrupt_locked(image, error,
                                    "guest offset %" G_GUINT64_FORMAT
                                    ": data is mapped to byte %" G_GUINT64_FORMAT ", where metadata lies",
                                    end - inside, c.host_bytes);
    return blk_pwrite(image->base.file, c.host_bytes + inside, bytes + inside, rest, error);
}

/* Entries that read as zeros whatever the backing file holds: flags, or in version 2, which has none,
 * clusters of zeros that nothing names yet. Rules, kept by whoever writes the entries: DATA_BEFORE_L2,
 * REFCOUNT_BEFORE_REFERENCE. */
static gboolean
make_zero_entries(Qcow2Image *image, guint64 n, guint64 *entries, GError **error)
{
    guint bits = image->geo.cluster_bits;
    guint64 done = 0, first, got;

    if (image->header.version >= 3) {
        for (; done < n; done++)
            entries[done] = QCOW2_ENTRY_ZERO;
        return TRUE;
    }
    while (done < n && qcow2_alloc(image, n - done, FALSE, &first, &got, error)) {
        for (guint64 i = 0; i < got; i++)
            entries[done++] = ((first + i) << bits) | QCOW2_ENTRY_COPIED;
        if (!blk_zero(image->base.file, first << bits, got << bits, BLK_ZERO_MAY_PUNCH, error))
            break;
        if (done == n)
            return TRUE;
    }
    for (guint64 i = 0; i < done; i++)
        qcow2_refcount_lower(image, (entries[i] & ~QCOW2_ENTRY_COPIED) >> bits, 1, NULL);
    return FALSE;
}

/* The holes past the disk's end, as far as the L1 table in use maps them, read as zeros. */
static gboolean
hide_in_tables(Qcow2Image *image, guint64 hidden_to, GError **error)
{
    guint64 at = num_align_up(image->base.guest_bytes, image->geo.cluster_bytes);
    g_autofree guint64 *entries = at < hidden_to ? g_new(guint64, image->geo.l2_entries) : NULL;

    while (at < hidden_to) {
        Qcow2Index index = qcow2_index(&image->geo, at);
        guint64 n =
            MIN(num_div_up(hidden_to - at, image->geo.cluster_bytes), image->geo.l2_entries - index.l2_index);
        Qcow2Table *table;
        if (index.l1_index >= image->l1.n)
            return TRUE;
        /* The table last: making entries may flush, and a table is kept no longer than that. */
        if (!make_zero_entries(image, n, entries, error)
            || !qcow2_l2_writable_locked(image, index.l1_index, &table, error))
            return FALSE;
        for (guint64 i = 0; i < n; i++)
            qcow2_l2_set(image, table, index.l2_index + i, entries[i]); /* empty: unmapped before */
        at += n << image->geo.cluster_bits;
        if (!qcow2_settle_locked(image, error))
            return FALSE;
    }
    return TRUE;
}

/* The same for a longer L1 table that the header does not name yet: L2 tables of its own. */
static gboolean
add_hiding_tables(Qcow2Image *image, Qcow2Words *longer, guint64 hidden_to, GError **error)
{
    guint64 span = image->geo.l2_span_bytes;
    g_autofree guint64 *entries =
        image->l1.n * span < hidden_to ? g_new(guint64, image->geo.l2_entries) : NULL;

    for (guint64 i = image->l1.n; i < longer->n && i * span < hidden_to; i++) {
        guint64 n = MIN(num_div_up(hidden_to - i * span, image->geo.cluster_bytes), image->geo.l2_entries);
        guint64 cluster, got;
        if (!make_zero_entries(image, n, entries, error)
            || !qcow2_alloc(image, 1, TRUE, &cluster, &got, error))
            return FALSE;
        Qcow2Table *table =
            qcow2_cache_add(&image->cache, QCOW2_TABLE_L2, cluster << image->geo.cluster_bits);
        for (guint64 j = 0; j < n; j++)
            qcow2_l2_set(image, table, j, entries[j]);
        qcow2_guard_mark(&image->guard, cluster, 1);
        qcow2_words_set(longer, i, table->off | QCOW2_ENTRY_COPIED);
        if (!qcow2_settle_locked(image, error))
            return FALSE;
    }
    return TRUE;
}

/* A longer L1 table, in a place of its own. Its clusters' counts and its contents are durable before the
 * header names it, in one write with the size; the old one is let go. Rule: TABLE_BEFORE_POINTER. */
static gboolean
move_l1(Qcow2Image *image, guint64 entries, guint64 hidden_to, Qcow2Header *to, GError **error)
{
    guint64 clusters = num_div_up(entries * 8, image->geo.cluster_bytes), first, got;
    Qcow2Words longer;

    if (entries > QCOW2_L1_BYTES_MAX / 8)
        return fail(error, KHO_ERROR_NO_SPACE,
                    "%s cannot grow so far: its L1 table would pass 32 MiB; larger clusters reach further",
                    image->base.file->label);
    if (!qcow2_alloc(image, clusters, TRUE, &first, &got, error))
        return FALSE;
    qcow2_words_init(&longer, first << image->geo.cluster_bits, entries, &image->l1);
    if (!add_hiding_tables(image, &longer, hidden_to, error) || !qcow2_flush_locked(image, FALSE, error)
        || !qcow2_write_refcounts_locked(image, error)
        || !qcow2_words_write(&longer, image->base.file, error)) {
        qcow2_words_clear(&longer);
        qcow2_refcount_lower(image, first, clusters, NULL);
        return FALSE;
    }
    guint64 old_clusters = num_div_up(image->l1.n * 8, image->geo.cluster_bytes);
    if (old_clusters > 0) {
        qcow2_refcount_lower_later(image, image->l1.off >> image->geo.cluster_bits, old_clusters);
        qcow2_guard_unmark(&image->guard, image->l1.off >> image->geo.cluster_bits, old_clusters);
    }
    qcow2_guard_mark(&image->guard, first, clusters);
    qcow2_words_clear(&image->l1);
    image->l1 = longer;
    to->l1_off = longer.off;
    to->l1_entries = (guint32) entries;
    return TRUE;
}

static gboolean
publish(Qcow2Image *image, const Qcow2Header *to, GError **error)
{
    if (!qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER, error))
        return FALSE;
    /* All tables are written; from here on a longer L1 table may name the new ones. */
    for (GList *link = image->cache.ages.head; link; link = link->next)
        ((Qcow2Table *) link->data)->fresh = FALSE;
    /* Growing the refcount table may have changed the header meanwhile. */
    image->header.guest_bytes = to->guest_bytes;
    image->header.l1_off = to->l1_off;
    image->header.l1_entries = to->l1_entries;
    if (!qcow2_header_write_locked(image, error)) {
        image->broken = TRUE; /* nobody can say which size the file has now */
        return FALSE;
    }
    image->base.guest_bytes = to->guest_bytes;
    image->geo.l1_guest_entries = qcow2_l1_entries_for(&image->geo, to->guest_bytes);
    return TRUE;
}

gboolean
qcow2_grow_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    guint64 entries = qcow2_l1_entries_for(&image->geo, guest_bytes);
    guint64 hidden_to = MIN(guest_bytes, image->base.backing_bytes);
    Qcow2Header to = image->header;

    /* Left over past the end: VM state, or what a crash while shrinking left. */
    if (!qcow2_unmap_locked(image, image->base.guest_bytes, guest_bytes, error)
        || !clean_last_cluster(image, error) || !hide_in_tables(image, hidden_to, error)
        || !qcow2_flush_locked(image, FALSE, error))
        return FALSE;
    to.guest_bytes = guest_bytes;
    return (entries <= image->l1.n || move_l1(image, entries, hidden_to, &to, error))
           && publish(image, &to, error);
}

/* The file ends after the last cluster in use: what follows has been let go, durably. Space only, so that a
 * store that cannot be cut (a device) stays as it is. */
static gboolean
cut_file(Qcow2Image *image, GError **error)
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
    if (bytes < image->file_bytes && blk_truncate(image->base.file, bytes, NULL))
        image->file_bytes = bytes;
    return TRUE;
}

static gboolean
shrink_locked(Qcow2Image *image, guint64 guest_bytes, GError **error)
{
    Qcow2Header to = image->header;

    to.guest_bytes = guest_bytes;
    image->give_back = TRUE;
    gboolean freed = qcow2_unmap_locked(image, guest_bytes, image->base.guest_bytes, error)
                     && qcow2_flush_locked(image, TRUE, error);
    image->give_back = FALSE;
    return freed && publish(image, &to, error) && cut_file(image, error);
}

gboolean
qcow2_resize(FormatImage *format, guint64 guest_bytes, gboolean may_shrink, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    const char *label = format->file->label;

    if (!qcow2_begin_write_locked(image, error))
        return FALSE;
    if (guest_bytes > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID, "%s: a size of %" G_GUINT64_FORMAT " bytes is too large", label,
                    guest_bytes);
    if (guest_bytes < format->guest_bytes && !may_shrink)
        return fail(error, KHO_ERROR_INVALID,
                    "%s: shrinking from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                    " bytes loses what lies past the end; say so to allow it",
                    label, format->guest_bytes, guest_bytes);
    if (image->header.snapshots > 0 && image->header.version < 3)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s: a version 2 image with snapshots cannot change its size: they do not record theirs",
                    label);
    if (guest_bytes == format->guest_bytes)
        return TRUE;
    gboolean done = guest_bytes > format->guest_bytes ? qcow2_grow_locked(image, guest_bytes, error)
                                                      : shrink_locked(image, guest_bytes, error);
    return done && qcow2_flush_locked(image, TRUE, error);
}
