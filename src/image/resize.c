#include "image/resize.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/num.h"
#include "base/room.h"
#include "image/cost.h"
#include "image/prealloc.h"
#include "image/target.h"
#include "raw/raw.h"

static gboolean
is_raw(const KhoImage *image)
{
    return !image->foreign && image->format->ops == &raw_format;
}

/* A data file that reads like the disk by itself is mapped as a whole. */
static KhoPrealloc
prealloc_of(const KhoImage *image, KhoPrealloc wanted)
{
    return image->data_is_raw ? MAX(wanted, KHO_PREALLOC_METADATA) : wanted;
}

/* What is added where each byte has its place: as far as the file has no blocks there, behind its end. */
static guint64
least_at(int fd, guint64 from, guint64 bytes, KhoPrealloc prealloc)
{
    guint64 least = prealloc_least_bytes(prealloc, bytes, 1, TRUE), own = 0;

    return least > 0 && fd >= 0 && room_own(fd, from, bytes, &own) ? least - MIN(own, least) : least;
}

static gboolean
check_space(KhoImage *image, guint64 to, KhoPrealloc prealloc, KhoImagePlan *plan, GError **error)
{
    guint64 from = kho_image_size_bytes(image), more = to - from;
    KhoPrealloc kind = prealloc_kind(prealloc, image->format->encrypted);
    CostPlace where;

    if (!cost_place_of(image, &where, error))
        return FALSE;
    guint64 least = where.is_fixed ? least_at(where.fd, from, more, kind)
                                   : prealloc_least_bytes(kind, more, image->cluster_bytes, TRUE);
    if (image->has_data_file) {
        if (where.fd >= 0 && !entry_check_space(where.fd, least, image->data_path, error))
            return FALSE;
        kind = MIN(kind, KHO_PREALLOC_METADATA);
        least = 0;
        where.path = image->path;
        where.fd = S_ISREG(image->identity.st_mode) ? blk_fd(image->format->file) : -1;
        where.is_fixed = FALSE;
    }
    where.reserved_bytes = prealloc_space_bytes(kind, more, image->cluster_bytes);
    where.least_bytes = least;
    if (plan && prealloc == KHO_PREALLOC_FULL)
        plan->write_bytes = more;
    return cost_reserved(&where, plan, error);
}

/* The subcluster that the old end lies in becomes the image's own, zeros past the end. Writing what is there
 * already does it. */
static gboolean
own_last_cluster(KhoImage *image, GError **error)
{
    guint64 from = kho_image_size_bytes(image);
    guint64 inside = from % image->subcluster_bytes;

    if (inside == 0)
        return TRUE;
    g_autofree guint8 *last = g_malloc(inside);
    return kho_image_read(image, from - inside, last, inside, error)
           && kho_image_write(image, from - inside, last, inside, error);
}

/* The space first, then the size that goes with it (a raw file has both at once); and last the rest of the
 * cluster that the old end lies in, which has its space. */
static gboolean
extend_reserved(KhoImage *image, guint64 to, KhoPrealloc prealloc, const KhoJob *job, GError **error)
{
    guint64 old = kho_image_size_bytes(image);
    guint64 from = num_align_up(old, image->cluster_bytes);

    return own_last_cluster(image, error) && format_extend(image->format, to, error)
           && prealloc_range(image, from, to, prealloc, job, error)
           && (is_raw(image) || format_resize(image->format, to, FALSE, NULL, error))
           && prealloc_range(image, num_align_up(old, image->subcluster_bytes), MIN(from, to), prealloc, job,
                             error);
}

gboolean
resize_extend(KhoImage *image, guint64 to, GError **error)
{
    /* Else the backing file would show through its rest. */
    gboolean shows = image->backing && kho_image_size_bytes(image->backing) > kho_image_size_bytes(image);

    if (image->data_is_raw)
        return extend_reserved(image, to, KHO_PREALLOC_METADATA, NULL, error);
    if (image->new_is_noise) {
        guint64 from = kho_image_size_bytes(image);
        return format_resize(image->format, to, FALSE, NULL, error)
               && kho_image_zero(image, from, to - from, error);
    }
    return (!shows || own_last_cluster(image, error)) && format_resize(image->format, to, FALSE, NULL, error);
}

/* Of a volume that is noise, what is added is noise too. */
static gboolean
extend_disk(KhoImage *image, guint64 to, GError **error)
{
    return image->new_is_noise ? format_resize(image->format, to, FALSE, NULL, error)
                               : resize_extend(image, to, error);
}

