#include "image/prealloc.h"

#include "base/error.h"
#include "base/num.h"
#include "image/copy.h"
#include "raw/raw.h"

/* How much is reserved between two looks at the cancel flag; and where it must be enciphered and written. */
#define RESERVE_STEP_BYTES GIB
#define WRITE_STEP_BYTES   (64 * MIB)

gboolean
prealloc_check(const FormatOps *ops, KhoPrealloc prealloc, gboolean has_backing, GError **error)
{
    if (prealloc == KHO_PREALLOC_METADATA && ops == &raw_format)
        return fail(error, KHO_ERROR_INVALID,
                    "a raw image has no metadata to preallocate: use falloc or full");
    if (prealloc != KHO_PREALLOC_OFF && has_backing)
        return fail(
            error, KHO_ERROR_INVALID,
            "an image with a backing file cannot be preallocated: it would hide what the backing file holds");
    return TRUE;
}

static guint64
reserved_of(KhoPrealloc prealloc, guint64 data, guint64 tables)
{
    switch (prealloc) {
    case KHO_PREALLOC_OFF: return 0;
    case KHO_PREALLOC_METADATA: return tables;
    case KHO_PREALLOC_FALLOC:
    case KHO_PREALLOC_FULL: return data + tables;
    }
    return 0;
}

guint64
prealloc_space_bytes(KhoPrealloc prealloc, guint64 bytes, guint32 cluster_bytes)
{
    guint64 cluster = cluster_bytes;
    guint64 data = num_align_up(MIN(bytes, NUM_OFFSET_MAX / 2), cluster);
    /* Each cluster: at most eight bytes of refcount, and eight of L2 or, where it can have subclusters,
     * sixteen. And new L1 and refcount tables. */
    guint64 each = cluster >= 16 * KIB ? 24 : 16;
    guint64 tables = cluster == 1 ? 0 : data / cluster * each + PREALLOC_TABLE_CLUSTERS * cluster;

    return reserved_of(prealloc, data, tables);
}

guint64
prealloc_least_bytes(KhoPrealloc prealloc, guint64 bytes, guint32 cluster_bytes, gboolean has_tables)
{
    guint64 data = MIN(bytes, NUM_OFFSET_MAX / 2);
    guint64 tables = has_tables || cluster_bytes == 1 ? 0 : data / cluster_bytes * 8;

    return reserved_of(prealloc, data, tables);
}

/* Makes the place's space read as zeros: as a hole, or reserved. Nobody else writes to the file meanwhile, so
 * that it may be made longer in one step, without a block at the end of each place. */
static gboolean
make_zeros(BlkStore *file, guint64 host, guint64 bytes, KhoPrealloc prealloc, GError **error)
{
    guint64 file_bytes;

    if (prealloc != KHO_PREALLOC_METADATA)
        return blk_zero(file, host, bytes, BLK_ZERO_RESERVE, error);
    if (!blk_size(file, &file_bytes, error))
        return FALSE;
    if (host < file_bytes && !blk_zero(file, host, MIN(bytes, file_bytes - host), BLK_ZERO_MAY_PUNCH, error))
        return FALSE;
    return host + bytes <= file_bytes || blk_truncate(file, host + bytes, error);
}

/* One place of [at, to): its space, then its mapping. */
static gboolean
allocate_place(KhoImage *image, guint64 at, guint64 to, KhoPrealloc prealloc, guint64 *next, GError **error)
{
    guint64 step = MIN(to - at, image->format->encrypted ? WRITE_STEP_BYTES : RESERVE_STEP_BYTES);
    Place place;

    if (!format_prepare(image->format, guest_off(at), step, &place, error))
        return FALSE;
    guint64 head = at - place.at.bytes;
    guint64 bytes = MIN(place.bytes - head, step);
    *next = at + bytes;

    /* A new place is made zeros whole, since what it held before is undefined; in place there are zeros. */
    guint64 host = place.in_place ? place.host.bytes + head : place.host.bytes;
    guint64 whole = image_place_bytes(image, place.at.bytes, place.bytes);
    if (!make_zeros(image->format->data, host, place.in_place ? bytes : whole, prealloc, error)) {
        format_abandon(image->format, &place);
        return FALSE;
    }
    return format_commit(image->format, &place, error);
}

gboolean
prealloc_range(KhoImage *image, guint64 from, guint64 to, KhoPrealloc wanted, const KhoJob *job,
               GError **error)
{
    KhoPrealloc prealloc = prealloc_kind(wanted, image->format->encrypted);
    guint64 next;

    if (prealloc == KHO_PREALLOC_OFF || from >= to)
        return TRUE;
    for (guint64 at = from; at < to; at = next) {
        if (kho_job_is_cancelled(job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is unchanged", image->path);
        if (!allocate_place(image, at, to, prealloc, &next, error))
            return FALSE;
    }
    CopyPlan zeros = { .target = image, .target_off = from, .bytes = to - from, .job = job };
    return prealloc != KHO_PREALLOC_FULL || image_copy(&zeros, error);
}
