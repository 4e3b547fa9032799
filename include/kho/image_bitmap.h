/* Persistent bitmaps inside images: adding, removing and changing them. Which there are tells kho_image_info;
 * that they follow what is written is every function's business. */
#ifndef KHO_IMAGE_BITMAP_H
#define KHO_IMAGE_BITMAP_H

#include <kho/image.h>

typedef enum {
    KHO_BITMAP_ADD,
    KHO_BITMAP_REMOVE,
    KHO_BITMAP_CLEAR,   /* nothing is marked */
    KHO_BITMAP_ENABLE,  /* from now on what is written is marked */
    KHO_BITMAP_DISABLE, /* not any more */
    KHO_BITMAP_MERGE,   /* what the source has is marked too */
} KhoBitmapAction;

typedef struct KhoBitmapStep {
    KhoBitmapAction action;
    const char *source; /* MERGE: the name of the other bitmap */
} KhoBitmapStep;

typedef struct KhoImageBitmapChange {
    const char *path, *format;  /* NULL: probe */
    const char *name;           /* of the bitmap; 1 to 1023 bytes */
    const KhoBitmapStep *steps; /* done in this order, each for itself */
    gsize n_steps;
    guint64 granularity_bytes;               /* ADD: a power of two, 512 bytes to 2 GiB; 0: as QEMU */
    const char *source_path, *source_format; /* MERGE: the image with the other bitmap; NULL: the same one */
} KhoImageBitmapChange;

/**
 * kho_image_bitmap:
 * @failed: (out): which step failed, or n_steps where it was none; may be NULL
 *
 * Changes a bitmap of an image that nobody else may use meanwhile. A crash leaves a bitmap as it was or as
 * the step makes it; what steps before one that fails have done stays. A new bitmap is enabled. Durable when
 * it returns TRUE.
 *
 * Returns: FALSE with KHO_ERROR_EXISTS, _NOT_FOUND (a bitmap), _INVALID (name, granularity, a bitmap for a
 * disk of another size), _UNSUPPORTED (no qcow2 of version 3), _CORRUPT (the bitmap is inconsistent and can
 * only be removed), _BUSY, _NO_SPACE.
 */
KHO_PUBLIC gboolean kho_image_bitmap(const KhoImageBitmapChange *change, const KhoImageGate *gate,
                                     gsize *failed, GError **error);

#endif
