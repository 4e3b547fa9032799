/* A compressed cluster from bytes that nobody has checked, deflated or by zstd: it inflates to exactly one
 * cluster, or not at all. What came out is packed and inflates to the same. The first byte says which method
 * and level, and how large clusters are. */
#include "qcow2/codec.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define CLUSTER_BITS_MIN 9

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    Qcow2Compression method = data[0] & 0x80 ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
    gsize cluster_bytes = (gsize) 1 << (CLUSTER_BITS_MIN + (data[0] & 0x7f) % 13);
    FormatLevel level = (FormatLevel) ((data[0] & 0x7f) / 13 % (FORMAT_LEVEL_BEST + 1));
    g_autofree guint8 *cluster = g_malloc(cluster_bytes);

    if (!qcow2_codec_inflate(method, data + 1, len - 1, cluster, cluster_bytes))
        return 0;
    g_autofree guint8 *packed = g_malloc(cluster_bytes);
    g_autofree guint8 *again = g_malloc(cluster_bytes);
    Qcow2Packer *packer = qcow2_codec_packer_new(method, level, cluster_bytes);
    gsize packed_bytes = qcow2_codec_pack(packer, cluster, packed);

    qcow2_codec_packer_free(packer);
    if (packed_bytes == 0)
        return 0;
    g_autofree guint8 *exact = g_memdup2(packed, packed_bytes);
    g_assert_true(qcow2_codec_inflate(method, exact, packed_bytes, again, cluster_bytes));
    g_assert_cmpmem(again, cluster_bytes, cluster, cluster_bytes);
    return 0;
}
