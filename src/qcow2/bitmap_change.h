/* Changing the bitmaps themselves: adding, removing, clearing, enabling, disabling, merging. Spec:
 * docs/spec/qcow2.md, sections 8 and 12. */
#ifndef KHO_QCOW2_BITMAP_CHANGE_H
#define KHO_QCOW2_BITMAP_CHANGE_H

#include "qcow2/image.h"

/**
 * qcow2_bitmap_change: FormatOps.bitmap
 * What changes is written beside what stands, and switched to in one write: of the header (adding, removing)
 * or of one word of the directory. So a crash leaves the old bitmaps or the new ones. What was written to the
 * disk before is stored first.
 *
 * Rules: REFCOUNT_BEFORE_REFERENCE, TABLE_BEFORE_POINTER, NAME_BEFORE_POINTER, L2_BEFORE_LOWER.
 * Returns: FALSE with KHO_ERROR_EXISTS, _NOT_FOUND (either bitmap), _INVALID (name, granularity, sizes that
 * differ), _UNSUPPORTED (version 2, no room), _CORRUPT (a bitmap that is inconsistent), _NO_SPACE, _IO.
 */
gboolean qcow2_bitmap_change(FormatImage *image, const FormatBitmapChange *change, GError **error);

/* What info says of them: an array of FormatBitmap. NULL where there are none, or they cannot be read: no
 * reason not to tell the rest. */
GPtrArray *qcow2_bitmaps_describe_locked(Qcow2Image *image);

#endif
