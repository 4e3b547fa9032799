/* The public verbs on two layers: which files are meant, and whether they lie on each other. */
#include "base/error.h"
#include "base/fd.h"
#include "image/bitmaps.h"
#include "image/merge.h"

#include <glib/gstdio.h>

static gboolean
not_below(const KhoImageMerge *m, GError **error)
{
    return fail(error, KHO_ERROR_INVALID, "%s does not lie on %s: nothing to merge", m->overlay, m->base);
}

static gboolean
check_options(const KhoImageMerge *m, GError **error)
{
    if (!m->base_format)
        return fail(error, KHO_ERROR_INVALID, "%s: its format must be stated", m->base);
    if ((m->backing_file == NULL) != (m->backing_format == NULL))
        return fail(error, KHO_ERROR_INVALID, "%s: a backing file is named together with its format",
                    m->overlay);
    return TRUE;
}

/* Is there something at @path, a file? What lies at a server is found when it is opened. */
static gboolean
stands(const char *path, GError **error)
{
    struct stat st;

    return kho_image_is_remote(path) || g_stat(path, &st) == 0
           || fail(error, KHO_ERROR_NOT_FOUND, "%s does not exist", path);
}

/* Where the backing name in @image's header leads; NULL: it has none. */
static gboolean
find_named(KhoImage *image, char **path, GError **error)
{
    FormatInfo info;

    if (!format_info(image->format, &info, error))
        return FALSE;
    g_autofree char *name = g_steal_pointer(&info.backing_file);
    format_info_clear(&info);
    *path = name ? image_backing_path(image->path, name, error) : NULL;
    return !name || *path;
}

/* --- up --- */

/* A merge that was done before: the overlay names what it was told to name, or what the base names. */
static gboolean
check_done(const KhoImageMerge *m, KhoImage *overlay, GError **error)
{
    KhoImageFlags flags = KHO_IMAGE_NO_BACKING | KHO_IMAGE_IDLE_LOCK;
    gboolean same = FALSE;
    FormatInfo info;

    if (m->backing_file) {
        if (!format_info(overlay->format, &info, error))
            return FALSE;
        same = g_strcmp0(info.backing_file, m->backing_file) == 0;
        format_info_clear(&info);
        return same || not_below(m, error);
    }
    g_autoptr(KhoImage) base = kho_image_open(m->base, m->base_format, flags, NULL, error);
    g_autofree char *named = NULL;
    if (!base || !find_named(base, &named, error))
        return FALSE;
    same = named && overlay->backing ? image_is_at(overlay->backing, named) : !named && !overlay->backing;
    return same || not_below(m, error);
}

static gboolean
find_below(const KhoImageMerge *m, KhoImage *overlay, KhoImage **base, GError **error)
{
    if (!stands(m->base, error))
        return FALSE;
    for (KhoImage *layer = overlay->backing; layer; layer = layer->backing)
        if (image_is_at(layer, m->base)) {
            if (!g_str_equal(kho_image_format(layer), m->base_format))
                return fail(error, KHO_ERROR_INVALID, "%s is used as a %s image by %s, not as %s", m->base,
                            kho_image_format(layer), m->overlay, m->base_format);
            *base = layer;
            return TRUE;
        }
    *base = NULL;
    return check_done(m, overlay, error);
}

static gboolean
up(const KhoImageMerge *m, KhoImage *overlay, const KhoJob *job, GError **error)
{
    Merge merge = { .overlay = overlay, .workers = m->workers };
    g_autofree char *file = NULL, *format = NULL;

    if (!find_below(m, overlay, &merge.base, error))
        return FALSE;
    if (!merge.base) /* whoever did it may have been killed before it was durable */
        return kho_image_flush(overlay, error);
    for (KhoImage *layer = overlay->backing; layer != merge.base->backing; layer = layer->backing)
        if (!bitmaps_refuse_loss(layer, error))
            return FALSE;
    if (!m->backing_file && !merge_name_below(merge.base, m->overlay, &file, &format, error))
        return FALSE;
    merge.backing_file = m->backing_file ? m->backing_file : file;
    merge.backing_format = m->backing_file ? m->backing_format : format;
    return merge_up(&merge, job, error);
}

