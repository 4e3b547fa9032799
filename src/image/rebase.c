/* Rebase: an image lies on another backing file, and reads as before. */
#include "base/error.h"
#include "image/merge.h"

#include <kho/image_change.h>

/* The image of @chain that is the file @file, in whatever place. */
static KhoImage *
find_file(KhoImage *chain, const struct stat *file)
{
    KhoImage *layer = chain;

    while (layer && !image_same_file(&layer->identity, file))
        layer = layer->backing;
    return layer;
}

/* The new backing file is looked at without locks first: the image itself, which is held for writing, may be
 * in its chain. *found: where it is in the image's own chain, or NULL. */
static gboolean
look_at_new(KhoImage *image, const char *path, const char *format, const KhoImageGate *gate, KhoImage **found,
            GError **error)
{
    if (!image_pass_gate(gate, path, image->path, error))
        return FALSE;
    g_autoptr(KhoImage) new = kho_image_open(path, format, KHO_IMAGE_NO_LOCK, gate, error);
    if (!new)
        return FALSE;
    if (find_file(new, &image->identity))
        return fail(error, KHO_ERROR_INVALID, "%s cannot lie on %s: that lies on it, or is it", image->path,
                    path);
    KhoImage *layer = find_file(image->backing, &new->identity);
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
rebase(const KhoImageRebase *r, KhoImage *image, const KhoImageGate *gate, const KhoJob *job, GError **error)
{
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
    if (!path || !look_at_new(image, path, r->backing_format, gate, &found, error))
        return FALSE;
    if (found)
        return drop_between(&merge, found, job, error);
    g_autoptr(KhoImage) new = kho_image_open(path, r->backing_format, KHO_IMAGE_READ, gate, error);
    return new &&merge_onto(&merge, new, job, error);
}

gboolean
kho_image_rebase(const KhoImageRebase *r, const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    if ((r->backing_file == NULL) != (r->backing_format == NULL) || (r->backing_file && !*r->backing_file))
        return fail(error, KHO_ERROR_INVALID, "%s: a backing file is named together with its format",
                    r->path);
    if (r->backing_format && !format_by_name(r->backing_format, error))
        return FALSE;
    g_autoptr(KhoImage) image = kho_image_open(r->path, r->format, KHO_IMAGE_WRITE, gate, error);
    if (!image)
        return FALSE;
    image_only_looks(image, r->plan);
    gboolean done = rebase(r, image, gate, job, error);
    return image_close_after(g_steal_pointer(&image), done, error);
}
