/* The qcow2 header: its fields, what they may hold, and the sizes that follow from them. Decode, check and
 * derive are three steps and none of them does I/O; qcow2_header_read is the one that reads. Extensions live
 * in extension.h, table entries in entry.h, an open image in image.h. Spec: docs/spec/qcow2.md, sections 2
 * and 3. */
#ifndef KHO_QCOW2_HEADER_H
#define KHO_QCOW2_HEADER_H

#include "base/num.h"
#include "block/blk.h"

#define QCOW2_MAGIC         0x514649fbu /* "QFI\xfb" */
#define QCOW2_V2_BYTES      72
#define QCOW2_V3_BYTES      104
#define QCOW2_FIELDS_BYTES  112 /* up to the end of the last field known, with its padding */
#define QCOW2_BACKING_BYTES 1023

#define QCOW2_CLUSTER_BITS_MIN           9
#define QCOW2_CLUSTER_BITS_MAX           21
#define QCOW2_EXTENDED_CLUSTER_BYTES_MIN 16384u /* subclusters of 512 bytes */

/* Limits, QEMU's own, so that neither makes what the other refuses.
 * L1: 4 Mi entries; with 64 KiB clusters (8192 entries an L2 table) that maps 4 Mi * 512 MiB = 2 PiB.
 * Refcount table: 1 Mi blocks; with 64 KiB clusters and 16 bits a block covers 2 GiB, so 2 PiB again.
 * Snapshots: 65536 entries of 1 KiB on average. */
#define QCOW2_L1_BYTES_MAX               (32 * MIB)
#define QCOW2_REFTABLE_BYTES_MAX         (8 * MIB)
#define QCOW2_SNAPSHOTS_MAX              65536
#define QCOW2_SNAPSHOT_TABLE_BYTES_MAX   (QCOW2_SNAPSHOTS_MAX * KIB)
#define QCOW2_SNAPSHOT_EXTRA_BYTES_MAX   1024
#define QCOW2_LUKS_BYTES_MAX             (64 * MIB) /* QEMU's take 2 MiB */
#define QCOW2_BITMAPS_MAX                65535
#define QCOW2_BITMAP_DIRECTORY_BYTES_MAX (QCOW2_BITMAPS_MAX * KIB)

/* L1 and L2 entries hold bits 9 to 55 of a host offset. */
#define QCOW2_HOST_BYTES_MAX (G_GUINT64_CONSTANT(1) << 56)

enum {
    QCOW2_INCOMPAT_DIRTY = 1 << 0,
    QCOW2_INCOMPAT_CORRUPT = 1 << 1,
    QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
    QCOW2_INCOMPAT_COMPRESSION = 1 << 3,
    QCOW2_INCOMPAT_EXTENDED_L2 = 1 << 4,
    QCOW2_INCOMPAT_KNOWN = (1 << 5) - 1,

    QCOW2_COMPAT_LAZY_REFCOUNTS = 1 << 0,

    QCOW2_AUTOCLEAR_BITMAPS = 1 << 0,
    QCOW2_AUTOCLEAR_RAW_DATA_FILE = 1 << 1,
};

typedef enum { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS } Qcow2Crypt;
typedef enum { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD } Qcow2Compression;

/* The width of each member is the width on disk. */
typedef struct {
    guint32 magic, version;
    guint64 backing_off; /* 0: no backing file */
    guint32 backing_bytes;
    guint32 cluster_bits;
    guint64 guest_bytes;
    guint32 crypt_method;
    guint32 l1_entries;
    guint64 l1_off;
    guint64 reftable_off;
    guint32 reftable_clusters;
    guint32 snapshots;
    guint64 snapshots_off;
    guint64 incompat, compat, autoclear;
    guint32 refcount_order;
    guint32 header_bytes;
    guint8 compression;
} Qcow2Header;

/* What follows from a checked header. */
typedef struct {
    guint cluster_bits;
    guint64 cluster_bytes;
    guint l2_entry_bytes; /* 8; 16 with extended L2 entries */
    guint64 l2_entries;   /* a table */
    guint sub_bits;       /* of a subcluster, the unit of mapping: a whole cluster but for extended entries */
    guint64 sub_bytes;
    guint subs;               /* subclusters a cluster: 32 with extended entries, else 1 */
    guint64 l2_span_bytes;    /* guest bytes that one L2 table maps */
    guint refcount_bits;      /* 1 .. 64 */
    guint64 refcount_max;     /* the largest count that fits */
    guint64 refblock_entries; /* counts a block */
    guint64 l1_guest_entries; /* L1 entries that the guest's size needs; what follows maps VM state */
    guint64 reftable_entries;
} Qcow2Geometry;

/**
 * qcow2_header_decode:
 * @buf: the image's first @len bytes; at least QCOW2_V2_BYTES, better the whole first cluster (the name of an
 *       unknown feature is looked up in it)
 * @file_bytes: length of the image file; tables must lie within it
 * @header: (out): untouched on failure
 *
 * Decodes and checks every field.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (not qcow2), _UNSUPPORTED (unknown incompatible feature, version or
 * compression) or _CORRUPT; the message names the field and its value.
 */
gboolean
qcow2_header_decode(const guint8 *buf, gsize len, guint64 file_bytes, Qcow2Header *header, GError **error);

/* Writes the fields over the first bytes of @buf, at most header->header_bytes of them and at most @len.
 * Whatever else is in @buf, unknown fields among it, stays. Returns how many bytes belong to the fields. */
gsize qcow2_header_encode(const Qcow2Header *header, guint8 *buf, gsize len);

/* @header must have passed decode. */
void qcow2_header_derive(const Qcow2Header *header, Qcow2Geometry *geometry);

/* Reads and decodes the header; *cluster is the whole first cluster, padded with zeros where the file is
 * shorter. Free it with g_free. */
gboolean qcow2_header_read(BlkStore *file, Qcow2Header *header, guint8 **cluster, GError **error);

/* L1 entries that @guest_bytes need. */
static inline guint64
qcow2_l1_entries_for(const Qcow2Geometry *geometry, guint64 guest_bytes)
{
    return num_div_up(guest_bytes, geometry->l2_span_bytes);
}

#endif
