/* The target's disk takes on one state after the other: the first snapshot's, in full; then what each differs
 * in from the one before it; the disk as it is comes last. A snapshot is made of each but the last, so that
 * what two neighbours share is one cluster; what a state shares with an earlier one is linked first. */
#include "image/snapshot_copy.h"

#include "base/error.h"
#include "base/job_parts.h"
#include "base/num.h"
#include "image/lineage.h"
#include "image/target.h"
#include "qcow2/qcow2.h"

typedef struct {
    CopyPlan plan;
    GPtrArray *list; /* of FormatSnapshot */
    Lineage *lineage;
    JobParts told;
    const CostPlace *where; /* nothing is copied: */
    KhoImagePlan *cost;     /* NULL: it is */
} History;

static gboolean
refuse(GError **error, const char *why)
{
    return fail(error, KHO_ERROR_UNSUPPORTED, "a copy with snapshots %s", why);
}

/* Version 2 does not know of them. */
static gboolean
check_sizes(KhoImage *source, GError **error)
{
    gboolean differ = FALSE;
    FormatInfo info;

    if (!format_info(source->format, &info, error))
        return FALSE;
    for (guint i = 0; info.snapshots && i < info.snapshots->len; i++) {
        const FormatSnapshot *s = info.snapshots->pdata[i];
        differ = differ || s->guest_bytes != info.guest_bytes;
    }
    format_info_clear(&info);
    return !differ || refuse(error, "whose snapshots are of several sizes is of version 3 (-o compat=1.1)");
}

gboolean
snapshots_check_copy(KhoImage *source, const KhoImageConvert *options, GError **error)
{
    const KhoImageCreate *target = &options->target;

    if (source->foreign || source->format->ops != &qcow2_format)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which has no internal snapshots",
                    source->path, kho_image_format(source));
    if (source->whole)
        return refuse(error, "is made of the whole image, not of one of its snapshots");
    if (options->into)
        return refuse(error, "is a new image: it cannot be written into one that stands");
    if (!g_str_equal(target->format, "qcow2"))
        return refuse(error, "is a qcow2 image: other formats have no internal snapshots");
    if (target->data_file)
        return refuse(error,
                      "cannot keep its data in another file, of which there are no internal snapshots");
    if (target->backing_file)
        return refuse(error, "lies on no backing file: each state holds all of the source's chain");
    if (target->prealloc != KHO_PREALLOC_OFF)
        return refuse(error, "is not preallocated: states that share clusters have no space of their own");
    if (target->refcount_bits == 1)
        return refuse(error, "needs refcounts of more than 1 bit: clusters have several users");
    if (target->size_bytes != 0 && target->size_bytes != kho_image_size_bytes(source))
        return refuse(error, "has the size of its source");
    return target->qcow2_version != 2 || check_sizes(source, error);
}

/* --- one state --- */

/* One piece of work after the other is told as one. */
static gboolean
copy_piece(History *h, CopyPlan *plan, GError **error)
{
    plan->job = &h->told.part;
    if (!image_copy(plan, error))
        return FALSE;
    h->told.before_bytes += plan->bytes;
    return TRUE;
}

static gboolean
copy_disk(History *h, guint state, FormatImage *before, GError **error)
{
    KhoImage *source = h->plan.source;
    guint64 size = kho_image_size_bytes(source), window = lineage_window_bytes(h->lineage);
    CopyPlan plan = h->plan;

    plan.what = before ? COPY_CHANGED : COPY_ALL;
    plan.before = before;
    plan.target_is_zero = !before;
    for (guint64 at = 0; at < size; at += plan.bytes) {
        plan.source_off = plan.target_off = at;
        plan.bytes = MIN(window, size - at);
        const LineagePiece piece = { state, before, at, at + plan.bytes };
        if (!lineage_link(h->lineage, &piece, h->told.whole, &plan.done, error)
            || !copy_piece(h, &plan, error)
            || (state < h->list->len && !lineage_note(h->lineage, &piece, error)))
            return FALSE;
    }
    return TRUE;
}

/* Nothing lies below VM state. */
static gboolean
copy_vm_state(History *h, guint index, GError **error)
{
    const FormatSnapshot *s = h->list->pdata[index];
    CopyPlan plan = h->plan;

    if (s->vm_state_bytes == 0)
        return TRUE;
    FormatImage *view = qcow2_snapshot_open_state(plan.source->format, index, &plan.source_off, error);
    if (!view)
        return FALSE;
    ImageShown shown = image_show(plan.source, view, TRUE);
    plan.bytes = kho_image_size_bytes(plan.source) - plan.source_off;
    plan.target_is_zero = TRUE;
    gboolean done = qcow2_state_begin(plan.target->format, plan.bytes, error) && copy_piece(h, &plan, error)
                    && qcow2_state_end(plan.target->format, error);
    image_show_itself(&shown);
    return done;
}