gboolean
kho_image_merge_up(const KhoImageMerge *m, const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    if (!check_options(m, error))
        return FALSE;
    const KhoImageSource source = {
        .path = m->overlay, .format = "qcow2", .flags = KHO_IMAGE_WRITE, .gate = gate, .secrets = m->secrets
    };
    g_autoptr(KhoImage) overlay = kho_image_open_source(&source, error);
    if (!overlay)
        return FALSE;
    gboolean done = up(m, overlay, job, error);
    return image_close_after(g_steal_pointer(&overlay), done, error);
}

/* --- down --- */

/* Do two names lead to one file, or to one server's disk? */
static gboolean
is_one_place(const char *a, const char *b)
{
    struct stat st, other;

    if (kho_image_is_remote(a) || kho_image_is_remote(b))
        return g_str_equal(a, b);
    return g_stat(a, &st) == 0 && g_stat(b, &other) == 0 && image_same_file(&st, &other);
}

static gboolean
open_alone(const KhoImageMerge *m, KhoImageFlags flags, const KhoImageGate *gate, KhoImage **overlay,
           GError **error)
{
    const KhoImageSource source = { .path = m->overlay,
                                    .format = "qcow2",
                                    .flags = KHO_IMAGE_NO_BACKING | flags,
                                    .gate = gate,
                                    .secrets = m->secrets };
    g_autoptr(KhoImage) opened = kho_image_open_source(&source, error);
    if (!opened)
        return FALSE;
    g_autofree char *named = NULL;
    if (!stands(m->base, error) || !find_named(opened, &named, error))
        return FALSE;
    if (!named || !is_one_place(named, m->base))
        return not_below(m, error);
    *overlay = g_steal_pointer(&opened);
    return TRUE;
}

gboolean
kho_image_merge_down(const KhoImageMerge *m, const KhoImageGate *gate, const KhoJob *job, GError **error)
{
    g_autoptr(KhoImage) overlay = NULL;

    if (!check_options(m, error) || !open_alone(m, KHO_IMAGE_READ, gate, &overlay, error)
        || !bitmaps_refuse_loss(overlay, error))
        return FALSE;
    const KhoImageSource source = { .path = m->base,
                                    .format = m->base_format,
                                    .flags = KHO_IMAGE_WRITE,
                                    .gate = gate,
                                    .secrets = m->secrets };
    g_autoptr(KhoImage) base = kho_image_open_source(&source, error);
    if (!base)
        return FALSE;
    const Merge merge = { .overlay = overlay, .base = base, .cut_base = m->cut_base, .workers = m->workers };
    gboolean done = merge_down(&merge, job, error);
    return image_close_after(g_steal_pointer(&base), done, error);
}

/* --- what it costs; the header alone --- */

gboolean
kho_image_merge_cost(const KhoImageMerge *m, KhoImageFlags flags, KhoImageMergeCost *cost, const KhoJob *job,
                     GError **error)
{
    KhoImageFlags how = KHO_IMAGE_NO_BACKING | KHO_IMAGE_NO_DATA | (flags & KHO_IMAGE_NO_LOCK);
    g_autoptr(KhoImage) overlay = NULL;

    if (!check_options(m, error) || !open_alone(m, how, NULL, &overlay, error))
        return FALSE;
    /* A chain of these two. */
    overlay->backing = kho_image_open(m->base, m->base_format, how, NULL, error);
    if (!overlay->backing)
        return FALSE;
    overlay->backing->depth = 1;
    if (!(flags & KHO_IMAGE_NO_LOCK)
        && (!image_takes_writes(overlay, error) || !image_takes_writes(overlay->backing, error)
            || !bitmaps_refuse_loss(overlay, error) || !bitmaps_refuse_loss(overlay->backing, error)))
        return FALSE;
    return merge_cost(overlay, overlay->backing, cost, job, error);
}

gboolean
kho_image_set_backing(const char *path, const char *backing_file, const char *backing_format, GError **error)
{
    if ((backing_file == NULL) != (backing_format == NULL) || (backing_file && !*backing_file))
        return fail(error, KHO_ERROR_INVALID, "%s: a backing file is named together with its format", path);
    if (backing_format && !format_by_name(backing_format, error))
        return FALSE;
    g_autoptr(KhoImage) image = kho_image_open(
        path, "qcow2", KHO_IMAGE_WRITE | KHO_IMAGE_NO_BACKING | KHO_IMAGE_NO_DATA, NULL, error);
    if (!image)
        return FALSE;
    gboolean done = format_set_backing(image->format, backing_file, backing_format, FALSE, error);
    return image_close_after(g_steal_pointer(&image), done, error);
}
