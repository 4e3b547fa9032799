/* The bit-packed words of qcow2's tables: L1, L2 and refcount table entries, compressed descriptors, and
 * counts of 1 to 64 bits. Pure accessors without I/O, tested by vectors; what an entry means for an open
 * image lives in l2.c and map.c. Spec: docs/spec/qcow2.md, sections 5 and 6. */
#ifndef KHO_QCOW2_ENTRY_H
#define KHO_QCOW2_ENTRY_H

#include "qcow2/header.h"

#define QCOW2_ENTRY_COPIED                                                                                   \
    (G_GUINT64_CONSTANT(1) << 63) /* refcount is exactly one: may be written in place */
#define QCOW2_ENTRY_COMPRESSED (G_GUINT64_CONSTANT(1) << 62)
#define QCOW2_ENTRY_ZERO       G_GUINT64_CONSTANT(1)
#define QCOW2_ENTRY_OFFSET     G_GUINT64_CONSTANT(0x00fffffffffffe00) /* bits 9 to 55 */
#define QCOW2_REFTABLE_OFFSET  G_GUINT64_CONSTANT(0xfffffffffffffe00) /* bits 9 to 63 */
#define QCOW2_SECTOR_BYTES     512

typedef enum {
    QCOW2_CLUSTER_HOLE,       /* unallocated: ask the backing file */
    QCOW2_CLUSTER_ZERO,       /* reads as zeros, no space */
    QCOW2_CLUSTER_ZERO_ALLOC, /* reads as zeros, has space at @host */
    QCOW2_CLUSTER_DATA,
    QCOW2_CLUSTER_COMPRESSED,
} Qcow2ClusterKind;

/* An L2 entry taken apart. */
typedef struct {
    Qcow2ClusterKind kind;
    guint64 host_bytes;   /* offset in the file; 0 for HOLE and ZERO */
    guint64 packed_bytes; /* COMPRESSED: most bytes that the compressed data can take, from host_bytes on */
    gboolean copied;
} Qcow2Cluster;

/* Of a compressed cluster's entry: how many bits say where its bytes start. The rest, up to bit 61, says how
 * many sectors they reach on. */
static inline guint
qcow2_packed_offset_bits(const Qcow2Header *header)
{
    return 62 - (header->cluster_bits - 8);
}

/* Takes @entry apart. Returns NULL, or what is wrong with it (static text); @cluster is then what can be read
 * of it. */
static inline const char *
qcow2_l2_decode(guint64 entry, const Qcow2Header *header, Qcow2Cluster *cluster)
{
    guint64 mask = (G_GUINT64_CONSTANT(1) << header->cluster_bits) - 1;

    *cluster = (Qcow2Cluster){ .copied = (entry & QCOW2_ENTRY_COPIED) != 0 };
    if (entry & QCOW2_ENTRY_COMPRESSED) {
        guint offset_bits = qcow2_packed_offset_bits(header);
        guint64 sectors = (entry & (QCOW2_ENTRY_COMPRESSED - 1)) >> offset_bits;

        cluster->kind = QCOW2_CLUSTER_COMPRESSED;
        cluster->host_bytes = entry & ((G_GUINT64_CONSTANT(1) << offset_bits) - 1);
        cluster->packed_bytes = (sectors + 1) * QCOW2_SECTOR_BYTES - cluster->host_bytes % QCOW2_SECTOR_BYTES;
        if (cluster->copied)
            return "is compressed and marked COPIED";
        if (cluster->host_bytes >= QCOW2_HOST_BYTES_MAX)
            return "has reserved bits set";
        return cluster->host_bytes <= mask ? "points into the header" : NULL;
    }
    /* Bit 0 is the zero flag in version 3; with extended entries and in version 2 it is reserved. */
    gboolean zero_flag = header->version >= 3 && !(header->incompat & QCOW2_INCOMPAT_EXTENDED_L2);
    gboolean zero = zero_flag && (entry & QCOW2_ENTRY_ZERO);

    cluster->host_bytes = entry & QCOW2_ENTRY_OFFSET;
    if (cluster->host_bytes)
        cluster->kind = zero ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_DATA;
    else
        cluster->kind = zero ? QCOW2_CLUSTER_ZERO : QCOW2_CLUSTER_HOLE;
    if (entry & ~(QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED | (zero_flag ? QCOW2_ENTRY_ZERO : 0)))
        return "has reserved bits set";
    if (cluster->host_bytes & mask)
        return "is not aligned to a cluster";
    return cluster->copied && cluster->host_bytes == 0 ? "is COPIED without an offset" : NULL;
}

/* The L2 table that an L1 entry names, 0 for none. Returns NULL or what is wrong. */
static inline const char *
qcow2_l1_decode(guint64 entry, const Qcow2Header *header, guint64 *l2_off, gboolean *copied)
{
    *l2_off = entry & QCOW2_ENTRY_OFFSET;
    *copied = (entry & QCOW2_ENTRY_COPIED) != 0;
    if (entry & ~(QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED))
        return "has reserved bits set";
    return *l2_off & ((G_GUINT64_CONSTANT(1) << header->cluster_bits) - 1) ? "is not aligned to a cluster"
                                                                           : NULL;
}

/* The refcount block that a refcount table entry names, 0 for none. Returns NULL or what is wrong. */
static inline const char *
qcow2_reftable_decode(guint64 entry, const Qcow2Header *header, guint64 *block_off)
{
    *block_off = entry & QCOW2_REFTABLE_OFFSET;
    if (entry & ~QCOW2_REFTABLE_OFFSET)
        return "has reserved bits set";
    return *block_off & ((G_GUINT64_CONSTANT(1) << header->cluster_bits) - 1) ? "is not aligned to a cluster"
                                                                              : NULL;
}

/* The @index-th count of a refcount block; @bits is 1, 2, 4, 8, 16, 32 or 64. Counts below a byte start at
 * the byte's least significant bit. */
static inline guint64
qcow2_refcount_load(const guint8 *block, guint64 index, guint bits)
{
    switch (bits) {
    case 16: return be16_load(block + index * 2);
    case 8: return block[index];
    case 32: return be32_load(block + index * 4);
    case 64: return be64_load(block + index * 8);
    default: {
        guint per_byte = 8 / bits;
        return (guint) block[index / per_byte] >> (index % per_byte * bits) & ((1u << bits) - 1);
    }
    }
}

/* @value must fit in @bits. */
static inline void
qcow2_refcount_store(guint8 *block, guint64 index, guint bits, guint64 value)
{
    switch (bits) {
    case 16: be16_store(block + index * 2, (guint16) value); break;
    case 8: block[index] = (guint8) value; break;
    case 32: be32_store(block + index * 4, (guint32) value); break;
    case 64: be64_store(block + index * 8, value); break;
    default: {
        guint per_byte = 8 / bits;
        guint shift = (guint) (index % per_byte) * bits;
        guint mask = ((1u << bits) - 1) << shift;
        guint8 *byte = &block[index / per_byte];
        *byte = (guint8) ((*byte & ~mask) | ((guint) value << shift & mask));
    }
    }
}

#endif