static gboolean
grow(KhoImage *image, guint64 to, const KhoImageResize *options, const KhoJob *job, GError **error)
{
    KhoPrealloc prealloc = prealloc_of(image, options->prealloc);
    guint64 from = kho_image_size_bytes(image);
    g_autoptr(GError) cause = NULL, undo = NULL;

    if (!check_space(image, to, prealloc, options->plan, error))
        return FALSE;
    if (options->plan)
        return TRUE;
    if ((prealloc == KHO_PREALLOC_OFF ? extend_disk(image, to, &cause)
                                      : extend_reserved(image, to, prealloc, job, &cause))
        && kho_image_flush(image, &cause))
        return TRUE;
    if (kho_image_size_bytes(image) != from && !format_resize(image->format, from, TRUE, NULL, &undo))
        return fail(error, (KhoErrorCode) cause->code, "%s; it keeps its new size, since %s", cause->message,
                    undo->message);
    g_propagate_error(error, g_steal_pointer(&cause));
    return FALSE;
}

static gboolean
must_ask(const KhoImage *image, guint64 to, GError **error)
{
    return fail(error, KHO_ERROR_INVALID,
                "%s has %" G_GUINT64_FORMAT " bytes: to shrink it to %" G_GUINT64_FORMAT
                " loses what lies past the end, which must be asked for",
                image->path, kho_image_size_bytes(image), to);
}

/* QEMU knows which of its formats can. */
static gboolean
resize_foreign(KhoImage *image, guint64 to, const KhoImageResize *options, GError **error)
{
    if (to < kho_image_size_bytes(image) && !options->may_shrink)
        return must_ask(image, to, error);
    if (options->prealloc != KHO_PREALLOC_OFF)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image: it is not preallocated", image->path,
                    image->foreign_format);
    if (options->plan)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which QEMU resizes: it is not planned",
                    image->path, image->foreign_format);
    return format_close(g_steal_pointer(&image->format), error) && foreign_resize(image->foreign, to, error);
}

/* The tables of another size; what is preallocated has its own among them. */
static gboolean
plan_tables(KhoImage *image, guint64 to, const KhoImageResize *options, GError **error)
{
    const FormatChange asked = { .kind = FORMAT_RESIZE, .guest_bytes = to };
    guint64 from = kho_image_size_bytes(image);

    if (to < from && !options->may_shrink)
        return must_ask(image, to, error);
    if (to < from)
        cost_lost(options->plan, "the last %" G_GUINT64_FORMAT " bytes of the disk", from - to);
    return cost_change(image, &asked, options->prealloc == KHO_PREALLOC_OFF ? options->plan : NULL, NULL,
                       error);
}

gboolean
resize_image(KhoImage *image, const KhoImageResize *options, const KhoJob *job, GError **error)
{
    const KhoPrealloc prealloc = options->prealloc;
    /* A raw file has any size, as QEMU has it; the disk in it whole sectors. */
    const gboolean has_any_size = is_raw(image);
    guint64 from = kho_image_size_bytes(image), to = options->size_bytes;

    if (!has_any_size)
        to = num_align_up(to, IMAGE_SECTOR_BYTES);
    if (image->foreign)
        return !kho_job_is_cancelled(job)
                   ? resize_foreign(image, to, options, error)
                   : fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is unchanged", image->path);
    if (to <= from && prealloc != KHO_PREALLOC_OFF)
        return fail(error, KHO_ERROR_INVALID,
                    "%s: preallocation is for growing, and it has %s%" G_GUINT64_FORMAT " bytes", image->path,
                    to < from ? "more than " : "", to);
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is unchanged", image->path);
    if (!plan_tables(image, to, options, error))
        return FALSE;
    if (to > from)
        return grow(image, to, options, job, error);
    return options->plan || (to == from && !has_any_size)
           || format_resize(image->format, to, options->may_shrink, job, error);
}

gboolean
kho_image_resize(const char *path, const char *format, const KhoImageResize *options,
                 const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    if (options->size_bytes > NUM_OFFSET_MAX - IMAGE_SECTOR_BYTES)
        return fail(error, KHO_ERROR_INVALID, "%s: a size of %" G_GUINT64_FORMAT " bytes is too large", path,
                    options->size_bytes);
    KhoImageSource source = {
        .path = path,
        .format = format,
        .flags = KHO_IMAGE_WRITE,
        .gate = gate,
        .job = job,
        .secrets = options->secrets,
    };
    g_autoptr(KhoImage) image = kho_image_open_source(&source, error);
    if (image)
        image_only_looks(image, options->plan);
    if (!image || !prealloc_check(image->format->ops, options->prealloc, FALSE, error))
        return FALSE;
    gboolean done = resize_image(image, options, job, error);
    return image_close_after(g_steal_pointer(&image), done, error);
}
