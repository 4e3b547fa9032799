/* What can be told of images by looking at them: where two differ, and how much room one would take. Opening,
 * making and copying them lives in kho/image.h. */
#ifndef KHO_IMAGE_COMPARE_H
#define KHO_IMAGE_COMPARE_H

#include <kho/image.h>

typedef enum {
    KHO_COMPARE_SAME,
    KHO_COMPARE_SIZE,    /* strict: one is longer */
    KHO_COMPARE_STATUS,  /* strict: one has space or a hole where the other has not */
    KHO_COMPARE_CONTENT, /* they read differently */
} KhoCompareKind;

typedef struct KhoImageDifference {
    KhoCompareKind kind;
    guint64 at_bytes;      /* of the first one, to 512 bytes; not for SAME and SIZE */
    gboolean sizes_differ; /* what one has beyond the other's end reads as zeros, or is the difference */
} KhoImageDifference;

typedef struct KhoImageCompare {
    gboolean strict; /* sizes and allocation too */
    guint workers;   /* 0: as many as processors, at most 8 */
} KhoImageCompare;

/* Finds the first place where @a and @b, whole chains, read differently. A longer one is the same where it
 * goes on with zeros. Reads nothing where both lead to one place of one file, or both are holes. */
KHO_PUBLIC gboolean kho_image_compare(KhoImage *a, KhoImage *b, const KhoImageCompare *options,
                                      KhoImageDifference *found, const KhoJob *job, GError **error);

typedef struct KhoImageMeasure {
    guint64 required_bytes;        /* of the file, with no more data than there is now */
    guint64 fully_allocated_bytes; /* once all of the disk has been written */
    guint64 bitmaps_bytes;         /* beside it, what the source's own bitmaps take in a copy that has them */
} KhoImageMeasure;

/* How long the file of an image made as @options say would be: with what @source (its chain) holds, or, where
 * that is NULL, empty and of size_bytes. Reads maps only. KHO_ERROR_INVALID where the options contradict each
 * other or the disk is too large for them. */
KHO_PUBLIC gboolean kho_image_measure(const KhoImageCreate *options, KhoImage *source,
                                      KhoImageMeasure *measure, const KhoJob *job, GError **error);

#endif
