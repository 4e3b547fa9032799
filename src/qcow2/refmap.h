/* How often each cluster of an image is referenced, counted by reading everything that refers: what refcounts
 * should be. It has room for a bounded number of clusters: counting begins at one of them, and where the room
 * ends so does the window that is known afterwards; who wants the rest counts once more, from there. Sparse,
 * so that a window reaches as far as the references lie apart, whatever length the file pretends to have.
 * Counting lives in references.c, comparing in check.c, mending in repair.c. Not thread-safe. */
#ifndef KHO_QCOW2_REFMAP_H
#define KHO_QCOW2_REFMAP_H

#include <glib.h>

/* What a cluster was referenced as: bits of a mask. */
typedef enum {
    QCOW2_REF_HEADER = 1 << 0,
    QCOW2_REF_L1 = 1 << 1,
    QCOW2_REF_L2 = 1 << 2,
    QCOW2_REF_DATA = 1 << 3,
    QCOW2_REF_COMPRESSED = 1 << 4,
    QCOW2_REF_TABLE =
        1 << 5, /* snapshot table, refcount table, LUKS header, bitmap directory or table, bitmap */
    QCOW2_REF_BLOCK = 1 << 6, /* refcount block */
} Qcow2RefKind;

#define QCOW2_REF_KINDS 7

typedef struct Qcow2RefMap Qcow2RefMap;

/* A window that takes about @room_bytes of memory (more where that is too little for @step clusters) and ends
 * at a multiple of @step, a power of two. It begins at cluster 0 and holds nothing. */
Qcow2RefMap *qcow2_refmap_new(gsize room_bytes, guint64 step);
void qcow2_refmap_free(Qcow2RefMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2RefMap, qcow2_refmap_free)

/* Forgets everything: the window begins at @from, a multiple of the step. */
void qcow2_refmap_begin(Qcow2RefMap *map, guint64 from);

/* Counts one more reference to each of @n clusters; those outside of the window only move the end. */
void qcow2_refmap_add(Qcow2RefMap *map, guint64 first, guint64 n, Qcow2RefKind kind);

/* The window: clusters [from, limit) are known once all has been counted; @limit is G_MAXUINT64 where there
 * was room for everything. */
guint64 qcow2_refmap_from(const Qcow2RefMap *map);
guint64 qcow2_refmap_limit(const Qcow2RefMap *map);

/* References counted (saturating at 2^32 - 1), and as what; of clusters in the window. */
guint64 qcow2_refmap_count(const Qcow2RefMap *map, guint64 cluster);
guint qcow2_refmap_kinds(const Qcow2RefMap *map, guint64 cluster);

/* Is that what everybody hopes for: @count references, all of one kind, and of one that may be shared where
 * there are several? What is FALSE here need not be wrong. */
gboolean qcow2_refmap_is_plain(const Qcow2RefMap *map, guint64 cluster, guint64 count);

/* One past the highest cluster referenced, in the window or not; 0 when there is none. */
guint64 qcow2_refmap_end(const Qcow2RefMap *map);

/* The first cluster of the window at or after @from that has a reference, or G_MAXUINT64. Fast when asked in
 * ascending order, and only once nothing is added any more. */
guint64 qcow2_refmap_next(Qcow2RefMap *map, guint64 from);

#endif
