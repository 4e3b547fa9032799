/* Reading and writing the virtual disk through its chain. Copy-on-write: a place is prepared by the format,
 * what the guest did not write of it is filled from what reads there now, and only then is it mapped. */
#include "image/image.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

static gboolean
check_range(KhoImage *image, guint64 off, guint64 len, GError **error)
{
    guint64 size = image->format->guest_bytes;

    return (off <= size && len <= size - off)
           || fail(error, KHO_ERROR_INVALID,
                   "%s: %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                   " lie past its end at %" G_GUINT64_FORMAT,
                   image->path, len, off, size);
}

static gboolean
check_writable(KhoImage *image, GError **error)
{
    return image->writable || fail(error, KHO_ERROR_DENIED, "%s is open for reading only", image->path);
}

gboolean
image_locate(KhoImage *image, guint64 off, guint64 max_bytes, Located *found, GError **error)
{
    for (;;) {
        if (!format_map(image->format, guest_off(off), max_bytes, &found->run, error))
            return FALSE;
        found->owner = image;
        if (found->run.kind != RUN_HOLE || !image->backing)
            return TRUE;
        /* Where the backing file is shorter than its overlay, the hole is the overlay's. */
        guint64 backing_bytes = image->backing->format->guest_bytes;
        if (off >= backing_bytes)
            return TRUE;
        max_bytes = MIN(found->run.bytes, backing_bytes - off);
        image = image->backing;
    }
}

static gboolean
read_data(const KhoImage *owner, guint64 host, guint8 *to, guint64 len, GError **error)
{
    BlkStore *data = owner->format->data;

    if (!data)
        return fail(error, KHO_ERROR_INVALID, "%s is open without its data file", owner->path);
    return blk_pread_padded(data, host, to, len, error);
}

/* Without taking the range: for whoever holds it. */
static gboolean
read_held(KhoImage *image, guint64 off, guint8 *to, guint64 len, GError **error)
{
    while (len > 0) {
        Located at;

        if (!image_locate(image, off, len, &at, error))
            return FALSE;
        FormatImage *format = at.owner->format;
        gboolean done = TRUE;
        switch (at.run.kind) {
        case RUN_HOLE:
        case RUN_ZERO: memset(to, 0, at.run.bytes); break;
        case RUN_DATA: done = read_data(at.owner, at.run.host.bytes, to, at.run.bytes, error); break;
        case RUN_COMPRESSED: done = format_inflate(format, guest_off(off), to, at.run.bytes, error); break;
        }
        if (!done)
            return FALSE;
        off += at.run.bytes;
        to += at.run.bytes;
        len -= at.run.bytes;
    }
    return TRUE;
}

/* Holds every cluster that [off, off + len) touches. */
static void
hold_clusters(KhoImage *image, RangeHold *hold, guint64 off, guint64 len, gboolean shared)
{
    guint64 cluster = image->cluster_bytes;

    range_lock_take(&image->ranges, hold, num_align_down(off, cluster), num_align_up(off + len, cluster),
                    shared);
}

gboolean
kho_image_read(KhoImage *image, guint64 off, void *buf, gsize len, GError **error)
{
    RangeHold hold;

    if (!check_range(image, off, len, error))
        return FALSE;
    if (len == 0 || !image->writable)
        return read_held(image, off, buf, len, error);
    hold_clusters(image, &hold, off, len, TRUE);
    gboolean done = read_held(image, off, buf, len, error);
    range_lock_drop(&image->ranges, &hold);
    return done;
}

/* Copies what reads at [off, off + len) now to @host: the part of a new place that is not written. Past the
 * end of the virtual disk (within its last cluster) that is zeros, which a data file does without. */
static gboolean
fill_place(KhoImage *image, guint64 off, guint64 len, HostOff host, GError **error)
{
    guint64 size = image->format->guest_bytes;
    guint64 known = off >= size ? 0 : MIN(len, size - off);

    len = image_place_bytes(image, off, len);
    if (len == 0)
        return TRUE;
    /* At most a cluster: what lies before or behind the written bytes in their first or last one. */
    g_autofree guint8 *bytes = g_malloc0(len);
    return read_held(image, off, bytes, known, error)
           && blk_pwrite(image->format->data, host.bytes, bytes, len, error);
}

