/* Compressed clusters: where they are, and the last few of them inflated. */
#include "base/error.h"
#include "qcow2/codec.h"
#include "qcow2/crypt.h"
#include "qcow2/l2.h"
#include "qcow2/map.h"

#include <string.h>

/* Copies from an inflated cluster that is kept; FALSE where it is not. */
static gboolean
copy_kept(Qcow2Image *image, guint64 host_bytes, guint64 inside, void *buf, gsize len)
{
    for (guint i = 0; i < QCOW2_INFLATED; i++) {
        Qcow2Inflated *kept = &image->inflated[i];
        if (!kept->bytes || kept->host_bytes != host_bytes)
            continue;
        kept->used = ++image->tick;
        memcpy(buf, kept->bytes + inside, len);
        return TRUE;
    }
    return FALSE;
}

/* Takes @bytes over, in place of the one longest unused. */
static void
keep(Qcow2Image *image, guint64 host_bytes, guint8 *bytes)
{
    Qcow2Inflated *oldest = &image->inflated[0];

    for (guint i = 1; i < QCOW2_INFLATED; i++)
        if (image->inflated[i].used < oldest->used)
            oldest = &image->inflated[i];
    g_free(oldest->bytes);
    *oldest = (Qcow2Inflated){ .host_bytes = host_bytes, .used = ++image->tick, .bytes = bytes };
}

/* Reads guest bytes from a cluster that is not compressed (any more). */
static gboolean
read_plain(Qcow2Image *image, const Qcow2Cluster *cluster, guint64 at, guint8 *to, gsize len, GError **error)
{
    while (len > 0) {
        guint64 inside = at & (image->geo.cluster_bytes - 1);
        guint sub = (guint) (inside >> image->geo.sub_bits);
        gsize n = MIN(len, image->geo.sub_bytes - inside % image->geo.sub_bytes);

        if (qcow2_cluster_kind(cluster, sub) != QCOW2_CLUSTER_DATA)
            memset(to, 0, n);
        else if (!qcow2_crypt_read_locked(image, at, cluster->host_bytes + inside, to, n, error))
            return FALSE;
        at += n;
        to += n;
        len -= n;
    }
    return TRUE;
}

/* Looks the cluster up; it answers from what is kept, or from where a writer has put the bytes since the
 * caller mapped them. *done says so; otherwise @cluster tells where the packed bytes are. */
static gboolean
find_locked(Qcow2Image *image, guint64 at, void *buf, gsize len, Qcow2Cluster *cluster, gboolean *done,
            GError **error)
{
    guint64 inside = at & (image->geo.cluster_bytes - 1);
    Qcow2Index index = qcow2_index(&image->geo, at);
    Qcow2Table *table;

    *cluster = (Qcow2Cluster){ 0 };
    if (!qcow2_load_l1_locked(image, error) || !qcow2_l2_get_locked(image, index.l1_index, &table, error)
        || (table && !qcow2_l2_cluster_locked(image, table, index, cluster, error)))
        return FALSE;
    *done = !cluster->compressed || copy_kept(image, cluster->host_bytes, inside, buf, len);
    return cluster->compressed || read_plain(image, cluster, at, buf, len, error);
}

static gboolean
unpack(const Qcow2Image *image, const Qcow2Cluster *cluster, guint8 *bytes, gboolean *good, GError **error)
{
    /* At most 2^(cluster_bits - 8) sectors: twice the cluster's size. */
    g_autofree guint8 *packed = g_malloc(cluster->packed_bytes);

    if (!blk_pread_padded(image->base.file, cluster->host_bytes, packed, cluster->packed_bytes, error))
        return FALSE;
    *good = qcow2_codec_inflate((Qcow2Compression) image->header.compression, packed, cluster->packed_bytes,
                                bytes, image->geo.cluster_bytes);
    return TRUE;
}

/* Guest data are lost, which no repair brings back; the metadata may be sound all the same. */
static gboolean
does_not_inflate(Qcow2Image *image, guint64 host_bytes, GError **error)
{
    return fail(error, KHO_ERROR_CORRUPT,
                "%s is corrupt: the compressed cluster at byte %" G_GUINT64_FORMAT
                " does not inflate to one cluster",
                image->base.file->label, host_bytes);
}

gboolean
qcow2_unpack(Qcow2Image *image, const Qcow2Cluster *cluster, guint8 *bytes, GError **error)
{
    gboolean good;

    return unpack(image, cluster, bytes, &good, error)
           && (good || does_not_inflate(image, cluster->host_bytes, error));
}

gboolean
qcow2_inflate(FormatImage *format, GuestOff at, void *buf, gsize len, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    guint64 inside = at.bytes & (image->geo.cluster_bytes - 1);
    guint64 failed = 0; /* where the packed bytes lay that did not inflate */

    g_assert(inside + len <= image->geo.cluster_bytes);
    for (;;) {
        g_autofree guint8 *bytes = g_malloc(image->geo.cluster_bytes);
        Qcow2Cluster cluster;
        gboolean done = FALSE, good = FALSE;

        {
            g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
            if (!find_locked(image, at.bytes, buf, len, &cluster, &done, error))
                return FALSE;
            /* Twice at one place: not a writer that let the cluster go while it was being read. */
            if (!done && cluster.host_bytes == failed)
                return does_not_inflate(image, failed, error);
        }
        if (done)
            return TRUE;
        if (!unpack(image, &cluster, bytes, &good, error))
            return FALSE;
        if (good) {
            g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
            memcpy(buf, bytes + inside, len);
            keep(image, cluster.host_bytes, g_steal_pointer(&bytes));
            return TRUE;
        }
        failed = cluster.host_bytes;
    }
}
