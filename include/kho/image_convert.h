/* Copies of whole disks: from one image, or several one behind the other, into a new image or one that
 * stands. What a new one is like is a KhoImageCreate of kho/image.h; copies within a chain are in
 * kho/image_layers.h. */
#ifndef KHO_IMAGE_CONVERT_H
#define KHO_IMAGE_CONVERT_H

#include <kho/image.h>

/* How hard clusters are compressed. By zlib: FAST, which is the default, takes a fifteenth of the time that
 * zlib's own default takes; BEST is that default, and no image is larger than qemu-img's. By zstd: levels 1,
 * 3 and 9. */
typedef enum { KHO_COMPRESS_DEFAULT, KHO_COMPRESS_FAST, KHO_COMPRESS_BEST } KhoCompressLevel;

typedef struct KhoImageConvert {
    const char *source_format;     /* NULL: probe */
    KhoImageFlags source_flags;    /* KHO_IMAGE_NO_LOCK where wanted */
    const KhoSecrets *secrets;     /* for the source's chain, and the target's backing files */
    const char *source_key_secret; /* as KhoImageSource.key_secret */
    KhoImageCreate target;  /* size_bytes 0: the source's; with backing_file only what differs is copied */
    guint workers;          /* 0: as many as processors, twice as many to compress; at most 8 */
    gboolean keep_zeros;    /* do not look for zeros in data */
    gboolean fill_holes;    /* what reads as zeros gets its space as well, and zeros in it; with keep_zeros */
    gboolean compress;      /* qcow2: compress clusters, as target.compression says */
    KhoCompressLevel level; /* with compress */
    gboolean bitmaps;       /* qcow2 to qcow2, one whole image: its own bitmaps too, enabled ones enabled */
    gboolean snapshots;     /* qcow2 to a new qcow2, one whole image: its internal snapshots too */
    /* With bitmaps: called for each that is inconsistent, which is left out then; NULL: they are an error
     * (KHO_ERROR_CORRUPT) before anything is copied. */
    void (*skip_bitmap)(const char *name, gpointer data);
    gpointer skip_data;
    guint64 rate_bytes; /* at most so many a second are copied; 0: as many as can be */
    /* What cannot be read becomes zeros, and is told of here, a stretch at a time, from one thread at a time;
     * NULL: it is an error. */
    void (*unreadable)(guint64 off, guint64 len, const char *why, gpointer data);
    gpointer unreadable_data;
    /* An image open for writing that is written in place, and flushed: its format, and whatever target says,
     * are left aside. It is the caller's before and after; a failure leaves it half written. */
    KhoImage *into;
    gboolean into_is_zero; /* it reads as zeros where nothing is written */
    /* Asked when the copy is whole and has no name yet: FALSE drops it, and is the call's error. May be NULL.
     */
    gboolean (*confirm)(gpointer data, GError **error);
    gpointer confirm_data;
    KhoImagePlan *plan; /* not NULL: nothing is written, and this is told */
} KhoImageConvert;

KHO_PUBLIC gboolean kho_image_convert(const char *source, const char *target, const KhoImageConvert *options,
                                      const KhoImageGate *gate, const KhoJob *job, GError **error);
/* A stretch of an image that is open. */
typedef struct KhoImagePart {
    KhoImage *image;
    guint64 off_bytes, length_bytes;
} KhoImagePart;

/* The same from images that are open: the target reads like all of the @n_parts parts, one behind the other.
 * source_format and source_flags count for nothing; with into, neither does @target. */
KHO_PUBLIC gboolean kho_image_convert_parts(const KhoImagePart *parts, guint n_parts, const char *target,
                                            const KhoImageConvert *options, const KhoImageGate *gate,
                                            const KhoJob *job, GError **error);

#endif