/* Writes as much of [off, off + len) as one place takes. */
static gboolean
write_place(KhoImage *image, guint64 off, const guint8 *from, guint64 len, guint64 *done, GError **error)
{
    BlkStore *data = image->format->data;
    Place place;

    if (!format_prepare(image->format, guest_off(off), len, &place, error))
        return FALSE;
    guint64 head = off - place.at.bytes;
    guint64 written = MIN(len, place.bytes - head);
    guint64 end = head + written;
    HostOff tail_host = host_off(place.host.bytes + end);

    gboolean filled = place.in_place
                      || (fill_place(image, place.at.bytes, head, place.host, error)
                          && fill_place(image, off + written, place.bytes - end, tail_host, error));
    if (!filled || !blk_pwrite(data, place.host.bytes + head, from, written, error)) {
        format_abandon(image->format, &place);
        return FALSE;
    }
    *done = written;
    return format_commit(image->format, &place, error);
}

static gboolean
write_held(KhoImage *image, guint64 off, const guint8 *from, guint64 len, GError **error)
{
    while (len > 0) {
        guint64 done;

        if (!write_place(image, off, from, len, &done, error))
            return FALSE;
        off += done;
        from += done;
        len -= done;
    }
    return TRUE;
}

gboolean
kho_image_write(KhoImage *image, guint64 off, const void *buf, gsize len, GError **error)
{
    RangeHold hold;

    if (!check_range(image, off, len, error) || !check_writable(image, error))
        return FALSE;
    if (len == 0)
        return TRUE;
    hold_clusters(image, &hold, off, len, FALSE);
    gboolean done = write_held(image, off, buf, len, error);
    range_lock_drop(&image->ranges, &hold);
    return done;
}

static gboolean
write_own_zeros(KhoImage *image, guint64 off, guint64 len, guint64 *done, GError **error)
{
    static const guint8 zeros[64 * 1024];

    *done = MIN(len, sizeof zeros);
    return write_held(image, off, zeros, *done, error);
}

/* Makes a part of one subcluster, or of one that the format cannot mark as zero, read as zeros. */
static gboolean
write_zeros(KhoImage *image, guint64 off, guint64 len, guint64 *done, GError **error)
{
    guint64 to_end = image->subcluster_bytes - off % image->subcluster_bytes;
    Located at;

    if (!image_locate(image, off, MIN(len, to_end), &at, error))
        return FALSE;
    *done = at.run.bytes;
    if (at.run.kind == RUN_HOLE || at.run.kind == RUN_ZERO)
        return TRUE;
    return write_own_zeros(image, off, at.run.bytes, done, error);
}

/* @own: also what reads as zeros already becomes zeros of this image's own. */
static gboolean
zero_held(KhoImage *image, guint64 off, guint64 len, gboolean own, GError **error)
{
    while (len > 0) {
        guint64 done = 0;

        if (!format_zero(image->format, guest_off(off), len, &done, error))
            return FALSE;
        /* The format cannot say zero: qcow2 version 2, or a part of a compressed cluster. */
        if (done == 0 && !(own ? write_own_zeros : write_zeros)(image, off, len, &done, error))
            return FALSE;
        off += done;
        len -= done;
    }
    return TRUE;
}

gboolean
kho_image_zero(KhoImage *image, guint64 off, guint64 len, GError **error)
{
    RangeHold hold;

    if (!check_range(image, off, len, error) || !check_writable(image, error))
        return FALSE;
    if (len == 0)
        return TRUE;
    hold_clusters(image, &hold, off, len, FALSE);
    gboolean done = zero_held(image, off, len, FALSE, error);
    range_lock_drop(&image->ranges, &hold);
    return done;
}

gboolean
image_own_zeros(KhoImage *image, guint64 off, guint64 len, GError **error)
{
    RangeHold hold;

    hold_clusters(image, &hold, off, len, FALSE);
    gboolean done = zero_held(image, off, len, TRUE, error);
    range_lock_drop(&image->ranges, &hold);
    return done;
}

