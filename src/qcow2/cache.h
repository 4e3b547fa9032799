/* The cache of metadata clusters: L2 tables and refcount blocks, by their place in the file. Clean ones are
 * bounded and go by age; dirty ones stay until flush.c has written them in the order of the rules. Every
 * function is called with the image's meta lock held. */
#ifndef KHO_QCOW2_CACHE_H
#define KHO_QCOW2_CACHE_H

#include "block/blk.h"

typedef enum { QCOW2_TABLE_L2, QCOW2_TABLE_REFBLOCK } Qcow2TableKind;

typedef struct {
    guint64 off; /* in the file, bytes */
    Qcow2TableKind kind;
    gboolean fresh;             /* nothing on disk names it yet */
    guint dirty_from, dirty_to; /* bytes; equal: clean */
    GList age;                  /* link in the cache's queue; data is the table itself */
    guint8 bytes[];             /* one cluster */
} Qcow2Table;

typedef struct {
    BlkStore *file; /* not owned */
    guint64 cluster_bytes;
    GHashTable *tables; /* guint64 offset -> Qcow2Table */
    GQueue ages;        /* all tables, the latest used first */
    guint n_dirty;
    guint64 max_tables; /* how many trim leaves, dirty ones among them */
} Qcow2Cache;

void qcow2_cache_init(Qcow2Cache *cache, BlkStore *file, guint64 cluster_bytes);
void qcow2_cache_clear(Qcow2Cache *cache);

/* The table at @off, read when it is not here. Valid until the next qcow2_cache_trim or drop. NULL on a
 * failed read, and KHO_ERROR_CORRUPT where the same cluster is in use as a table of the other kind. */
Qcow2Table *qcow2_cache_get(Qcow2Cache *cache, Qcow2TableKind kind, guint64 off, GError **error);

/* A new table full of zeros that will lie at @off: fresh, dirty as a whole. */
Qcow2Table *qcow2_cache_add(Qcow2Cache *cache, Qcow2TableKind kind, guint64 off);

/* Bytes [from, to) of @table changed. */
void qcow2_table_touch(Qcow2Cache *cache, Qcow2Table *table, guint from, guint to);

/* Writes what changed in @table (whole sectors of 512 bytes, so that no entry is torn); dirty still on
 * failure. */
gboolean qcow2_table_write(Qcow2Cache *cache, Qcow2Table *table, GError **error);

/* Forgets the table at @off, changed or not: its cluster is about to be something else. */
void qcow2_cache_drop(Qcow2Cache *cache, guint64 off);
/* Forgets everything, changed or not. */
void qcow2_cache_drop_all(Qcow2Cache *cache);

/* Frees clean tables, oldest first, down to the bound. Called at the end of an operation, when no pointer to
 * a table is held. */
void qcow2_cache_trim(Qcow2Cache *cache);

/* Frees @table, to which nobody else holds a pointer, where more are here than trim leaves; a dirty one
 * stays. For who looks at many, one after the other, before the operation ends. */
void qcow2_cache_pass(Qcow2Cache *cache, Qcow2Table *table);

/* The dirty tables in the order of their offsets; free with g_ptr_array_unref. */
GPtrArray *qcow2_cache_dirty(const Qcow2Cache *cache);

#endif
