/* How often each cluster of an image is referenced, counted by reading everything that refers: what refcounts
 * should be. Sparse, so that memory follows what was referenced and never the length that a file pretends to
 * have. Counting lives in references.c, comparing in check.c, mending in repair.c. Not thread-safe. */
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

typedef struct Qcow2RefMap Qcow2RefMap;

Qcow2RefMap *qcow2_refmap_new(void);
void qcow2_refmap_free(Qcow2RefMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2RefMap, qcow2_refmap_free)

/* Counts one more reference to @cluster; FALSE, and nothing counted, where it has @max already. */
gboolean qcow2_refmap_add(Qcow2RefMap *map, guint64 cluster, Qcow2RefKind kind, guint64 max);

/* References counted (saturating at 2^32 - 1), and as what. */
guint64 qcow2_refmap_count(const Qcow2RefMap *map, guint64 cluster);
guint qcow2_refmap_kinds(const Qcow2RefMap *map, guint64 cluster);

/* One past the highest cluster referenced; 0 when there is none. */
guint64 qcow2_refmap_end(const Qcow2RefMap *map);

/* The first cluster at or after @from that has a reference, or G_MAXUINT64. Fast when asked in ascending
 * order, and only once nothing is added any more. */
guint64 qcow2_refmap_next(Qcow2RefMap *map, guint64 from);

#endif
