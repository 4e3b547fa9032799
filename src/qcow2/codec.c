#include "qcow2/codec.h"

#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zlib.h>
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

/* --- packing --- */

/* QEMU's inflate has a window of 4 KiB. */
#define DEFLATE_WINDOW_BITS 12
/* The most that zlib takes, and QEMU gives it: what zlib packs at its default level here is as long as there.
 */
#define ZLIB_MEMORY_LEVEL 9

typedef enum { CODER_IGZIP, CODER_ZLIB, CODER_ZSTD } Coder;

typedef struct {
    Coder coder;
    int level;
    guint worth_shift; /* what a packed cluster must save to be worth inflating: this part of it; 0: a byte */
} Way;

/* Best deflate is zlib's default and not 9, which takes twice as long for a third of a percent: a window of
 * 4 KiB has little to look through. */
static const Way ways[][FORMAT_LEVEL_BEST + 1] = {
    [QCOW2_COMPRESSION_ZLIB] = { [FORMAT_LEVEL_DEFAULT] = { CODER_IGZIP, 1, 4 },
                                 [FORMAT_LEVEL_FAST] = { CODER_IGZIP, 1, 4 },
                                 [FORMAT_LEVEL_BEST] = { CODER_ZLIB, Z_DEFAULT_COMPRESSION, 0 } },
    [QCOW2_COMPRESSION_ZSTD] = { [FORMAT_LEVEL_DEFAULT] = { CODER_ZSTD, 3, 0 },
                                 [FORMAT_LEVEL_FAST] = { CODER_ZSTD, 1, 4 },
                                 [FORMAT_LEVEL_BEST] = { CODER_ZSTD, 9, 0 } },
};

struct Qcow2Packer {
    const Way *way;
    gsize cluster_bytes, most_bytes;
    ZSTD_CCtx *zstd;
    z_stream *zlib;
    struct isal_zstream *igzip;
    guint8 *igzip_buf;
};

Qcow2Packer *
qcow2_codec_packer_new(Qcow2Compression compression, FormatLevel level, gsize cluster_bytes)
{
    Qcow2Packer *packer = g_new0(Qcow2Packer, 1);
    const Way *way = packer->way = &ways[compression][level];
    gboolean made = TRUE;

    packer->cluster_bytes = cluster_bytes;
    packer->most_bytes = cluster_bytes - (way->worth_shift ? cluster_bytes >> way->worth_shift : 1);
    switch (way->coder) {
    case CODER_IGZIP:
        packer->igzip = g_new(struct isal_zstream, 1);
        packer->igzip_buf = g_malloc(ISAL_DEF_LVL1_DEFAULT);
        break;
    case CODER_ZLIB:
        packer->zlib = g_new0(z_stream, 1);
        made = deflateInit2(packer->zlib, way->level, Z_DEFLATED, -DEFLATE_WINDOW_BITS, ZLIB_MEMORY_LEVEL,
                            Z_DEFAULT_STRATEGY)
               == Z_OK;
        break;
    case CODER_ZSTD:
        packer->zstd = ZSTD_createCCtx();
        made = packer->zstd
               && !ZSTD_isError(ZSTD_CCtx_setParameter(packer->zstd, ZSTD_c_compressionLevel, way->level));
        break;
    }
    g_assert(made); /* as g_malloc: out of memory */
    return packer;
}

void
qcow2_codec_packer_free(Qcow2Packer *packer)
{
    ZSTD_freeCCtx(packer->zstd);
    if (packer->zlib)
        deflateEnd(packer->zlib);
    g_free(packer->zlib);
    g_free(packer->igzip);
    g_free(packer->igzip_buf);
    g_free(packer);
}

static gsize
pack_igzip(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed)
{
    struct isal_zstream *stream = packer->igzip;

    isal_deflate_init(stream);
    stream->level = (guint32) packer->way->level;
    stream->level_buf = packer->igzip_buf;
    stream->level_buf_size = ISAL_DEF_LVL1_DEFAULT;
    stream->hist_bits = DEFLATE_WINDOW_BITS;
    stream->gzip_flag = IGZIP_DEFLATE;
    stream->flush = NO_FLUSH;
    stream->end_of_stream = 1;
    stream->next_in = (guint8 *) cluster;
    stream->avail_in = (guint32) packer->cluster_bytes;
    stream->next_out = packed;
    stream->avail_out = (guint32) packer->most_bytes;
    gboolean whole = isal_deflate(stream) == COMP_OK && stream->internal_state.state == ZSTATE_END;
    return whole ? stream->total_out : 0;
}

static gsize
pack_zlib(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed)
{
    z_stream *stream = packer->zlib;

    deflateReset(stream);
    stream->next_in = (guint8 *) cluster;
    stream->avail_in = (guint) packer->cluster_bytes;
    stream->next_out = packed;
    stream->avail_out = (guint) packer->most_bytes;
    return deflate(stream, Z_FINISH) == Z_STREAM_END ? stream->total_out : 0;
}

static gsize
pack_zstd(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed)
{
    gsize len = ZSTD_compress2(packer->zstd, packed, packer->most_bytes, cluster, packer->cluster_bytes);

    return ZSTD_isError(len) ? 0 : len; /* it does not fit */
}

gsize
qcow2_codec_pack(Qcow2Packer *packer, const guint8 *cluster, guint8 *packed)
{
    switch (packer->way->coder) {
    case CODER_IGZIP: return pack_igzip(packer, cluster, packed);
    case CODER_ZLIB: return pack_zlib(packer, cluster, packed);
    case CODER_ZSTD: return pack_zstd(packer, cluster, packed);
    }
    return 0;
}
