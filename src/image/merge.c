/* The order of things when two layers become one. Up: data, durable, then the header. Down: the size, data,
 * durable. Nobody who reads through the overlay sees a difference at any moment. */
#include "image/merge.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/num.h"
#include "image/copy.h"
#include "image/prealloc.h"
#include "image/resize.h"
#include "image/stretch.h"
#include "qcow2/rules.h"

#include <string.h>

/* How far one look into the maps goes, between two looks at the cancel flag. */
#define LOOK_BYTES GIB

/* The copy engine says that its target is unchanged, which nobody promised here. */
static gboolean
tell_cancelled(const Merge *merge, GError *cause, GError **error)
{
    if (cause->code == KHO_ERROR_CANCELLED) {
        g_error_free(cause);
        return fail(error, KHO_ERROR_CANCELLED,
                    "cancelled: %s reads as before, and the merge may go on later", merge->overlay->path);
    }
    g_propagate_error(error, cause);
    return FALSE;
}

/* --- what it costs --- */

/* Sums up the clusters of one image that stretches touch; a cluster counts once. */
typedef struct {
    guint64 cluster, counted_to, bytes;
} Tally;

static void
count(Tally *tally, guint64 off, guint64 bytes)
{
    guint64 from = MAX(num_align_down(off, tally->cluster), tally->counted_to);
    guint64 to = num_align_up(off + bytes, tally->cluster);

    if (to > from) {
        tally->bytes += to - from;
        tally->counted_to = to;
    }
}

static guint64
space_for(const Tally *tally)
{
    guint32 cluster = (guint32) tally->cluster;

    return tally->bytes == 0 ? 0 : prealloc_space_bytes(KHO_PREALLOC_FALLOC, tally->bytes, cluster);
}

/* Can holes that must read as zeros be marked so, or are zeros to be written? */
static gboolean
must_write_zeros(KhoImage *image, gboolean *must, GError **error)
{
    FormatInfo info;

    if (!format_info(image->format, &info, error))
        return FALSE;
    *must = info.version == 2 && info.backing_file;
    format_info_clear(&info);
    return TRUE;
}

static gboolean
cost_up(KhoImage *overlay, const KhoImage *base, Tally *moved, const KhoJob *job, GError **error)
{
    guint64 size = kho_image_size_bytes(overlay);
    gboolean zeros;
    Stretch s;

    if (!must_write_zeros(overlay, &zeros, error))
        return FALSE;
    for (guint64 off = 0; off < size && !kho_job_is_cancelled(job); off += s.bytes) {
        if (!stretch_lacking(overlay, base, off, MIN(size - off, LOOK_BYTES), &s, error))
            return FALSE;
        if (s.kind == STRETCH_DATA || (s.kind == STRETCH_ZERO && zeros))
            count(moved, off, s.bytes);
    }
    return TRUE;
}

/* What of [off, off + bytes) has no place in @base that may be written over. */
static gboolean
count_new(KhoImage *base, guint64 off, guint64 bytes, Tally *space, GError **error)
{
    guint64 end = off + bytes, size = kho_image_size_bytes(base);
    Run run;

    for (; off < MIN(end, size); off += run.bytes) {
        if (!format_map(base->format, guest_off(off), MIN(end, size) - off, &run, error))
            return FALSE;
        if (!run.allocated || run.kind == RUN_COMPRESSED)
            count(space, off, run.bytes);
    }
    if (off < end)
        count(space, off, end - off);
    return TRUE;
}

/* The images of a merge down that go into the base begin with the overlay and end with this one. */
static const KhoImage *
lowest_moved(const Merge *merge)
{
    return merge->through ? merge->through : merge->overlay;
}

