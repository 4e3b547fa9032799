#include "image/stretch.h"

static const StretchKind kinds[] = {
    [RUN_HOLE] = STRETCH_LEAVE,
    [RUN_ZERO] = STRETCH_ZERO,
    [RUN_DATA] = STRETCH_DATA,
    [RUN_COMPRESSED] = STRETCH_DATA,
};

guint64
stretch_below_bytes(const KhoImage *through)
{
    return through->backing ? kho_image_size_bytes(through->backing) : 0;
}

static gboolean
look_own(KhoImage *layer, guint64 off, guint64 max_bytes, Stretch *found, GError **error)
{
    Run run;

    if (!format_map(layer->format, guest_off(off), max_bytes, &run, error))
        return FALSE;
    *found = (Stretch){ .start = off, .bytes = run.bytes, .kind = kinds[run.kind] };
    return TRUE;
}

static gboolean
look_lacking(KhoImage *overlay, const KhoImage *through, guint64 off, guint64 max_bytes, Stretch *found,
             GError **error)
{
    guint64 below_bytes = stretch_below_bytes(through);
    KhoImage *layer = overlay;

    if (!look_own(layer, off, max_bytes, found, error))
        return FALSE;
    if (found->kind != STRETCH_LEAVE) {
        found->kind = STRETCH_LEAVE; /* it has that itself */
        return TRUE;
    }
    while (found->kind == STRETCH_LEAVE && layer != through) {
        layer = layer->backing;
        guint64 size = kho_image_size_bytes(layer), bytes = found->bytes;

        if (off >= size)
            *found = (Stretch){ .start = off, .bytes = bytes, .kind = STRETCH_ZERO };
        else if (!look_own(layer, off, MIN(bytes, size - off), found, error))
            return FALSE;
    }
    if (found->kind == STRETCH_ZERO && off >= below_bytes)
        found->kind = STRETCH_LEAVE;
    else if (found->kind == STRETCH_ZERO)
        found->bytes = MIN(found->bytes, below_bytes - off);
    return TRUE;
}

/* @through NULL: what @image itself holds. Adjoining runs of one kind are joined. */
static gboolean
join(KhoImage *image, const KhoImage *through, guint64 off, guint64 max_bytes, Stretch *stretch,
     GError **error)
{
    Stretch whole = { .start = off };

    while (whole.bytes < max_bytes) {
        guint64 at = off + whole.bytes, rest = max_bytes - whole.bytes;
        Stretch next;

        if (through ? !look_lacking(image, through, at, rest, &next, error)
                    : !look_own(image, at, rest, &next, error))
            return FALSE;
        if (whole.bytes > 0 && next.kind != whole.kind)
            break;
        whole.kind = next.kind;
        whole.bytes += next.bytes;
    }
    *stretch = whole;
    return TRUE;
}

gboolean
stretch_own(KhoImage *layer, guint64 off, guint64 max_bytes, Stretch *stretch, GError **error)
{
    return join(layer, NULL, off, max_bytes, stretch, error);
}

gboolean
stretch_lacking(KhoImage *overlay, const KhoImage *through, guint64 off, guint64 max_bytes, Stretch *stretch,
                GError **error)
{
    return join(overlay, through, off, max_bytes, stretch, error);
}
