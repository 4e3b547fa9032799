/* Compressing and inflating one cluster: bytes to bytes, the only place that knows ISA-L, zlib and zstd.
 * Where compressed clusters lie is said by inflate.c and packed.c. */
#ifndef KHO_QCOW2_CODEC_H
#define KHO_QCOW2_CODEC_H

#include "block/format.h"
#include "qcow2/header.h"

/* Do the @len bytes at @packed inflate to exactly @out_len? What follows their end is not looked at. */
gboolean qcow2_codec_inflate(Qcow2Compression compression, const guint8 *packed, gsize len, guint8 *out,
                             gsize out_len);

typedef struct Qcow2Packer Qcow2Packer;

/* For clusters of @cluster_bytes; one thread's. */
Qcow2Packer *qcow2_codec_packer_new(Qcow2Compression compression, FormatLevel level, gsize cluster_bytes);
void qcow2_codec_packer_free(Qcow2Packer *packer);

/* Compresses one cluster into @packed, which has a cluster's room; how many bytes that took, or 0 where it
 * saves nothing or, at the fast level, less than a sixteenth. Deflate looks back 4 KiB at most, as far as
 * QEMU inflates. */
gsize qcow2_codec_pack(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed);

#endif
