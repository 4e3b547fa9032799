/* BlkStore: bytes at offsets. One const table of functions per kind (file, memory, faulty, recording) behind
 * one checked dispatcher. Here lives what a place of bytes can do; formats live in qcow2/ and raw/, bulk
 * moving in image/'s copy engine. */
#ifndef KHO_BLOCK_BLK_H
#define KHO_BLOCK_BLK_H

#include <glib.h>
#include <kho/error.h>

typedef struct BlkStore BlkStore;

typedef enum { BLK_EXTENT_DATA, BLK_EXTENT_HOLE } BlkExtentKind;

typedef struct {
    BlkExtentKind kind;
    guint64 bytes; /* > 0 */
} BlkExtent;

/* How blk_zero makes a range read as zeros. */
typedef enum {
    BLK_ZERO_MAY_PUNCH, /* give the space back where the store can */
    BLK_ZERO_GIVE_BACK, /* nobody reads it any more: the space goes back where the store can, else nothing is
                           done */
    BLK_ZERO_RESERVE,   /* zeros, with their space reserved: a later write cannot run out of space */
} BlkZeroMode;

/* Bytes of another store. */
typedef struct {
    BlkStore *store;
    guint64 off, len; /* multiples of BLK_SHARE_BYTES */
} BlkShared;

/* File systems share blocks of this size, or of one that divides it. */
#define BLK_SHARE_BYTES 4096

/* One kind of store. Every function but zero, extent, share and fd is required; a store without them gets
 * written zeros, one whole data extent, shares nothing, and -1. Implementations may trust the bounds: the
 * dispatcher checked them. */
typedef struct {
    const char *name;
    /* *got is less than @len only where the store ends first. */
    gboolean (*pread)(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error);
    gboolean (*pwrite)(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error);
    gboolean (*zero)(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error);
    gboolean (*truncate)(BlkStore *store, guint64 bytes, GError **error);
    gboolean (*flush)(BlkStore *store, GError **error);
    gboolean (*size)(BlkStore *store, guint64 *bytes, GError **error);
    gboolean (*extent)(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error);
    gboolean (*share)(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error);
    int (*fd)(BlkStore *store);
    void (*free)(BlkStore *store);
} BlkOps;

/* What every kind begins with. @label names the store in messages (a path). */
struct BlkStore {
    const BlkOps *ops;
    char *label; /* owned by the dispatcher, freed by blk_free */
    gboolean writable;
};

/* Reads exactly @len bytes; the range must lie within the store (KHO_ERROR_CORRUPT otherwise: a format asked
 * for bytes past the end). Any thread, also at the same time. */
gboolean blk_pread(BlkStore *store, guint64 off, void *buf, gsize len, GError **error);

/* Like blk_pread, but the store may end first: *got says how many bytes there were. */
gboolean blk_pread_upto(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error);

/* Like blk_pread, but what lies past the end reads as zeros: for the last cluster of a short file. */
gboolean blk_pread_padded(BlkStore *store, guint64 off, void *buf, gsize len, GError **error);

/* Writes exactly @len bytes, growing the store where they end past it. KHO_ERROR_DENIED on a read-only store.
 * Durable only after the next blk_flush. Any thread, also at the same time. */
gboolean blk_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error);

/* Makes the range read as zeros, growing the store where it ends past it. */
gboolean blk_zero(BlkStore *store, guint64 off, guint64 len, BlkZeroMode mode, GError **error);

/* Makes as many bytes from @off on (a multiple of BLK_SHARE_BYTES) hold what @from does without moving them:
 * by the same blocks, or by a server's own copy. FALSE in *done, with TRUE returned, where these two stores
 * cannot: the range is undefined then. Grows the store where it ends past it. */
gboolean blk_can_share(const BlkStore *store); /* can it ever? */
gboolean blk_share(BlkStore *store, guint64 off, const BlkShared *from, gboolean *done, GError **error);

/* Sets the size; what is added reads as zeros. */
gboolean blk_truncate(BlkStore *store, guint64 bytes, GError **error);

/* A barrier: everything written before is durable when it returns TRUE. After a failure nothing written since
 * the last good flush may be relied upon; the caller must not try again and call it durable. */
gboolean blk_flush(BlkStore *store, GError **error);

gboolean blk_size(BlkStore *store, guint64 *bytes, GError **error);

/* The extent of one kind that starts at @off; @off < size. It ends at @max_bytes (> 0), at a change of kind,
 * or at the end of the store. */
gboolean blk_extent(BlkStore *store, guint64 off, guint64 max_bytes, BlkExtent *extent, GError **error);

/* The descriptor behind it for reflink and locks, or -1. Owned by the store. */
int blk_fd(BlkStore *store);

void blk_free(BlkStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlkStore, blk_free)

/* Kinds. Each takes over what it is given. */

/* Over an open descriptor, which it owns from here on. */
BlkStore *blk_file_new(int fd, const char *label, gboolean writable);
/* Opens @path (O_RDONLY or O_RDWR, a regular file or block device; anything else is refused with
 * KHO_ERROR_INVALID), never creates. */
BlkStore *blk_file_open(const char *path, gboolean writable, GError **error);

/* In memory; starts with a copy of @bytes (may be NULL with @len 0). */
BlkStore *blk_mem_new(const void *bytes, gsize len, const char *label);
/* From here on it shares what lies in any other store. */
void blk_mem_share(BlkStore *mem);
/* A copy of its present contents; a test's oracle. */
GBytes *blk_mem_snapshot(BlkStore *mem);

#endif
