#include "qcow2/check.h"

#include "base/error.h"
#include "qcow2/entry.h"
#include "qcow2/references.h"

#define HEX "0x%" G_GINT64_MODIFIER "x"
#define U64 "%" G_GUINT64_FORMAT

/* For the references that are counted at the same time; what else a check takes (at most 32 MiB of L1 table,
 * 8 of the refcount table, a few clusters) is beside it. */
#define ROOM_BYTES ((gsize) 48 << 20)
/* Refcount blocks kept while COPIED flags are compared; at 2 MiB a cluster 16 MiB of them. */
#define BLOCKS_KEPT 8

#define corrupt(check, ...) qcow2_check_note((check), &(check)->result->corruptions, __VA_ARGS__)

typedef struct {
    guint64 off; /* 0: empty */
    guint8 *bytes;
} KeptBlock;

/* The refcounts as they stand on disk. */
typedef struct {
    Qcow2Check *check;
    KeptBlock kept[BLOCKS_KEPT];
    guint64 highest; /* highest cluster with a count or a reference */
} Counts;

static void
counts_clear(Counts *counts)
{
    for (guint i = 0; i < BLOCKS_KEPT; i++)
        g_free(counts->kept[i].bytes);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Counts, counts_clear)

/* The refcount block at @off, or NULL when it cannot be read. */
static const guint8 *
read_block(Counts *counts, guint64 off)
{
    guint64 cluster_bytes = counts->check->geo.cluster_bytes;
    KeptBlock *kept = &counts->kept[(off >> counts->check->geo.cluster_bits) % BLOCKS_KEPT];

    if (kept->off == off && kept->bytes)
        return kept->bytes;
    if (!kept->bytes)
        kept->bytes = g_malloc(cluster_bytes);
    kept->off = 0;
    if (!blk_pread_padded(counts->check->file, off, kept->bytes, cluster_bytes, NULL))
        return NULL;
    kept->off = off;
    return kept->bytes;
}

/* The count of @cluster on disk; FALSE where it cannot be known. */
static gboolean
count_on_disk(Counts *counts, guint64 cluster, guint64 *count)
{
    const Qcow2Geometry *geo = &counts->check->geo;
    guint block_bits = geo->cluster_bits + 3 - counts->check->header.refcount_order;
    guint64 index = cluster >> block_bits;
    guint64 off = index < geo->reftable_entries ? counts->check->reftable[index] & QCOW2_REFTABLE_OFFSET : 0;

    *count = 0;
    if (off == 0)
        return TRUE;
    const guint8 *block = off & (geo->cluster_bytes - 1) ? NULL : read_block(counts, off);
    if (!block)
        return FALSE;
    *count = qcow2_refcount_load(block, cluster & (geo->refblock_entries - 1), geo->refcount_bits);
    return TRUE;
}

/* Different structures in one cluster. Snapshots share L2 tables and data, and packed clusters share a
 * cluster, each with its like only. Where the refcount is wrong as well, that was reported. */
static void
compare_kinds(Qcow2Check *check, guint64 cluster)
{
    guint kinds = qcow2_refmap_kinds(check->map, cluster);
    guint64 references = qcow2_refmap_count(check->map, cluster);

    if ((kinds & (kinds - 1)) == 0
        && (references < 2 || (kinds & (QCOW2_REF_L2 | QCOW2_REF_DATA | QCOW2_REF_COMPRESSED))))
        return;
    if (kinds & QCOW2_REF_BLOCK)
        return; /* reported when it was counted */
    corrupt(check, "cluster " U64 " (byte " U64 ") is used as different things at once", cluster,
            cluster * check->geo.cluster_bytes);
}

static void
compare_cluster(Counts *counts, guint64 cluster, guint64 count)
{
    Qcow2Check *check = counts->check;
    guint64 found = qcow2_refmap_count(check->map, cluster), references = MIN(found, check->geo.refcount_max);

    if (count > 0 || references > 0)
        counts->highest = MAX(counts->highest, cluster);
    if (found > references) {
        corrupt(check,
                "cluster " U64 " (byte " U64 "): " U64 " references, a refcount of %u bits can hold " U64,
                cluster, cluster * check->geo.cluster_bytes, found, check->geo.refcount_bits, references);
        check->result->corruptions += found - references - 1;
    }
    if (count < references)
        corrupt(check, "ERROR cluster " U64 " refcount=" U64 " reference=" U64, cluster, count, references);
    else if (count > references)
        qcow2_check_note(check, &check->result->leaks,
                         "Leaked cluster " U64 " refcount=" U64 " reference=" U64, cluster, count,
                         references);
    else if (count > 0)
        compare_kinds(check, cluster);
}

