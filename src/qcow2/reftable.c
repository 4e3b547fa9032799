/* Growing what holds the refcounts: new blocks, and a longer refcount table. */
#include "base/error.h"
#include "qcow2/entry.h"
#include "qcow2/flush.h"
#include "qcow2/refcount.h"

typedef struct {
    guint64 cluster; /* where the new blocks begin */
    guint64 index;   /* the first block's place in the refcount table */
    guint64 blocks;
    guint64 table_clusters; /* of a new refcount table behind the blocks; 0: the old one has room */
} Plan;

/* Blocks that are missing in a row from @index on, at most @most. Past the table's end all are. */
static guint64
missing(const Qcow2Image *image, guint64 index, guint64 most)
{
    guint64 n = 0;

    while (n < most && (index + n >= image->reftable.n || image->reftable.words[index + n] == 0))
        n++;
    return n;
}

/* Half as long again, so that growing stays rare; as many clusters as that takes. */
static guint64
table_clusters_for(const Qcow2Image *image, guint64 entries)
{
    guint64 wanted = MAX(entries, image->reftable.n + image->reftable.n / 2);
    guint64 most = QCOW2_REFTABLE_BYTES_MAX / 8;

    return num_div_up(MAX(entries, MIN(wanted, most)) * 8, image->geo.cluster_bytes);
}

