#include "image/prealloc.h"

#include "base/error.h"
#include "base/num.h"
#include "image/copy.h"
#include "raw/raw.h"

/* How much is reserved between two looks at the cancel flag. */
#define RESERVE_STEP_BYTES GIB

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

guint64
prealloc_space_bytes(KhoPrealloc prealloc, guint64 bytes)
{
    guint64 data = num_align_up(MIN(bytes, NUM_OFFSET_MAX - 2 * MIB), 2 * MIB);

    return prealloc == KHO_PREALLOC_FALLOC || prealloc == KHO_PREALLOC_FULL ? data : 0;
}

/* One place of [at, to): its space, then its mapping. */
static gboolean
allocate_place(KhoImage *image, guint64 at, guint64 to, KhoPrealloc prealloc, guint64 *next, GError **error)
{
    BlkZeroMode mode = prealloc == KHO_PREALLOC_METADATA ? BLK_ZERO_MAY_PUNCH : BLK_ZERO_RESERVE;
    guint64 step = MIN(to - at, RESERVE_STEP_BYTES);
    Place place;

    if (!format_prepare(image->format, guest_off(at), step, &place, error))
        return FALSE;
    guint64 head = at - place.at.bytes;
    guint64 bytes = MIN(place.bytes - head, step);
    *next = at + bytes;

    /* A new place is made zeros whole, since what it held before is undefined; in place there are zeros. */
    guint64 host = place.in_place ? place.host.bytes + head : place.host.bytes;
    if (!blk_zero(image->format->file, host, place.in_place ? bytes : place.bytes, mode, error)) {
        format_abandon(image->format, &place);
        return FALSE;
    }
    return format_commit(image->format, &place, error);
}

gboolean
prealloc_range(KhoImage *image, guint64 from, guint64 to, KhoPrealloc prealloc, const KhoJob *job,
               GError **error)
{
    guint64 next;

    if (prealloc == KHO_PREALLOC_OFF)
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
