/* Compressed clusters of both kinds: good ones, and every way in which packed bytes can be bad. */
#include "qcow2/test_io.h"

#include <zlib.h>
#include <zstd.h>

#define CLUSTER 65536

typedef struct {
    guint8 bytes[4 * CLUSTER];
    gsize len;
} Packed;

static void
pack_deflate(Packed *p, const guint8 *bytes, gsize len)
{
    z_stream z = { .next_in = (guint8 *) bytes,
                   .avail_in = (guint) len,
                   .next_out = p->bytes,
                   .avail_out = sizeof p->bytes };

    g_assert_cmpint(deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), ==, Z_OK);
    g_assert_cmpint(deflate(&z, Z_FINISH), ==, Z_STREAM_END);
    p->len = z.total_out;
    deflateEnd(&z);
}

static void
pack_zstd(Packed *p, const guint8 *bytes, gsize len)
{
    p->len = ZSTD_compress(p->bytes, sizeof p->bytes, bytes, len, 3);
    g_assert_false(ZSTD_isError(p->len));
}

static void
fill(guint8 *bytes, gsize len)
{
    for (gsize i = 0; i < len; i++)
        bytes[i] = (guint8) (i * i >> 9 ^ i / 100);
}

/* An image whose guest cluster 3 is compressed: its data cluster's first bytes become the packed ones. */
static BlkStore *
make(Qcow2Compression compression, const Packed *packed, guint64 shift)
{
    const Qcow2CreateOptions options = { .guest_bytes = MIB, .compression = compression };
    BlkStore *store = test_create(&options);
    FormatImage *image = test_open(store);

    test_fill(image, 3 * CLUSTER, CLUSTER, 0xee);
    test_close(image);
    guint64 entry_off = test_l2_off(store, 3 * CLUSTER);
    guint64 host = (test_word(store, entry_off) & QCOW2_ENTRY_OFFSET) + shift;
    guint64 sectors = (host + packed->len - 1) / 512 - host / 512;
    g_assert_true(blk_pwrite(store, host, packed->bytes, packed->len, NULL));
    test_set_word(store, entry_off, QCOW2_ENTRY_COMPRESSED | sectors << 54 | host);
    return store;
}

typedef void (*Pack)(Packed *, const guint8 *, gsize);
static const Pack packers[] = {
    [QCOW2_COMPRESSION_ZLIB] = pack_deflate, [QCOW2_COMPRESSION_ZSTD] = pack_zstd
};

static void
test_good(gconstpointer data)
{
    Qcow2Compression kind = (Qcow2Compression) GPOINTER_TO_INT(data);
    g_autofree guint8 *bytes = g_malloc(CLUSTER), *seen = g_malloc(CLUSTER);
    g_autofree Packed *packed = g_new(Packed, 1);

    fill(bytes, CLUSTER);
    packers[kind](packed, bytes, CLUSTER);
    g_assert_cmpuint(packed->len, <, CLUSTER);
    for (guint64 shift = 0; shift < 1024; shift += 301) { /* any alignment */
        g_autoptr(BlkStore) store = make(kind, packed, shift);
        FormatImage *image = test_open(store);
        Run run;

        g_assert_true(image->ops->map(image, guest_off(3 * CLUSTER + 9), CLUSTER * 2, &run, NULL));
        g_assert_cmpint(run.kind, ==, RUN_COMPRESSED);
        g_assert_cmpuint(run.bytes, ==, CLUSTER - 9);
        g_assert_true(test_read(image, 3 * CLUSTER, seen, CLUSTER, NULL));
        g_assert_cmpmem(seen, CLUSTER, bytes, CLUSTER);
        g_assert_true(test_read(image, 3 * CLUSTER + 1000, seen, 77, NULL)); /* from what was kept */
        g_assert_cmpmem(seen, 77, bytes + 1000, 77);
        /* A write makes it a plain cluster, and the rest of it stays. */
        test_fill(image, 3 * CLUSTER + 500, 10, 0x11);
        test_expect(image, 3 * CLUSTER + 500, 10, 0x11);
        g_assert_true(test_read(image, 3 * CLUSTER + 510, seen, CLUSTER - 510, NULL));
        g_assert_cmpmem(seen, CLUSTER - 510, bytes + 510, CLUSTER - 510);
        test_close(image);
        test_clean(store, 0);
    }
}

static void
expect_corrupt(BlkStore *store)
{
    g_autofree guint8 *seen = g_malloc(CLUSTER);
    FormatImage *image = test_open_flags(store, 0);
    g_autoptr(GError) error = NULL;

    g_assert_false(test_read(image, 3 * CLUSTER, seen, CLUSTER, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "does not inflate"));
    test_close(image);
}

/* Less than a cluster, bytes cut off, and noise. More than a cluster is refused with zstd; deflate, like
 * QEMU's reading, stops where the cluster is full. */
static void
test_bad(gconstpointer data)
{
    Qcow2Compression kind = (Qcow2Compression) GPOINTER_TO_INT(data);
    g_autofree guint8 *bytes = g_malloc0(2 * CLUSTER);
    g_autofree Packed *packed = g_new0(Packed, 1);

    fill(bytes, 2 * CLUSTER);
    packers[kind](packed, bytes, CLUSTER - 1);
    g_autoptr(BlkStore) small = make(kind, packed, 0);
    expect_corrupt(small);

    packers[kind](packed, bytes, CLUSTER);
    packed->len /= 2;
    memset(packed->bytes + packed->len, 0xff, 1024); /* what fills the last sector is no stream */
    packed->len = num_align_up(packed->len, 512);
    g_autoptr(BlkStore) cut = make(kind, packed, 0);
    expect_corrupt(cut);

    for (gsize i = 0; i < 4096; i++)
        packed->bytes[i] = (guint8) g_test_rand_int_range(0, 256);
    packed->bytes[0] = 0xff; /* no deflate block type, no zstd magic */
    packed->len = 4096;
    g_autoptr(BlkStore) noise = make(kind, packed, 0);
    expect_corrupt(noise);

    if (kind == QCOW2_COMPRESSION_ZSTD) {
        packers[kind](packed, bytes, CLUSTER + 1);
        g_autoptr(BlkStore) large = make(kind, packed, 0);
        expect_corrupt(large);
    }
}

/* A frame that asks for a window of half a gigabyte is refused before it is allocated. */
static void
test_window(void)
{
    g_autofree Packed *packed = g_new0(Packed, 1);
    /* magic, no content size, window log 29, then an empty last block */
    static const guint8 frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, (29 - 10) << 3, 0x01, 0x00, 0x00 };

    memcpy(packed->bytes, frame, sizeof frame);
    packed->len = sizeof frame;
    g_autoptr(BlkStore) store = make(QCOW2_COMPRESSION_ZSTD, packed, 0);
    expect_corrupt(store);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/qcow2/inflate/deflate/good", GINT_TO_POINTER(QCOW2_COMPRESSION_ZLIB), test_good);
    g_test_add_data_func("/qcow2/inflate/zstd/good", GINT_TO_POINTER(QCOW2_COMPRESSION_ZSTD), test_good);
    g_test_add_data_func("/qcow2/inflate/deflate/bad", GINT_TO_POINTER(QCOW2_COMPRESSION_ZLIB), test_bad);
    g_test_add_data_func("/qcow2/inflate/zstd/bad", GINT_TO_POINTER(QCOW2_COMPRESSION_ZSTD), test_bad);
    g_test_add_func("/qcow2/inflate/zstd/window", test_window);
    return g_test_run();
}
