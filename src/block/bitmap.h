/* Persistent bitmaps as the contract of image formats (block/format.h) has them: what is told of one, and
 * what is asked for. What they are on disk is the format's business. */
#ifndef KHO_BLOCK_BITMAP_H
#define KHO_BLOCK_BITMAP_H

#include <glib.h>

/* A persistent bitmap: which parts of the disk were written while it was enabled. */
typedef struct {
    char *name;
    guint64 granularity_bytes; /* what a bit stands for */
    gboolean in_use;           /* its writer has not ended as it should: it says nothing, and can only go */
    gboolean is_auto;          /* enabled: whoever writes to the disk marks what is written */
} FormatBitmap;

typedef enum {
    FORMAT_BITMAP_ADD,
    FORMAT_BITMAP_REMOVE,
    FORMAT_BITMAP_CLEAR,
    FORMAT_BITMAP_ENABLE,
    FORMAT_BITMAP_DISABLE,
    FORMAT_BITMAP_MERGE, /* what the source has is marked too */
} FormatBitmapAction;

typedef struct FormatImage FormatImage;

typedef struct {
    FormatBitmapAction action;
    const char *name;
    guint64 granularity_bytes; /* ADD; 0: what QEMU takes, the cluster's size between 4 and 64 KiB */
    gboolean disabled;         /* ADD */
    const char *source_name;   /* MERGE */
    FormatImage *source;       /* MERGE: the image that it is in, of the same format; NULL: the same image */
} FormatBitmapChange;

#endif
