/* The header's field table, its checks one by one, extensions, and the bit-packed table words. */
#include "base/error.h"
#include "qcow2/entry.h"
#include "qcow2/extension.h"

#include <string.h>

#define CLUSTER    65536
#define FILE_BYTES (8 * CLUSTER)

/* A version 3 image of 1 GiB: refcount table in cluster 1, L1 (2 entries) in cluster 3, one snapshot in
 * cluster 4. */
static void
make_good(guint8 *buf)
{
    static const Qcow2Header h = {
        .magic = QCOW2_MAGIC,
        .version = 3,
        .cluster_bits = 16,
        .guest_bytes = 1 << 30,
        .l1_entries = 2,
        .l1_off = 3 * CLUSTER,
        .reftable_off = CLUSTER,
        .reftable_clusters = 1,
        .snapshots = 1,
        .snapshots_off = 4 * CLUSTER,
        .backing_off = 1040,
        .backing_bytes = 8,
        .compat = QCOW2_COMPAT_LAZY_REFCOUNTS,
        .refcount_order = 4,
        .header_bytes = 112,
    };
    g_autoptr(GByteArray) ext = g_byte_array_new();

    memset(buf, 0, CLUSTER);
    g_assert_cmpuint(qcow2_header_encode(&h, buf, CLUSTER), ==, 105);
    qcow2_extension_append(ext, (guint32) QCOW2_EXT_BACKING_FORMAT, "raw", 3);
    qcow2_extension_append(ext, 0x12345678, "unknown!", 8);
    qcow2_extension_append_feature_names(ext);
    memcpy(buf + 112, ext->data, ext->len);
    memcpy(buf + 1040, "base.img", 8);
}

/* Each row breaks one byte of the good header and one rule of the spec. */
static const struct {
    const char *name;
    gsize off;
    guint8 byte;
    KhoErrorCode code;
    const char *says;
} rows[] = {
    { "magic", 3, 0xfa, KHO_ERROR_INVALID, "magic" },
    { "version-1", 7, 1, KHO_ERROR_UNSUPPORTED, "version" },
    { "version-4", 7, 4, KHO_ERROR_UNSUPPORTED, "version" },
    { "backing-past-cluster", 12, 0xff, KHO_ERROR_CORRUPT, "backing_off" },
    { "backing-inside-fields", 14, 0, KHO_ERROR_CORRUPT, "backing_off" },
    { "backing-name-long", 18, 0x04, KHO_ERROR_CORRUPT, "backing_bytes" },
    { "cluster-bits-8", 23, 8, KHO_ERROR_CORRUPT, "cluster_bits" },
    { "cluster-bits-22", 23, 22, KHO_ERROR_CORRUPT, "cluster_bits" },
    { "cluster-bits-shifts-out", 20, 0xff, KHO_ERROR_CORRUPT, "cluster_bits" },
    { "size-negative", 24, 0x80, KHO_ERROR_CORRUPT, "guest_bytes" },
    { "size-past-l1", 27, 0x01, KHO_ERROR_CORRUPT, "l1_entries" },
    { "crypt-unknown", 35, 3, KHO_ERROR_UNSUPPORTED, "crypt_method" },
    { "l1-too-long", 36, 0x7f, KHO_ERROR_CORRUPT, "l1_entries" },
    { "l1-too-short", 39, 1, KHO_ERROR_CORRUPT, "l1_entries" },
    { "l1-past-file", 37, 0x10, KHO_ERROR_CORRUPT, "l1_off" },
    { "l1-unaligned", 47, 1, KHO_ERROR_CORRUPT, "l1_off" },
    { "l1-in-header", 45, 0, KHO_ERROR_CORRUPT, "l1_off" },
    { "l1-offset-huge", 40, 0xff, KHO_ERROR_CORRUPT, "l1_off" },
    { "reftable-past-file", 53, 0x09, KHO_ERROR_CORRUPT, "reftable_off" },
    { "reftable-none", 59, 0, KHO_ERROR_CORRUPT, "reftable_clusters" },
    { "reftable-huge", 56, 0xff, KHO_ERROR_CORRUPT, "reftable_clusters" },
    { "snapshots-too-many", 60, 0x01, KHO_ERROR_CORRUPT, "snapshots" },
    { "snapshots-past-file", 64, 0x10, KHO_ERROR_CORRUPT, "snapshots_off" },
    { "unknown-incompatible-bit", 72, 0x80, KHO_ERROR_UNSUPPORTED, "incompat bit 63 (unnamed)" },
    { "compression-bit-without-type", 79, 0x08, KHO_ERROR_CORRUPT, "compression" },
    { "compression-type-without-bit", 104, 1, KHO_ERROR_CORRUPT, "compression" },
    { "refcount-order-7", 99, 7, KHO_ERROR_CORRUPT, "refcount_order" },
    { "header-short", 103, 96, KHO_ERROR_CORRUPT, "header_bytes" },
    { "header-odd", 103, 113, KHO_ERROR_CORRUPT, "header_bytes" },
    { "header-past-cluster", 101, 2, KHO_ERROR_CORRUPT, "header_bytes" },
};

