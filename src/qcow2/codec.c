#include "qcow2/codec.h"

#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

/* A frame's window may ask for gigabytes; no cluster needs more than its own 2 MiB, 8 MiB are generous. */
#define ZSTD_WINDOW_LOG 23

typedef struct {
    const guint8 *bytes;
    gsize len;
} Slice;

/* Raw deflate. What follows the stream (the rest of its last sector) is not ours. */
static gboolean
inflate_deflate(Slice packed, guint8 *out, gsize out_len)
{
    g_autofree struct inflate_state *state = g_new(struct inflate_state, 1);

    isal_inflate_init(state);
    state->crc_flag = ISAL_DEFLATE;
    state->next_in = (guint8 *) packed.bytes;
    state->avail_in = (guint32) packed.len;
    state->next_out = out;
    state->avail_out = (guint32) out_len;
    gint result = isal_inflate_stateless(state);
    return (result == ISAL_DECOMP_OK || result == ISAL_OUT_OVERFLOW) && state->avail_out == 0;
}

static gboolean
inflate_zstd(Slice packed, guint8 *out, gsize out_len)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_inBuffer in = { packed.bytes, packed.len, 0 };
    ZSTD_outBuffer to = { out, out_len, 0 };
    gsize left = 1;

    if (!context)
        return FALSE;
    ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    while (left != 0) {
        gsize in_before = in.pos, out_before = to.pos;
        left = ZSTD_decompressStream(context, &to, &in);
        if (ZSTD_isError(left) || (in.pos == in_before && to.pos == out_before))
            break;
    }
    ZSTD_freeDCtx(context);
    return left == 0 && to.pos == out_len;
}

gboolean
qcow2_codec_inflate(Qcow2Compression compression, const guint8 *packed, gsize len, guint8 *out, gsize out_len)
{
    Slice slice = { packed, len };

    return compression == QCOW2_COMPRESSION_ZSTD ? inflate_zstd(slice, out, out_len)
                                                 : inflate_deflate(slice, out, out_len);
}

/* QEMU's inflate has a window of 4 KiB. */
#define DEFLATE_WINDOW_BITS 12
#define DEFLATE_LEVEL       1
#define ZSTD_LEVEL          3
/* What a packed cluster must save to be worth inflating: a sixteenth. */
#define WORTH_SHIFT 4

struct Qcow2Packer {
    gsize cluster_bytes;
    ZSTD_CCtx *zstd; /* NULL: deflate */
    struct isal_zstream *deflate;
    guint8 *level_buf;
};

Qcow2Packer *
qcow2_codec_packer_new(Qcow2Compression compression, gsize cluster_bytes)
{
    Qcow2Packer *packer = g_new0(Qcow2Packer, 1);

    packer->cluster_bytes = cluster_bytes;
    if (compression == QCOW2_COMPRESSION_ZSTD) {
        packer->zstd = ZSTD_createCCtx();
        g_assert(packer->zstd); /* as g_malloc: out of memory */
        ZSTD_CCtx_setParameter(packer->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    } else {
        packer->deflate = g_new(struct isal_zstream, 1);
        packer->level_buf = g_malloc(ISAL_DEF_LVL1_DEFAULT);
    }
    return packer;
}

void
qcow2_codec_packer_free(Qcow2Packer *packer)
{
    ZSTD_freeCCtx(packer->zstd);
    g_free(packer->deflate);
    g_free(packer->level_buf);
    g_free(packer);
}

static gsize
pack_deflate(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed, gsize most)
{
    struct isal_zstream *stream = packer->deflate;

    isal_deflate_init(stream);
    stream->level = DEFLATE_LEVEL;
    stream->level_buf = packer->level_buf;
    stream->level_buf_size = ISAL_DEF_LVL1_DEFAULT;
    stream->hist_bits = DEFLATE_WINDOW_BITS;
    stream->gzip_flag = IGZIP_DEFLATE;
    stream->flush = NO_FLUSH;
    stream->end_of_stream = 1;
    stream->next_in = (guint8 *) cluster;
    stream->avail_in = (guint32) packer->cluster_bytes;
    stream->next_out = packed;
    stream->avail_out = (guint32) most;
    gboolean whole = isal_deflate(stream) == COMP_OK && stream->internal_state.state == ZSTATE_END;
    return whole ? stream->total_out : 0;
}

static gsize
pack_zstd(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed, gsize most)
{
    gsize len = ZSTD_compress2(packer->zstd, packed, most, cluster, packer->cluster_bytes);

    return ZSTD_isError(len) ? 0 : len; /* it does not fit */
}

gsize
qcow2_codec_pack(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed)
{
    gsize most = packer->cluster_bytes - (packer->cluster_bytes >> WORTH_SHIFT);

    return packer->zstd ? pack_zstd(packer, cluster, packed, most)
                        : pack_deflate(packer, cluster, packed, most);
}
