#include "base/error.h"
#include "image/image.h"
#include "qcow2/qcow2.h"

static gboolean
is_meant(const FormatSnapshot *snapshot, const char *id, const char *name)
{
    return (!id || g_str_equal(snapshot->id_text, id)) && (!name || g_str_equal(snapshot->name, name));
}

static gboolean
find(KhoImage *image, const char *id, const char *name, guint *index, GError **error)
{
    FormatInfo info;

    if (!format_info(image->format, &info, error))
        return FALSE;
    guint n = info.snapshots ? info.snapshots->len : 0;
    for (*index = 0; *index < n; ++*index)
        if (is_meant(g_ptr_array_index(info.snapshots, *index), id, name))
            break;
    format_info_clear(&info);
    return *index < n
           || fail(error, KHO_ERROR_NOT_FOUND, "%s has no snapshot '%s'", image->path, id ? id : name);
}

ImageShown
image_show(KhoImage *image, FormatImage *view, gboolean alone)
{
    const ImageShown shown = { image, image->backing };

    view->backing_bytes = image->format->backing_bytes;
    image->whole = image->format;
    image->format = view;
    if (alone)
        image->backing = NULL;
    return shown;
}

void
image_show_itself(ImageShown *shown)
{
    KhoImage *image = shown->image;

    format_close(image->format, NULL); /* open for reading only: nothing to flush */
    image->format = g_steal_pointer(&image->whole);
    image->backing = shown->backing;
}

gboolean
kho_image_show_snapshot(KhoImage *image, const char *id, const char *name, GError **error)
{
    guint index;

    g_assert(!image->writable && !image->whole && (id || name));
    if (image->format->ops != &qcow2_format)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s: a %s image has no snapshots", image->path,
                    image->format->ops->name);
    if (!find(image, id, name, &index, error))
        return FALSE;
    FormatImage *view = qcow2_snapshot_open_view(image->format, index, error);
    if (!view)
        return FALSE;
    image_show(image, view, FALSE);
    return TRUE;
}
