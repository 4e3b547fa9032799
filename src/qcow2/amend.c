#include "qcow2/amend.h"

#include "base/error.h"
#include "qcow2/backing.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/entry.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/refcount.h"
#include "qcow2/repair.h"
#include "qcow2/snapshot.h"

/* Who goes through every L2 table. */
typedef struct Walk Walk;
struct Walk {
    gboolean (*func)(Qcow2Image *image, guint64 off, gboolean active, Walk *walk, GError **error);
    GHashTable *seen;
    guint64 zeros; /* clusters that are marked as zeros */
};

/* --- every L2 table once --- */

static gboolean
each_in_l1(Qcow2Image *image, const Qcow2Words *l1, gboolean active, Walk *walk, GError **error)
{
    for (guint64 i = 0; i < l1->n; i++) {
        Qcow2Table *table;

        if (!qcow2_l2_find_locked(image, l1, i, &table, error))
            return FALSE;
        if (!table || !g_hash_table_add(walk->seen, g_memdup2(&table->off, sizeof table->off)))
            continue;
        if (!walk->func(image, table->off, active, walk, error) || !qcow2_settle_locked(image, error))
            return FALSE;
    }
    return TRUE;
}

/* Those of the active disk first: what only snapshots have is not active. */
static gboolean
each_table(Qcow2Image *image, Walk *walk, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_autoptr(GPtrArray) snapshots = qcow2_snapshots_read(image->base.file, &image->header, NULL, error);

    walk->seen = seen;
    if (!snapshots || !qcow2_load_l1_locked(image, error)
        || !each_in_l1(image, &image->l1, TRUE, walk, error))
        return FALSE;
    for (guint i = 0; i < snapshots->len; i++) {
        const Qcow2Snapshot *s = snapshots->pdata[i];
        g_auto(Qcow2Words) l1 = { 0 };

        if (!qcow2_words_load(&l1, image->base.file, s->l1_off, s->l1_entries, error)
            || !each_in_l1(image, &l1, FALSE, walk, error))
            return FALSE;
    }
    return TRUE;
}

/* --- what cannot be done --- */

static gboolean
refuse_packed(Qcow2Image *image, guint64 off, gboolean active, Walk *walk, GError **error)
{
    const Qcow2Table *table = qcow2_cache_get(&image->cache, QCOW2_TABLE_L2, off, error);

    for (guint64 j = 0; table && j < image->geo.l2_entries; j++)
        if (qcow2_l2_entry(&image->geo, table, j).word & QCOW2_ENTRY_COMPRESSED)
            return fail(error, KHO_ERROR_UNSUPPORTED,
                        "%s cannot become version 2: that cannot say that clusters are compressed by zstd",
                        image->base.file->label);
    return table != NULL;
}

static gboolean
check_downgrade(Qcow2Image *image, GError **error)
{
    const char *label = image->base.file->label;
    guint64 incompat = image->header.incompat & (QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_EXTENDED_L2);
    g_autoptr(GPtrArray) snapshots = qcow2_snapshots_read(image->base.file, &image->header, NULL, error);

    if (!snapshots)
        return FALSE;
    if (incompat || image->header.crypt_method == QCOW2_CRYPT_LUKS || qcow2_has_bitmaps(image))
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s cannot become version 2: it has %s, which version 2 does not", label,
                    incompat & QCOW2_INCOMPAT_DATA_FILE ? "an external data file"
                    : incompat                          ? "extended L2 entries"
                    : qcow2_has_bitmaps(image)          ? "bitmaps"
                                                        : "LUKS encryption");
    for (guint i = 0; i < snapshots->len; i++) {
        const Qcow2Snapshot *s = snapshots->pdata[i];
        if (s->vm_state_bytes > G_MAXUINT32 || s->guest_bytes != image->header.guest_bytes)
            return fail(
                error, KHO_ERROR_UNSUPPORTED,
                "%s cannot become version 2: its snapshot '%s' has another size than the disk, or too "
                "large a VM state",
                label, s->name);
    }
    return image->header.compression == QCOW2_COMPRESSION_ZLIB
           || each_table(image, &(Walk){ .func = refuse_packed }, error);
}

