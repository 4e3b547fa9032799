/* L2 tables through the L1 table: finding one, and making one that may be changed. Bit layouts live in
 * entry.h, what is done with the entries in map.c, place.c and zero.c. All want the meta lock and the L1
 * table loaded. Spec: docs/spec/qcow2.md, section 6. */
#ifndef KHO_QCOW2_L2_H
#define KHO_QCOW2_L2_H

#include "qcow2/entry.h"
#include "qcow2/image.h"

/* Where a guest offset stands in the tables. */
typedef struct {
    guint64 l1_index, l2_index;
} Qcow2Index;

static inline Qcow2Index
qcow2_index(const Qcow2Geometry *geo, guint64 guest_off)
{
    return (Qcow2Index){ guest_off / geo->l2_span_bytes, (guest_off >> geo->cluster_bits) % geo->l2_entries };
}

/* The subcluster of its cluster that a guest offset lies in. */
static inline guint
qcow2_sub(const Qcow2Geometry *geo, guint64 guest_off)
{
    return (guint) (guest_off >> geo->sub_bits) % geo->subs;
}

static inline Qcow2Entry
qcow2_l2_entry(const Qcow2Geometry *geo, const Qcow2Table *table, guint64 l2_index)
{
    const guint8 *bytes = table->bytes + l2_index * geo->l2_entry_bytes;

    return (Qcow2Entry){ be64_load(bytes), geo->l2_entry_bytes == 16 ? be64_load(bytes + 8) : 0 };
}

/* *table is NULL where the L1 entry is empty. KHO_ERROR_CORRUPT where it is wrong. */
gboolean qcow2_l2_get_locked(Qcow2Image *image, guint64 l1_index, Qcow2Table **table, GError **error);
/* The same through another L1 table of the disk. */
gboolean qcow2_l2_find_locked(Qcow2Image *image, const Qcow2Words *l1, guint64 l1_index, Qcow2Table **table,
                              GError **error);

/* The table, alone in naming its clusters: made where there is none, copied where a snapshot shares it. The
 * old one is let go. Wants qcow2_begin_write_locked passed. */
gboolean qcow2_l2_writable_locked(Qcow2Image *image, guint64 l1_index, Qcow2Table **table, GError **error);

/* How many entries from the one at @l2_index on, at most @most, are its word and @step more each: by a
 * cluster, plain data in one cluster after the other, all flagged alike. At least 1. */
guint64
qcow2_l2_run(const Qcow2Geometry *geo, const Qcow2Table *table, guint64 l2_index, guint64 step, guint64 most);

void qcow2_l2_set(Qcow2Image *image, Qcow2Table *table, guint64 l2_index, Qcow2Entry entry);

/* Decodes an entry; KHO_ERROR_CORRUPT names the guest offset and both indices. */
gboolean qcow2_l2_cluster_locked(Qcow2Image *image, const Qcow2Table *table, Qcow2Index index,
                                 Qcow2Cluster *cluster, GError **error);

#endif
