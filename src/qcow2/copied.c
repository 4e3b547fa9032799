#include "qcow2/copied.h"

#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/refcount.h"

/* Gives the entries from @at on, @n of them with the same flags and one host cluster after the other, the
 * flag or none. */
static void
mark_run(Qcow2Image *image, Qcow2Table *table, guint64 at, guint64 n, gboolean copied)
{
    guint64 word = qcow2_l2_entry(&image->geo, table, at).word;

    if (((word & QCOW2_ENTRY_COPIED) != 0) == copied)
        return;
    for (guint64 j = at; j < at + n; j++) {
        Qcow2Entry entry = qcow2_l2_entry(&image->geo, table, j);
        entry.word ^= QCOW2_ENTRY_COPIED;
        qcow2_l2_set(image, table, j, entry);
    }
}

static gboolean
mark_table(Qcow2Image *image, Qcow2Table *table, gboolean restore, GError **error)
{
    /* What lies in a data file is counted nowhere, since nobody else can name it. */
    gboolean uncounted = qcow2_has_data_file(&image->header);
    guint64 entries = image->geo.l2_entries;

    for (guint64 j = 0, n; j < entries; j += n) {
        guint64 word = qcow2_l2_entry(&image->geo, table, j).word, count = uncounted ? 1 : 0;
        guint64 host = (word & QCOW2_ENTRY_OFFSET) >> image->geo.cluster_bits;
        gboolean plain = host != 0 && !(word & QCOW2_ENTRY_COMPRESSED);

        n = qcow2_l2_run(&image->geo, table, j, plain ? image->geo.cluster_bytes : 0, entries);
        if (plain && restore && !uncounted && !qcow2_refcount_run(image, host, n, &count, &n, error))
            return FALSE;
        if (plain)
            mark_run(image, table, j, n, count == 1);
    }
    return TRUE;
}

/* The same for an entry of the L1 table. */
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
