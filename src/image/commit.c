/* Commit: an overlay's data goes into an image below it. The order of things: the base's data, durable, and
 * only then is the overlay emptied, so that whoever reads through it sees no difference. */
#include "base/error.h"
#include "image/cost.h"
#include "image/merge.h"

#include <kho/image_change.h>

/* The chain, taken apart above the base: the overlay with what lies between, and the base with what is below.
 */
typedef struct {
    KhoImage *overlay, *base; /* owned */
    KhoImage *through;        /* the last image above the base */
} Parts;

static void
parts_clear(Parts *parts)
{
    g_clear_pointer(&parts->overlay, kho_image_free);
    g_clear_pointer(&parts->base, kho_image_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Parts, parts_clear)

/* What is asked, of what. */
typedef struct {
    const KhoImageCommit *commit;
    const KhoImageSource *source; /* the overlay */
} Order;

/* Does @name lead to where @layer lies: as it stands, or as a header in the overlay's folder would mean it?
 */
static gboolean
is_named(const char *name, const KhoImage *overlay, const KhoImage *layer)
{
    g_autofree char *folder = g_path_get_dirname(overlay->path);
    g_autofree char *beside =
        kho_image_is_remote(name) || g_path_is_absolute(name) ? NULL : g_build_filename(folder, name, NULL);

    return image_is_at(layer, name) || (beside && image_is_at(layer, beside));
}

/* The image of the overlay's chain that lies on the base. */
static KhoImage *
find_above(const KhoImageCommit *commit, KhoImage *overlay, GError **error)
{
    for (KhoImage *layer = overlay; layer->backing; layer = layer->backing)
        if (!commit->base || is_named(commit->base, overlay, layer->backing))
            return layer;
    if (!overlay->backing)
        fail(error, KHO_ERROR_INVALID, "%s has no backing file that it could be committed to", overlay->path);
    else
        fail(error, KHO_ERROR_NOT_FOUND, "%s is not in the backing chain of %s", commit->base, overlay->path);
    return NULL;
}

/* The base is read by the chain that it is found in, and then written: in between nobody holds it, so it is
 * looked at anew. Of a server's disk nothing but its name can be known. */
static gboolean
take_base(const Order *order, Parts *parts, GError **error)
{
    KhoImage *overlay = parts->overlay, *above = find_above(order->commit, overlay, error);

    if (!above)
        return FALSE;
    if (above != overlay && !order->commit->keep_overlay)
        return fail(error, KHO_ERROR_INVALID,
                    "%s cannot be emptied: it lies on %s, which does not have what is committed to %s",
                    overlay->path, overlay->backing->path, above->backing->path);
    KhoImage *below = g_steal_pointer(&above->backing);
    g_autofree char *path = g_strdup(below->path);
    KhoImageSource how = image_source_below(order->source, below->depth, path, kho_image_format(below));
    struct stat identity = below->identity;

    kho_image_free(below);
    parts->through = above;
    how.flags = KHO_IMAGE_WRITE;
    parts->base = kho_image_open_source(&how, error);
    if (!parts->base)
        return FALSE;
    image_only_looks(parts->base, order->commit->plan);
    return kho_image_is_remote(path) || image_same_file(&identity, &parts->base->identity)
           || fail(error, KHO_ERROR_BUSY, "%s was replaced meanwhile: try again", path);
}

static gboolean
admits(const KhoImageCommit *commit, const Parts *parts, GError **error)
{
    const KhoImage *changed = commit->keep_overlay ? parts->overlay->backing : parts->overlay;

    if (!commit->admit)
        return TRUE;
    for (; changed; changed = changed->backing)
        if (!commit->admit(changed->path, commit->admit_data, error))
            return FALSE;
    return commit->admit(parts->base->path, commit->admit_data, error);
}

static gboolean
open_parts(const Order *order, Parts *parts, GError **error)
{
    const KhoImageCommit *commit = order->commit;
    KhoImageSource how = *order->source;

    how.flags = commit->keep_overlay ? KHO_IMAGE_READ : KHO_IMAGE_WRITE;
    parts->overlay = kho_image_open_source(&how, error);
    if (parts->overlay)
        image_only_looks(parts->overlay, commit->plan);
    return parts->overlay && take_base(order, parts, error)
           && (commit->keep_overlay || image_takes_writes(parts->overlay, error))
           && image_takes_writes(parts->base, error) && admits(commit, parts, error);
}

static void
tell_losses(const Parts *parts, KhoImagePlan *plan)
{
    for (const KhoImage *layer = parts->overlay->backing; layer; layer = layer->backing)
        cost_lost(plan, "what is read through %s alone", layer->path);
    cost_lost(plan, "what other overlays of %s read where they hold nothing themselves", parts->base->path);
}

gboolean
kho_image_commit(const KhoImageSource *overlay, const KhoImageCommit *commit, GError **error)
{
    const Order order = { commit, overlay };
    const KhoJob *job = overlay->job;
    g_auto(Parts) parts = { 0 };

    if (!open_parts(&order, &parts, error))
        return FALSE;
    const Merge merge = { .overlay = parts.overlay,
                          .base = parts.base,
                          .through = parts.through,
                          .rate_bytes = commit->rate_bytes,
                          .workers = commit->workers,
                          .plan = commit->plan };
    tell_losses(&parts, commit->plan);
    gboolean done = commit->keep_overlay ? merge_down(&merge, job, error) : merge_away(&merge, job, error);
    done = image_close_after(g_steal_pointer(&parts.base), done, error);
    return image_close_after(g_steal_pointer(&parts.overlay), done, error);
}