static gboolean
make_snapshot(History *h, guint index, GError **error)
{
    const FormatSnapshot *s = h->list->pdata[index];
    const FormatSnapshotNew new = { .name = s->name,
                                    .id = s->id_text,
                                    .date_s = (guint32) s->date_s,
                                    .date_ns = (guint32) s->date_ns,
                                    .icount = s->icount,
                                    .vm_clock_ns = s->vm_clock_ns,
                                    .vm_state_bytes = s->vm_state_bytes };

    return copy_vm_state(h, index, error) && format_snapshot_create(h->plan.target->format, &new, error);
}

static gboolean
plan_disk(const History *h, FormatImage *before, GError **error)
{
    CopyPlan plan = h->plan;

    plan.what = before ? COPY_CHANGED : COPY_ALL;
    plan.before = before;
    plan.target_is_zero = TRUE;
    plan.bytes = kho_image_size_bytes(plan.source);
    return cost_add(&plan, h->where, h->cost, error);
}

static gboolean
plan_vm_state(const History *h, guint index)
{
    const FormatSnapshot *s = h->list->pdata[index];
    guint64 bytes = num_align_up(MIN(s->vm_state_bytes, NUM_OFFSET_MAX / 2), h->where->cluster_bytes);

    h->cost->read_bytes += bytes;
    h->cost->write_bytes += bytes;
    h->cost->space_bytes += bytes;
    return TRUE;
}

/* What the source shows now, with @before as what it showed last. */
static gboolean
copy_shown(History *h, guint state, FormatImage *before, GError **error)
{
    guint64 size = kho_image_size_bytes(h->plan.source);

    if (h->cost)
        return plan_disk(h, before, error);
    FormatImage *target = h->plan.target->format;
    return (size == target->guest_bytes || format_resize(target, size, TRUE, h->told.whole, error))
           && copy_disk(h, state, before, error);
}

static gboolean
copy_state(History *h, guint state, GError **error)
{
    KhoImage *source = h->plan.source;
    gboolean is_snapshot = state < h->list->len;
    FormatImage *before = NULL, *view = NULL;

    if (state > 0 && !(before = qcow2_snapshot_open_view(source->format, state - 1, error)))
        return FALSE;
    gboolean done = !is_snapshot || (view = qcow2_snapshot_open_view(source->format, state, error));
    if (view) {
        ImageShown shown = image_show(source, view, FALSE);
        done = copy_shown(h, state, before, error);
        image_show_itself(&shown);
    } else {
        done = done && copy_shown(h, state, before, error);
    }
    if (before)
        format_close(before, NULL);
    return done && (!is_snapshot || (h->cost ? plan_vm_state(h, state) : make_snapshot(h, state, error)));
}

/* --- all of them --- */

/* What will be told as done; a sum that is too large tells nothing useful, and does no harm. */
static guint64
sum_up(const History *h)
{
    guint64 sum = kho_image_size_bytes(h->plan.source);

    for (guint i = 0; i < h->list->len; i++) {
        const FormatSnapshot *s = h->list->pdata[i];
        if (!num_add(sum, s->guest_bytes, &sum) || !num_add(sum, s->vm_state_bytes, &sum)
            || sum > NUM_OFFSET_MAX)
            return G_MAXUINT64;
        sum = num_align_up(sum, IMAGE_SECTOR_BYTES);
    }
    return sum;
}

static gboolean
for_all(History *h, KhoImage *source, const KhoJob *job, GError **error)
{
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    gboolean done = TRUE;
    FormatInfo info;

    if (!format_info(source->format, &info, error))
        return FALSE;
    h->plan.source = source;
    h->list = info.snapshots ? info.snapshots : none;
    job_parts_init(&h->told, job);
    h->told.total_bytes = sum_up(h);
    for (guint i = 0; done && i <= h->list->len; i++)
        done = copy_state(h, i, error);
    format_info_clear(&info);
    return done;
}

gboolean
snapshots_copy(const CopyPlan *how, KhoImage *source, const KhoJob *job, GError **error)
{
    g_autoptr(Lineage) lineage = lineage_new(source, how->target);
    History h = { .plan = *how, .lineage = lineage };

    return for_all(&h, source, job, error);
}

gboolean
snapshots_plan(const CopyPlan *how, KhoImage *source, const CostPlace *where, KhoImagePlan *plan,
               GError **error)
{
    History h = { .plan = *how, .where = where, .cost = plan };

    return for_all(&h, source, how->job, error);
}
