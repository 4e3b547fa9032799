/* Bitmaps between images. */
#ifndef KHO_IMAGE_BITMAPS_H
#define KHO_IMAGE_BITMAPS_H

#include "image/image.h"

#include <kho/image_convert.h>

/* Can the bitmaps of @source be copied as @options wants it? Before anything is. */
gboolean bitmaps_check_copy(KhoImage *source, const KhoImageConvert *options, GError **error);

/* Copies them into @target, which has none yet and a disk of the same size. */
gboolean bitmaps_copy(KhoImage *source, KhoImage *target, const KhoJob *job, GError **error);

/* How many bytes @source's bitmaps take in clusters of @cluster bytes, all of their bits written. */
gboolean bitmaps_measure(KhoImage *source, guint64 cluster, guint64 *bytes, GError **error);

/* KHO_ERROR_UNSUPPORTED, naming the first one, where @image has bitmaps: it will be gone after a merge. */
gboolean bitmaps_refuse_loss(KhoImage *image, GError **error);

#endif
