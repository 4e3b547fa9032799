/* Layers of a backing chain: two of them made one, and the name by which one finds the next. What people ask
 * of images as a whole (commit, rebase) lives in kho/image_change.h. */
#ifndef KHO_IMAGE_LAYERS_H
#define KHO_IMAGE_LAYERS_H

#include <kho/image.h>

/* Two layers that become one: @overlay, a qcow2 image, and @base below it, whose place the overlay takes (up)
 * or whose contents become the overlay's (down). Both are locked as far as they are written or read; images
 * above the overlay are not opened, and read as before. A call that ends early for whatever reason may be
 * made again: it goes on from what is there. */
typedef struct KhoImageMerge {
    const char *overlay;
    const char *base, *base_format;            /* the format is required */
    const char *backing_file, *backing_format; /* up: what the overlay's header shall name afterwards; NULL:
                                                  what the base's names, as seen from the overlay's folder */
    gboolean
        cut_base;  /* down: a base that is longer than the overlay is cut to its size; else it stays long */
    guint workers; /* 0: as many as processors, at most 8 */
    const KhoSecrets *secrets;
} KhoImageMerge;

/* Copies into the overlay what it lacks of the base's own data (and of the layers between them: the base may
 * be any image of the overlay's chain), then makes its header name what the base names. What the overlay
 * reads as changes at no moment, also across a crash; a failure or a cancel leaves it longer at most. Durable
 * when it returns TRUE, also where it had been done before. The base may then go, if nothing else names it.
 * KHO_ERROR_INVALID where the overlay does not lie on the base, _UNSUPPORTED where what would go has
 * bitmaps, _NO_SPACE before anything is written where it
 * cannot fit. */
KHO_PUBLIC gboolean kho_image_merge_up(const KhoImageMerge *merge, const KhoImageGate *gate,
                                       const KhoJob *job, GError **error);

/* Writes what the overlay itself holds into the base, zeros too, growing the base first where it is shorter.
 * Durable when it returns TRUE; the overlay is untouched, and from the first write on the base alone is
 * neither what it was nor what the overlay is until then. The same errors; KHO_ERROR_UNSUPPORTED, before
 * anything is written, where the base can neither grow nor be cut as needed. */
KHO_PUBLIC gboolean kho_image_merge_down(const KhoImageMerge *merge, const KhoImageGate *gate,
                                         const KhoJob *job, GError **error);

/* What each direction would write, at most, and how much of it needs space that its target does not have yet
 * (tables included), beside the space free now. */
typedef struct KhoImageMergeCost {
    guint64 up_bytes, up_space_bytes, up_free_bytes;
    guint64 down_bytes, down_space_bytes, down_free_bytes;
} KhoImageMergeCost;

/* Looks at the maps of both files alone: nothing below the base is opened. @flags: KHO_IMAGE_NO_LOCK
 * (a guest writes them, and QEMU will merge them) or 0: KHO_ERROR_UNSUPPORTED then where one of them takes no
 * writes of kho's, or has persistent bitmaps, which would go with it. */
KHO_PUBLIC gboolean kho_image_merge_cost(const KhoImageMerge *merge, KhoImageFlags flags,
                                         KhoImageMergeCost *cost, const KhoJob *job, GError **error);

/* Makes the header of the qcow2 image at @path name another backing file (both NULL: none), whatever that is
 * and holds: it is not opened. @backing_file is relative to the image's folder. A crash leaves the old name
 * or the new one; durable when it returns TRUE. KHO_ERROR_INVALID where the name does not fit. */
KHO_PUBLIC gboolean kho_image_set_backing(const char *path, const char *backing_file,
                                          const char *backing_format, GError **error);

#endif