/* Clusters [from, to) have no refcount block: all their counts are 0. */
static void
compare_absent(Counts *counts, guint64 from, guint64 to)
{
    for (guint64 c = qcow2_refmap_next(counts->check->map, from); c < to;
         c = qcow2_refmap_next(counts->check->map, c + 1))
        compare_cluster(counts, c, 0);
}

/* One refcount block's clusters, up to @end. */
static gboolean
compare_block(Counts *counts, guint64 index, guint64 end, GError **error)
{
    Qcow2Check *check = counts->check;
    guint64 n = check->geo.refblock_entries, from = index * n, to = MIN(from + n, end);
    guint64 off = check->reftable[index] & QCOW2_REFTABLE_OFFSET;

    if (off == 0) {
        compare_absent(counts, from, to);
        return TRUE;
    }
    if (!qcow2_check_going_on(check, error))
        return FALSE;
    const guint8 *block = off % check->geo.cluster_bytes == 0 ? read_block(counts, off) : NULL;
    if (!block) {
        qcow2_check_note(check, &check->result->check_errors,
                         "cannot read refcount block " U64 " at byte " U64, index, off);
        check->result->check_errors += to - from - 1; /* one for each cluster whose count is unknown */
        return TRUE;
    }
    for (guint64 c = from; c < to; c++) {
        guint64 count = qcow2_refcount_load(block, c - from, check->geo.refcount_bits);
        if (!qcow2_refmap_is_plain(check->map, c, count))
            compare_cluster(counts, c, count);
        else if (count > 0)
            counts->highest = MAX(counts->highest, c);
    }
    return TRUE;
}

/* The clusters of one window. */
static gboolean
compare_counts(Qcow2Check *check, gpointer data, GError **error)
{
    Counts *counts = data;
    guint64 n = check->geo.refblock_entries, end = qcow2_check_end_cluster(check);
    guint64 from = qcow2_refmap_from(check->map), limit = MIN(qcow2_refmap_limit(check->map), end);

    qcow2_references_judge_blocks(check);
    for (guint64 i = from / n; i < check->geo.reftable_entries && i * n < limit; i++)
        if (!compare_block(counts, i, limit, error))
            return FALSE;
    compare_absent(counts, MAX(check->geo.reftable_entries * n, from), limit);
    return TRUE;
}

/* FALSE where the refcount cannot be known, which was reported. */
static gboolean
compare_copied(Counts *counts, guint64 entry, guint64 off, const char *what, guint64 where)
{
    guint64 count;
    gboolean copied = (entry & QCOW2_ENTRY_COPIED) != 0;

    if (!count_on_disk(counts, off >> counts->check->geo.cluster_bits, &count))
        return FALSE;
    if ((count == 1) == copied)
        return TRUE;
    corrupt(counts->check, "%s at byte " U64 " (index " U64 ") has refcount " U64 " and is %smarked COPIED",
            what, off, where, count, copied ? "" : "not ");
    if (!copied)
        counts->check->result->copied_missing++;
    return TRUE;
}

static void
compare_l2_copied(Counts *counts, const guint8 *table, guint64 l1_index)
{
    const Qcow2Check *check = counts->check;
    gboolean data_file = (check->header.incompat & QCOW2_INCOMPAT_DATA_FILE) != 0;

    for (guint64 i = 0; i < check->geo.l2_entries; i++) {
        guint64 entry = be64_load(table + i * check->geo.l2_entry_bytes), off = entry & QCOW2_ENTRY_OFFSET;
        guint64 where = l1_index * check->geo.l2_entries + i;
        if (entry & QCOW2_ENTRY_COMPRESSED)
            continue;
        if (!data_file && off != 0)
            compare_copied(counts, entry, off, "data cluster", where);
        else if (data_file && off != 0 && !(entry & QCOW2_ENTRY_COPIED))
            corrupt(counts->check, "cluster in the data file at byte " U64 " is not marked COPIED", off);
    }
}