static gboolean
check_counts(Qcow2Image *image, guint bits, GError **error)
{
    guint64 entries = image->geo.refblock_entries;
    guint64 most = (G_GUINT64_CONSTANT(1) << bits) - 1;

    if (!qcow2_load_reftable_locked(image, error))
        return FALSE;
    for (guint64 i = 0; i < image->reftable.n; i++) {
        Qcow2Table *block;

        if (!qcow2_refblock_get(image, i * entries, &block, error))
            return FALSE;
        for (guint64 j = 0; block && j < entries; j++) {
            guint64 count = qcow2_refcount_load(block->bytes, j, image->geo.refcount_bits);
            if (count > most)
                return fail(error, KHO_ERROR_INVALID,
                            "%s: counts of %u bits do not do: the cluster at byte %" G_GUINT64_FORMAT
                            " has %" G_GUINT64_FORMAT " users",
                            image->base.file->label, bits, (i * entries + j) << image->geo.cluster_bits,
                            count);
        }
        qcow2_cache_trim(&image->cache);
    }
    return TRUE;
}

static gboolean
check_options(const Qcow2Image *image, const FormatAmend *wish, guint version, guint bits, GError **error)
{
    const char *label = image->base.file->label;
    gboolean resizes = wish->guest_bytes != 0 && wish->guest_bytes != image->header.guest_bytes;

    if (version < 2 || version > 3)
        return fail(error, KHO_ERROR_INVALID, "%s: there is no version %u", label, version);
    if (bits == 0 || bits > 64 || (bits & (bits - 1)))
        return fail(error, KHO_ERROR_INVALID, "%s: counts have 1 to 64 bits, a power of two, and not %u",
                    label, bits);
    if (version == 2 && bits != 16)
        return fail(error, KHO_ERROR_INVALID, "%s: counts of version 2 have 16 bits, and not %u", label,
                    bits);
    if (version == 2 && wish->lazy_refcounts > 0)
        return fail(error, KHO_ERROR_INVALID, "%s: version 2 has no lazy refcounts", label);
    if (version == 2 && resizes && image->header.snapshots > 0)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s: a version 2 image with snapshots cannot change its size: they do not record theirs",
                    label);
    return TRUE;
}

gboolean
qcow2_amend_plan_locked(Qcow2Image *image, const FormatAmend *wish, Qcow2Header *to, GError **error)
{
    g_autofree char *refusal = qcow2_write_refusal_locked(image);
    FormatAmend all = *wish;

    /* What stands is no wish, as with QEMU: version 2 goes without it. */
    if (all.lazy_refcounts > 0 && qcow2_lazy(image))
        all.lazy_refcounts = 0;
    guint version = all.version ? all.version : image->header.version;
    guint bits = all.refcount_bits ? all.refcount_bits : image->geo.refcount_bits;

    if (refusal || image->refusal)
        return fail(error, refusal ? KHO_ERROR_UNSUPPORTED : KHO_ERROR_CORRUPT, "%s",
                    refusal ? refusal : image->refusal);
    if (!check_options(image, &all, version, bits, error)
        || (version < image->header.version && !check_downgrade(image, error))
        || (bits < image->geo.refcount_bits && !check_counts(image, bits, error)))
        return FALSE;
    *to = image->header;
    to->version = version;
    to->refcount_order = (guint32) g_bit_nth_lsf(bits, -1);
    if (version < image->header.version) {
        to->header_bytes = QCOW2_V2_BYTES;
        to->incompat = to->compat = to->autoclear = 0;
        to->compression = QCOW2_COMPRESSION_ZLIB;
    } else if (version > image->header.version) {
        to->header_bytes = QCOW2_FIELDS_BYTES;
    }
    if (all.lazy_refcounts > 0)
        to->compat |= QCOW2_COMPAT_LAZY_REFCOUNTS;
    else if (all.lazy_refcounts < 0)
        to->compat &= ~(guint64) QCOW2_COMPAT_LAZY_REFCOUNTS;
    return qcow2_header_change_locked(image, to, TRUE, error);
}

/* --- no zero flags --- */

static gboolean
count_zeros(Qcow2Image *image, guint64 off, gboolean active, Walk *walk, GError **error)
{
    const Qcow2Table *table = qcow2_cache_get(&image->cache, QCOW2_TABLE_L2, off, error);
    Qcow2Cluster c;

    for (guint64 j = 0; table && j < image->geo.l2_entries; j++)
        if (!qcow2_l2_decode(qcow2_l2_entry(&image->geo, table, j), &image->header, &c) && c.zeros)
            walk->zeros++;
    return table != NULL;
}

