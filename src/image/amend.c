/* Amend: another layout, then another size. */
#include "base/error.h"
#include "base/num.h"
#include "image/resize.h"
#include "image/target.h"

#include <kho/image_change.h>

static gboolean
check_backing(const KhoImageAmend *a, KhoImage *image, GError **error)
{
    FormatInfo info;

    if (!a->backing_file && !a->backing_format)
        return TRUE;
    if (!format_info(image->format, &info, error))
        return FALSE;
    gboolean same = g_strcmp0(a->backing_file, info.backing_file) == 0
                    && g_strcmp0(a->backing_format, info.backing_format) == 0;
    format_info_clear(&info);
    return same
           || fail(error, KHO_ERROR_INVALID, "%s: its backing file is changed by img rebase", image->path);
}

static gboolean
check_size(const KhoImageAmend *a, const KhoImage *image, GError **error)
{
    guint64 now = kho_image_size_bytes(image), to = a->size_bytes;

    if (to == 0)
        return TRUE;
    if (to % IMAGE_SECTOR_BYTES != 0 || to > NUM_OFFSET_MAX - IMAGE_SECTOR_BYTES)
        return fail(error, KHO_ERROR_INVALID,
                    "%s: a size of %" G_GUINT64_FORMAT
                    " bytes: whole sectors of %d bytes are wanted, below 2^63",
                    image->path, to, IMAGE_SECTOR_BYTES);
    return to >= now || a->may_shrink
           || fail(error, KHO_ERROR_INVALID,
                   "%s has %" G_GUINT64_FORMAT " bytes: to shrink it to %" G_GUINT64_FORMAT
                   " loses what lies past the end, which must be asked for",
                   image->path, now, to);
}

gboolean
kho_image_amend(const KhoImageAmend *a, const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    const FormatAmend wish = { .version = a->qcow2_version,
                               .refcount_bits = a->refcount_bits,
                               .lazy_refcounts = a->lazy_refcounts,
                               .guest_bytes = a->size_bytes };
    const KhoImageResize resize = { .size_bytes = a->size_bytes, .may_shrink = a->may_shrink };
    const KhoImageSource source = {
        .path = a->path, .format = a->format, .flags = KHO_IMAGE_WRITE, .gate = gate, .secrets = a->secrets
    };
    g_autoptr(KhoImage) image = kho_image_open_source(&source, error);

    if (!image || !check_backing(a, image, error) || !check_size(a, image, error)
        || !format_amend(image->format, &wish, TRUE, error))
        return FALSE;
    if (a->only_check)
        return TRUE;
    gboolean done = format_amend(image->format, &wish, FALSE, error)
                    && (a->size_bytes == 0 || resize_image(image, &resize, job, error));
    return image_close_after(g_steal_pointer(&image), done, error);
}
