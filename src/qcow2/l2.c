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

guint64
qcow2_l2_run(const Qcow2Geometry *geo, const Qcow2Table *table, guint64 l2_index, guint64 step, guint64 most)
{
    const guint8 *first = table->bytes + l2_index * geo->l2_entry_bytes;
    guint64 word = be64_load(first), n = 1;

    most = MIN(most, geo->l2_entries - l2_index);
    while (n < most && be64_load(first + n * geo->l2_entry_bytes) == word + n * step)
        n++;
    return n;
}

void
qcow2_l2_set(Qcow2Image *image, Qcow2Table *table, guint64 l2_index, Qcow2Entry entry)
{
    guint width = image->geo.l2_entry_bytes, off = (guint) l2_index * width;

    be64_store(table->bytes + off, entry.word);
    if (width == 16)
        be64_store(table->bytes + off + 8, entry.bitmap);
    qcow2_table_touch(&image->cache, table, off, off + width);
}

gboolean
qcow2_l2_cluster_locked(Qcow2Image *image, const Qcow2Table *table, Qcow2Index index, Qcow2Cluster *cluster,
                        GError **error)
{
    Qcow2Entry entry = qcow2_l2_entry(&image->geo, table, index.l2_index);
    const char *wrong = qcow2_l2_decode(entry, &image->header, cluster);
    guint64 guest_off =
        index.l1_index * image->geo.l2_span_bytes + (index.l2_index << image->geo.cluster_bits);

    if (!wrong && qcow2_has_data_file(&image->header)) {
        /* The data file may end before it: what is missing is zeros. */
        if (cluster->placed && cluster->host_bytes != guest_off)
            wrong = "does not lie at its guest offset in the data file";
    } else if (!wrong && (cluster->data || cluster->compressed)) {
        gboolean within;
        if (!qcow2_within_file_locked(image, cluster->host_bytes, &within, error))
            return FALSE;
        if (!within)
            wrong = "points past the end of the file";
    }
    if (!wrong)
        return TRUE;
    g_autofree char *bitmap =
        image->geo.subs > 1 ? g_strdup_printf(" 0x%016" G_GINT64_MODIFIER "x", entry.bitmap) : g_strdup("");
    return qcow2_corrupt_locked(image, error,
                                "guest offset %" G_GUINT64_FORMAT ": L2 entry 0x%016" G_GINT64_MODIFIER
                                "x%s (L1 index %" G_GUINT64_FORMAT ", L2 index %" G_GUINT64_FORMAT ") %s",
                                guest_off, entry.word, bitmap, index.l1_index, index.l2_index, wrong);
}
