/* Making one layer of two: the parts that work on open images. The public contract, and which files are
 * meant, stands in kho/image_layers.h. Moving the bytes is the copy engine's business. */
#ifndef KHO_IMAGE_MERGE_H
#define KHO_IMAGE_MERGE_H

#include "image/image.h"

#include <kho/image_layers.h>
#include <kho/image_plan.h>

typedef struct {
    KhoImage *overlay;
    KhoImage *base; /* up: an image of the overlay's chain; down: an image of its own, below @through */
    const char *backing_file, *backing_format; /* up: what the overlay names afterwards; NULL: nothing */
    gboolean cut_base;                         /* down */
    KhoImage *through;  /* down: the last image of the overlay's chain, all of which goes into the base; NULL:
                           the overlay alone does */
    guint64 rate_bytes; /* down: at most so many a second; 0: no limit */
    guint workers;
    KhoImagePlan *plan; /* not NULL: nothing is changed, and this is told */
} Merge;

/* Copies into the overlay what it lacks of the layers down to the base, then lets its header name the backing
 * file given, durably. What the overlay reads as never changes. */
gboolean merge_up(const Merge *merge, const KhoJob *job, GError **error);

/* Copies into the overlay what it would read differently if it lay on @against and what is below that (NULL:
 * on nothing), then lets its header name the backing file given, durably. What the overlay reads as never
 * changes. merge->base is not looked at. */
gboolean merge_onto(const Merge *merge, KhoImage *against, const KhoJob *job, GError **error);

/* Writes what the overlay itself holds into the base, durably. */
gboolean merge_down(const Merge *merge, const KhoJob *job, GError **error);

/* The same, and then lets go of all that the overlay holds. */
gboolean merge_away(const Merge *merge, const KhoJob *job, GError **error);

/* What each direction costs; @overlay's chain reaches down to @base at least. Reads all tables of both. */
gboolean
merge_cost(KhoImage *overlay, KhoImage *base, KhoImageMergeCost *cost, const KhoJob *job, GError **error);

/* The backing file's name that the header of @base holds, as the image at @overlay_path must write it; NULL
 * without an error where @base has none. */
gboolean
merge_name_below(KhoImage *base, const char *overlay_path, char **file, char **format, GError **error);

#endif
