/* The order of things when two layers become one. Up: data, durable, then the header. Down: the size, data,
 * durable. Nobody who reads through the overlay sees a difference at any moment. */
#include "image/merge.h"

#include "base/entry.h"
#include "base/error.h"
#include "image/copy.h"
#include "image/cost.h"
#include "image/resize.h"
#include "image/stretch.h"
#include "qcow2/rules.h"

#include <string.h>

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

/* The images of a merge down that go into the base begin with the overlay and end with this one. */
static const KhoImage *
lowest_moved(const Merge *merge)
{
    return merge->through ? merge->through : merge->overlay;
}

static CopyPlan
copy_up(const Merge *merge, const KhoJob *job)
{
    return (CopyPlan){
        .source = merge->overlay,
        .target = merge->overlay,
        .bytes = kho_image_size_bytes(merge->overlay),
        .what = COPY_LACKING,
        .through = merge->base,
        .workers = merge->workers,
        .job = job,
    };
}

static CopyPlan
copy_down(const Merge *merge, const KhoJob *job)
{
    return (CopyPlan){
        .source = merge->overlay,
        .target = merge->base,
        .bytes = kho_image_size_bytes(merge->overlay),
        .what = COPY_OWN,
        .through = lowest_moved(merge),
        .rate_bytes = merge->rate_bytes,
        .workers = merge->workers,
        .job = job,
    };
}

/* Before anything is written: what would fail at the end is refused at the start. */
static gboolean
plan_merge(const Merge *merge, const CopyPlan *copy, GError **error)
{
    CostPlace where;

    return cost_place_of(copy->target, &where, error) && cost_copies(copy, 1, &where, merge->plan, error);
}

static gboolean
cost_of(const CopyPlan *copy, KhoImagePlan *plan, GError **error)
{
    CostPlace where;

    if (!cost_place_of(copy->target, &where, error))
        return FALSE;
    where.maps_only = TRUE;
    return cost_copies(copy, 1, &where, plan, error);
}

gboolean
merge_cost(KhoImage *overlay, KhoImage *base, KhoImageMergeCost *cost, const KhoJob *job, GError **error)
{
    const Merge merge = { .overlay = overlay, .base = base };
    const CopyPlan copies[] = { copy_up(&merge, job), copy_down(&merge, job) };
    KhoImagePlan up = { 0 }, down = { 0 };

    if (!cost_of(&copies[0], &up, error) || !cost_of(&copies[1], &down, error))
        return FALSE;
    *cost = (KhoImageMergeCost){ up.write_bytes,   up.space_bytes,   up.free_bytes,
                                 down.write_bytes, down.space_bytes, down.free_bytes };
    return TRUE;
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

static gboolean
name_backing(const Merge *merge, gboolean only_check, GError **error)
{
    return format_set_backing(merge->overlay->format, merge->backing_file, merge->backing_format, only_check,
                              error);
}

static gboolean
copy_then_name(const Merge *merge, const CopyPlan *copy, GError **error)
{
    GError *cause = NULL;

    if (!name_backing(merge, TRUE, error) || !plan_merge(merge, copy, error))
        return FALSE;
    if (merge->plan)
        return TRUE;
    if (copy->what == COPY_DIFFERING)
        merge->overlay->format->gains_backing = copy->against != NULL;
    if (!image_copy(copy, &cause))
        return tell_cancelled(merge, cause, error);
    return name_backing(merge, FALSE, error);
}

gboolean
merge_up(const Merge *merge, const KhoJob *job, GError **error)
{
    const CopyPlan copy = copy_up(merge, job);

    return copy_then_name(merge, &copy, error);
}

gboolean
merge_onto(const Merge *merge, KhoImage *against, const KhoJob *job, GError **error)
{
    CopyPlan copy = copy_up(merge, job);

    copy.what = COPY_DIFFERING;
    copy.through = NULL;
    copy.against = against;
    return copy_then_name(merge, &copy, error);
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
    const CopyPlan copy = copy_down(merge, job);
    GError *cause = NULL;

    if (!plan_merge(merge, &copy, error))
        return FALSE;
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: %s is unchanged", merge->base->path);
    return merge->plan
           || (fit_base(merge, job, error)
               && (image_copy(&copy, &cause) || tell_cancelled(merge, cause, error)));
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
    if (merge->plan)
        return TRUE;
    if (!format_empty(merge->overlay->format, error)) {
        g_prefix_error(error, "%s holds all of %s now, which was not emptied: ", merge->base->path,
                       merge->overlay->path);
        return FALSE;
    }
    return !late || kho_image_flush(merge->base, error);
}
