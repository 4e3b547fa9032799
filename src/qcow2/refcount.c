#include "qcow2/refcount.h"

#include "base/error.h"
#include "qcow2/entry.h"

#include <string.h>

/* How far a search for a free cluster looks at a time. */
#define LOOK_CLUSTERS 1024

gboolean
qcow2_refblock_get(Qcow2Image *image, guint64 cluster, Qcow2Table **block, GError **error)
{
    guint64 index = cluster / image->geo.refblock_entries, off;
    gboolean within;

    *block = NULL;
    if (index >= image->reftable.n || image->reftable.words[index] == 0)
        return TRUE;
    const char *wrong = qcow2_reftable_decode(image->reftable.words[index], &image->header, &off);
    if (wrong)
        return qcow2_corrupt_locked(image, error, "refcount table entry %" G_GUINT64_FORMAT " %s", index,
                                    wrong);
    *block = g_hash_table_lookup(image->cache.tables, &off);
    if (!*block) {
        if (!qcow2_within_file_locked(image, off, &within, error))
            return FALSE;
        if (!within)
            return qcow2_corrupt_locked(
                image, error, "refcount table entry %" G_GUINT64_FORMAT " points past the end of the file",
                index);
    }
    *block = qcow2_cache_get(&image->cache, QCOW2_TABLE_REFBLOCK, off, error);
    return *block != NULL;
}

void
qcow2_refblock_set(Qcow2Image *image, Qcow2Table *block, guint64 cluster, guint64 count)
{
    guint64 index = cluster % image->geo.refblock_entries;
    guint bits = image->geo.refcount_bits;
    guint from = (guint) (index * bits / 8);

    qcow2_refcount_store(block->bytes, index, bits, count);
    qcow2_table_touch(&image->cache, block, from, from + MAX(bits / 8, 1));
}

/* How many counts of a block from @from on, before @to, are the same. */
static guint64
same_counts(const guint8 *block, guint64 from, guint64 to, guint bits)
{
    guint64 count = qcow2_refcount_load(block, from, bits), at = from + 1;
    const guint8 *first = block + from * bits / 8;

    /* All are, when they are no other one entry further. */
    if (bits >= 8 && memcmp(first, first + bits / 8, (to - at) * bits / 8) == 0)
        return to - from;
    while (at < to && qcow2_refcount_load(block, at, bits) == count)
        at++;
    return at - from;
}

gboolean
qcow2_refcount_run(Qcow2Image *image, guint64 first, guint64 most, guint64 *count, guint64 *n, GError **error)
{
    guint64 entries = image->geo.refblock_entries, from = first & (entries - 1);
    guint64 to = MIN(from + most, entries);
    guint bits = image->geo.refcount_bits;
    Qcow2Table *block;

    if (!qcow2_refblock_get(image, first, &block, error))
        return FALSE;
    *count = block ? qcow2_refcount_load(block->bytes, from, bits) : 0;
    *n = block ? same_counts(block->bytes, from, to, bits) : to - from;
    return TRUE;
}

gboolean
qcow2_refcount_get(Qcow2Image *image, guint64 cluster, guint64 *count, GError **error)
{
    guint64 n;

    return qcow2_refcount_run(image, cluster, 1, count, &n, error);
}

/* Every count is within [@min, @max]; *bad is the first that is not. */
static gboolean
all_between(Qcow2Image *image, const Qcow2Lower *range, guint64 min, guint64 max, guint64 *bad,
            GError **error)
{
    guint64 end = range->first + range->n, count, n;

    for (*bad = range->first; *bad < end; *bad += n)
        if (!qcow2_refcount_run(image, *bad, end - *bad, &count, &n, error))
            return FALSE;
        else if (count < min || count > max)
            return TRUE;
    *bad = G_MAXUINT64;
    return TRUE;
}

/* Adds @by (1 or -1) to counts known to allow it. */
static gboolean
add(Qcow2Image *image, guint64 first, guint64 n, gint by, GError **error)
{
    guint64 end = first + n, entries = image->geo.refblock_entries;
    guint bits = image->geo.refcount_bits;

    for (guint64 c = first; c < end;) {
        Qcow2Table *block;
        guint64 from = c & (entries - 1), to = MIN(end - c + from, entries);
        if (!qcow2_refblock_get(image, c, &block, error))
            return FALSE;
        for (guint64 i = from; i < to; i++)
            qcow2_refcount_store(block->bytes, i, bits,
                                 qcow2_refcount_load(block->bytes, i, bits) + (guint64) (gint64) by);
        qcow2_table_touch(&image->cache, block, (guint) (from * bits / 8), (guint) num_div_up(to * bits, 8));
        c += to - from;
    }
    return TRUE;
}