gboolean
qcow2_amend_count_zeros_locked(Qcow2Image *image, guint64 *clusters, GError **error)
{
    Walk walk = { .func = count_zeros };

    if (!each_table(image, &walk, error))
        return FALSE;
    *clusters = walk.zeros;
    return TRUE;
}

/* A cluster of zeros with @users. It may flush: no table is kept over it. */
static gboolean
place_zeros(Qcow2Image *image, guint64 users, guint64 *off, GError **error)
{
    guint64 cluster, got;

    if (!qcow2_alloc(image, 1, TRUE, &cluster, &got, error))
        return FALSE;
    for (; users > 1; users--)
        if (!qcow2_refcount_raise(image, cluster, 1, error))
            return FALSE; /* leaks */
    *off = cluster << image->geo.cluster_bits;
    return blk_zero(image->base.data, *off, image->geo.cluster_bytes, BLK_ZERO_MAY_PUNCH, error);
}

/* Each user of the table is one of all that it names, so counts go together. A table that several share is
 * changed for all of them: it reads the same. */
static gboolean
expand_zeros(Qcow2Image *image, guint64 table_off, gboolean active, Walk *walk, GError **error)
{
    guint64 users;

    if (!qcow2_refcount_get(image, table_off >> image->geo.cluster_bits, &users, error))
        return FALSE;
    for (guint64 j = 0; j < image->geo.l2_entries; j++) {
        Qcow2Table *table = qcow2_cache_get(&image->cache, QCOW2_TABLE_L2, table_off, error);
        guint64 off = 0;
        Qcow2Cluster c;

        if (!table)
            return FALSE;
        Qcow2Entry entry = qcow2_l2_entry(&image->geo, table, j);
        qcow2_l2_decode(entry, &image->header, &c);
        if (!c.zeros) /* there are no subclusters: what has them is not amended so */
            continue;
        if (image->extensions.backing_file && !place_zeros(image, users, &off, error))
            return FALSE;
        table = qcow2_cache_get(&image->cache, QCOW2_TABLE_L2, table_off, error);
        if (!table)
            return FALSE;
        for (guint64 user = 0; user < users; user++)
            qcow2_refcount_release_later(image, &image->header, entry);
        guint64 word = off && active && users == 1 ? off | QCOW2_ENTRY_COPIED : off;
        qcow2_l2_set(image, table, j, (Qcow2Entry){ word, 0 });
    }
    return TRUE;
}

/* --- the change --- */

static gboolean
amend_locked(Qcow2Image *image, const FormatAmend *wish, GError **error)
{
    Qcow2Header to;

    if (!qcow2_begin_write_locked(image, error))
        return FALSE;
    /* Nothing is deferred from here on: no mark stands in the header when it changes. */
    image->header.compat &= ~(guint64) QCOW2_COMPAT_LAZY_REFCOUNTS;
    guint64 version = wish->version ? wish->version : image->header.version;
    if ((version < image->header.version && !each_table(image, &(Walk){ .func = expand_zeros }, error))
        || (version > image->header.version && !qcow2_snapshots_complete_locked(image, error))
        || !qcow2_flush_locked(image, TRUE, error) || !qcow2_begin_write_locked(image, error)
        || !qcow2_amend_plan_locked(image, wish, &to, error))
        return FALSE;
    if (to.refcount_order != image->header.refcount_order)
        return qcow2_recount_as_locked(image, &to, error);
    if (!qcow2_header_change_locked(image, &to, FALSE, error))
        return FALSE;
    qcow2_header_derive(&image->header, &image->geo);
    return TRUE;
}

gboolean
qcow2_amend(FormatImage *format, const FormatAmend *wish, gboolean only_check, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    gboolean was_lazy = (image->header.compat & QCOW2_COMPAT_LAZY_REFCOUNTS) != 0;
    FormatAmend all = *wish;
    Qcow2Header to;

    if (!qcow2_amend_plan_locked(image, &all, &to, error)
        || (all.data_file && !qcow2_header_set_data_file_locked(image, all.data_file, TRUE, error)))
        return FALSE;
    if (only_check)
        return TRUE;
    /* As it is: it is left out for the while. */
    if (all.lazy_refcounts >= 0 && was_lazy)
        all.lazy_refcounts = to.version >= 3;
    /* The name goes last, by a write of its own. */
    return amend_locked(image, &all, error)
           && (!all.data_file || qcow2_header_set_data_file_locked(image, all.data_file, FALSE, error));
}
