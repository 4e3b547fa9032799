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

/* What a subcluster is. Without extended L2 entries a cluster is one subcluster. */
typedef enum {
    QCOW2_CLUSTER_HOLE,       /* unallocated: ask the backing file */
    QCOW2_CLUSTER_HOLE_ALLOC, /* the same, with space kept for it (extended entries only) */
    QCOW2_CLUSTER_ZERO,       /* reads as zeros, no space */
    QCOW2_CLUSTER_ZERO_ALLOC, /* reads as zeros, with space kept for it */
    QCOW2_CLUSTER_DATA,
    QCOW2_CLUSTER_COMPRESSED, /* the whole cluster is */
} Qcow2ClusterKind;

/* An L2 entry as its table has it. */
typedef struct {
    guint64 word;
    guint64 bitmap; /* of an extended entry: subclusters with data, and from bit 32 on those that are zeros */
} Qcow2Entry;

/* An L2 entry taken apart. */
typedef struct {
    gboolean compressed;
    gboolean placed; /* it has a host cluster; also true of compressed bytes */
    gboolean copied;
    guint64 host_bytes;   /* offset in the file; 0 where it is not placed */
    guint64 packed_bytes; /* compressed: most bytes that the packed data can take, from host_bytes on */
    guint32 data, zeros;  /* bit i: subcluster i has its bytes in the host cluster, reads as zeros */
} Qcow2Cluster;

static inline gboolean
qcow2_is_extended(const Qcow2Header *header)
{
    return (header->incompat & QCOW2_INCOMPAT_EXTENDED_L2) != 0;
}

/* Do the host offsets of data point into a file of its own? There they are the guest's, and nothing counts
 * references. */
static inline gboolean
qcow2_has_data_file(const Qcow2Header *header)
{
    return (header->incompat & QCOW2_INCOMPAT_DATA_FILE) != 0;
}

/* Bits [from, to) of a mask of subclusters; to is at most 32. */
static inline guint32
qcow2_subs_mask(guint from, guint to)
{
    return (guint32) ((G_GUINT64_CONSTANT(1) << to) - (G_GUINT64_CONSTANT(1) << from));
}

/* All subclusters of a cluster. */
static inline guint32
qcow2_subs_all(const Qcow2Header *header)
{
    return qcow2_is_extended(header) ? G_MAXUINT32 : 1;
}

static inline Qcow2ClusterKind
qcow2_cluster_kind(const Qcow2Cluster *cluster, guint sub)
{
    if (cluster->compressed)
        return QCOW2_CLUSTER_COMPRESSED;
    if (cluster->data >> sub & 1)
        return QCOW2_CLUSTER_DATA;
    if (cluster->zeros >> sub & 1)
        return cluster->placed ? QCOW2_CLUSTER_ZERO_ALLOC : QCOW2_CLUSTER_ZERO;
    return cluster->placed ? QCOW2_CLUSTER_HOLE_ALLOC : QCOW2_CLUSTER_HOLE;
}

/* How many bits of @mask are set from @sub on, up to @subs. */
static inline guint
qcow2_subs_run(guint32 mask, guint sub, guint subs)
{
    return MIN((guint) __builtin_ctzll(~((guint64) mask >> sub)), subs - sub);
}

/* Of a compressed cluster's entry: how many bits say where its bytes start. The rest, up to bit 61, says how
 * many sectors they reach on. */
static inline guint
qcow2_packed_offset_bits(const Qcow2Header *header)
{
    return 62 - (header->cluster_bits - 8);
}

