#include "qcow2/l2.h"

#include "qcow2/refcount.h"

#include <string.h>

gboolean
qcow2_l2_find_locked(Qcow2Image *image, const Qcow2Words *l1, guint64 l1_index, Qcow2Table **table,
                     GError **error)
{
    guint64 off;
    gboolean copied, within;

    *table = NULL;
    g_assert(l1_index < l1->n);
    const char *wrong = qcow2_l1_decode(l1->words[l1_index], &image->header, &off, &copied);
    if (wrong)
        return qcow2_corrupt_locked(image, error,
                                    "guest offset %" G_GUINT64_FORMAT ": L1 entry %" G_GUINT64_FORMAT " %s",
                                    l1_index * image->geo.l2_span_bytes, l1_index, wrong);
    if (off == 0)
        return TRUE;
    if (!g_hash_table_contains(image->cache.tables, &off)) {
        if (!qcow2_within_file_locked(image, off, &within, error))
            return FALSE;
        if (!within)
            return qcow2_corrupt_locked(image, error,
                                        "guest offset %" G_GUINT64_FORMAT ": L1 entry %" G_GUINT64_FORMAT
                                        " points past the end of the file",
                                        l1_index * image->geo.l2_span_bytes, l1_index);
    }
    *table = qcow2_cache_get(&image->cache, QCOW2_TABLE_L2, off, error);
    return *table != NULL;
}

gboolean
qcow2_l2_get_locked(Qcow2Image *image, guint64 l1_index, Qcow2Table **table, GError **error)
{
    return qcow2_l2_find_locked(image, &image->l1, l1_index, table, error);
}

gboolean
qcow2_l2_writable_locked(Qcow2Image *image, guint64 l1_index, Qcow2Table **table, GError **error)
{
    guint64 cluster, got;
    Qcow2Table *old;

    if (!qcow2_l2_get_locked(image, l1_index, &old, error))
        return FALSE;
    if (old && (image->l1.words[l1_index] & QCOW2_ENTRY_COPIED)) {
        *table = old;
        return TRUE;
    }
    if (!qcow2_alloc(image, 1, TRUE, &cluster, &got, error))
        return FALSE;
    Qcow2Table *new = qcow2_cache_add(&image->cache, QCOW2_TABLE_L2, cluster << image->geo.cluster_bits);
    if (old) {
        memcpy(new->bytes, old->bytes, image->geo.cluster_bytes);
        qcow2_guard_unmark(&image->guard, old->off >> image->geo.cluster_bits, 1);
        qcow2_refcount_lower_later(image, old->off >> image->geo.cluster_bits, 1);
    }
    qcow2_guard_mark(&image->guard, cluster, 1);
    qcow2_words_set(&image->l1, l1_index, new->off | QCOW2_ENTRY_COPIED);
    *table = new;
    return TRUE;
}

void
qcow2_l2_set(Qcow2Image *image, Qcow2Table *table, guint64 l2_index, guint64 entry)
{
    be64_store(table->bytes + l2_index * 8, entry);
    qcow2_table_touch(&image->cache, table, (guint) l2_index * 8, (guint) l2_index * 8 + 8);
}

gboolean
qcow2_l2_cluster_locked(Qcow2Image *image, const Qcow2Table *table, Qcow2Index index, Qcow2Cluster *cluster,
                        GError **error)
{
    guint64 entry = qcow2_l2_entry(table, index.l2_index);
    const char *wrong = qcow2_l2_decode(entry, &image->header, cluster);

    if (!wrong && (cluster->kind == QCOW2_CLUSTER_DATA || cluster->kind == QCOW2_CLUSTER_COMPRESSED)) {
        gboolean within;
        if (!qcow2_within_file_locked(image, cluster->host_bytes, &within, error))
            return FALSE;
        if (!within)
            wrong = "points past the end of the file";
    }
    if (!wrong)
        return TRUE;
    return qcow2_corrupt_locked(image, error,
                                "guest offset %" G_GUINT64_FORMAT ": L2 entry 0x%016" G_GINT64_MODIFIER
                                "x (L1 index %" G_GUINT64_FORMAT ", L2 index %" G_GUINT64_FORMAT ") %s",
                                index.l1_index * image->geo.l2_span_bytes
                                    + (index.l2_index << image->geo.cluster_bits),
                                entry, index.l1_index, index.l2_index, wrong);
}
