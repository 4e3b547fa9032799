#include "raw/raw.h"

#include "base/error.h"
#include "base/num.h"

#define SECTOR_BYTES 512

static gboolean
raw_probe(const guint8 *head, gsize len)
{
    return FALSE; /* anything may be raw, so nothing looks like it: it is stated, or what is left */
}

static FormatImage *
raw_open(BlkStore *file, FormatFlags flags, GError **error)
{
    guint64 file_bytes;

    if (!blk_size(file, &file_bytes, error))
        return NULL;
    if (file_bytes > num_align_down(NUM_OFFSET_MAX, SECTOR_BYTES)) {
        fail(error, KHO_ERROR_INVALID, "%s is too large: %" G_GUINT64_FORMAT " bytes", file->label,
             file_bytes);
        return NULL;
    }
    FormatImage *image = g_new0(FormatImage, 1);
    image->ops = &raw_format;
    image->file = file;
    image->data = file;
    image->guest_bytes = num_align_up(file_bytes, SECTOR_BYTES);
    image->flags = flags;
    return image;
}

static gboolean
raw_info(FormatImage *image, FormatInfo *info, GError **error)
{
    *info = (FormatInfo){ .guest_bytes = image->guest_bytes, .snapshots = g_ptr_array_new() };
    return TRUE;
}

static gboolean
raw_map(FormatImage *image, GuestOff at, guint64 max_bytes, Run *run, GError **error)
{
    guint64 file_bytes;
    BlkExtent extent;

    if (!blk_size(image->file, &file_bytes, error))
        return FALSE;
    if (at.bytes >= file_bytes) { /* the rest of the last sector */
        *run = (Run){ .kind = RUN_ZERO, .bytes = max_bytes };
        return TRUE;
    }
    if (!blk_extent(image->file, at.bytes, max_bytes, &extent, error))
        return FALSE;
    gboolean data = extent.kind == BLK_EXTENT_DATA;
    *run = (Run){ .kind = data ? RUN_DATA : RUN_ZERO,
                  .host = host_off(data ? at.bytes : 0),
                  .bytes = extent.bytes,
                  .allocated = data };
    return TRUE;
}

static gboolean
raw_inflate(FormatImage *image, GuestOff at, void *buf, gsize len, GError **error)
{
    return fail(error, KHO_ERROR_INTERNAL, "%s: a raw image has no compressed clusters", image->file->label);
}

static gboolean
raw_prepare(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error)
{
    *place = (Place){ .at = at, .host = host_off(at.bytes), .bytes = max_bytes, .in_place = TRUE };
    return TRUE;
}

static gboolean
raw_commit(FormatImage *image, const Place *place, GError **error)
{
    return TRUE;
}

static void
raw_abandon(FormatImage *image, const Place *place)
{
}

static gboolean
raw_zero(FormatImage *image, GuestOff at, guint64 len, guint64 *done, GError **error)
{
    if (!blk_zero(image->file, at.bytes, len, BLK_ZERO_MAY_PUNCH, error))
        return FALSE;
    *done = len;
    return TRUE;
}

static gboolean
raw_flush(FormatImage *image, GError **error)
{
    return blk_flush(image->file, error);
}

static gboolean
raw_resize(FormatImage *image, guint64 guest_bytes, gboolean may_shrink, const struct KhoJob *job,
           GError **error)
{
    const char *label = image->file->label;
    guint64 now;

    if (guest_bytes > num_align_down(NUM_OFFSET_MAX, SECTOR_BYTES))
        return fail(error, KHO_ERROR_INVALID, "cannot resize %s: %" G_GUINT64_FORMAT " bytes is too large",
                    label, guest_bytes);
    /* The file has exactly what was asked for; the disk, as everywhere, whole sectors. */
    guint64 wanted = num_align_up(guest_bytes, SECTOR_BYTES);
    if (wanted < image->guest_bytes && !may_shrink)
        return fail(error, KHO_ERROR_INVALID,
                    "cannot shrink %s from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                    " bytes: the data past the end would be lost",
                    label, image->guest_bytes, wanted);
    if (!blk_truncate(image->file, guest_bytes, error) || !blk_size(image->file, &now, error))
        return FALSE;
    if (now != guest_bytes)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "cannot resize %s to %" G_GUINT64_FORMAT " bytes: a device of %" G_GUINT64_FORMAT
                    " bytes stays so",
                    label, guest_bytes, now);
    image->guest_bytes = wanted;
    return TRUE;
}

static gboolean
raw_check(FormatImage *image, FormatRepair repair, FormatCheck *result, GError **error)
{
    return fail(error, KHO_ERROR_UNSUPPORTED, "%s is raw: there is nothing to check", image->file->label);
}

static gboolean
raw_close(FormatImage *image, GError **error)
{
    gboolean ok = !(image->flags & FORMAT_WRITABLE) || blk_flush(image->file, error);

    blk_free(image->file);
    g_free(image);
    return ok;
}

const FormatOps raw_format = {
    .name = "raw",
    .probe = raw_probe,
    .open = raw_open,
    .info = raw_info,
    .map = raw_map,
    .inflate = raw_inflate,
    .prepare = raw_prepare,
    .commit = raw_commit,
    .abandon = raw_abandon,
    .zero = raw_zero,
    .flush = raw_flush,
    .resize = raw_resize,
    .check = raw_check,
    .close = raw_close,
};
