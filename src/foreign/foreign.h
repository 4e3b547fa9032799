/* One image of a format that kho's engine does not know, open in a QEMU storage daemon of its own: caged
 * (cage.h), with no more files than a broker opens for it (broker.h), told what to do by QMP, its disk
 * reached by NBD over sockets that have no name. It ends with this process, whatever ends that. Chains, locks
 * and new files are image/'s. */
#ifndef KHO_FOREIGN_FOREIGN_H
#define KHO_FOREIGN_FOREIGN_H

#include "block/blk.h"
#include "foreign/formats.h"

#include <kho/job.h>

typedef struct Foreign Foreign;

typedef struct {
    const char *format; /* of foreign_format_find */
    const char *path;   /* absolute: what other files that the image names are relative to */
    int fd;             /* the image; the caller's, open for as long as the daemon runs */
    gboolean writable;
    gboolean alone; /* its backing file is not opened: where it has no data, there are zeros */
    /* Whether another file that the image names may be opened; called in another thread, until foreign_open
     * has returned. NULL refuses all. */
    gboolean (*admit)(const char *path, gpointer data, GError **error);
    /* Takes the locks on such a file, which is open as @fd, the daemon's; or refuses it. As admit. */
    gboolean (*claim)(int fd, const char *path, gboolean writes, gpointer data, GError **error);
    gpointer data;
    const KhoJob *job; /* cancels what waits for the daemon; may be NULL */
} ForeignSpec;

/* Starts the daemon. KHO_ERROR_UNSUPPORTED where it is not installed, or the kernel cannot confine it. */
Foreign *foreign_start(const ForeignSpec *spec, GError **error);

/* Makes the file, which is empty, an image. @options as for foreign_format_create_options. */
gboolean foreign_make(Foreign *foreign, guint64 size_bytes, const char *const *options, GError **error);

/* Opens the image; the store is its virtual disk, and is to be freed before foreign_end. KHO_ERROR_INVALID
 * with QEMU's reason, _DENIED where the image names a file that may not be opened. */
BlkStore *foreign_open(Foreign *foreign, GError **error);

/* What QEMU says of the open image, as its ImageInfo; the caller's. */
json_t *foreign_info(Foreign *foreign, GError **error);

/* Sets the size of the virtual disk, whose store is freed. */
gboolean foreign_resize(Foreign *foreign, guint64 bytes, GError **error);

/* What qemu-img finds in the image, as its ImageCheck; the caller's. Nothing is changed.
 * KHO_ERROR_UNSUPPORTED where it does not check that format. */
json_t *foreign_check(const ForeignSpec *spec, GError **error);

/* Lets the daemon close the image and end, and frees in every case. FALSE: what was written may not be whole.
 */
gboolean foreign_end(Foreign *foreign, GError **error);

/* Kills it: for what only was read, or is given up. */
void foreign_free(Foreign *foreign);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Foreign, foreign_free)

#endif
