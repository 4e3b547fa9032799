/* Growing an open image, for those who do it on the way to something else. */
#ifndef KHO_IMAGE_RESIZE_H
#define KHO_IMAGE_RESIZE_H

#include "image/image.h"

/* Grows @image (open for writing, with its chain) to @to bytes, a whole number of sectors; what is added
 * reads as zeros. After a failure it has its old size, or the message says that it has not. */
gboolean resize_grow(KhoImage *image, guint64 to, KhoPrealloc prealloc, const KhoJob *job, GError **error);

#endif