static void
test_refuses(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autofree guint8 *buf = g_malloc(CLUSTER);
    Qcow2Header h = { .version = 77 };
    g_autoptr(GError) error = NULL;

    make_good(buf);
    buf[rows[i].off] = rows[i].byte;
    g_assert_false(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, &error));
    g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
    g_assert_nonnull(strstr(error->message, rows[i].says));
    g_assert_cmpuint(h.version, ==, 77); /* out untouched */
}

/* Of a file that was cut the size is told, wherever the cut is. */
static void
test_truncated(void)
{
    static const struct {
        guint64 file_bytes;
        guint8 version;
        const char *says;
    } cuts[] = {
        { 71, 2, "has 71 bytes, too few for a qcow2 header" },
        { 103, 3, "has 103 bytes, too few for a qcow2 header" },
        { CLUSTER, 3,
          "l1_off is 196608, and what lies there does not end before the file does, at byte 65536" },
        { 3 * CLUSTER + 8, 3, "l1_off is 196608" },
    };
    g_autofree guint8 *buf = g_malloc(CLUSTER);

    for (gsize i = 0; i < G_N_ELEMENTS(cuts); i++) {
        g_autoptr(GError) error = NULL;
        Qcow2Header h;
        make_good(buf);
        buf[7] = cuts[i].version;
        g_assert_false(qcow2_header_decode(buf, CLUSTER, cuts[i].file_bytes, &h, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
        g_assert_nonnull(strstr(error->message, cuts[i].says));
        g_assert_nonnull(strstr(error->message, "was it truncated?"));
    }
}

static void
test_round_trip(void)
{
    g_autofree guint8 *buf = g_malloc(CLUSTER), *copy = g_malloc(CLUSTER);
    g_auto(Qcow2Extensions) ext = { 0 };
    Qcow2Header h;
    Qcow2Geometry g;

    make_good(buf);
    g_assert_true(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, NULL));
    g_assert_cmpuint(h.guest_bytes, ==, 1 << 30);
    g_assert_cmpuint(h.compat, ==, QCOW2_COMPAT_LAZY_REFCOUNTS);
    memcpy(copy, buf, CLUSTER);
    qcow2_header_encode(&h, copy, CLUSTER);
    g_assert_cmpmem(copy, CLUSTER, buf, CLUSTER);

    g_assert_true(qcow2_extensions_decode(buf, CLUSTER, &h, &ext, NULL));
    g_assert_cmpstr(ext.backing_file, ==, "base.img");
    g_assert_cmpstr(ext.backing_format, ==, "raw");
    g_assert_cmpuint(ext.places->len, ==, 3);

    qcow2_header_derive(&h, &g);
    g_assert_cmpuint(g.l2_entries, ==, 8192);
    g_assert_cmpuint(g.l2_span_bytes, ==, 512 * MIB);
    g_assert_cmpuint(g.refblock_entries, ==, 32768);
    g_assert_cmpuint(g.refcount_max, ==, 65535);
    g_assert_cmpuint(g.l1_guest_entries, ==, 2);
}

/* Every byte up to 105 belongs to exactly one field: flipping it changes what is decoded, and encoding
 * restores it. */
static void
test_layout(void)
{
    guint8 ones[QCOW2_FIELDS_BYTES], out[QCOW2_FIELDS_BYTES];
    Qcow2Header h;

    memset(&h, 0xff, sizeof h);
    h.header_bytes = 0xffffffff;
    memset(ones, 0, sizeof ones);
    g_assert_cmpuint(qcow2_header_encode(&h, ones, sizeof ones), ==, 105);
    for (gsize i = 0; i < 105; i++)
        g_assert_cmphex(ones[i], ==, 0xff);
    for (gsize i = 105; i < sizeof ones; i++)
        g_assert_cmphex(ones[i], ==, 0);
    /* Version 2 writes nothing past its 72 bytes. */
    h.header_bytes = QCOW2_V2_BYTES;
    memset(out, 0, sizeof out);
    g_assert_cmpuint(qcow2_header_encode(&h, out, sizeof out), ==, QCOW2_V2_BYTES);
    for (gsize i = QCOW2_V2_BYTES; i < sizeof out; i++)
        g_assert_cmphex(out[i], ==, 0);
}

static void
test_version2(void)
{
    g_autofree guint8 *buf = g_malloc(CLUSTER);
    Qcow2Header h;

    make_good(buf);
    buf[7] = 2;
    buf[99] = 7; /* in version 2 no field lies there */
    g_assert_true(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, NULL));
    g_assert_cmpuint(h.refcount_order, ==, 4);
    g_assert_cmpuint(h.header_bytes, ==, QCOW2_V2_BYTES);
    g_assert_cmpuint(h.compat, ==, 0);
}

