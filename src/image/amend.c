/* Amend: another layout, then another size. */
#include "base/error.h"
#include "base/num.h"
#include "image/cost.h"
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

/* What version 2 has no word for. */
static gboolean
tell_losses(KhoImage *image, const FormatAmend *wish, const FormatCost *cost, KhoImagePlan *plan,
            GError **error)
{
    FormatInfo info;

    if (!format_info(image->format, &info, error))
        return FALSE;
    gboolean becomes_2 = wish->version == 2 && info.version == 3;
    g_autofree char *zeros = num_format_size(cost->zero_clusters * image->cluster_bytes);

    if (wish->guest_bytes > 0 && wish->guest_bytes < info.guest_bytes)
        cost_lost(plan, "the last %" G_GUINT64_FORMAT " bytes of the disk",
                  info.guest_bytes - wish->guest_bytes);
    if (info.lazy_refcounts && (becomes_2 || wish->lazy_refcounts < 0))
        cost_lost(plan, "lazy refcounts");
    if (becomes_2 && g_strcmp0(info.compression, "zlib") != 0)
        cost_lost(plan, "compression by %s: what is compressed from now on is so by zlib", info.compression);
    if (cost->zero_clusters > 0)
        cost_lost(plan, "the marks of %s as zeros: %s", zeros,
                  info.backing_file ? "they get places in the file" : "they become holes");
    format_info_clear(&info);
    return TRUE;
}

static gboolean
plan_amend(KhoImage *image, const FormatAmend *wish, KhoImagePlan *plan, GError **error)
{
    const FormatChange asked = { .kind = FORMAT_AMEND, .amend = wish };
    FormatCost cost = { 0 };
    gboolean fits = cost_change(image, &asked, plan, &cost, error);

    return (!plan || tell_losses(image, wish, &cost, plan, fits ? error : NULL)) && fits;
}

gboolean
kho_image_amend(const KhoImageAmend *a, const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    const FormatAmend wish = { .version = a->qcow2_version,
                               .refcount_bits = a->refcount_bits,
                               .lazy_refcounts = a->lazy_refcounts,
                               .guest_bytes = a->size_bytes,
                               .data_file = a->data_file };
    const KhoImageResize resize = { .size_bytes = a->size_bytes, .may_shrink = a->may_shrink };
    const KhoImageSource source = {
        .path = a->path, .format = a->format, .flags = KHO_IMAGE_WRITE, .gate = gate, .secrets = a->secrets
    };
    g_autoptr(KhoImage) image = kho_image_open_source(&source, error);

    if (!image)
        return FALSE;
    image_only_looks(image, a->plan);
    if (!check_backing(a, image, error) || !check_size(a, image, error)
        || !format_amend(image->format, &wish, TRUE, error))
        return FALSE;
    if (a->only_check)
        return TRUE;
    gboolean done = plan_amend(image, &wish, a->plan, error)
                    && (a->plan
                        || (format_amend(image->format, &wish, FALSE, error)
                            && (a->size_bytes == 0 || resize_image(image, &resize, job, error))));
    return image_close_after(g_steal_pointer(&image), done, error);
}
