/* Rules held: what is packed inflates to the same, by zlib with QEMU's window of 4 KiB too; packed clusters
 * lie side by side, each counted in every host cluster that it touches; a count that is full starts a new
 * host cluster; an image of such clusters is clean, with nothing leaked. */
#include "qcow2/codec.h"
#include "qcow2/packed.h"
#include "qcow2/test_io.h"

#include <zlib.h>

#define CLUSTERS 24

/* Four kinds of content by turns: text, noise, noise repeated from far back, and nearly zeros. */
static void
fill(guint8 *bytes, gsize len, guint number)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(number);

    for (gsize i = 0; i < len; i++)
        switch (number % 4) {
        case 0: bytes[i] = (guint8) ("words and more words, again and again "[(i + number) % 38]); break;
        case 1: bytes[i] = (guint8) g_rand_int(rand); break;
        case 2: bytes[i] = i < len / 2 ? (guint8) g_rand_int(rand) : bytes[i - len / 2]; break;
        default: bytes[i] = i % 97 == 0 ? (guint8) g_rand_int(rand) : 0; break;
        }
}

static gboolean
inflate_as_qemu(const guint8 *packed, gsize len, guint8 *out, gsize out_len)
{
    z_stream z = {
        .next_in = (guint8 *) packed, .avail_in = (guint) len, .next_out = out, .avail_out = (guint) out_len
    };

    g_assert_cmpint(inflateInit2(&z, -12), ==, Z_OK);
    gint result = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return result == Z_STREAM_END && z.avail_out == 0;
}

static void
test_codec(gconstpointer data)
{
    guint row = GPOINTER_TO_UINT(data);
    Qcow2Compression compression = row & 1 ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
    FormatLevel level = (FormatLevel) (row >> 1);
    static const gsize clusters[] = { 512, 4096, 65536, 2 * MIB };

    for (gsize c = 0; c < G_N_ELEMENTS(clusters); c++) {
        gsize cluster = clusters[c], packed_clusters = 0;
        Qcow2Packer *packer = qcow2_codec_packer_new(compression, level, cluster);
        g_autofree guint8 *bytes = g_malloc(cluster), *packed = g_malloc(cluster), *out = g_malloc(cluster);

        for (guint number = 0; number < 12; number++) {
            fill(bytes, cluster, number);
            gsize len = qcow2_codec_pack(packer, bytes, packed);
            g_assert_cmpuint(len, <=, level == FORMAT_LEVEL_FAST ? cluster - cluster / 16 : cluster - 1);
            g_assert_true(number % 4 != 1 || len == 0); /* noise */
            if (len == 0)
                continue;
            packed_clusters++;
            g_assert_true(qcow2_codec_inflate(compression, packed, len, out, cluster));
            g_assert_true(memcmp(bytes, out, cluster) == 0);
            if (compression == QCOW2_COMPRESSION_ZLIB)
                g_assert_true(inflate_as_qemu(packed, len, out, cluster) && memcmp(bytes, out, cluster) == 0);
        }
        g_assert_cmpuint(packed_clusters, >=, 6);
        qcow2_codec_packer_free(packer);
    }
}

/* Packs each cluster of the disk that can be, and writes the others. */
static guint
pack_all(FormatImage *image, gsize cluster)
{
    FormatPacker *packer = image->ops->packer_new(image, FORMAT_LEVEL_DEFAULT);
    g_autofree guint8 *bytes = g_malloc(cluster), *packed = g_malloc(cluster);
    g_autoptr(GError) error = NULL;
    guint n = 0;

    for (guint i = 0; i < CLUSTERS; i++) {
        guint64 at = (guint64) i * cluster;
        fill(bytes, cluster, i);
        gsize len = image->ops->pack(packer, bytes, packed);
        if (len == 0)
            test_write(image, at, bytes, MIN(cluster, image->guest_bytes - at), &error);
        else
            image->ops->put_packed(image, guest_off(at), packed, len, &error);
        g_assert_no_error(error);
        n += len > 0;
    }
    image->ops->packer_free(packer);
    return n;
}