/* The image's own name for a feature stands in the message. */
static void
test_features(void)
{
    g_autofree guint8 *buf = g_malloc(CLUSTER);
    g_autoptr(GError) error = NULL;
    Qcow2Header h;

    make_good(buf);
    buf[35] = QCOW2_CRYPT_AES; /* beside a data file */
    buf[79] = QCOW2_INCOMPAT_DATA_FILE;
    g_assert_true(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, NULL));

    buf[35] = QCOW2_CRYPT_NONE;
    buf[79] = 1 << 5;
    guint8 *row = buf + 112 + 16 + 16 + 8; /* the first row of the feature names */
    row[1] = 5;
    memcpy(row + 2, "warp drive\0", 11);
    g_assert_false(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "warp drive"));
}

static void
test_extensions_refused(void)
{
    static const struct {
        gsize off;
        guint8 byte;
        const char *says;
    } breaks[] = {
        { 112 + 4, 1, "past its room" }, /* backing format of 16 MiB */
        { 112 + 16 + 4, 0xff, "past its room" },
        { 112 + 6, 0x04, "past its room" }, /* longer than what lies before the name */
    };
    g_autofree guint8 *buf = g_malloc(CLUSTER);

    for (gsize i = 0; i < G_N_ELEMENTS(breaks); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(Qcow2Extensions) ext = { 0 };
        Qcow2Header h;

        make_good(buf);
        buf[breaks[i].off] = breaks[i].byte;
        g_assert_true(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, NULL));
        g_assert_false(qcow2_extensions_decode(buf, CLUSTER, &h, &ext, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
        g_assert_nonnull(strstr(error->message, breaks[i].says));
        g_assert_null(ext.places);
    }
    make_good(buf);
    be32_store(buf + 112 + 16, (guint32) QCOW2_EXT_BACKING_FORMAT);
    g_autoptr(GError) twice = NULL;
    g_auto(Qcow2Extensions) ext = { 0 };
    Qcow2Header h;
    g_assert_true(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, NULL));
    g_assert_false(qcow2_extensions_decode(buf, CLUSTER, &h, &ext, &twice));
    g_assert_nonnull(strstr(twice->message, "twice"));
}