static inline const char *
qcow2_l2_decode_packed(guint64 word, const Qcow2Header *header, Qcow2Cluster *cluster)
{
    guint offset_bits = qcow2_packed_offset_bits(header);
    guint64 sectors = (word & (QCOW2_ENTRY_COMPRESSED - 1)) >> offset_bits;

    cluster->compressed = cluster->placed = TRUE;
    cluster->host_bytes = word & ((G_GUINT64_CONSTANT(1) << offset_bits) - 1);
    cluster->packed_bytes = (sectors + 1) * QCOW2_SECTOR_BYTES - cluster->host_bytes % QCOW2_SECTOR_BYTES;
    if (cluster->copied)
        return "is compressed and marked COPIED";
    if (qcow2_has_data_file(header))
        return "is compressed, in an image with a data file";
    if (cluster->host_bytes >= QCOW2_HOST_BYTES_MAX)
        return "has reserved bits set";
    return cluster->host_bytes >> header->cluster_bits == 0 ? "points into the header" : NULL;
}

/* Takes @entry apart. Returns NULL, or what is wrong with it (static text); @cluster is then what can be read
 * of it. The bitmap of a compressed cluster says nothing. */
static inline const char *
qcow2_l2_decode(Qcow2Entry entry, const Qcow2Header *header, Qcow2Cluster *cluster)
{
    guint64 mask = (G_GUINT64_CONSTANT(1) << header->cluster_bits) - 1;
    gboolean extended = qcow2_is_extended(header);
    /* Bit 0 is the zero flag in version 3; with extended entries and in version 2 it is reserved. */
    gboolean zero_flag = header->version >= 3 && !extended;

    *cluster = (Qcow2Cluster){ .copied = (entry.word & QCOW2_ENTRY_COPIED) != 0 };
    if (entry.word & QCOW2_ENTRY_COMPRESSED)
        return qcow2_l2_decode_packed(entry.word, header, cluster);
    gboolean zero = zero_flag && (entry.word & QCOW2_ENTRY_ZERO);
    /* In a data file the first cluster has offset 0, and COPIED tells it from none. */
    gboolean first = qcow2_has_data_file(header) && cluster->copied && !zero;

    cluster->host_bytes = entry.word & QCOW2_ENTRY_OFFSET;
    cluster->placed = cluster->host_bytes != 0 || first;
    if (extended) {
        cluster->data = (guint32) entry.bitmap;
        cluster->zeros = (guint32) (entry.bitmap >> 32);
    } else {
        cluster->zeros = zero;
        cluster->data = cluster->placed && !cluster->zeros;
    }
    if (entry.word & ~(QCOW2_ENTRY_OFFSET | QCOW2_ENTRY_COPIED | (zero_flag ? QCOW2_ENTRY_ZERO : 0)))
        return "has reserved bits set";
    if (cluster->host_bytes & mask)
        return "is not aligned to a cluster";
    if (cluster->data & cluster->zeros)
        return "has a subcluster that is both data and zeros";
    if (cluster->data && !cluster->placed)
        return "has subclusters with data, and no offset";
    return cluster->copied && !cluster->placed && !qcow2_has_data_file(header) ? "is COPIED without an offset"
                                                                               : NULL;
}

/* The entry of a cluster that is not compressed. */
static inline Qcow2Entry
qcow2_l2_encode(const Qcow2Cluster *cluster, const Qcow2Header *header)
{
    guint64 word = cluster->host_bytes | (cluster->copied ? QCOW2_ENTRY_COPIED : 0);

    if (qcow2_is_extended(header))
        return (Qcow2Entry){ word, (guint64) cluster->zeros << 32 | cluster->data };
    return (Qcow2Entry){ word | (cluster->zeros ? QCOW2_ENTRY_ZERO : 0), 0 };
}

/* The host clusters that it takes: compressed bytes may reach into several. */
static inline guint64
qcow2_cluster_host_clusters(const Qcow2Cluster *cluster, guint cluster_bits)
{
    guint64 last =
        cluster->compressed ? cluster->host_bytes + cluster->packed_bytes - 1 : cluster->host_bytes;

    return cluster->placed ? (last >> cluster_bits) - (cluster->host_bytes >> cluster_bits) + 1 : 0;
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
