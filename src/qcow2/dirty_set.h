/* Which parts of the disk were written since the bitmaps were last stored: a sparse set of bits in memory,
 * each for a granule of 2^bits bytes. What a bitmap on disk looks like lives in bitmap.h. */
#ifndef KHO_QCOW2_DIRTY_SET_H
#define KHO_QCOW2_DIRTY_SET_H

#include <glib.h>

/* Bits of one chunk, and the bytes of memory that it takes with its place in the table. */
#define QCOW2_DIRTY_CHUNK_BITS  2048
#define QCOW2_DIRTY_CHUNK_BYTES 320

typedef struct {
    gint64 index; /* the first bit is index * QCOW2_DIRTY_CHUNK_BITS */
    guint64 words[QCOW2_DIRTY_CHUNK_BITS / 64];
} Qcow2DirtyChunk;

typedef struct {
    guint granularity_bits;
    GHashTable *chunks;    /* index -> Qcow2DirtyChunk, owned */
    Qcow2DirtyChunk *last; /* the one used last, or NULL */
} Qcow2DirtySet;

Qcow2DirtySet *qcow2_dirty_set_new(guint granularity_bits);
void qcow2_dirty_set_free(Qcow2DirtySet *set);

/* Adds every granule that [at, at + len) guest bytes touch; @len > 0. */
void qcow2_dirty_set_add(Qcow2DirtySet *set, guint64 at, guint64 len);
/* Takes out what lies wholly past @bytes guest bytes. */
void qcow2_dirty_set_cut(Qcow2DirtySet *set, guint64 bytes);
void qcow2_dirty_set_clear(Qcow2DirtySet *set);

/* How many bytes of memory it takes. */
guint64 qcow2_dirty_set_bytes(const Qcow2DirtySet *set);

/* The chunks in the order of their places; free with g_ptr_array_unref. Valid until the set changes. */
GPtrArray *qcow2_dirty_set_sorted(const Qcow2DirtySet *set);

#endif
