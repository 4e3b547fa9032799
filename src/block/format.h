/* The contract of an image format. A format (raw/, qcow2/) answers where guest bytes live and changes that
 * answer safely; it never follows a backing file and never moves guest data: image/ does both. One const
 * table per format; image/format.c holds the list and the checked dispatcher. */
#ifndef KHO_BLOCK_FORMAT_H
#define KHO_BLOCK_FORMAT_H

#include "block/bitmap.h"
#include "block/blk.h"
#include "block/facts.h"
#include "block/map.h"

typedef enum {
    FORMAT_WRITABLE = 1 << 0,
    /* The file is not published yet: barriers are left to the one flush before it is renamed into place. */
    FORMAT_UNPUBLISHED = 1 << 1,
} FormatFlags;

typedef struct FormatPacker FormatPacker; /* compresses clusters; one thread's */

typedef enum { FORMAT_LEVEL_DEFAULT, FORMAT_LEVEL_FAST, FORMAT_LEVEL_BEST } FormatLevel;

typedef struct {
    const char *name; /* "raw", "qcow2" */

    /* Does @head (the first @len bytes, up to 512) look like this format? raw never says so. */
    gboolean (*probe)(const guint8 *head, gsize len);

    /* Opens over @file, which the image owns from here on, on success only. Writes nothing before every check
     * passed. */
    FormatImage *(*open)(BlkStore *file, FormatFlags flags, GError **error);

    gboolean (*info)(FormatImage *image, FormatInfo *info, GError **error);

    /* Makes the guest's bytes of an encrypted image readable; before any other thread uses it. Until then
     * they cannot be read or written, and all else works. KHO_ERROR_DENIED where the passphrase opens
     * nothing. NULL where the format has no encryption. */
    gboolean (*unlock)(FormatImage *image, const void *passphrase, gsize len, GError **error);
    /* Gives the image the store that info calls for, once, before anything of the guest's is read or written.
     * The image owns @data from here on. NULL where there are no such images. */
    void (*set_data)(FormatImage *image, BlkStore *data);

    /* Where guest bytes live in this image alone. @at + @max_bytes <= guest size, @max_bytes > 0. */
    gboolean (*map)(FormatImage *image, GuestOff at, guint64 max_bytes, Run *run, GError **error);

    /* Reads guest bytes [at, at + len) of one compressed cluster (within one RUN_COMPRESSED run). */
    gboolean (*inflate)(FormatImage *image, GuestOff at, void *buf, gsize len, GError **error);

    /* Makes ready a place for as much of [at, at + max_bytes) as one run can hold: allocates space and holds
     * it, unmapped. place->at <= at: the place begins and ends at boundaries of subclusters (the last at the
     * guest size rounded up to one, or where the bytes end that move with it) unless in_place. The contents
     * of a new place are undefined until written. */
    gboolean (*prepare)(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error);
    /* The same, with a new place for what has one, which goes back to the file system in the end; what lies
     * in a data file stays. NULL where the format itself places nothing. */
    gboolean (*prepare_new)(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error);
    /* Publishes the mapping of a place whose bytes have been written. On failure the place is still held, and
     * the dispatcher abandons it. */
    gboolean (*commit)(FormatImage *image, const Place *place, GError **error);
    /* Gives an unpublished place back. */
    void (*abandon)(FormatImage *image, const Place *place);

    /* Makes whole subclusters of [at, at + len) read as zeros without moving data. Returns in *done how many
     * bytes from @at it covered; 0 where @at lies inside one that must be written instead. */
    gboolean (*zero)(FormatImage *image, GuestOff at, guint64 len, guint64 *done, GError **error);

    /* Compressed clusters, for unpublished images; all four or none. pack compresses one whole cluster into
     * @packed, which has a cluster's room, and returns how many bytes that took: 0 where it is not worth it.
     * No locks, no I/O. put_packed stores such bytes as the cluster at @at. */
    FormatPacker *(*packer_new)(FormatImage *image, FormatLevel level);
    gsize (*pack)(FormatPacker *packer, const guint8 *cluster, guint8 *packed);
    void (*packer_free)(FormatPacker *packer);
    gboolean (*put_packed)(FormatImage *image, GuestOff at, const guint8 *packed, gsize len, GError **error);

    /* Everything committed before is durable and consistent when it returns TRUE. */
    gboolean (*flush)(FormatImage *image, GError **error);

    /* Grows (or, where @may_shrink, shrinks) the virtual disk. What is added reads as zeros (of a LUKS
     * volume: as noise) from the moment
     * that the new size is on disk: also where a backing file is longer than the disk was, whole clusters of
     * which the format hides as far as backing_bytes says. The cluster that the old end lies in is the
     * caller's business: one of the image's own reads as zeros past that end. A crash leaves the old disk or
     * the new one, and so does a failure or a @job (may be NULL) that was cancelled. */
    gboolean (*resize)(FormatImage *image, guint64 guest_bytes, gboolean may_shrink, const struct KhoJob *job,
                       GError **error);

    /* Grows the disk for this process alone. Whoever opens the file meets the old one, until resize to the
     * size that the disk has now publishes it with what was mapped meanwhile, which lies behind the cluster
     * of the old end. resize to the old size (and close) takes it all back, and gives the file its old
     * length. NULL where resize alone says how long the disk is. */
    gboolean (*extend)(FormatImage *image, guint64 guest_bytes, GError **error);

    /* Makes the header name @file, of format @file_format, as the backing file (both NULL: none). All that
     * was committed before is durable first; durable itself when it returns TRUE; a crash leaves the old
     * header or the new one. With @only_check nothing is written, and TRUE says that it would fit. May be
     * NULL. */
    gboolean (*set_backing)(FormatImage *image, const char *file, const char *file_format,
                            gboolean only_check, GError **error);

    /* Lets go of all that the disk holds in this image: all of it is a hole then, and the file as short as it
     * can be; the image's snapshots stay. A crash leaves all of it or nothing. Durable when it returns TRUE.
     * May be NULL. */
    gboolean (*empty)(FormatImage *image, GError **error);

    /* Changes to the snapshots inside an image that nobody else uses meanwhile; all three or none. The disk
     * only: VM state is neither saved nor loaded. A crash leaves the old image or the new one, as a whole.
     * Durable when they return TRUE. @index: as in info's list. After revert the disk is what it was in the
     * snapshot, which stays, and may have another size. */
    gboolean (*snapshot_create)(FormatImage *image, const FormatSnapshotNew *snapshot, GError **error);
    gboolean (*snapshot_revert)(FormatImage *image, guint index, GError **error);
    gboolean (*snapshot_delete)(FormatImage *image, guint index, GError **error);

    /* Changes how the image is laid out; the disk's contents stay, and its size. What cannot be done is
     * refused before anything is written; with @only_check nothing is written at all. A crash leaves an image
     * that has what it had or all that was asked for. Durable when it returns TRUE. May be NULL. */
    gboolean (*amend)(FormatImage *image, const FormatAmend *wish, gboolean only_check, GError **error);

    /* What a change will take, and room: the bytes of the file's blocks that nobody uses any more, which what
     * is allocated comes to lie in first. Nothing is changed; what the change itself would refuse, this does.
     * May be NULL: nothing of the kind. */
    gboolean (*cost)(FormatImage *image, const FormatChange *change, FormatCost *cost, GError **error);
    gboolean (*room)(FormatImage *image, guint64 *bytes, GError **error);

    /* Changes the bitmaps of an image that nobody else uses meanwhile. Enabled ones are told of all that
     * changes through prepare, zero and put_packed, and follow the disk's size; what they cannot follow is
     * refused before it begins. A crash leaves the old bitmaps or the new ones. Durable when it returns TRUE.
     * May be NULL. */
    gboolean (*bitmap)(FormatImage *image, const FormatBitmapChange *change, GError **error);

    gboolean (*check)(FormatImage *image, FormatRepair repair, FormatCheck *result, GError **error);

    /* Flushes when writable; then frees in every case. FALSE when the flush failed. */
    gboolean (*close)(FormatImage *image, GError **error);
} FormatOps;

/* What every format's packer begins with. */
struct FormatPacker {
    const FormatOps *ops;
};

/* What every format's image begins with. */
struct FormatImage {
    const FormatOps *ops;
    BlkStore *file; /* owned */
    BlkStore *data; /* where the host offsets of DATA and of places point: @file, or another store that the
                       format reads the guest's bytes through, which is then owned too; NULL until set_data
                       gives it */
    gboolean encrypted; /* what lies at the host offsets is ciphertext */
    guint64 guest_bytes;
    guint64
        backing_bytes; /* the backing file's length, set by image/ once it is open: what growing must hide */
    FormatFlags flags;
    gboolean only_looks; /* set by image/: it is writable so that it can be asked, and nothing is changed, not
                            even a mark in its header */
    gboolean gains_backing; /* set by image/: a backing file will lie below it, so that holes are no zeros
                               even where none does now */
};

#endif
