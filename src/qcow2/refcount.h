/* Reference counts of host clusters: reading, raising, lowering, and finding free clusters. Growing the
 * tables that hold them lives in reftable.c; the order in which changes reach the disk in flush.c. A free
 * cluster is one whose count in memory is 0: what was handed out but not yet published, and what was let go
 * but is not durably unnamed, counts as taken. All functions want the meta lock and qcow2_begin_write_locked
 * passed. Spec: docs/spec/qcow2.md, section 5. */
#ifndef KHO_QCOW2_REFCOUNT_H
#define KHO_QCOW2_REFCOUNT_H

#include "qcow2/entry.h"
#include "qcow2/image.h"

gboolean qcow2_refcount_get(Qcow2Image *image, guint64 cluster, guint64 *count, GError **error);
/* The same, and how many clusters from it on, at most @most, have that count; at least 1, fewer where their
 * block ends. */
gboolean qcow2_refcount_run(Qcow2Image *image, guint64 cluster, guint64 most, guint64 *count, guint64 *n,
                            GError **error);

/* Adds one to each count, in memory. All of them or none: KHO_ERROR_NO_SPACE where a count is as high as its
 * width allows. The blocks must be there (they are where a count is above 0). */
gboolean qcow2_refcount_raise(Qcow2Image *image, guint64 first, guint64 n, GError **error);

/* Takes one from each count, in memory, at once: for clusters that nothing on disk names. KHO_ERROR_CORRUPT
 * where a count is 0 already. */
gboolean qcow2_refcount_lower(Qcow2Image *image, guint64 first, guint64 n, GError **error);

/* Where much is let go at once, so many stretches wait before they are lowered: in the file's order, since
 * each that is given back costs the file system a transaction. */
#define QCOW2_LOWERS_MAX 65536

/* The same once the entries that name them are durably gone. Rule: L2_BEFORE_LOWER. */
void qcow2_refcount_lower_later(Qcow2Image *image, guint64 first, guint64 n);
/* What an L2 entry names: data, preallocated zeros, or compressed bytes. Nothing in a data file. */
void qcow2_refcount_release_later(Qcow2Image *image, const Qcow2Header *header, Qcow2Entry entry);

/**
 * qcow2_alloc:
 * @want: clusters wanted, > 0
 * @exact: all of them in one stretch, or fail; otherwise what the first free stretch has
 * @first, @got: (out): the stretch; 0 < got <= want
 *
 * Takes free clusters and raises their counts in memory. May write and flush when the refcount table must
 * grow. KHO_ERROR_NO_SPACE past the largest file that the refcount table can describe, KHO_ERROR_CORRUPT when
 * a count says that a table's cluster is free.
 */
gboolean
qcow2_alloc(Qcow2Image *image, guint64 want, gboolean exact, guint64 *first, guint64 *got, GError **error);

/* The block that counts @cluster, NULL without an error where there is none (its counts are 0). */
gboolean qcow2_refblock_get(Qcow2Image *image, guint64 cluster, Qcow2Table **block, GError **error);

/* Sets one count in a block that is in the cache. */
void qcow2_refblock_set(Qcow2Image *image, Qcow2Table *block, guint64 cluster, guint64 count);

/* reftable.c: makes blocks that count @cluster (free, without a block) and at least @want clusters after
 * those it takes itself, as far as no block is there. It takes clusters from @cluster on for the blocks and,
 * where the refcount table must grow, for the new table, which is then published at once. Rule:
 * TABLE_BEFORE_POINTER. */
gboolean qcow2_reftable_cover(Qcow2Image *image, guint64 cluster, guint64 want, GError **error);

/* The last blocks go as far as they count nothing but themselves, so that the file can end before them. Rule:
 * L2_BEFORE_LOWER, for entries of the refcount table. */
gboolean qcow2_reftable_trim(Qcow2Image *image, GError **error);

#endif
