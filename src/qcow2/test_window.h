/* A store for tests that stays when the image over it is closed, counts flushes, and can make them fail. */
#ifndef KHO_QCOW2_TEST_WINDOW_H
#define KHO_QCOW2_TEST_WINDOW_H

#include "base/error.h"
#include "qcow2/qcow2.h"

/* A store that stays when the image over it is closed. */
typedef struct {
    BlkStore base;
    BlkStore *under;     /* not owned */
    guint flushes;       /* so far */
    gboolean fail_flush; /* the next ones fail */
} TestWindow;

static inline gboolean
test_window_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    return blk_pread_upto(((TestWindow *) store)->under, off, buf, len, got, error);
}

static inline gboolean
test_window_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    return blk_pwrite(((TestWindow *) store)->under, off, buf, len, error);
}

static inline gboolean
test_window_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error)
{
    return blk_zero(((TestWindow *) store)->under, off, len, mode, error);
}

static inline gboolean
test_window_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    return blk_truncate(((TestWindow *) store)->under, bytes, error);
}

static inline gboolean
test_window_flush(BlkStore *store, GError **error)
{
    TestWindow *window = (TestWindow *) store;

    window->flushes++;
    if (window->fail_flush)
        return fail(error, KHO_ERROR_IO, "cannot flush %s: made to fail", store->label);
    return blk_flush(window->under, error);
}

static inline gboolean
test_window_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(((TestWindow *) store)->under, bytes, error);
}

static inline void
test_window_free(BlkStore *store)
{
    g_free(store);
}

/* Over @under, which stays the caller's. */
static inline BlkStore *
test_window_new(BlkStore *under)
{
    static const BlkOps ops = {
        .name = "window",
        .pread = test_window_pread,
        .pwrite = test_window_pwrite,
        .zero = test_window_zero,
        .truncate = test_window_truncate,
        .flush = test_window_flush,
        .size = test_window_size,
        .free = test_window_free,
    };
    TestWindow *window = g_new0(TestWindow, 1);

    window->base = (BlkStore){ .ops = &ops, .label = g_strdup(under->label), .writable = TRUE };
    window->under = under;
    return &window->base;
}

/* Opens over @store without taking it over. */
static inline FormatImage *
test_open_flags(BlkStore *store, FormatFlags flags)
{
    g_autoptr(GError) error = NULL;
    FormatImage *image = qcow2_format.open(test_window_new(store), flags, &error);

    g_assert_no_error(error);
    return image;
}

#endif
