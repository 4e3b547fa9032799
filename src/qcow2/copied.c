#include "qcow2/copied.h"

#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/refcount.h"

/* The refcount block looked at last: neighbours mostly follow each other. Nothing is dropped from the cache
 * meanwhile. */
typedef struct {
    guint64 index;
    Qcow2Table *block;
    gboolean known;
} LastBlock;

static gboolean
count_of(Qcow2Image *image, guint64 cluster, LastBlock *last, guint64 *count, GError **error)
{
    guint64 entries = image->geo.refblock_entries, index = cluster / entries;

    if (!last->known || last->index != index) {
        if (!qcow2_refblock_get(image, cluster, &last->block, error))
            return FALSE;
        last->index = index;
        last->known = TRUE;
    }
    *count = last->block
                 ? qcow2_refcount_load(last->block->bytes, cluster & (entries - 1), image->geo.refcount_bits)
                 : 0;
    return TRUE;
}

/* What an entry with a place of its own becomes. */
static gboolean
marked(Qcow2Image *image, guint64 entry, gboolean restore, LastBlock *last, guint64 *to, GError **error)
{
    guint64 count = 0;

    if (restore
        && !count_of(image, (entry & QCOW2_ENTRY_OFFSET) >> image->geo.cluster_bits, last, &count, error))
        return FALSE;
    *to = count == 1 ? entry | QCOW2_ENTRY_COPIED : entry & ~QCOW2_ENTRY_COPIED;
    return TRUE;
}

static gboolean
mark_table(Qcow2Image *image, Qcow2Table *table, gboolean restore, GError **error)
{
    /* What lies in a data file is counted nowhere, since nobody else can name it. */
    gboolean uncounted = qcow2_has_data_file(&image->header);
    LastBlock last = { 0 };

    for (guint64 j = 0; j < image->geo.l2_entries; j++) {
        Qcow2Entry entry = qcow2_l2_entry(&image->geo, table, j);
        guint64 to = entry.word | QCOW2_ENTRY_COPIED;
        if ((entry.word & QCOW2_ENTRY_COMPRESSED) || !(entry.word & QCOW2_ENTRY_OFFSET))
            continue;
        if (!uncounted && !marked(image, entry.word, restore, &last, &to, error))
            return FALSE;
        if (to != entry.word)
            qcow2_l2_set(image, table, j, (Qcow2Entry){ to, entry.bitmap });
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
            || !marked(image, l1->words[i], restore, &(LastBlock){ 0 }, &to, error))
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
