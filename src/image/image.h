/* An open image and its chain: what image/'s own files share. The public contract is kho/image.h; formats
 * live behind format.h. */
#ifndef KHO_IMAGE_IMAGE_H
#define KHO_IMAGE_IMAGE_H

#include "foreign/foreign.h"
#include "image/format.h"
#include "image/lock.h"
#include "image/range.h"

#include <kho/image.h>
#include <sys/stat.h>

/* A chain longer than this is refused: each image of it costs a descriptor, and a process has about 1,000. */
#define IMAGE_CHAIN_MAX 512

struct KhoImage {
    FormatImage *format; /* owned */
    FormatImage *whole;  /* where format is the view of a snapshot: what it was made from; owned; else NULL */
    char *path;          /* as it was named, or as its overlay names it */
    Foreign *foreign;    /* owned; serves the bytes of @format where the image is of a foreign format */
    const char *foreign_format;
    BlkStore *foreign_file; /* owned; with the image's locks */
    gboolean has_data_file, data_is_raw;
    char *data_name;          /* of the data file, as the header has it; NULL: not stated */
    char *data_path;          /* where it was opened; NULL: it is not open, or there is none */
    int data_fd;              /* then: of its store, or -1 */
    KhoImage *backing;        /* owned; NULL: holes read as zeros */
    guint depth;              /* 0 for the image that the caller opened */
    guint32 cluster_bytes;    /* 1 where the format has no clusters */
    guint32 subcluster_bytes; /* what is mapped as one: a cluster, or a part of it */
    gboolean new_is_noise;    /* what was never written reads so: enciphered as a whole, with no map of it */
    gboolean writable;
    gboolean unpublished;    /* its file has no name yet: FORMAT_UNPUBLISHED */
    gboolean has_file_holes; /* much of the file was holes when it was opened: what is mapped may be one */
    struct stat identity;    /* of the file when it was opened: tells one file by its device and inode */
    struct stat data_identity;
    RangeLock ranges; /* guest ranges being read or written, where writable */
};

/* Wraps @file (taken over in every case), without any lock or backing file. */
KhoImage *
image_over_store(BlkStore *file, const FormatOps *ops, FormatFlags flags, const char *path, GError **error);

/* Gives @image its data file, open (taken over in every case) at @path. */
gboolean image_set_data(KhoImage *image, BlkStore *data, const char *path, GError **error);

/* A file, or a server's disk. */
BlkStore *image_open_store(const KhoImageSource *source, gboolean writable, GError **error);

/* Opens the data file of @image, where it has one and @source wants it, with the rights and locks of the
 * image, which is to lie below @chain (NULL: it is the first). */
gboolean
image_open_data(KhoImage *image, const KhoImageSource *source, const KhoImage *chain, GError **error);

/* The first image of @chain that is the file @st or has it as its data file, or NULL. */
const KhoImage *image_find_file(const KhoImage *chain, const struct stat *st);

/* How many of @bytes of a place at @off are wanted in its store: in the image's own file clusters are whole,
 * while a data file ends where the disk does. */
guint64 image_place_bytes(const KhoImage *image, guint64 off, guint64 bytes);

/* What opens the image at @path, which is @depth layers below that of @source: for reading, with the key that
 * is meant for it. */
KhoImageSource
image_source_below(const KhoImageSource *source, guint depth, const char *path, const char *format);

/* Opens the backing files that @image's header names, read-only, by @source's flags, gate and secrets. */
gboolean image_open_backing(KhoImage *image, const KhoImageSource *source, GError **error);

/* Makes the data of an encrypted image readable, where @source has secrets; others are left alone. */
gboolean image_unlock(KhoImage *image, const KhoImageSource *source, GError **error);

/* The image in @file (taken over in every case), which is of the foreign format @format: started, opened, and
 * its virtual disk taken for a raw image. @gate admits what else it names. */
typedef struct {
    const char *format, *path;
    gboolean writable;
    KhoImageFlags flags; /* NO_BACKING: this file and its extents alone; NO_LOCK, IDLE_LOCK: extents too */
    const KhoImageGate *gate;
    const KhoJob *job;
} ForeignImage;
KhoImage *image_over_foreign(BlkStore *file, const ForeignImage *how, GError **error);

/* What QEMU finds wrong in an open foreign image: its ImageCheck, the caller's. */
json_t *image_check_foreign(KhoImage *image, const KhoJob *job, GError **error);

/* A new one in @file, which is empty. */
KhoImage *image_make_foreign(BlkStore *file, const ForeignImage *how, guint64 size_bytes,
                             const char *const *options, GError **error);

/* Where the backing name @name of the image at @path leads, relative to that image's folder, in the form that
 * QEMU prints. NULL with KHO_ERROR_UNSUPPORTED where it is not a plain path ("json:", "nbd:", ...). */
char *image_backing_path(const char *path, const char *name, GError **error);

/* Where the data file of that name is; the same. */
char *image_data_path(const char *path, const char *name, GError **error);

/* Asks the caller whether a path that was found inside an image may be opened. */
gboolean image_pass_gate(const KhoImageGate *gate, const char *path, const char *referrer, GError **error);

/* Closes what was written, whatever came before: where @done is FALSE there is one message already. */
gboolean image_close_after(KhoImage *image, gboolean done, GError **error);

/* What the first write would meet, said before anything has begun: KHO_ERROR_UNSUPPORTED. */
gboolean image_takes_writes(KhoImage *image, GError **error);

/* From here on nothing is changed in the image, although it is open for writing: for a plan (NULL: there is
 * none). */
void image_only_looks(KhoImage *image, const KhoImagePlan *plan);

/* The same file, whatever its names? */
gboolean image_same_file(const struct stat *a, const struct stat *b);
/* The same for what lies at servers too, which is told apart by its name. */
gboolean image_is_at(const KhoImage *image, const char *path);
gboolean image_same_place(const KhoImage *a, const KhoImage *b);

/* Where guest bytes of a chain live: the image of the chain and the run in it. A hole is in no image; @owner
 * is then the one that the search ended in. */
typedef struct {
    KhoImage *owner;
    Run run;
} Located;
gboolean image_locate(KhoImage *image, guint64 off, guint64 max_bytes, Located *found, GError **error);

/* The image of @chain that an entry of its map lies in. */
KhoImage *image_owner(KhoImage *chain, const KhoMapEntry *entry);

/* Makes the range zeros of @image's own, whatever lies below it now or later; kho_image_zero leaves holes
 * that read as zeros already. Whole clusters (the last one of the disk counts as whole). */
gboolean image_own_zeros(KhoImage *image, guint64 off, guint64 len, GError **error);

/* Stores packed bytes (format_pack) as the cluster at @off of an unpublished image. */
gboolean image_write_packed(KhoImage *image, guint64 off, const guint8 *packed, gsize len, GError **error);

/* Lets @image, open for reading, show @view, which was made from its format; and itself again: @view is
 * closed. With @alone nothing shows through its holes meanwhile. */
typedef struct {
    KhoImage *image, *backing;
} ImageShown;
ImageShown image_show(KhoImage *image, FormatImage *view, gboolean alone);
void image_show_itself(ImageShown *shown);

#endif
