/* Which parts of a disk are to be moved when two layers of a chain become one. Moving them is the copy
 * engine's business, the order of things merge.c's. */
#ifndef KHO_IMAGE_STRETCH_H
#define KHO_IMAGE_STRETCH_H

#include "image/image.h"

typedef enum {
    STRETCH_LEAVE, /* nothing is to be done here */
    STRETCH_ZERO,  /* is to read as zeros */
    STRETCH_DATA,
    STRETCH_COMPARE, /* data, and what it is to be compared with is data too */
} StretchKind;

typedef struct {
    guint64 start, bytes; /* bytes > 0 */
    StretchKind kind;
} Stretch;

/* What @layer itself and the layers below it down to @through hold, whatever lies below that, from @off on:
 * beyond the end of a shorter one of them, zeros. [off, off + max_bytes) lies on @layer's disk. */
gboolean stretch_own(KhoImage *layer, const KhoImage *through, guint64 off, guint64 max_bytes,
                     Stretch *stretch, GError **error);

/**
 * stretch_lacking:
 * @through: an image of @overlay's chain below it
 *
 * What @overlay lacks once the layers below it down to @through are gone: what they hold where it has a hole;
 * and zeros where one of them ends before what lies below @through does. Where that is zeros too, nothing.
 */
gboolean stretch_lacking(KhoImage *overlay, const KhoImage *through, guint64 off, guint64 max_bytes,
                         Stretch *stretch, GError **error);

/* What @overlay lacks once it lies on @against and what is below that (NULL: on nothing) in place of its own
 * chain. What both chains find in one file is the same. */
gboolean stretch_differing(KhoImage *overlay, KhoImage *against, guint64 off, guint64 max_bytes,
                           Stretch *stretch, GError **error);

/* What @now, which shows one state of its image's disk, does not hold where @before, which shows another one,
 * holds it too: data of its own, or zeros. Past the end of @before that is all but zeros. */
gboolean stretch_changed(KhoImage *now, FormatImage *before, guint64 off, guint64 max_bytes, Stretch *stretch,
                         GError **error);

/* Do runs of two states of one image begin with the same bytes at the same place? */
gboolean stretch_is_same_run(const Run *a, const Run *b);

/* Up to where holes of @through lead further down: the size of what lies below it. */
guint64 stretch_below_bytes(const KhoImage *through);

#endif
