#include "qcow2/copied.h"

#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/refcount.h"

/* What an entry with a place of its own becomes. */
static gboolean
marked(Qcow2Image *image, guint64 entry, gboolean restore, guint64 *to, GError **error)
{
    guint64 count = 0;

    if (restore
        && !qcow2_refcount_get(image, (entry & QCOW2_ENTRY_OFFSET) >> image->geo.cluster_bits, &count, error))
        return FALSE;
    *to = count == 1 ? entry | QCOW2_ENTRY_COPIED : entry & ~QCOW2_ENTRY_COPIED;
    return TRUE;
}

static gboolean
mark_table(Qcow2Image *image, Qcow2Table *table, gboolean restore, GError **error)
{
    for (guint64 j = 0; j < image->geo.l2_entries; j++) {
        guint64 entry = qcow2_l2_entry(table, j), to;
        if ((entry & QCOW2_ENTRY_COMPRESSED) || !(entry & QCOW2_ENTRY_OFFSET))
            continue;
        if (!marked(image, entry, restore, &to, error))
            return FALSE;
        if (to != entry)
            qcow2_l2_set(image, table, j, to);
    }
    return TRUE;
}

static gboolean
mark_all(Qcow2Image *image, Qcow2Words *l1, gboolean restore, GError **error)
{
    for (guint64 i = 0; i < l1->n; i++) {
        guint64 off, to;
        gboolean copied, within = TRUE;
        const char *wrong = qcow2_l1_decode(l1->words[i], &image->header, &off, &copied);
        if (wrong || off == 0)
            continue;
        if (!g_hash_table_contains(image->cache.tables, &off)
            && !qcow2_within_file_locked(image, off, &within, error))
            return FALSE;
        if (!within)
            continue;
        Qcow2Table *table = qcow2_cache_get(&image->cache, QCOW2_TABLE_L2, off, error);
        if (!table || !mark_table(image, table, restore, error)
            || !marked(image, l1->words[i], restore, &to, error))
            return FALSE;
        if (to != l1->words[i])
            qcow2_words_set(l1, i, to);
        if (!qcow2_settle_locked(image, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
qcow2_copied_clear_locked(Qcow2Image *image, Qcow2Words *l1, GError **error)
{
    return mark_all(image, l1, FALSE, error);
}

gboolean
qcow2_copied_restore_locked(Qcow2Image *image, GError **error)
{
    return mark_all(image, &image->l1, TRUE, error);
}