/* The LUKS method and its extension: both or neither, and the LUKS header at a cluster. */
static void
test_luks(void)
{
    static const struct {
        guint8 method;
        guint64 off, bytes; /* off 0: no extension */
        const char *says;   /* NULL: admitted */
    } sets[] = {
        { 0, 0, 0, NULL },
        { 1, 0, 0, NULL },
        { 2, 4 * CLUSTER, 0x1f9000, NULL },
        { 2, 0, 0, "crypt_method is 2" },
        { 0, 4 * CLUSTER, 0x1f9000, "crypt_method is 0" },
        { 1, 4 * CLUSTER, 0x1f9000, "crypt_method is 1" },
        { 2, 4 * CLUSTER + 512, 0x1f9000, "does not begin at a cluster" },
        { 2, 4 * CLUSTER, 0, "no bytes" },
    };
    g_autofree guint8 *buf = g_malloc(CLUSTER);

    for (gsize i = 0; i < G_N_ELEMENTS(sets); i++) {
        g_autoptr(GByteArray) extension = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        g_auto(Qcow2Extensions) ext = { 0 };
        guint8 place[16];
        Qcow2Header h;

        make_good(buf);
        memset(buf + 112, 0, 1040 - 112);
        buf[35] = sets[i].method;
        be64_store(place, sets[i].off);
        be64_store(place + 8, sets[i].bytes);
        qcow2_extension_append(extension, QCOW2_EXT_LUKS, place, sizeof place);
        if (sets[i].off != 0)
            memcpy(buf + 112, extension->data, extension->len);
        g_assert_true(qcow2_header_decode(buf, CLUSTER, FILE_BYTES, &h, NULL));
        g_assert_true(qcow2_extensions_decode(buf, CLUSTER, &h, &ext, &error) == !sets[i].says);
        if (!sets[i].says)
            continue;
        g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
        g_assert_nonnull(strstr(error->message, sets[i].says));
    }
}

/* What is wrong with an entry, or NULL; @bitmap: of an extended one. */
static const char *
decode(guint64 word, guint64 bitmap, const Qcow2Header *h, Qcow2Cluster *c)
{
    const char *wrong = qcow2_l2_decode((Qcow2Entry){ word, bitmap }, h, c);

    if (!wrong && !c->compressed) {
        Qcow2Entry again = qcow2_l2_encode(c, h);
        g_assert_cmphex(again.word, ==, word);
        g_assert_cmphex(again.bitmap, ==, bitmap);
    }
    return wrong;
}

static void
test_entries(void)
{
    Qcow2Header h = { .version = 3, .cluster_bits = 16 };
    Qcow2Cluster c;

    g_assert_null(decode(0, 0, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 0), ==, QCOW2_CLUSTER_HOLE);
    g_assert_null(decode(1, 0, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 0), ==, QCOW2_CLUSTER_ZERO);
    g_assert_null(decode(QCOW2_ENTRY_COPIED | 0x50001, 0, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 0), ==, QCOW2_CLUSTER_ZERO_ALLOC);
    g_assert_cmphex(c.host_bytes, ==, 0x50000);
    g_assert_null(decode(QCOW2_ENTRY_COPIED | 0x50000, 0, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 0), ==, QCOW2_CLUSTER_DATA);
    g_assert_true(c.copied);
    g_assert_cmpuint(qcow2_cluster_host_clusters(&c, 16), ==, 1);
    /* 64 KiB clusters: 54 bits of offset, then the count of further sectors. */
    g_assert_null(decode(QCOW2_ENTRY_COMPRESSED | G_GUINT64_CONSTANT(3) << 54 | 0x5ff10, 0, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 0), ==, QCOW2_CLUSTER_COMPRESSED);
    g_assert_cmphex(c.host_bytes, ==, 0x5ff10);
    g_assert_cmpuint(c.packed_bytes, ==, 4 * 512 - 0x110);
    g_assert_cmpuint(qcow2_cluster_host_clusters(&c, 16), ==, 2);

    g_assert_nonnull(decode(0x50002, 0, &h, &c));
    g_assert_nonnull(decode(0x50200, 0, &h, &c));
    g_assert_nonnull(decode(G_GUINT64_CONSTANT(1) << 56, 0, &h, &c));
    g_assert_nonnull(decode(QCOW2_ENTRY_COPIED, 0, &h, &c));
    g_assert_nonnull(decode(QCOW2_ENTRY_COPIED | QCOW2_ENTRY_COMPRESSED | 0x50010, 0, &h, &c));
    h.version = 2;
    g_assert_nonnull(decode(0x50001, 0, &h, &c));
}

