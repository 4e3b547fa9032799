#include "qcow2/reach.h"

#include "qcow2/entry.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"

/* An L1 table that need not be the active one. */
static gboolean
table_of(Qcow2Image *image, const Qcow2Words *l1, guint64 i, Qcow2Table **table, GError **error)
{
    guint64 off;
    gboolean copied, within = TRUE;
    const char *wrong = qcow2_l1_decode(l1->words[i], &image->header, &off, &copied);

    *table = NULL;
    if (!wrong && off != 0 && !qcow2_within_file_locked(image, off, &within, error))
        return FALSE;
    if (wrong || !within)
        return qcow2_corrupt_locked(
            image, error, "entry %" G_GUINT64_FORMAT " of the L1 table at byte %" G_GUINT64_FORMAT " %s", i,
            l1->off, wrong ? wrong : "points past the end of the file");
    if (off == 0)
        return TRUE;
    *table = qcow2_cache_get(&image->cache, QCOW2_TABLE_L2, off, error);
    return *table != NULL;
}

/* The host clusters that an L2 entry names; n is 0 for none. */
static gboolean
clusters_of(Qcow2Image *image, Qcow2Entry entry, Qcow2Lower *range, GError **error)
{
    Qcow2Cluster c;
    const char *wrong = qcow2_l2_decode(entry, &image->header, &c);

    if (wrong)
        return qcow2_corrupt_locked(image, error, "L2 entry 0x%016" G_GINT64_MODIFIER "x %s", entry.word,
                                    wrong);
    range->first = c.host_bytes >> image->geo.cluster_bits;
    range->n = qcow2_cluster_host_clusters(&c, image->geo.cluster_bits);
    return TRUE;
}

/* How many entries from @j on, at most @most, name plain data in one cluster after the other; at least 1. */
static guint64
run_of(Qcow2Image *image, const Qcow2Table *table, guint64 j, guint64 most)
{
    guint64 word = qcow2_l2_entry(&image->geo, table, j).word;

    if ((word & ~(QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED)) || !(word & QCOW2_ENTRY_OFFSET))
        return 1;
    return qcow2_l2_run(&image->geo, table, j, image->geo.cluster_bytes, most);
}

/* The references that one L2 table makes, and then the one to itself. */
static gboolean
each_in_table(Qcow2Image *image, const Qcow2Table *table, Qcow2Reach *reach, GError **error)
{
    for (guint64 j = 0; reach->left > 0 && j < image->geo.l2_entries;) {
        Qcow2Lower range = { 0 };
        guint64 taken = 1;
        if (!clusters_of(image, qcow2_l2_entry(&image->geo, table, j), &range, error))
            return FALSE;
        taken = run_of(image, table, j, reach->left);
        if (taken > 1)
            range.n = taken; /* plain clusters, one each */
        j += taken;
        if (range.n == 0)
            continue;
        if (!reach->func(image, range.first, range.n, reach->data, error))
            return FALSE;
        reach->left -= taken;
    }
    if (reach->left == 0)
        return TRUE;
    if (!reach->func(image, table->off >> image->geo.cluster_bits, 1, reach->data, error))
        return FALSE;
    --reach->left;
    return TRUE;
}

gboolean
qcow2_reach_each_locked(Qcow2Image *image, const Qcow2Words *l1, Qcow2Reach *reach, GError **error)
{
    for (guint64 i = 0; i < l1->n && reach->left > 0; i++) {
        Qcow2Table *table;
        if (!table_of(image, l1, i, &table, error) || (table && !each_in_table(image, table, reach, error))
            || !qcow2_settle_locked(image, error))
            return FALSE;
    }
    return TRUE;
}
