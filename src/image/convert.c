#include "base/error.h"
#include "base/fd.h"
#include "base/job_parts.h"
#include "base/num.h"
#include "block/nbd.h"
#include "image/bitmaps.h"
#include "image/copy.h"
#include "image/snapshot_copy.h"
#include "image/target.h"

#include <glib/gstdio.h>
#include <kho/image_convert.h>

typedef struct {
    const KhoImagePart *list;
    guint n;
} Parts;

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
pick_size(const Parts *parts, const KhoImageCreate *target, guint64 *size_bytes, GError **error)
{
    guint64 total = 0;

    for (guint i = 0; i < parts->n; i++)
        if (!num_add(total, parts->list[i].length_bytes, &total) || total > NUM_OFFSET_MAX)
            return fail(error, KHO_ERROR_INVALID, "%s and what comes before it are too large for one image",
                        parts->list[i].image->path);
    if (target->size_bytes > 0 && target->size_bytes < total)
        return fail(error, KHO_ERROR_INVALID,
                    "%s has %" G_GUINT64_FORMAT " bytes, which do not fit in a target of %" G_GUINT64_FORMAT,
                    parts->list[0].image->path, total, target->size_bytes);
    *size_bytes = target->size_bytes > 0 ? target->size_bytes : total;
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

/* A part, which begins at @off of the target. */
static CopyPlan
copy_of(const KhoImagePart *part, guint64 off, const CopyPlan *how)
{
    CopyPlan plan = *how;

    plan.source = part->image;
    plan.source_off = part->off_bytes;
    plan.target_off = off;
    plan.bytes = part->length_bytes;
    return plan;
}

/* The parts one behind the other. @how lacks what and where. */
static gboolean
copy_all(const Parts *parts, const CopyPlan *how, const KhoJob *job, GError **error)
{
    JobParts told;

    job_parts_init(&told, job);
    for (guint i = 0; i < parts->n; i++)
        told.total_bytes += parts->list[i].length_bytes;
    for (guint i = 0; i < parts->n; i++) {
        CopyPlan plan = copy_of(&parts->list[i], told.before_bytes, how);

        plan.job = &told.part;
        /* A part that begins within a cluster is stored as it is. */
        plan.compress = how->compress && plan.target_off % plan.target->cluster_bytes == 0;
        if (!image_copy(&plan, error))
            return FALSE;
        told.before_bytes += plan.bytes;
    }
    return TRUE;
}

static const FormatLevel levels[] = {
    [KHO_COMPRESS_DEFAULT] = FORMAT_LEVEL_DEFAULT,
    [KHO_COMPRESS_FAST] = FORMAT_LEVEL_FAST,
    [KHO_COMPRESS_BEST] = FORMAT_LEVEL_BEST,
};

static CopyPlan
plan_of(const KhoImageConvert *options, KhoImage *target)
{
    return (CopyPlan){
        .target = target,
        .workers = options->workers,
        .rate_bytes = options->rate_bytes,
        .keep_zeros = options->keep_zeros,
        .compress = options->compress,
        .level = levels[options->level],
        .unreadable = options->unreadable,
        .unreadable_data = options->unreadable_data,
    };
}

/* Bitmaps and snapshots are of the disk that they came from, and of nothing else. */
static gboolean
check_kept(const Parts *parts, const KhoImageConvert *options, GError **error)
{
    const KhoImagePart *part = &parts->list[0];
    gboolean whole =
        parts->n == 1 && part->off_bytes == 0 && part->length_bytes == kho_image_size_bytes(part->image);

    if ((options->bitmaps || options->snapshots) && !whole)
        return fail(error, KHO_ERROR_INVALID, "%s are copied with one whole image only",
                    options->bitmaps ? "bitmaps" : "snapshots");
    return (!options->bitmaps || bitmaps_check_copy(part->image, options, error))
           && (!options->snapshots || snapshots_check_copy(part->image, options, error));
}

/* What of the sources the copy will not have. */
static gboolean
tell_losses(const Parts *parts, const KhoImageConvert *options, GError **error)
{
    for (guint i = 0; i < parts->n; i++) {
        const KhoImage *image = parts->list[i].image;
        FormatInfo info;

        if (!format_info(image->format, &info, error))
            return FALSE;
        if (info.snapshots && info.snapshots->len > 0 && !options->snapshots)
            cost_lost(options->plan, "%u internal snapshot(s) of %s (see --with-snapshots)",
                      info.snapshots->len, image->path);
        if (info.bitmaps && info.bitmaps->len > 0 && !options->bitmaps)
            cost_lost(options->plan, "%u persistent bitmap(s) of %s (see --bitmaps)", info.bitmaps->len,
                      image->path);
        if (image->format->encrypted && !options->target.encryption)
            cost_lost(options->plan, "the encryption of %s", image->path);
        format_info_clear(&info);
    }
    return TRUE;
}

/* What the states share is known only when it is done; but the disk as it is now is surely wanted. */
static gboolean
plan_states(const CopyPlan *disk, const CostPlace *where, KhoImagePlan *plan, GError **error)
{
    KhoImagePlan least = { 0 };

    if (!plan)
        return cost_copies(disk, 1, where, NULL, error);
    if (!snapshots_plan(disk, disk->source, where, plan, error))
        return FALSE;
    gboolean fits = cost_copies(disk, 1, where, &least, error);
    if (!fits)
        plan->fit = least.fit;
    return fits;
}

/* Whether what is to be written to @where fits: refused before the first write. */
static gboolean
plan_all(const Parts *parts, const CopyPlan *how, const KhoImageConvert *options, CostPlace *where,
         const KhoJob *job, GError **error)
{
    g_autofree CopyPlan *copies = g_new(CopyPlan, parts->n);
    guint64 off = 0;

    where->may_be_less |= how->compress || how->only_changes;
    for (guint i = 0; i < parts->n; i++) {
        copies[i] = copy_of(&parts->list[i], off, how);
        copies[i].job = job;
        off += copies[i].bytes;
    }
    if (options->plan && !tell_losses(parts, options, error))
        return FALSE;
    if (options->snapshots)
        return plan_states(&copies[0], where, options->plan, error);
    return cost_copies(copies, parts->n, where, options->plan, error);
}

static gboolean
plan_new(const Target *target, const Parts *parts, guint64 size_bytes, const KhoImageConvert *options,
         const KhoJob *job, GError **error)
{
    const KhoImageCreate *create = &options->target;
    CostPlace where = target_cost_place(target, create, size_bytes);
    CopyPlan how = plan_of(options, NULL);

    target_plan_loss(target, options->plan);
    how.target_is_zero = target_is_zero(target, create) && !options->fill_holes;
    how.only_changes = create->backing_file != NULL;
    return plan_all(parts, &how, options, &where, job, error)
           && (!options->plan || target_try(target, create, size_bytes, error));
}

static gboolean
convert_into(const Parts *parts, const KhoImageConvert *options, const KhoJob *job, GError **error)
{
    CopyPlan plan = plan_of(options, options->into);
    CostPlace where;
    guint64 needed;

    if (options->compress)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "%s stands already: clusters are compressed in new images only", options->into->path);
    if (!pick_size(parts, &(KhoImageCreate){ 0 }, &needed, error))
        return FALSE;
    if (needed > kho_image_size_bytes(options->into))
        return fail(error, KHO_ERROR_INVALID,
                    "%s has %" G_GUINT64_FORMAT " bytes, and %" G_GUINT64_FORMAT " are needed",
                    options->into->path, kho_image_size_bytes(options->into), needed);
    plan.target_is_zero = options->into_is_zero && !options->fill_holes;
    plan.only_changes = options->into->backing != NULL;
    if (!cost_place_of(options->into, &where, error) || !plan_all(parts, &plan, options, &where, job, error))
        return FALSE;
    return options->plan
           || (copy_all(parts, &plan, job, error)
               && (!options->bitmaps || bitmaps_copy(parts->list[0].image, options->into, job, error))
               && kho_image_flush(options->into, error));
}

