#include "base/error.h"
#include "base/fd.h"
#include "block/nbd.h"
#include "image/copy.h"
#include "image/target.h"

#include <glib/gstdio.h>

/* A target that is one of the source's files would be refused as in use, by this very process: say it better.
 */
static gboolean
check_apart(const KhoImage *source, const char *target, GError **error)
{
    struct stat st;

    for (const KhoImage *image = source; image; image = image->backing)
        if (blk_nbd_is_name(target) && g_str_equal(image->path, target))
            return fail(error, KHO_ERROR_INVALID,
                        "%s is the source itself, or a part of its chain: choose another target", target);
    if (g_stat(target, &st) != 0)
        return TRUE;
    return !image_find_file(source, &st)
           || fail(error, KHO_ERROR_INVALID,
                   "%s is the source itself, or a part of its chain: choose another target", target);
}

static gboolean
pick_size(const KhoImage *source, const KhoImageCreate *target, guint64 *size_bytes, GError **error)
{
    guint64 source_bytes = kho_image_size_bytes(source);

    if (target->size_bytes > 0 && target->size_bytes < source_bytes)
        return fail(error, KHO_ERROR_INVALID,
                    "%s has %" G_GUINT64_FORMAT " bytes, which do not fit in a target of %" G_GUINT64_FORMAT,
                    source->path, source_bytes, target->size_bytes);
    *size_bytes = target->size_bytes > 0 ? target->size_bytes : source_bytes;
    return TRUE;
}

static gboolean
check_compress(const KhoImageCreate *target, GError **error)
{
    FormatFound found;

    if (!format_find(target->format, &found, error))
        return FALSE;
    if (found.foreign || !format_can_pack(found.ops))
        return fail(error, KHO_ERROR_INVALID, "a %s image cannot be compressed: use qcow2", target->format);
    if (target->encryption)
        return fail(error, KHO_ERROR_INVALID, "Compression and encryption not supported at the same time");
    if (target->data_file)
        return fail(error, KHO_ERROR_UNSUPPORTED, "compressed clusters cannot lie in a data file");
    if (target->prealloc != KHO_PREALLOC_OFF)
        return fail(error, KHO_ERROR_INVALID, "an image is compressed or preallocated, not both");
    return TRUE;
}

static gboolean
copy_into(Target *target, KhoImage *source, guint64 size_bytes, const KhoImageConvert *options,
          const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    const KhoImageCreate *create = &options->target;
    g_autoptr(KhoImage) image = target_open(target, create, size_bytes, gate, job, error);

    const KhoImageSource below = { .gate = gate, .job = job, .secrets = options->secrets };
    if (!image || (create->backing_file && !image_open_backing(image, &below, error)))
        return FALSE;
    CopyPlan plan = {
        .source = source,
        .target = image,
        .bytes = kho_image_size_bytes(source),
        .workers = options->workers,
        .target_is_zero = target_is_zero(target, create),
        .only_changes = create->backing_file != NULL,
        .keep_zeros = options->keep_zeros,
        .compress = options->compress,
        .job = job,
    };
    return image_copy(&plan, error) && (!options->confirm || options->confirm(options->confirm_data, error))
           && target_finish(target, g_steal_pointer(&image), job, error);
}

gboolean
kho_image_convert(const char *source_path, const char *target_path, const KhoImageConvert *options,
                  const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    const KhoImageCreate *create = &options->target;
    KhoImageSource from = { .path = source_path,
                            .format = options->source_format,
                            .flags = options->source_flags
                                     & (KHO_IMAGE_NO_LOCK | KHO_IMAGE_NO_BACKING | KHO_IMAGE_LOCAL),
                            .gate = gate,
                            .job = job,
                            .secrets = options->secrets,
                            .key_secret = options->source_key_secret };
    guint64 size_bytes = 0;

    if (!target_check(create, error) || (options->compress && !check_compress(create, error)))
        return FALSE;
    g_autoptr(KhoImage) source = kho_image_open_source(&from, error);
    if (!source || !pick_size(source, create, &size_bytes, error) || !check_apart(source, target_path, error))
        return FALSE;
    g_autofree char *data = create->data_file ? image_data_path(target_path, create->data_file, error) : NULL;
    if (create->data_file && (!data || !check_apart(source, data, error)))
        return FALSE;
    Target *target = target_begin(target_path, create, job, error);
    if (!target)
        return FALSE;
    gboolean done = copy_into(target, source, size_bytes, options, gate, job, error);
    target_free(target, error);
    return done;
}
