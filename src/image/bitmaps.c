/* Bitmaps inside images: one step after the other, and copies of all of them. What they are on disk is the
 * format's business. */
#include "image/bitmaps.h"

#include "base/error.h"
#include "base/num.h"

#include <kho/image_bitmap.h>
#include <string.h>

static const FormatBitmapAction actions[] = {
    [KHO_BITMAP_ADD] = FORMAT_BITMAP_ADD,         [KHO_BITMAP_REMOVE] = FORMAT_BITMAP_REMOVE,
    [KHO_BITMAP_CLEAR] = FORMAT_BITMAP_CLEAR,     [KHO_BITMAP_ENABLE] = FORMAT_BITMAP_ENABLE,
    [KHO_BITMAP_DISABLE] = FORMAT_BITMAP_DISABLE, [KHO_BITMAP_MERGE] = FORMAT_BITMAP_MERGE,
};

static gboolean
run_steps(const KhoImageBitmapChange *change, KhoImage *image, KhoImage *source, gsize *failed,
          GError **error)
{
    for (gsize i = 0; i < change->n_steps; i++) {
        const FormatBitmapChange one = {
            .action = actions[change->steps[i].action],
            .name = change->name,
            .granularity_bytes = change->granularity_bytes,
            .source_name = change->steps[i].source,
            .source = source ? source->format : NULL,
        };
        *failed = i;
        if (!format_bitmap(image->format, &one, error))
            return FALSE;
    }
    *failed = change->n_steps;
    return TRUE;
}

gboolean
kho_image_bitmap(const KhoImageBitmapChange *change, const KhoImageGate *gate, gsize *failed, GError **error)
{
    const KhoImageFlags alone = KHO_IMAGE_NO_BACKING | KHO_IMAGE_NO_DATA;
    g_autoptr(KhoImage) source = NULL;
    gsize step = change->n_steps;

    if (failed)
        *failed = step;
    g_autoptr(KhoImage) image =
        kho_image_open(change->path, change->format, KHO_IMAGE_WRITE | KHO_IMAGE_NO_BACKING, gate, error);
    if (!image)
        return FALSE;
    if (change->source_path) {
        source = kho_image_open(change->source_path, change->source_format, alone, gate, error);
        if (!source)
            return FALSE;
    }
    gboolean done = run_steps(change, image, source, &step, error);
    if (failed)
        *failed = step;
    return image_close_after(g_steal_pointer(&image), done, error);
}

/* --- copies --- */

gboolean
bitmaps_check_copy(KhoImage *source, const KhoImageConvert *options, GError **error)
{
    const KhoImageCreate *target = &options->target;
    g_autofree char *broken = NULL;
    FormatInfo info;

    if (source->foreign || !source->format->ops->bitmap)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which has no bitmaps", source->path,
                    kho_image_format(source));
    if (options->into ? !options->into->format->ops->bitmap
                      : !g_str_equal(target->format, "qcow2") || target->qcow2_version == 2)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "only a qcow2 image of version 3 can have bitmaps: use -O qcow2");
    guint64 to_bytes = options->into ? options->into->format->guest_bytes : target->size_bytes;
    if (to_bytes != 0 && to_bytes != source->format->guest_bytes)
        return fail(error, KHO_ERROR_INVALID, "bitmaps are copied for a disk of the same size only");
    if (!format_info(source->format, &info, error))
        return FALSE;
    /* The last one first, as QEMU goes through them. */
    for (guint i = info.bitmaps ? info.bitmaps->len : 0; i-- > 0;) {
        const FormatBitmap *b = info.bitmaps->pdata[i];
        if (!b->in_use)
            continue;
        if (options->skip_bitmap)
            options->skip_bitmap(b->name, options->skip_data);
        else if (!broken)
            broken = g_strdup(b->name);
    }
    format_info_clear(&info);
    return !broken
           || fail(error, KHO_ERROR_CORRUPT,
                   "%s: bitmap '%s' is inconsistent and cannot be copied: remove it (kho img bitmap "
                   "--remove), or "
                   "leave out such ones (--skip-broken-bitmaps)",
                   source->path, broken);
}

static gboolean
copy_one(KhoImage *source, KhoImage *target, const FormatBitmap *b, GError **error)
{
    FormatBitmapChange change = { .action = FORMAT_BITMAP_ADD,
                                  .name = b->name,
                                  .granularity_bytes = b->granularity_bytes,
                                  .disabled = !b->is_auto,
                                  .source = source->format,
                                  .source_name = b->name };

    if (!format_bitmap(target->format, &change, error))
        return FALSE;
    change.action = FORMAT_BITMAP_MERGE;
    return format_bitmap(target->format, &change, error);
}

gboolean
bitmaps_copy(KhoImage *source, KhoImage *target, const KhoJob *job, GError **error)
{
    gboolean done = TRUE;
    FormatInfo info;

    if (!format_info(source->format, &info, error))
        return FALSE;
    for (guint i = 0; done && info.bitmaps && i < info.bitmaps->len; i++) {
        const FormatBitmap *b = info.bitmaps->pdata[i];
        if (kho_job_is_cancelled(job))
            done = fail(error, KHO_ERROR_CANCELLED, "the copy of %s was cancelled", source->path);
        else
            done = b->in_use || copy_one(source, target, b, error);
    }
    format_info_clear(&info);
    return done;
}

#define DIRECTORY_ENTRY_BYTES 24 /* before the name */
#define TABLE_ENTRY_BYTES     8

gboolean
bitmaps_measure(KhoImage *source, guint64 cluster, guint64 *bytes, GError **error)
{
    guint64 directory = 0, sum = 0;
    FormatInfo info;

    if (!format_info(source->format, &info, error))
        return FALSE;
    for (guint i = 0; info.bitmaps && i < info.bitmaps->len; i++) {
        const FormatBitmap *b = info.bitmaps->pdata[i];
        guint64 bits = num_div_up(info.guest_bytes, b->granularity_bytes);
        guint64 clusters = num_div_up(num_div_up(bits, 64) * 8, cluster);
        directory += num_align_up(DIRECTORY_ENTRY_BYTES + strlen(b->name), 8);
        sum += clusters * cluster + num_align_up(clusters * TABLE_ENTRY_BYTES, cluster);
    }
    format_info_clear(&info);
    *bytes = sum + num_align_up(directory, cluster);
    return TRUE;
}

gboolean
bitmaps_refuse_loss(KhoImage *image, GError **error)
{
    g_autofree char *name = NULL;
    FormatInfo info;

    if (!format_info(image->format, &info, error))
        return FALSE;
    if (info.bitmaps && info.bitmaps->len > 0)
        name = error_one_line(((FormatBitmap *) info.bitmaps->pdata[0])->name);
    format_info_clear(&info);
    return !name
           || fail(
               error, KHO_ERROR_UNSUPPORTED,
               "%s has the persistent bitmap '%s', which a merge of it into another image would lose: remove "
               "it first (kho img bitmap --remove %s NAME)",
               image->path, name, image->path);
}