gboolean
image_write_packed(KhoImage *image, guint64 off, const guint8 *packed, gsize len, GError **error)
{
    RangeHold hold;

    hold_clusters(image, &hold, off, 1, FALSE);
    gboolean done = format_put_packed(image->format, guest_off(off), packed, len, error);
    range_lock_drop(&image->ranges, &hold);
    return done;
}

gboolean
kho_image_flush(KhoImage *image, GError **error)
{
    return format_flush(image->format, error);
}

/* An image may map what its file has no blocks for (tables made beforehand, the data left sparse). Asked of
 * the file system only where the file has holes at all. */
static gboolean
look_for_file_hole(KhoImage *owner, Run *run, gboolean *is_hole, GError **error)
{
    BlkStore *data = owner->format->data;
    guint64 data_bytes;
    BlkExtent extent;

    if (run->kind != RUN_DATA || !owner->has_file_holes || owner->cluster_bytes == 1)
        return TRUE;
    if (!blk_size(data, &data_bytes, error))
        return FALSE;
    if (run->host.bytes >= data_bytes) {
        *is_hole = TRUE;
        return TRUE;
    }
    if (!blk_extent(data, run->host.bytes, MIN(run->bytes, data_bytes - run->host.bytes), &extent, error))
        return FALSE;
    run->bytes = extent.bytes;
    *is_hole = extent.kind == BLK_EXTENT_HOLE;
    return TRUE;
}

static gboolean
look_up(KhoImage *image, guint64 off, guint64 max_bytes, KhoMapEntry *entry, GError **error)
{
    static const KhoMapKind kinds[] = {
        [RUN_HOLE] = KHO_MAP_HOLE,
        [RUN_ZERO] = KHO_MAP_ZERO,
        [RUN_DATA] = KHO_MAP_DATA,
        [RUN_COMPRESSED] = KHO_MAP_COMPRESSED,
    };
    gboolean is_hole = FALSE;
    Located at;

    if (!image_locate(image, off, max_bytes, &at, error)
        || !look_for_file_hole(at.owner, &at.run, &is_hole, error))
        return FALSE;
    RunKind kind = at.run.kind;
    gboolean is_raw = at.owner->cluster_bytes == 1; /* a hole of the file has its place all the same */
    /* What lies there in an encrypted image is not what the guest reads. */
    gboolean is_plain = !at.owner->format->encrypted;
    gboolean is_place = (kind == RUN_DATA || (kind == RUN_HOLE && at.run.allocated)) && is_plain;
    gboolean has_offset =
        !at.owner->foreign && (is_place || (kind == RUN_ZERO && (at.run.allocated || is_raw)));
    guint64 host = is_raw ? off : at.run.host.bytes;

    *entry = (KhoMapEntry){ .start_bytes = off,
                            .length_bytes = at.run.bytes,
                            .host_offset_bytes = has_offset ? host : 0,
                            .depth = at.owner->depth,
                            .kind = kinds[kind],
                            .has_offset = has_offset,
                            .reads_zero = kind == RUN_HOLE || kind == RUN_ZERO || is_hole,
                            .path = at.owner->data_path ? at.owner->data_path : at.owner->path };
    return TRUE;
}

static gboolean
continues(const KhoMapEntry *entry, const KhoMapEntry *next)
{
    return next->kind == entry->kind && next->depth == entry->depth && next->has_offset == entry->has_offset
           && next->reads_zero == entry->reads_zero
           && (!entry->has_offset
               || next->host_offset_bytes == entry->host_offset_bytes + entry->length_bytes);
}

gboolean
kho_image_map(KhoImage *image, guint64 off, guint64 max_bytes, KhoMapEntry *entry, GError **error)
{
    KhoMapEntry whole = { 0 };

    if (max_bytes == 0 || !check_range(image, off, max_bytes, error))
        return max_bytes > 0 ? FALSE : fail(error, KHO_ERROR_INVALID, "%s: a map of no bytes", image->path);
    while (whole.length_bytes < max_bytes) {
        guint64 at = off + whole.length_bytes;
        KhoMapEntry next;

        if (!look_up(image, at, max_bytes - whole.length_bytes, &next, error))
            return FALSE;
        if (whole.length_bytes == 0)
            whole = next;
        else if (continues(&whole, &next))
            whole.length_bytes += next.length_bytes;
        else
            break;
    }
    *entry = whole;
    return TRUE;
}
