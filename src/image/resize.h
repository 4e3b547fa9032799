/* Growing an open image, for those who do it on the way to something else. */
#ifndef KHO_IMAGE_RESIZE_H
#define KHO_IMAGE_RESIZE_H

#include "image/image.h"

/* Grows @image (open for writing, with its chain) to @to bytes, a whole number of sectors; what is added
 * reads as zeros. Not taken back after a failure: it then has either size, and reads as zeros in what was
 * added. */
gboolean resize_extend(KhoImage *image, guint64 to, GError **error);

/* kho_image_resize on an open image; its size is not too large. */
gboolean resize_image(KhoImage *image, const KhoImageResize *options, const KhoJob *job, GError **error);

#endif
