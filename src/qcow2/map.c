#include "qcow2/map.h"

#include "qcow2/crypt.h"
#include "qcow2/l2.h"

static const RunKind run_kinds[] = {
    [QCOW2_CLUSTER_HOLE] = RUN_HOLE, [QCOW2_CLUSTER_HOLE_ALLOC] = RUN_HOLE,
    [QCOW2_CLUSTER_ZERO] = RUN_ZERO, [QCOW2_CLUSTER_ZERO_ALLOC] = RUN_ZERO,
    [QCOW2_CLUSTER_DATA] = RUN_DATA, [QCOW2_CLUSTER_COMPRESSED] = RUN_COMPRESSED,
};

/* Guest bytes from @at on under L1 entries that are empty. */
static guint64
empty_bytes(const Qcow2Image *image, guint64 at, guint64 max_bytes)
{
    guint64 span = image->geo.l2_span_bytes;
    guint64 l1_index = at / span;
    guint64 end = at + max_bytes;

    /* COPIED says nothing where there is no table. */
    while (l1_index < image->l1.n && (image->l1.words[l1_index] & ~QCOW2_ENTRY_COPIED) == 0
           && l1_index * span < end)
        l1_index++;
    return MIN(l1_index * span, end) - at;
}

/* How many subclusters from @sub on are of one kind. */
static guint
alike(const Qcow2Cluster *c, guint sub, guint subs)
{
    switch (qcow2_cluster_kind(c, sub)) {
    case QCOW2_CLUSTER_DATA: return qcow2_subs_run(c->data, sub, subs);
    case QCOW2_CLUSTER_ZERO:
    case QCOW2_CLUSTER_ZERO_ALLOC: return qcow2_subs_run(c->zeros, sub, subs);
    case QCOW2_CLUSTER_HOLE:
    case QCOW2_CLUSTER_HOLE_ALLOC: return qcow2_subs_run(~(c->data | c->zeros), sub, subs);
    case QCOW2_CLUSTER_COMPRESSED: return subs - sub;
    }
    return 1;
}

/* How many plain entries, up to @want, from the one at @l2_index on repeat it, each a cluster further where
 * it has a place. What repeats a right entry is right: none of them is taken apart. */
static guint64
repeats(const Qcow2Image *image, const Qcow2Table *table, guint64 l2_index, const Qcow2Cluster *first,
        guint64 want)
{
    guint64 step = first->placed ? image->geo.cluster_bytes : 0;
    gboolean in_file = first->data && !qcow2_has_data_file(&image->header);
    guint64 end = in_file ? image->file_bytes : QCOW2_ENTRY_OFFSET;

    if (first->placed && first->host_bytes < end)
        want = MIN(want, num_div_up(end - first->host_bytes, step));
    return qcow2_l2_run(&image->geo, table, l2_index, step, want);
}

/* The subclusters from @sub of the cluster at @index on that are as the first one is, each where the one
 * before it ends. */
static guint64
join(Qcow2Image *image, const Qcow2Table *table, Qcow2Index index, guint sub, const Qcow2Cluster *first,
     guint64 want)
{
    guint subs = image->geo.subs;
    Qcow2ClusterKind kind = qcow2_cluster_kind(first, sub);
    guint64 i = subs == 1 ? repeats(image, table, index.l2_index, first, want) : 1;
    guint64 n = subs == 1 ? i : alike(first, sub, subs);

    for (; (sub + n) % subs == 0 && n < want && index.l2_index + i < image->geo.l2_entries; i++) {
        Qcow2Cluster c;
        /* A wrong entry ends the run; who maps it is told what is wrong. */
        if (qcow2_l2_decode(qcow2_l2_entry(&image->geo, table, index.l2_index + i), &image->header, &c)
            || qcow2_cluster_kind(&c, 0) != kind
            || (c.placed && c.host_bytes != first->host_bytes + (i << image->geo.cluster_bits)))
            break;
        gboolean within = TRUE;
        if (kind == QCOW2_CLUSTER_DATA && !qcow2_has_data_file(&image->header)
            && (!qcow2_within_file_locked(image, c.host_bytes, &within, NULL) || !within))
            break;
        n += alike(&c, 0, subs);
    }
    return n;
}

static gboolean
map_locked(Qcow2Image *image, guint64 at, guint64 max_bytes, Run *run, GError **error)
{
    const Qcow2Geometry *geo = &image->geo;
    guint64 inside = at & (geo->sub_bytes - 1);
    Qcow2Index index = qcow2_index(geo, at);
    guint sub = qcow2_sub(geo, at);
    Qcow2Table *table;
    Qcow2Cluster c;

    if (!qcow2_load_l1_locked(image, error) || !qcow2_l2_get_locked(image, index.l1_index, &table, error))
        return FALSE;
    if (!table) {
        *run = (Run){ .kind = RUN_HOLE, .bytes = empty_bytes(image, at, max_bytes) };
        return TRUE;
    }
    if (!qcow2_l2_cluster_locked(image, table, index, &c, error))
        return FALSE;
    Qcow2ClusterKind kind = qcow2_cluster_kind(&c, sub);
    gboolean unpacked = c.compressed || qcow2_crypt_unpacks(image, kind);
    guint64 n = unpacked ? alike(&c, sub, geo->subs)
                         : join(image, table, index, sub, &c, num_div_up(inside + max_bytes, geo->sub_bytes));
    *run = (Run){
        .kind = unpacked ? RUN_COMPRESSED : run_kinds[kind],
        .bytes = MIN(max_bytes, (n << geo->sub_bits) - inside),
        .allocated = c.placed,
    };
    if (c.compressed)
        run->host = host_off(c.host_bytes);
    else if (c.placed)
        run->host = host_off(c.host_bytes + (at & (geo->cluster_bytes - 1)));
    qcow2_cache_trim(&image->cache);
    return TRUE;
}

gboolean
qcow2_map(FormatImage *image, GuestOff at, guint64 max_bytes, Run *run, GError **error)
{
    Qcow2Image *qcow2 = qcow2_image(image);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&qcow2->meta);

    return map_locked(qcow2, at.bytes, max_bytes, run, error);
}