gboolean
qcow2_refcount_raise(Qcow2Image *image, guint64 first, guint64 n, GError **error)
{
    guint64 full;

    if (!all_between(image, &(Qcow2Lower){ first, n }, 1, image->geo.refcount_max - 1, &full, error))
        return FALSE;
    if (full != G_MAXUINT64)
        return fail(error, KHO_ERROR_NO_SPACE,
                    "%s: the refcount of the cluster at byte %" G_GUINT64_FORMAT
                    " cannot be raised: it is unused, or has reached the most that %u bits hold",
                    image->base.file->label, full << image->geo.cluster_bits, image->geo.refcount_bits);
    return add(image, first, n, 1, error);
}

gboolean
qcow2_refcount_lower(Qcow2Image *image, guint64 first, guint64 n, GError **error)
{
    guint64 zero;

    if (!all_between(image, &(Qcow2Lower){ first, n }, 1, G_MAXUINT64, &zero, error))
        return FALSE;
    if (zero != G_MAXUINT64)
        return qcow2_corrupt_locked(image, error,
                                    "the cluster at byte %" G_GUINT64_FORMAT " was in use with refcount 0",
                                    zero << image->geo.cluster_bits);
    image->free_hint = MIN(image->free_hint, first);
    return add(image, first, n, -1, error);
}

void
qcow2_refcount_lower_later(Qcow2Image *image, guint64 first, guint64 n)
{
    if (image->lowers->len > 0) {
        Qcow2Lower *last = &g_array_index(image->lowers, Qcow2Lower, image->lowers->len - 1);
        if (last->first + last->n == first) {
            last->n += n;
            return;
        }
    }
    Qcow2Lower lower = { first, n };
    g_array_append_val(image->lowers, lower);
}

void
qcow2_refcount_release_later(Qcow2Image *image, const Qcow2Header *header, Qcow2Entry entry)
{
    Qcow2Cluster c;

    /* A wrong entry was refused before it came here, unless the disk changed under us: what it names leaks.
     */
    if (qcow2_l2_decode(entry, header, &c) || !c.placed || qcow2_has_data_file(header))
        return;
    for (guint i = 0; i < QCOW2_INFLATED; i++)
        if (image->inflated[i].host_bytes == c.host_bytes) {
            g_clear_pointer(&image->inflated[i].bytes, g_free);
            image->inflated[i] = (Qcow2Inflated){ 0 };
        }
    qcow2_refcount_lower_later(image, c.host_bytes >> header->cluster_bits,
                               qcow2_cluster_host_clusters(&c, header->cluster_bits));
}

/* The first free cluster from @from on that has a block to count it, and how many are free in a row from it
 * on, as far as its block reaches. Where there is none, blocks are made for that cluster and @want more. */
static gboolean
find_free(Qcow2Image *image, guint64 from, guint64 want, Qcow2Lower *found, GError **error)
{
    guint64 end = QCOW2_HOST_BYTES_MAX >> image->geo.cluster_bits, most = MAX(want, LOOK_CLUSTERS);
    guint64 count, n;

    for (guint64 c = from; c < end; c += n) {
        Qcow2Table *block;
        n = 0;
        if (!qcow2_refblock_get(image, c, &block, error)
            || (!block && !qcow2_reftable_cover(image, c, want, error))
            || (block && !qcow2_refcount_run(image, c, most, &count, &n, error)))
            return FALSE;
        if (block && count == 0) {
            *found = (Qcow2Lower){ c, n };
            return TRUE;
        }
        if (block) /* a large file has more of them than memory */
            qcow2_cache_pass(&image->cache, block);
    }
    return fail(error, KHO_ERROR_NO_SPACE, "%s is full: the format ends at 64 PiB", image->base.file->label);
}

/* A stretch of free clusters goes on behind its block, up to @want. */
static gboolean
stretch(Qcow2Image *image, guint64 want, Qcow2Lower *free, GError **error)
{
    while (free->n < want) {
        Qcow2Lower next;
        if (!find_free(image, free->first + free->n, want, &next, error))
            return FALSE;
        if (next.first != free->first + free->n)
            return TRUE;
        free->n += next.n;
    }
    free->n = want;
    return TRUE;
}

gboolean
qcow2_alloc(Qcow2Image *image, guint64 want, gboolean exact, guint64 *first, guint64 *got, GError **error)
{
    Qcow2Lower at;

    if (!find_free(image, image->free_hint, want, &at, error))
        return FALSE;
    image->free_hint = at.first;
    for (;;) {
        if (!stretch(image, want, &at, error))
            return FALSE;
        if (at.n == want || !exact)
            break;
        /* Past the last block, cover makes room for all of @want in one stretch, so this ends. */
        if (!find_free(image, at.first + at.n, want, &at, error))
            return FALSE;
    }
    if (qcow2_guard_holds(&image->guard, at.first, at.n))
        return qcow2_corrupt_locked(image, error,
                                    "refcount 0 for a cluster at or after byte %" G_GUINT64_FORMAT
                                    " that holds metadata",
                                    at.first << image->geo.cluster_bits);
    if (!add(image, at.first, at.n, 1, error))
        return FALSE;
    if (at.first == image->free_hint)
        image->free_hint = at.first + at.n;
    *first = at.first;
    *got = at.n;
    return TRUE;
}
