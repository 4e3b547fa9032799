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

/* A hole of @layer's (@found) is what the layers below it hold there, down to @through. */
static gboolean
look_below(KhoImage *layer, const KhoImage *through, guint64 off, Stretch *found, GError **error)
{
    while (found->kind == STRETCH_LEAVE && layer != through) {
        layer = layer->backing;
        guint64 size = kho_image_size_bytes(layer), bytes = found->bytes;

        if (off >= size)
            *found = (Stretch){ .start = off, .bytes = bytes, .kind = STRETCH_ZERO };
        else if (!look_own(layer, off, MIN(bytes, size - off), found, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
look_lacking(KhoImage *overlay, const KhoImage *through, guint64 off, guint64 max_bytes, Stretch *found,
             GError **error)
{
    guint64 below_bytes = stretch_below_bytes(through);

    if (!look_own(overlay, off, max_bytes, found, error))
        return FALSE;
    if (found->kind != STRETCH_LEAVE) {
        found->kind = STRETCH_LEAVE; /* it has that itself */
        return TRUE;
    }
    if (!look_below(overlay, through, off, found, error))
        return FALSE;
    if (found->kind == STRETCH_ZERO && off >= below_bytes)
        found->kind = STRETCH_LEAVE;
    else if (found->kind == STRETCH_ZERO)
        found->bytes = MIN(found->bytes, below_bytes - off);
    return TRUE;
}

/* What a chain reads as at @off, its images seen as the files that they are; @owner NULL: zeros. */
typedef struct {
    const KhoImage *owner;
    guint64 bytes;
} Source;

static gboolean
find_source(KhoImage *chain, guint64 off, guint64 max_bytes, Source *source, GError **error)
{
    guint64 size = chain ? kho_image_size_bytes(chain) : 0;
    Located at;

    *source = (Source){ .bytes = max_bytes };
    if (off >= size)
        return TRUE;
    if (!image_locate(chain, off, MIN(max_bytes, size - off), &at, error))
        return FALSE;
    source->bytes = at.run.bytes;
    if (at.run.kind == RUN_DATA || at.run.kind == RUN_COMPRESSED)
        source->owner = at.owner;
    return TRUE;
}

/* One file, read as the same format, holds one thing at one place of the disk. */
static gboolean
is_one_source(const Source *a, const Source *b)
{
    if (!a->owner || !b->owner)
        return a->owner == b->owner;
    return image_same_place(a->owner, b->owner) && a->owner->format->ops == b->owner->format->ops;
}

static gboolean
look_differing(KhoImage *overlay, KhoImage *against, guint64 off, guint64 max_bytes, Stretch *found,
               GError **error)
{
    Source now, then;

    if (!look_own(overlay, off, max_bytes, found, error))
        return FALSE;
    gboolean has = found->kind != STRETCH_LEAVE;
    found->kind = STRETCH_LEAVE;
    if (has)
        return TRUE;
    if (!find_source(overlay->backing, off, found->bytes, &now, error)
        || !find_source(against, off, now.bytes, &then, error))
        return FALSE;
    found->bytes = then.bytes;
    if (!is_one_source(&now, &then))
        found->kind = !now.owner ? STRETCH_ZERO : !then.owner ? STRETCH_DATA : STRETCH_COMPARE;
    return TRUE;
}

gboolean
stretch_is_same_run(const Run *a, const Run *b)
{
    gboolean somewhere = a->kind == RUN_DATA || a->kind == RUN_COMPRESSED;

    return a->kind == b->kind && (!somewhere || a->host.bytes == b->host.bytes);
}

static gboolean
look_changed(KhoImage *now, FormatImage *before, guint64 off, guint64 max_bytes, Stretch *found,
             GError **error)
{
    Run is, was;

    if (!format_map(now->format, guest_off(off), max_bytes, &is, error))
        return FALSE;
    gboolean is_hole = is.kind == RUN_HOLE;
    *found = (Stretch){ .start = off, .bytes = is.bytes, .kind = kinds[is.kind] };
    if (is_hole)
        found->kind = now->backing ? STRETCH_DATA : STRETCH_ZERO;
    if (off >= before->guest_bytes)
        return TRUE;
    if (!format_map(before, guest_off(off), MIN(is.bytes, before->guest_bytes - off), &was, error))
        return FALSE;
    found->bytes = was.bytes;
    if (stretch_is_same_run(&is, &was))
        found->kind = STRETCH_LEAVE;
    return TRUE;
}

typedef enum { LOOK_OWN, LOOK_LACKING, LOOK_DIFFERING, LOOK_CHANGED } LookFor;

typedef struct {
    LookFor what;
    KhoImage *image;
    const KhoImage *through;
    KhoImage *against;
    FormatImage *before;
} Look;

static gboolean
look(const Look *l, guint64 off, guint64 max_bytes, Stretch *found, GError **error)
{
    switch (l->what) {
    case LOOK_OWN:
        return look_own(l->image, off, max_bytes, found, error)
               && look_below(l->image, l->through, off, found, error);
    case LOOK_LACKING: return look_lacking(l->image, l->through, off, max_bytes, found, error);
    case LOOK_DIFFERING: return look_differing(l->image, l->against, off, max_bytes, found, error);
    case LOOK_CHANGED: return look_changed(l->image, l->before, off, max_bytes, found, error);
    }
    g_assert_not_reached();
}

/* Adjoining runs of one kind are joined. */
static gboolean
join(const Look *l, guint64 off, guint64 max_bytes, Stretch *stretch, GError **error)
{
    Stretch whole = { .start = off };

    while (whole.bytes < max_bytes) {
        Stretch next;

        if (!look(l, off + whole.bytes, max_bytes - whole.bytes, &next, error))
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
stretch_own(KhoImage *layer, const KhoImage *through, guint64 off, guint64 max_bytes, Stretch *stretch,
            GError **error)
{
    const Look own = { .what = LOOK_OWN, .image = layer, .through = through };

    return join(&own, off, max_bytes, stretch, error);
}

gboolean
stretch_lacking(KhoImage *overlay, const KhoImage *through, guint64 off, guint64 max_bytes, Stretch *stretch,
                GError **error)
{
    const Look lacking = { .what = LOOK_LACKING, .image = overlay, .through = through };

    return join(&lacking, off, max_bytes, stretch, error);
}

gboolean
stretch_differing(KhoImage *overlay, KhoImage *against, guint64 off, guint64 max_bytes, Stretch *stretch,
                  GError **error)
{
    const Look differing = { .what = LOOK_DIFFERING, .image = overlay, .against = against };

    return join(&differing, off, max_bytes, stretch, error);
}

gboolean
stretch_changed(KhoImage *now, FormatImage *before, guint64 off, guint64 max_bytes, Stretch *stretch,
                GError **error)
{
    const Look changed = { .what = LOOK_CHANGED, .image = now, .before = before };

    return join(&changed, off, max_bytes, stretch, error);
}
