/* Thick images: space made ready before the guest asks for it. */
#ifndef KHO_IMAGE_PREALLOC_H
#define KHO_IMAGE_PREALLOC_H

#include "image/image.h"

/* KHO_ERROR_INVALID where images of format @ops cannot be allocated that way. */
gboolean prealloc_check(const FormatOps *ops, KhoPrealloc prealloc, gboolean has_backing, GError **error);

/* What is done where @wanted is asked for: the space of an encrypted image is written in any case, since what
 * was never written reads as noise. */
static inline KhoPrealloc
prealloc_kind(KhoPrealloc wanted, gboolean encrypted)
{
    return encrypted && wanted != KHO_PREALLOC_OFF ? KHO_PREALLOC_FALLOC : wanted;
}

/* New L1 and refcount tables are at most so many clusters. */
#define PREALLOC_TABLE_CLUSTERS 16

/* How much free space @bytes more of a virtual disk with clusters of @cluster_bytes (1: raw) may need; 0
 * where nothing is allocated. At most a hundredth too much with clusters of 4 KiB or more. */
guint64 prealloc_space_bytes(KhoPrealloc prealloc, guint64 bytes, guint32 cluster_bytes);

/* And what it surely needs, in a new image or, with @has_tables, in one that may have room for all tables. */
guint64 prealloc_least_bytes(KhoPrealloc prealloc, guint64 bytes, guint32 cluster_bytes, gboolean has_tables);

/* Allocates [from, to) of @image, which reads as zeros there and holds no data. */
gboolean prealloc_range(KhoImage *image, guint64 from, guint64 to, KhoPrealloc wanted, const KhoJob *job,
                        GError **error);

#endif