static gboolean
cost_down(const Merge *merge, Tally *moved, Tally *space, const KhoJob *job, GError **error)
{
    KhoImage *overlay = merge->overlay, *base = merge->base;
    guint64 size = kho_image_size_bytes(overlay);
    gboolean zeros;
    Stretch s;

    if (!must_write_zeros(base, &zeros, error))
        return FALSE;
    for (guint64 off = 0; off < size && !kho_job_is_cancelled(job); off += s.bytes) {
        if (!stretch_own(overlay, lowest_moved(merge), off, MIN(size - off, LOOK_BYTES), &s, error))
            return FALSE;
        if (s.kind == STRETCH_LEAVE || (s.kind == STRETCH_ZERO && !zeros))
            continue;
        count(moved, off, s.bytes);
        if (!count_new(base, off, s.bytes, space, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
free_space(KhoImage *image, guint64 *bytes, GError **error)
{
    int fd = blk_fd(image->format->data ? image->format->data : image->format->file);

    *bytes = G_MAXUINT64;
    return fd < 0 || entry_free_space(fd, bytes, image->path, error);
}

gboolean
merge_cost(KhoImage *overlay, KhoImage *base, KhoImageMergeCost *cost, const KhoJob *job, GError **error)
{
    Tally up = { .cluster = overlay->cluster_bytes }, down = { .cluster = base->cluster_bytes }, new = down;
    const Merge merge = { .overlay = overlay, .base = base };
    KhoImageMergeCost found;

    if (!cost_up(overlay, base, &up, job, error) || !cost_down(&merge, &down, &new, job, error)
        || !free_space(overlay, &found.up_free_bytes, error)
        || !free_space(base, &found.down_free_bytes, error))
        return FALSE;
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: nothing was changed");
    found.up_bytes = up.bytes;
    found.up_space_bytes = space_for(&up);
    found.down_bytes = down.bytes;
    found.down_space_bytes = space_for(&new);
    *cost = found;
    return TRUE;
}

static gboolean
check_space(KhoImage *target, const Tally *tally, GError **error)
{
    int fd = blk_fd(target->format->data);

    return fd < 0 || entry_check_space(fd, space_for(tally), target->path, error);
}

/* --- up --- */

static char *
folder_of(const char *path)
{
    g_autofree char *whole = g_canonicalize_filename(path, NULL);

    return g_path_get_dirname(whole);
}

/* A path that names the file at @path from @folder: short where it lies there, absolute elsewhere. */
static char *
name_from(const char *folder, const char *path)
{
    g_autofree char *whole = g_canonicalize_filename(path, NULL);

    return entry_name_from(folder, whole);
}

gboolean
merge_name_below(KhoImage *base, const char *overlay_path, char **file, char **format, GError **error)
{
    FormatInfo info;

    *file = *format = NULL;
    if (!format_info(base->format, &info, error))
        return FALSE;
    g_autofree char *name = g_steal_pointer(&info.backing_file);
    g_autofree char *stated = g_steal_pointer(&info.backing_format);
    format_info_clear(&info);
    if (!name)
        return TRUE;

    g_autofree char *path = image_backing_path(base->path, name, error);
    if (!path)
        return FALSE;
    g_autofree char *folder = folder_of(overlay_path), *base_folder = folder_of(base->path);
    *file = g_str_equal(folder, base_folder) ? g_steal_pointer(&name) : name_from(folder, path);
    /* Not stated, it was probed when the chain was opened. */
    *format = !stated && base->backing ? g_strdup(kho_image_format(base->backing)) : g_steal_pointer(&stated);
    return TRUE;
}

gboolean
merge_up(const Merge *merge, const KhoJob *job, GError **error)
{
    KhoImage *overlay = merge->overlay;
    Tally moved = { .cluster = overlay->cluster_bytes };
    CopyPlan plan = {
        .source = overlay,
        .target = overlay,
        .bytes = kho_image_size_bytes(overlay),
        .what = COPY_LACKING,
        .through = merge->base,
        .workers = merge->workers,
        .job = job,
    };
    GError *cause = NULL;

    /* What would fail at the end is refused at the start. */
    if (!format_set_backing(overlay->format, merge->backing_file, merge->backing_format, TRUE, error)
        || !cost_up(overlay, merge->base, &moved, job, error) || !check_space(overlay, &moved, error))
        return FALSE;
    if (!image_copy(&plan, &cause))
        return tell_cancelled(merge, cause, error);
    return format_set_backing(overlay->format, merge->backing_file, merge->backing_format, FALSE, error);
}

gboolean
merge_onto(const Merge *merge, KhoImage *against, const KhoJob *job, GError **error)
{
    KhoImage *overlay = merge->overlay;
    const char *file = merge->backing_file, *format = merge->backing_format;
    CopyPlan plan = {
        .source = overlay,
        .target = overlay,
        .bytes = kho_image_size_bytes(overlay),
        .what = COPY_DIFFERING,
        .against = against,
        .workers = merge->workers,
        .job = job,
    };
    GError *cause = NULL;

    if (!format_set_backing(overlay->format, file, format, TRUE, error))
        return FALSE;
    overlay->format->gains_backing = against != NULL;
    if (!image_copy(&plan, &cause))
        return tell_cancelled(merge, cause, error);
    return format_set_backing(overlay->format, file, format, FALSE, error);
}

/* --- down --- */

/* Before anything else is written, so that a size that cannot be had changes nothing. Growth is not taken
 * back after a failure: on the way back there are moments in which what lies below the base shows through. */
static gboolean
fit_base(const Merge *merge, const KhoJob *job, GError **error)
{
    guint64 to = kho_image_size_bytes(merge->overlay), now = kho_image_size_bytes(merge->base);

    if (to > now)
        return resize_extend(merge->base, to, error);
    return to == now || !merge->cut_base || format_resize(merge->base->format, to, TRUE, job, error);
}

static gboolean
write_down(const Merge *merge, const KhoJob *job, GError **error)
{
    KhoImage *base = merge->base;
    Tally moved = { .cluster = base->cluster_bytes }, space = moved;
    CopyPlan plan = {
        .source = merge->overlay,
        .target = base,
        .bytes = kho_image_size_bytes(merge->overlay),
        .what = COPY_OWN,
        .through = lowest_moved(merge),
        .rate_bytes = merge->rate_bytes,
        .workers = merge->workers,
        .job = job,
    };
    GError *cause = NULL;

    if (!cost_down(merge, &moved, &space, job, error) || !check_space(base, &space, error))
        return FALSE;
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is unchanged", base->path);
    return fit_base(merge, job, error) && (image_copy(&plan, &cause) || tell_cancelled(merge, cause, error));
}

gboolean
merge_down(const Merge *merge, const KhoJob *job, GError **error)
{
    return write_down(merge, job, error) && kho_image_flush(merge->base, error);
}

/* Until it is empty the overlay covers whatever part of the base is on disk. Rule: BASE_BEFORE_EMPTY. */
gboolean
merge_away(const Merge *merge, const KhoJob *job, GError **error)
{
    gboolean late = qcow2_mutated(QCOW2_RULE_BASE_BEFORE_EMPTY);

    if (!write_down(merge, job, error) || (!late && !kho_image_flush(merge->base, error)))
        return FALSE;
    if (!format_empty(merge->overlay->format, error)) {
        g_prefix_error(error, "%s holds all of %s now, which was not emptied: ", merge->base->path,
                       merge->overlay->path);
        return FALSE;
    }
    return !late || kho_image_flush(merge->base, error);
}
