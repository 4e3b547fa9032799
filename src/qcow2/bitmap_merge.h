/* One bitmap's bits added to another's, which may be coarser, finer or in another image. Spec:
 * docs/spec/qcow2.md, section 12. */
#ifndef KHO_QCOW2_BITMAP_MERGE_H
#define KHO_QCOW2_BITMAP_MERGE_H

#include "qcow2/bitmap_table.h"

typedef struct {
    Qcow2Image *image;
    const Qcow2Bitmap *to;
    Qcow2Image *source; /* @image, or another one, for a disk of the same size */
    const Qcow2Bitmap *from;
} Qcow2BitmapMerge;

/* A new table for @to with the bits of both; nothing names it yet. Both images' meta locks are held. Memory:
 * a few clusters. */
gboolean qcow2_bitmap_merge_locked(const Qcow2BitmapMerge *merge, Qcow2BitmapTable *made, GError **error);

#endif
