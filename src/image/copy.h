/* The copy engine: the only code that moves bulk data. It walks the map of a source chain and writes what is
 * there into a target image, with workers, zero detection, sharing of blocks where the file system can,
 * progress and cancelling. What a verb does before and after (create, publish, resize) lives in its own file.
 */
#ifndef KHO_IMAGE_COPY_H
#define KHO_IMAGE_COPY_H

#include "image/image.h"

typedef enum {
    COPY_ALL,
    COPY_OWN,       /* only what the source's images down to @through hold, their zeros too */
    COPY_LACKING,   /* source and target are one image, which gets what it would lack if the layers below it
                       down to @through were gone; whole clusters of it, and all reads as before at every moment
                     */
    COPY_DIFFERING, /* the same, but what it would lack if it lay on @against in place of its chain */
    COPY_CHANGED,   /* the target reads like one state of the source's disk (@before), and is to read like the
                       one that the source shows now: only what differs between both */
} CopyWhat;

typedef struct {
    KhoImage *source; /* NULL: zeros that are to be written (thick allocation) */
    KhoImage *target; /* writable */
    guint64 source_off, target_off, bytes;
    CopyWhat what;           /* OWN, CHANGED: both offsets are equal; LACKING, DIFFERING: they are 0 */
    const KhoImage *through; /* OWN, LACKING */
    KhoImage *against;       /* DIFFERING; NULL: nothing */
    FormatImage *before;     /* CHANGED: the source's image as it was */
    const guint8 *done;      /* CHANGED: a bit for each of the target's clusters from target_off on, the least
                                significant first: those that are set are left alone; NULL: none is */
    guint64 rate_bytes;      /* at most so many a second are read and written; 0: as many as can be */
    guint workers;           /* 0: as many as processors, at most COPY_WORKERS_MAX */
    gboolean target_is_zero; /* what is not written reads as zeros already */
    gboolean only_changes;   /* write only the clusters that differ from what the target reads as now */
    gboolean keep_zeros;     /* do not look for zeros in data */
    gboolean compress; /* write compressed clusters where they are smaller: into an unpublished image whose
                          format can; COPY_ALL and COPY_CHANGED only */
    FormatLevel level; /* with compress */
    /* What cannot be read becomes zeros and is told of here, one thread at a time; NULL: it is an error. */
    void (*unreadable)(guint64 off, guint64 len, const char *why, gpointer data);
    gpointer unreadable_data;
    const KhoJob *job;
} CopyPlan;

#define COPY_WORKERS_MAX 8
/* A chunk is the unit of work, of a worker's buffer, and of how soon a cancel is seen. It stays in a core's
 * own cache between being read, looked at for zeros and written; with 1 MiB a copy takes twice the time,
 * since Linux also makes a page of the cache as large as a write, which takes memory that nobody has touched
 * yet. */
#define COPY_CHUNK_BYTES ((guint64) 128 << 10)

/**
 * image_copy:
 *
 * Makes [target_off, target_off + bytes) of the target read like [source_off, source_off + bytes) of the
 * source chain; where that lies past the source's end, like zeros. Not durable before a flush. Progress is
 * told from the calling thread. The first error of any worker ends it.
 *
 * Returns: FALSE with KHO_ERROR_CANCELLED within 2 s of a cancel, or the first error; the target's range is
 * then undefined.
 */
gboolean image_copy(const CopyPlan *plan, GError **error);

/* A buffer to read files into, at a page's start: the kernel copies into one that lies 16 bytes further, as
 * malloc's do, at half the speed. Free with g_aligned_free. */
#define COPY_BUFFER_ALIGN_BYTES 4096
guint8 *copy_buffer(gsize bytes);

/* Do all @len bytes read as zero? */
gboolean copy_is_zero(const void *bytes, gsize len);

#endif
