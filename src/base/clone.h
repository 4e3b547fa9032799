/* Bytes moved by the kernel between two descriptors, and hints to it about writing back. Here live the system
 * calls alone; when each is worth it is image/copy.c's business. */
#ifndef KHO_BASE_CLONE_H
#define KHO_BASE_CLONE_H

#include <glib.h>

typedef enum {
    CLONE_DONE,
    CLONE_CANNOT, /* not between these files: use another way; nothing was changed */
    CLONE_FAILED, /* @error is set */
} CloneResult;

/* Makes [to_off, to_off + len) of @to share the blocks of [from_off, from_off + len) of @from (FICLONERANGE).
 * The offsets and the length are multiples of the file system's block. */
CloneResult clone_share(int from, guint64 from_off, int to, guint64 to_off, guint64 len, GError **error);

/* The same by copy_file_range, and only where the file system hands the work to a server: elsewhere a copy in
 * the kernel is no faster than one that also looks for zeros. */
CloneResult clone_offload(int from, guint64 from_off, int to, guint64 to_off, guint64 len, GError **error);

/* Starts writing what is dirty in [off, off + len) without waiting for it; a hint, so failures are not
 * reported. */
void clone_start_writeback(int fd, guint64 off, guint64 len);

#endif