/* Blocks and table count themselves, so their number depends on itself; both only grow, and stop soon. */
static gboolean
make_plan(Qcow2Image *image, guint64 cluster, guint64 want, Plan *plan, GError **error)
{
    guint64 entries = image->geo.refblock_entries;
    Plan p = { .cluster = cluster, .index = cluster / entries, .blocks = 1 };

    for (;;) {
        guint64 last = cluster + p.blocks + p.table_clusters + want - 1;
        guint64 blocks = missing(image, p.index, last / entries - p.index + 1);
        guint64 table_clusters = 0;
        if (p.index + blocks > image->reftable.n)
            table_clusters = table_clusters_for(image, p.index + blocks);
        if (table_clusters << image->geo.cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
            return fail(error, KHO_ERROR_NO_SPACE,
                        "%s is full: its refcount table would pass 8 MiB; larger clusters reach further",
                        image->base.file->label);
        if (blocks == p.blocks && table_clusters == p.table_clusters)
            break;
        p.blocks = blocks;
        p.table_clusters = table_clusters;
    }
    *plan = p;
    return TRUE;
}

/* The new table is durable before the header names it, and the header takes it in one write. */
static gboolean
publish(Qcow2Image *image, guint64 table_clusters, GError **error)
{
    guint64 old_off = image->header.reftable_off, old_clusters = image->header.reftable_clusters;

    if (!qcow2_write_refblocks_locked(image, error)
        || !qcow2_words_write(&image->reftable, image->base.file, error)
        || !qcow2_barrier(image, QCOW2_RULE_TABLE_BEFORE_POINTER, error))
        return FALSE;
    image->header.reftable_off = image->reftable.off;
    image->header.reftable_clusters = (guint32) table_clusters;
    if (!qcow2_header_write_locked(image, error)) {
        image->broken = TRUE; /* nobody can say which table the file names now */
        return FALSE;
    }
    qcow2_guard_unmark(&image->guard, old_off >> image->geo.cluster_bits, old_clusters);
    qcow2_refcount_lower_later(image, old_off >> image->geo.cluster_bits, old_clusters);
    image->geo.reftable_entries = image->reftable.n;
    return TRUE;
}

static void
take_back(Qcow2Image *image, const Plan *plan, Qcow2Words *old)
{
    for (guint64 b = 0; b < plan->blocks; b++)
        qcow2_cache_drop(&image->cache, (plan->cluster + b) << image->geo.cluster_bits);
    qcow2_guard_unmark(&image->guard, plan->cluster, plan->blocks + plan->table_clusters);
    qcow2_words_clear(&image->reftable);
    image->reftable = *old;
    *old = (Qcow2Words){ 0 };
}

gboolean
qcow2_reftable_cover(Qcow2Image *image, guint64 cluster, guint64 want, GError **error)
{
    guint bits = image->geo.cluster_bits;
    Qcow2Words old = { 0 };
    Plan plan = { 0 };

    if (!make_plan(image, cluster, want, &plan, error))
        return FALSE;
    guint64 taken = plan.blocks + plan.table_clusters;
    if (qcow2_guard_holds(&image->guard, cluster, taken))
        return qcow2_corrupt_locked(image, error,
                                    "no refcount for a cluster at or after byte %" G_GUINT64_FORMAT
                                    " that holds metadata",
                                    cluster << bits);
    if (plan.table_clusters > 0) {
        old = image->reftable;
        qcow2_words_init(&image->reftable, (cluster + plan.blocks) << bits, (plan.table_clusters << bits) / 8,
                         &old);
    }
    for (guint64 b = 0; b < plan.blocks; b++) {
        qcow2_cache_add(&image->cache, QCOW2_TABLE_REFBLOCK, (cluster + b) << bits);
        qcow2_words_set(&image->reftable, plan.index + b, (cluster + b) << bits);
    }
    for (guint64 c = cluster; c < cluster + taken; c++) {
        Qcow2Table *block;
        if (!qcow2_refblock_get(image, c, &block, error))
            return FALSE;
        qcow2_refblock_set(image, block, c, 1);
    }
    qcow2_guard_mark(&image->guard, cluster, taken);
    if (plan.table_clusters == 0)
        return TRUE;
    if (!publish(image, plan.table_clusters, error)) {
        if (!image->broken)
            take_back(image, &plan, &old);
        qcow2_words_clear(&old);
        return FALSE;
    }
    qcow2_words_clear(&old);
    return TRUE;
}

/* Does the block at @cluster, which entry @index names, count nothing but perhaps itself? */
static gboolean
counts_nothing(Qcow2Image *image, guint64 index, guint64 cluster, gboolean *nothing, GError **error)
{
    guint64 first = index * image->geo.refblock_entries;
    Qcow2Table *block;

    *nothing = FALSE;
    if (!qcow2_refblock_get(image, first, &block, error))
        return FALSE;
    for (guint64 i = 0; i < image->geo.refblock_entries; i++)
        if (first + i != cluster && qcow2_refcount_load(block->bytes, i, image->geo.refcount_bits) != 0)
            return TRUE;
    *nothing = TRUE;
    return TRUE;
}

/* Takes the last blocks out of the table in memory; *gone are their clusters. A block that counts one of
 * these stays for another round: on disk it must not go before that one. */
static gboolean
drop_last_blocks(Qcow2Image *image, GArray *gone, GError **error)
{
    for (guint64 i = image->reftable.n; i-- > 1;) {
        guint64 off = image->reftable.words[i] & QCOW2_REFTABLE_OFFSET;
        guint64 cluster = off >> image->geo.cluster_bits;
        gboolean nothing;
        if (off == 0)
            continue;
        if (!counts_nothing(image, i, cluster, &nothing, error))
            return FALSE;
        if (!nothing)
            return TRUE;
        qcow2_words_set(&image->reftable, i, 0);
        qcow2_cache_drop(&image->cache, off);
        g_array_append_val(gone, cluster);
    }
    return TRUE;
}

gboolean
qcow2_reftable_trim(Qcow2Image *image, GError **error)
{
    guint n;

    do {
        g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(guint64));
        if (!drop_last_blocks(image, gone, error))
            return FALSE;
        n = gone->len;
        if (n > 0
            && (!qcow2_write_refcounts_locked(image, error)
                || !qcow2_barrier(image, QCOW2_RULE_L2_BEFORE_LOWER, error)))
            return FALSE;
        for (guint i = 0; i < n; i++) {
            guint64 cluster = g_array_index(gone, guint64, i), count;
            qcow2_guard_unmark(&image->guard, cluster, 1);
            image->free_hint = MIN(image->free_hint, cluster);
            if (!qcow2_refcount_get(image, cluster, &count, error)
                || (count > 0 && !qcow2_refcount_lower(image, cluster, 1, error)))
                return FALSE; /* the rest leaks */
        }
    } while (n > 0);
    return TRUE;
}