/* COPIED says that the refcount is one: of the active tables only, a snapshot's are never written through. */
static gboolean
compare_copied_flags(Counts *counts, GError **error)
{
    Qcow2Check *check = counts->check;
    guint64 cluster_bytes = check->geo.cluster_bytes;
    g_autofree guint8 *l1 = g_malloc0((gsize) check->header.l1_entries * 8 + 1); /* at most 32 MiB */
    g_autofree guint8 *table = g_malloc(cluster_bytes);

    if (!blk_pread_padded(check->file, check->header.l1_off, l1, (gsize) check->header.l1_entries * 8, error))
        return FALSE;
    for (guint64 i = 0; i < check->header.l1_entries; i++) {
        guint64 entry = be64_load(l1 + i * 8), off = entry & QCOW2_ENTRY_OFFSET;
        g_autoptr(GError) unread = NULL;
        if (off == 0)
            continue;
        if (!qcow2_check_going_on(check, error))
            return FALSE;
        if (!compare_copied(counts, entry, off, "L2 table", i) || off >= check->file_bytes)
            continue; /* reported already; nothing to read past the end */
        if (blk_pread_padded(check->file, off, table, cluster_bytes, &unread))
            compare_l2_copied(counts, table, i);
        else
            qcow2_check_note(check, &check->result->check_errors,
                             "cannot read the L2 table at byte " U64 ": %s", off, unread->message);
    }
    return TRUE;
}

static gboolean
read_reftable(Qcow2Check *check, GError **error)
{
    guint64 n = check->geo.reftable_entries; /* at most 1 Mi: the header was checked */

    check->reftable = g_new(guint64, n + 1);
    if (!blk_pread_padded(check->file, check->header.reftable_off, check->reftable, n * 8, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++)
        check->reftable[i] = GUINT64_FROM_BE(check->reftable[i]);
    return TRUE;
}

void
qcow2_check_clear(Qcow2Check *check)
{
    g_clear_pointer(&check->reftable, g_free);
    qcow2_extensions_clear(&check->extensions);
    g_clear_pointer(&check->map, qcow2_refmap_free);
}

gboolean
qcow2_check_begin(Qcow2Check *check, GError **error)
{
    g_autofree guint8 *head = NULL;

    if (!qcow2_header_read(check->file, &check->header, &head, error)
        || !blk_size(check->file, &check->file_bytes, error))
        return FALSE;
    qcow2_header_derive(&check->header, &check->geo);
    if (!qcow2_extensions_decode(head, check->geo.cluster_bytes, &check->header, &check->extensions, error)
        || !read_reftable(check, error))
        return FALSE;
    check->map = qcow2_refmap_new(check->room_bytes ? check->room_bytes : ROOM_BYTES,
                                  check->step ? check->step : check->geo.refblock_entries);
    return TRUE;
}

/* What the first pass has found is not told by the later ones again. */
static gboolean
count_again(Qcow2Check *check, GError **error)
{
    FormatCheck *found = check->result, again = { 0 };

    check->result = &again;
    gboolean counted = qcow2_references_count(check, error);
    check->result = found;
    found->check_errors = MAX(found->check_errors, again.check_errors);
    return counted;
}

gboolean
qcow2_check_windows(Qcow2Check *check, gboolean (*each)(Qcow2Check *check, gpointer data, GError **error),
                    gpointer data, GError **error)
{
    if (check->counted)
        return each(check, data, error);
    for (guint64 from = 0; from != G_MAXUINT64; from = qcow2_refmap_limit(check->map)) {
        gboolean first = from == 0 && !check->passed;

        qcow2_refmap_begin(check->map, from);
        if (!(first ? qcow2_references_count(check, error) : count_again(check, error)))
            return FALSE;
        check->passed = TRUE;
        check->counted = from == 0 && qcow2_refmap_limit(check->map) == G_MAXUINT64;
        if (!each(check, data, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
qcow2_check_run(Qcow2Check *check, GError **error)
{
    g_auto(Counts) counts = { .check = check };

    check->result->total_clusters = num_div_up(check->header.guest_bytes, check->geo.cluster_bytes);
    if (!qcow2_check_windows(check, compare_counts, &counts, error) || !compare_copied_flags(&counts, error))
        return FALSE;
    check->result->image_end_offset_bytes = (counts.highest + 1) * check->geo.cluster_bytes;
    return TRUE;
}

gboolean
qcow2_check_file(BlkStore *file, FormatCheck *result, const KhoJob *job, GError **error)
{
    FormatCheck found = { .messages = result->messages };
    g_auto(Qcow2Check) check = { .file = file, .result = &found, .job = job };

    if (!qcow2_check_begin(&check, error) || !qcow2_check_run(&check, error))
        return FALSE;
    *result = found;
    return TRUE;
}
