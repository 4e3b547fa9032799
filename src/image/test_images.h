/* What the tests of this folder share: images over stores in memory, and what they must read as. */
#ifndef KHO_IMAGE_TEST_IMAGES_H
#define KHO_IMAGE_TEST_IMAGES_H

#include "image/image.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"

#include <string.h>

/* @store is owned by the image. */
static inline KhoImage *
test_over(BlkStore *store, const FormatOps *ops, FormatFlags flags)
{
    g_autoptr(GError) error = NULL;
    KhoImage *image = image_over_store(store, ops, flags, "disk", &error);

    g_assert_no_error(error);
    return image;
}

/* New images, nothing of which is durable yet. */
static inline KhoImage *
test_new_raw(guint64 bytes)
{
    g_autoptr(GError) error = NULL;
    BlkStore *store = blk_mem_new(NULL, 0, "raw");

    g_assert_true(blk_truncate(store, bytes, &error));
    return test_over(store, &raw_format, FORMAT_WRITABLE | FORMAT_UNPUBLISHED);
}

static inline KhoImage *
test_new_qcow2(guint64 bytes, guint32 cluster_bytes)
{
    const Qcow2CreateOptions options = { .guest_bytes = bytes,
                                         .cluster_bytes = cluster_bytes,
                                         .unpublished = TRUE };
    g_autoptr(GError) error = NULL;
    BlkStore *store = blk_mem_new(NULL, 0, "qcow2");

    g_assert_true(qcow2_create(store, &options, &error));
    return test_over(store, &qcow2_format, FORMAT_WRITABLE | FORMAT_UNPUBLISHED);
}

static inline void
test_reads(KhoImage *image, const guint8 *model, guint64 bytes)
{
    g_autofree guint8 *got = g_malloc(bytes);
    g_autoptr(GError) error = NULL;

    g_assert_true(kho_image_read(image, 0, got, bytes, &error));
    g_assert_true(memcmp(got, model, bytes) == 0);
}

#endif
