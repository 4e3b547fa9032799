#include "crash/view.h"

#include <string.h>

typedef struct {
    BlkStore store;
    const guint8 *bytes;
    gsize len;
} View;

static gboolean
view_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    const View *view = (View *) store;

    *got = off < view->len ? MIN(len, view->len - (gsize) off) : 0;
    if (*got > 0)
        memcpy(buf, view->bytes + off, *got);
    return TRUE;
}

static gboolean
view_size(BlkStore *store, guint64 *bytes, GError **error)
{
    *bytes = ((View *) store)->len;
    return TRUE;
}

static void
view_free(BlkStore *store)
{
    g_free(store);
}

/* The dispatcher lets nobody write to a store that is not writable. */
static const BlkOps view_ops = { .name = "view", .pread = view_pread, .size = view_size, .free = view_free };

BlkStore *
view_new(const void *bytes, gsize len, const char *label)
{
    View *view = g_new0(View, 1);

    view->store = (BlkStore){ .ops = &view_ops, .label = g_strdup(label) };
    view->bytes = bytes;
    view->len = len;
    return &view->store;
}
