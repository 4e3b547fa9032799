#include "qcow2/map.h"

#include "qcow2/crypt.h"
#include "qcow2/l2.h"

static const RunKind run_kinds[] = {
    [QCOW2_CLUSTER_HOLE] = RUN_HOLE,
    [QCOW2_CLUSTER_ZERO] = RUN_ZERO,
    [QCOW2_CLUSTER_ZERO_ALLOC] = RUN_ZERO,
    [QCOW2_CLUSTER_DATA] = RUN_DATA,
    [QCOW2_CLUSTER_COMPRESSED] = RUN_COMPRESSED,
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

/* Joins the clusters after @first that go on where it ends. */
static guint64
join(Qcow2Image *image, const Qcow2Table *table, Qcow2Index index, const Qcow2Cluster *first,
     guint64 want_clusters)
{
    gboolean placed = first->host_bytes != 0;
    guint64 n = 1;

    for (; n < want_clusters && index.l2_index + n < image->geo.l2_entries; n++) {
        Qcow2Cluster c;
        /* A wrong entry ends the run; who maps it is told what is wrong. */
        if (qcow2_l2_decode(qcow2_l2_entry(table, index.l2_index + n), &image->header, &c)
            || c.kind != first->kind
            || (placed && c.host_bytes != first->host_bytes + (n << image->geo.cluster_bits)))
            break;
        gboolean within = TRUE;
        if (c.kind == QCOW2_CLUSTER_DATA
            && (!qcow2_within_file_locked(image, c.host_bytes, &within, NULL) || !within))
            break;
    }
    return n;
}

static gboolean
map_locked(Qcow2Image *image, guint64 at, guint64 max_bytes, Run *run, GError **error)
{
    guint64 inside = at & (image->geo.cluster_bytes - 1);
    Qcow2Index index = qcow2_index(&image->geo, at);
    Qcow2Table *table;
    Qcow2Cluster c;
    guint64 n = 1;

    if (!qcow2_load_l1_locked(image, error) || !qcow2_l2_get_locked(image, index.l1_index, &table, error))
        return FALSE;
    if (!table) {
        *run = (Run){ .kind = RUN_HOLE, .bytes = empty_bytes(image, at, max_bytes) };
        return TRUE;
    }
    if (!qcow2_l2_cluster_locked(image, table, index, &c, error))
        return FALSE;
    gboolean unpacked = c.kind == QCOW2_CLUSTER_COMPRESSED || qcow2_crypt_unpacks(image, &c);
    if (!unpacked)
        n = join(image, table, index, &c, num_div_up(inside + max_bytes, image->geo.cluster_bytes));
    *run = (Run){
        .kind = unpacked ? RUN_COMPRESSED : run_kinds[c.kind],
        .bytes = MIN(max_bytes, (n << image->geo.cluster_bits) - inside),
        .allocated = c.host_bytes != 0,
    };
    if (c.kind == QCOW2_CLUSTER_COMPRESSED)
        run->host = host_off(c.host_bytes);
    else if (c.host_bytes != 0)
        run->host = host_off(c.host_bytes + inside);
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
