#include "qcow2/packed.h"

#include "base/error.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/codec.h"
#include "qcow2/flush.h"
#include "qcow2/l2.h"
#include "qcow2/place.h"
#include "qcow2/qcow2.h"
#include "qcow2/refcount.h"

typedef struct {
    FormatPacker base;
    Qcow2Packer *codec;
} ImagePacker;

FormatPacker *
qcow2_packer_new(FormatImage *format, FormatLevel level)
{
    const Qcow2Image *image = qcow2_image(format);
    ImagePacker *packer = g_new0(ImagePacker, 1);

    packer->base.ops = &qcow2_format;
    packer->codec =
        qcow2_codec_packer_new((Qcow2Compression) image->header.compression, level, image->geo.cluster_bytes);
    return &packer->base;
}

gsize
qcow2_pack(FormatPacker *packer, const guint8 *cluster, guint8 *packed)
{
    return qcow2_codec_pack(((ImagePacker *) packer)->codec, cluster, packed);
}

void
qcow2_packer_free(FormatPacker *packer)
{
    qcow2_codec_packer_free(((ImagePacker *) packer)->codec);
    g_free(packer);
}

/* Can @len bytes follow the last ones in their host cluster? It may hold a part of them only. */
static gboolean
may_follow(Qcow2Image *image, gboolean *may, GError **error)
{
    guint64 count = 0;

    *may = FALSE;
    if (image->packed_to % image->geo.cluster_bytes == 0)
        return TRUE;
    if (!qcow2_refcount_get(image, image->packed_to >> image->geo.cluster_bits, &count, error))
        return FALSE;
    *may = count > 0 && count < image->geo.refcount_max;
    return TRUE;
}

/* Raises the counts of what @len packed bytes will touch, and says where they go. */
static gboolean
reserve(Qcow2Image *image, gsize len, guint64 *host, GError **error)
{
    guint bits = image->geo.cluster_bits;
    guint64 tail = image->packed_to, room = image->geo.cluster_bytes - tail % image->geo.cluster_bytes;
    guint64 cluster, got;
    gboolean follows;

    if (!may_follow(image, &follows, error))
        return FALSE;
    if (follows && len <= room) {
        *host = tail;
        return qcow2_refcount_raise(image, tail >> bits, 1, error);
    }
    if (!qcow2_alloc(image, 1, TRUE, &cluster, &got, error))
        return FALSE;
    *host = cluster << bits;
    if (!follows || cluster != (tail >> bits) + 1)
        return TRUE;
    *host = tail;
    if (qcow2_refcount_raise(image, tail >> bits, 1, error))
        return TRUE;
    qcow2_refcount_lower(image, cluster, 1, NULL);
    return FALSE;
}

static guint64
last_cluster(const Qcow2Image *image, guint64 host, gsize len)
{
    return (host + len - 1) >> image->geo.cluster_bits;
}

static void
give_back(Qcow2Image *image, guint64 host, gsize len)
{
    guint64 first = host >> image->geo.cluster_bits;

    image->packed_to = 0;
    qcow2_refcount_lower(image, first, last_cluster(image, host, len) - first + 1, NULL);
}

/* The table gets its cluster before the bytes get theirs, so that it does not come to lie behind them and
 * leave the rest of their last cluster empty. */
static gboolean
find_room(Qcow2Image *image, guint64 start, gsize len, guint64 *host, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    guint offset_bits = qcow2_packed_offset_bits(&image->header);
    Qcow2Table *table;

    qcow2_wait_places_locked(image, start, start + image->geo.cluster_bytes);
    if (!qcow2_begin_write_locked(image, error) || !qcow2_bitmaps_begin_locked(image, error)
        || !qcow2_settle_locked(image, error)
        || !qcow2_l2_writable_locked(image, qcow2_index(&image->geo, start).l1_index, &table, error)
        || !reserve(image, len, host, error))
        return FALSE;
    if (*host + len <= G_GUINT64_CONSTANT(1) << MIN(offset_bits, 56)) {
        image->packed_to = *host + len;
        qcow2_bitmaps_mark_locked(image, start, image->geo.cluster_bytes);
        return TRUE;
    }
    give_back(image, *host, len);
    return fail(error, KHO_ERROR_NO_SPACE,
                "%s is too large for compressed clusters of %" G_GUINT64_FORMAT " bytes",
                image->base.file->label, image->geo.cluster_bytes);
}

static gboolean
publish(Qcow2Image *image, guint64 start, guint64 host, gsize len, GError **error)
{
    guint64 sectors = (host + len - 1) / QCOW2_SECTOR_BYTES - host / QCOW2_SECTOR_BYTES;
    guint64 word = QCOW2_ENTRY_COMPRESSED | sectors << qcow2_packed_offset_bits(&image->header) | host;
    Qcow2Index index = qcow2_index(&image->geo, start);
    Qcow2Table *table;

    if (!qcow2_l2_writable_locked(image, index.l1_index, &table, error))
        return FALSE;
    qcow2_refcount_release_later(image, &image->header, qcow2_l2_entry(&image->geo, table, index.l2_index));
    qcow2_l2_set(image, table, index.l2_index, (Qcow2Entry){ word, 0 });
    return TRUE;
}

gboolean
qcow2_put_packed(FormatImage *format, GuestOff at, const guint8 *packed, gsize len, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    guint64 start = num_align_down(at.bytes, image->geo.cluster_bytes), host = 0;

    g_assert(len < image->geo.cluster_bytes);
    if (!find_room(image, start, len, &host, error))
        return FALSE;
    gboolean done = blk_pwrite(format->file, host, packed, len, error);

    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);
    if (done && publish(image, start, host, len, error))
        return TRUE;
    give_back(image, host, len);
    return FALSE;
}

gboolean
qcow2_packed_finish_locked(Qcow2Image *image, GError **error)
{
    guint64 end = num_align_up(image->packed_to, QCOW2_SECTOR_BYTES), file_bytes;

    if (end == image->packed_to)
        return TRUE;
    return blk_size(image->base.file, &file_bytes, error)
           && (file_bytes >= end || blk_truncate(image->base.file, end, error));
}
