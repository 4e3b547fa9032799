/* Rebase: an image lies on another backing file, and reads as before. */
#include "base/error.h"
#include "image/merge.h"

#include <kho/image_change.h>

/* The image of @chain that lies where @image does, in whatever place. */
static KhoImage *
find_image(KhoImage *chain, const KhoImage *image)
{
    KhoImage *layer = chain;

    while (layer && !image_same_place(layer, image))
        layer = layer->backing;
    return layer;
}

/* The new backing file is looked at without locks first: the image itself, which is held for writing, may be
 * in its chain. *found: where it is in the image's own chain, or NULL. */
static gboolean
look_at_new(KhoImage *image, const KhoImageSource *source, KhoImage **found, GError **error)
{
    KhoImageSource how = *source;

    if (!image_pass_gate(source->gate, source->path, image->path, error))
        return FALSE;
    how.flags = KHO_IMAGE_NO_LOCK;
    g_autoptr(KhoImage) new = kho_image_open_source(&how, error);
    if (!new)
        return FALSE;
    if (find_image(new, image))
        return fail(error, KHO_ERROR_INVALID, "%s cannot lie on %s: that lies on it, or is it", image->path,
                    source->path);
    KhoImage *layer = find_image(image->backing, new);
    *found = layer && layer->format->ops == new->format->ops ? layer : NULL;
    return TRUE;
}

/* What lies between the image and @stay (an image of its chain, or NULL for none) goes away. */
static gboolean
drop_between(const Merge *merge, const KhoImage *stay, const KhoJob *job, GError **error)
{
    Merge up = *merge;
    KhoImage *above = merge->overlay;

    while (above->backing && above->backing != stay)
        above = above->backing;
    if (above == merge->overlay) /* nothing does */
        return merge->plan
               || format_set_backing(above->format, merge->backing_file, merge->backing_format, FALSE, error);
    up.base = above;
    return merge_up(&up, job, error);
}

static gboolean
rebase(const KhoImageSource *source, const KhoImageRebase *r, KhoImage *image, GError **error)
{
    const KhoJob *job = source->job;
    const Merge merge = { .overlay = image,
                          .backing_file = r->backing_file,
                          .backing_format = r->backing_format,
                          .workers = r->workers,
                          .plan = r->plan };
    KhoImage *found = NULL;

    /* Also where its format can have no backing file at all. */
    if (!image_takes_writes(image, error)
        || !format_set_backing(image->format, r->backing_file, r->backing_format, TRUE, error))
        return FALSE;
    if (!r->backing_file)
        return drop_between(&merge, NULL, job, error);
    g_autofree char *path = image_backing_path(image->path, r->backing_file, error);
    if (!path)
        return FALSE;
    const KhoImageSource below = { .path = path,
                                   .format = r->backing_format,
                                   .gate = source->gate,
                                   .job = job,
                                   .secrets = source->secrets };
    if (!look_at_new(image, &below, &found, error))
        return FALSE;
    if (found)
        return drop_between(&merge, found, job, error);
    g_autoptr(KhoImage) new = kho_image_open_source(&below, error);
    return new &&merge_onto(&merge, new, job, error);
}

gboolean
kho_image_rebase(const KhoImageSource *source, const KhoImageRebase *r, GError **error)
{
    KhoImageSource how = *source;

    if ((r->backing_file == NULL) != (r->backing_format == NULL) || (r->backing_file && !*r->backing_file))
        return fail(error, KHO_ERROR_INVALID, "%s: a backing file is named together with its format",
                    source->path);
    if (r->backing_format && !format_by_name(r->backing_format, error))
        return FALSE;
    how.flags = KHO_IMAGE_WRITE;
    g_autoptr(KhoImage) image = kho_image_open_source(&how, error);
    if (!image)
        return FALSE;
    image_only_looks(image, r->plan);
    gboolean done = rebase(source, r, image, error);
    return image_close_after(g_steal_pointer(&image), done, error);
}