static void
test_extended_entries(void)
{
    Qcow2Header h = { .version = 3, .cluster_bits = 16, .incompat = QCOW2_INCOMPAT_EXTENDED_L2 };
    const guint64 zero_31 = G_GUINT64_CONSTANT(1) << 63;
    Qcow2Cluster c;

    g_assert_null(decode(0, zero_31, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 0), ==, QCOW2_CLUSTER_HOLE);
    g_assert_cmpint(qcow2_cluster_kind(&c, 31), ==, QCOW2_CLUSTER_ZERO);
    g_assert_null(decode(QCOW2_ENTRY_COPIED | 0x50000, zero_31 | 6, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 0), ==, QCOW2_CLUSTER_HOLE_ALLOC);
    g_assert_cmpint(qcow2_cluster_kind(&c, 1), ==, QCOW2_CLUSTER_DATA);
    g_assert_cmpint(qcow2_cluster_kind(&c, 31), ==, QCOW2_CLUSTER_ZERO_ALLOC);
    g_assert_cmpuint(qcow2_subs_run(c.data, 1, 32), ==, 2);
    g_assert_cmpuint(qcow2_subs_run(~c.data, 3, 32), ==, 29);
    g_assert_null(decode(QCOW2_ENTRY_COMPRESSED | 0x50010, 0, &h, &c));
    g_assert_cmpint(qcow2_cluster_kind(&c, 7), ==, QCOW2_CLUSTER_COMPRESSED);

    g_assert_nonnull(decode(QCOW2_ENTRY_COPIED | 0x50000, zero_31 | G_GUINT64_CONSTANT(1) << 31, &h, &c));
    g_assert_nonnull(decode(0, 1, &h, &c));
    g_assert_nonnull(decode(QCOW2_ENTRY_COPIED | 0x50001, 1, &h, &c));
    g_assert_cmphex(qcow2_subs_mask(0, 32), ==, 0xffffffff);
    g_assert_cmphex(qcow2_subs_mask(3, 5), ==, 0x18);
    g_assert_cmphex(qcow2_subs_mask(32, 32), ==, 0);
}

static void
test_refcount_widths(void)
{
    for (guint order = 0; order <= 6; order++) {
        guint bits = 1u << order;
        guint8 block[512] = { 0 };
        guint64 max = bits == 64 ? G_MAXUINT64 : (G_GUINT64_CONSTANT(1) << bits) - 1;
        guint64 entries = sizeof block * 8 / bits;

        for (guint64 i = 0; i < entries; i++)
            qcow2_refcount_store(block, i, bits, (i * 5 + 1) & max);
        for (guint64 i = 0; i < entries; i++)
            g_assert_cmpuint(qcow2_refcount_load(block, i, bits), ==, (i * 5 + 1) & max);
        qcow2_refcount_store(block, 3, bits, max);
        g_assert_cmpuint(qcow2_refcount_load(block, 3, bits), ==, max);
        g_assert_cmpuint(qcow2_refcount_load(block, 2, bits), ==, 11 & max);
        g_assert_cmpuint(qcow2_refcount_load(block, 4, bits), ==, 21 & max);
    }
    /* Bit order below a byte: entry 0 is the least significant bit. */
    guint8 one = 0;
    qcow2_refcount_store(&one, 0, 1, 1);
    g_assert_cmphex(one, ==, 0x01);
    qcow2_refcount_store(&one, 3, 2, 2);
    g_assert_cmphex(one, ==, 0x81);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/header/truncated", test_truncated);
    g_test_add_func("/qcow2/header/round-trip", test_round_trip);
    g_test_add_func("/qcow2/header/layout", test_layout);
    g_test_add_func("/qcow2/header/version2", test_version2);
    g_test_add_func("/qcow2/header/features", test_features);
    g_test_add_func("/qcow2/header/extensions-refused", test_extensions_refused);
    g_test_add_func("/qcow2/header/luks", test_luks);
    g_test_add_func("/qcow2/entries", test_entries);
    g_test_add_func("/qcow2/entries/extended", test_extended_entries);
    g_test_add_func("/qcow2/refcount-widths", test_refcount_widths);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/header/refuses/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_refuses);
    }
    return g_test_run();
}