static gboolean
copy_new(Target *target, const Parts *parts, guint64 size_bytes, const KhoImageConvert *options,
         const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    const KhoImageCreate *create = &options->target;
    g_autoptr(KhoImage) image = target_open(target, create, size_bytes, job, error);

    const KhoImageSource below = { .gate = gate, .job = job, .secrets = options->secrets };
    if (!image || (create->backing_file && !image_open_backing(image, &below, error)))
        return FALSE;
    CopyPlan plan = plan_of(options, image);
    plan.target_is_zero = target_is_zero(target, create) && !options->fill_holes;
    plan.only_changes = create->backing_file != NULL;
    KhoImage *first = parts->list[0].image;
    return (options->snapshots ? snapshots_copy(&plan, first, job, error)
                               : copy_all(parts, &plan, job, error))
           && (!options->bitmaps || bitmaps_copy(first, image, job, error))
           && (!options->confirm || options->confirm(options->confirm_data, error))
           && target_finish(target, g_steal_pointer(&image), job, error);
}

gboolean
kho_image_convert_parts(const KhoImagePart *list, guint n_parts, const char *target_path,
                        const KhoImageConvert *options, const KhoImageGate *gate, const KhoJob *job,
                        GError **error)
{
    const KhoImageCreate *create = &options->target;
    const Parts parts = { list, n_parts };
    guint64 size_bytes = 0;

    g_assert(n_parts > 0);
    if (!check_kept(&parts, options, error))
        return FALSE;
    if (options->into)
        return convert_into(&parts, options, job, error);
    if (!target_check(create, error) || (options->compress && !check_compress(create, error))
        || !pick_size(&parts, create, &size_bytes, error))
        return FALSE;
    g_autofree char *data = create->data_file ? image_data_path(target_path, create->data_file, error) : NULL;
    if (create->data_file && !data)
        return FALSE;
    for (guint i = 0; i < n_parts; i++)
        if (!check_apart(list[i].image, target_path, error)
            || (data && !check_apart(list[i].image, data, error)))
            return FALSE;
    Target *target = target_begin(target_path, create, job, error);
    if (!target)
        return FALSE;
    gboolean done = target_look(target, create, gate, &size_bytes, error)
                    && plan_new(target, &parts, size_bytes, options, job, error)
                    && (options->plan || copy_new(target, &parts, size_bytes, options, gate, job, error));
    target_free(target, error);
    return done;
}

gboolean
kho_image_convert(const char *source_path, const char *target_path, const KhoImageConvert *options,
                  const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    KhoImageSource from = { .path = source_path,
                            .format = options->source_format,
                            .flags = options->source_flags
                                     & (KHO_IMAGE_NO_LOCK | KHO_IMAGE_NO_BACKING | KHO_IMAGE_LOCAL
                                        | KHO_IMAGE_VOLUMES),
                            .gate = gate,
                            .job = job,
                            .secrets = options->secrets,
                            .key_secret = options->source_key_secret };

    if (!target_check(&options->target, error))
        return FALSE;
    g_autoptr(KhoImage) source = kho_image_open_source(&from, error);
    if (!source)
        return FALSE;
    const KhoImagePart whole = { source, 0, kho_image_size_bytes(source) };
    return kho_image_convert_parts(&whole, 1, target_path, options, gate, job, error);
}