static void
assert_holds(FormatImage *image, gsize cluster)
{
    g_autofree guint8 *want = g_malloc(cluster), *got = g_malloc(cluster);

    for (guint i = 0; i < CLUSTERS; i++) {
        guint64 at = (guint64) i * cluster;
        gsize len = MIN(cluster, image->guest_bytes - at);
        fill(want, cluster, i);
        g_assert_true(test_read(image, at, got, len, NULL));
        g_assert_true(memcmp(want, got, len) == 0);
    }
}

static void
test_images(void)
{
    static const guint bits[] = { 1, 2, 4, 8, 16, 64 };
    static const guint32 clusters[] = { 1024, 4096, 65536 };

    for (gsize b = 0; b < G_N_ELEMENTS(bits); b++)
        for (gsize c = 0; c < G_N_ELEMENTS(clusters); c++) {
            guint32 cluster = clusters[c];
            const Qcow2CreateOptions options = { .guest_bytes = (guint64) cluster * CLUSTERS - 512,
                                                 .cluster_bytes = cluster,
                                                 .refcount_bits = bits[b],
                                                 .unpublished = TRUE };
            g_autoptr(BlkStore) store = test_create(&options);
            FormatImage *image = test_open_flags(store, FORMAT_WRITABLE | FORMAT_UNPUBLISHED);
            FormatCheck found = { 0 };

            guint packed = pack_all(image, cluster);
            assert_holds(image, cluster);
            test_close(image);
            test_clean(store, 0);
            g_assert_true(qcow2_check_file(store, &found, NULL, NULL));
            g_assert_cmpuint(found.compressed_clusters, ==, packed);

            image = test_open(store); /* and over them, in the ordinary way */
            assert_holds(image, cluster);
            test_fill(image, 0, (gsize) cluster * 5, 9);
            test_close(image);
            test_clean(store, 0);
        }
}

/* Text packs to a few bytes: as many clusters lie in one host cluster as its count can tell. */
static void
test_side_by_side(void)
{
    static const struct {
        guint bits, host_clusters;
    } rows[] = { { 16, 1 }, { 4, 3 }, { 2, 11 }, { 1, 32 } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Qcow2CreateOptions options = { .guest_bytes = 32 * 65536,
                                             .refcount_bits = rows[i].bits,
                                             .unpublished = TRUE };
        g_autoptr(BlkStore) store = test_create(&options);
        FormatImage *image = test_open_flags(store, FORMAT_WRITABLE | FORMAT_UNPUBLISHED);
        FormatPacker *packer = image->ops->packer_new(image, FORMAT_LEVEL_DEFAULT);
        g_autofree guint8 *bytes = g_malloc(65536), *packed = g_malloc(65536);
        guint64 before = 0, after = 0;

        test_fill(image, 0, 512, 1); /* the L2 table is there */
        g_assert_true(blk_size(store, &before, NULL));
        fill(bytes, 65536, 0);
        gsize len = image->ops->pack(packer, bytes, packed);
        for (guint64 at = 0; at < 32; at++)
            g_assert_true(image->ops->put_packed(image, guest_off(at * 65536), packed, len, NULL));
        image->ops->packer_free(packer);
        test_close(image);
        g_assert_true(blk_size(store, &after, NULL));
        g_assert_cmpuint((num_align_up(after, 65536) - num_align_up(before, 65536)) / 65536, ==,
                         rows[i].host_clusters);
        g_assert_cmpuint(after % 512, ==, 0);
        test_clean(store, 0);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (guint row = 0; row < 2 * (FORMAT_LEVEL_BEST + 1); row++) {
        g_autofree char *path =
            g_strdup_printf("/qcow2/packed/codec/%s/%u", row & 1 ? "zstd" : "zlib", row >> 1);
        g_test_add_data_func(path, GUINT_TO_POINTER(row), test_codec);
    }
    g_test_add_func("/qcow2/packed/images", test_images);
    g_test_add_func("/qcow2/packed/side-by-side", test_side_by_side);
    return g_test_run();
}
