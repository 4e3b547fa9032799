/* New image files: written without a name (or beside their place), named when they are whole and durable. A
 * kill at any moment leaves nothing, or a `.NAME.kho-tmp` that nobody has locked, which the next writer of
 * NAME removes. Small files of the host's tree are published by store/. */
#ifndef KHO_IMAGE_PUBLISH_H
#define KHO_IMAGE_PUBLISH_H

#include "image/image.h"

typedef struct Publish Publish;

typedef enum {
    PUBLISH_REPLACE = 1 << 0, /* what stands at the path is replaced; otherwise it must not exist */
    PUBLISH_NAMED = 1 << 1,   /* go the way of a file system without nameless files */
} PublishFlags;

/**
 * publish_begin:
 * @path: where the file shall stand; a symbolic link is followed where it is to be replaced, also to where
 * nothing stands
 * @mode: of the new file; 0: 0644 less the umask, or that of the file replaced
 *
 * Makes the new, empty file. A file that is to be replaced is locked until the end, as by a writer.
 *
 * Returns: NULL with KHO_ERROR_EXISTS, _BUSY (somebody uses what stands there, or writes it anew just now),
 * _NOT_FOUND (the folder), _INVALID (a folder or device stands there), ...
 */
Publish *publish_begin(const char *path, mode_t mode, PublishFlags flags, GError **error);

/* A store over the new file, of its own descriptor. */
BlkStore *publish_store(Publish *publish, GError **error);

/* What stands at the path and is replaced, or NULL. */
const struct stat *publish_replaced(const Publish *publish);

/* The descriptor of the new file, which stays the publish's. */
int publish_fd(const Publish *publish);

/* KHO_ERROR_NO_SPACE where the file system has not @bytes free. */
gboolean publish_check_space(Publish *publish, guint64 bytes, GError **error);

/* Makes the file durable and gives it its name; KHO_ERROR_CANCELLED where @job was cancelled before that. The
 * publish is to be freed in any case. */
gboolean publish_finish(Publish *publish, const KhoJob *job, GError **error);

/* Has it its name? It may have although publish_finish failed after that. */
gboolean publish_is_named(const Publish *publish);

/* Removes the finished file again, since what needs it does not come. What it replaced is gone: then it
 * stays. */
void publish_take_back(Publish *publish);

/* Drops the file unless it was finished. */
void publish_free(Publish *publish);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Publish, publish_free)

#endif
