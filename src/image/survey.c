#include "image/survey.h"

gboolean
survey_run(const CopyPlan *plan, guint64 start, guint64 max_bytes, KhoMapEntry *entry, GError **error)
{
    guint64 off = plan->source_off + start;
    guint64 size = kho_image_size_bytes(plan->source);
    g_autoptr(GError) cause = NULL;

    if (off < size && kho_image_map(plan->source, off, MIN(max_bytes, size - off), entry, &cause))
        return TRUE;
    if (off < size && plan->unreadable) { /* a chunk of it at a time is tried */
        *entry = (KhoMapEntry){ .start_bytes = off,
                                .length_bytes = MIN(MIN(max_bytes, size - off), COPY_CHUNK_BYTES),
                                .kind = KHO_MAP_DATA };
        return TRUE;
    }
    if (off < size) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    *entry = (KhoMapEntry){
        .start_bytes = off, .length_bytes = max_bytes, .kind = KHO_MAP_HOLE, .reads_zero = TRUE
    };
    return TRUE;
}

/* How far from @off on the target's clusters are all done, or all not. */
static guint64
done_alike(const CopyPlan *plan, guint64 off, guint64 max_bytes, gboolean *is_done)
{
    guint64 cluster = plan->target->cluster_bytes, from = off - plan->source_off;
    guint64 first = from / cluster, last = (from + max_bytes - 1) / cluster, next = first + 1;

    *is_done = plan->done[first / 8] >> first % 8 & 1;
    while (next <= last && (plan->done[next / 8] >> next % 8 & 1) == *is_done)
        next++;
    return next <= last ? next * cluster - from : max_bytes;
}

static gboolean
look_at_change(const CopyPlan *plan, guint64 off, guint64 max_bytes, Stretch *stretch, GError **error)
{
    gboolean is_done;
    if (!plan->done)
        return stretch_changed(plan->source, plan->before, off, max_bytes, stretch, error);
    guint64 bytes = done_alike(plan, off, max_bytes, &is_done);

    if (!is_done)
        return stretch_changed(plan->source, plan->before, off, bytes, stretch, error);
    *stretch = (Stretch){ off, bytes, STRETCH_LEAVE };
    return TRUE;
}

static gboolean
look(const CopyPlan *plan, guint64 off, guint64 max_bytes, Stretch *stretch, GError **error)
{
    switch (plan->what) {
    case COPY_OWN: return stretch_own(plan->source, plan->through, off, max_bytes, stretch, error);
    case COPY_DIFFERING:
        return stretch_differing(plan->source, plan->against, off, max_bytes, stretch, error);
    case COPY_CHANGED: return look_at_change(plan, off, max_bytes, stretch, error);
    default: return stretch_lacking(plan->source, plan->through, off, max_bytes, stretch, error);
    }
}

gboolean
survey_stretch(const CopyPlan *plan, guint64 start, guint64 max_bytes, Stretch *stretch, GError **error)
{
    if (!look(plan, plan->source_off + start, max_bytes, stretch, error))
        return FALSE;
    stretch->start = start;
    return TRUE;
}
