/* Bitmaps: the decoder's bounds, the set of what was written, memory, and what kho does not know. */
#include "qcow2/bitmap_merge.h"
#include "qcow2/bitmap_track.h"
#include "qcow2/test_io.h"

static Qcow2Header
header_for(guint64 guest_bytes)
{
    return (Qcow2Header){ .version = 3, .cluster_bits = 16, .guest_bytes = guest_bytes, .refcount_order = 4 };
}

/* An entry for a disk of 1 MiB, named "b0". */
static GByteArray *
entry(void)
{
    GByteArray *bytes = g_byte_array_new();
    Qcow2Bitmap b = {
        .name = (char *) "b0", .table_off = 65536, .table_entries = 1, .flags = 2, .granularity_bits = 16
    };

    qcow2_bitmap_encode(&b, bytes);
    return bytes;
}

static GPtrArray *
decode(const GByteArray *bytes, guint32 n, GError **error)
{
    const Qcow2Header header = header_for(MIB);

    return qcow2_bitmaps_decode(bytes->data, bytes->len, n, &header, error);
}

static void
test_decode(void)
{
    g_autoptr(GByteArray) bytes = entry();
    g_autoptr(GPtrArray) list = decode(bytes, 1, NULL);

    g_assert_cmpuint(bytes->len, ==, 32);
    const Qcow2Bitmap *b = qcow2_bitmaps_find(list, "b0");
    g_assert_nonnull(b);
    g_assert_cmpuint(b->table_off, ==, 65536);
    g_assert_cmpuint(b->entry_bytes, ==, 32);
    g_assert_true(qcow2_bitmap_is_sound(b));
    g_assert_null(qcow2_bitmaps_find(list, "b"));
}

/* One byte of the entry is another: what the decoder says, or why the bitmap is left alone. */
static const struct {
    guint at;
    guint8 value;
    const char *wrong, *unusable;
} mutants[] = {
    { 5, 0, "offset" },              /* a table at 0 */
    { 6, 2, "offset" },              /* within a cluster */
    { 0, 1, "offset" },              /* past what an offset can be */
    { 11, 0, "length" },             /* no table */
    { 11, 2, "does not fit" },       /* for a larger disk */
    { 8, 1, "length" },              /* 1 TiB of bits */
    { 15, 6, NULL, "flags" },        /* extra data may be ignored: there is none, and nobody knows the flag */
    { 12, 128, NULL, "flags" },      /* reserved */
    { 16, 2, NULL, "type" },         /* not dirty */
    { 17, 8, NULL, "granularity" },  /* 256 bytes */
    { 17, 32, NULL, "granularity" }, /* 4 GiB */
    { 17, 255, NULL, "granularity" },
    { 19, 0, "name" },
    { 19, 9, "past the directory" },
    { 18, 4, "past the directory" },
    { 23, 1, "NUL" }, /* extra data in front of the name, which reaches into the padding */
    { 20, 255, "past the directory" },
    { 24, 0, "NUL" },
};

static void
test_decode_bounds(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(mutants); i++) {
        g_autoptr(GByteArray) bytes = entry();
        g_autoptr(GError) error = NULL;
        bytes->data[mutants[i].at] = mutants[i].value;
        g_autoptr(GPtrArray) list = decode(bytes, 1, &error);
        g_test_message("byte %u: %s", mutants[i].at, error ? error->message : "decoded");
        if (mutants[i].wrong) {
            g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
            g_assert_nonnull(strstr(error->message, mutants[i].wrong));
            continue;
        }
        g_assert_no_error(error);
        const Qcow2Bitmap *b = list->pdata[0];
        g_assert_nonnull(strstr(b->unusable, mutants[i].unusable));
        g_assert_false(qcow2_bitmap_is_sound(b));
    }
}

static void
test_decode_lists(void)
{
    g_autoptr(GByteArray) bytes = entry();
    g_autoptr(GByteArray) again = entry();
    g_autoptr(GError) error = NULL;

    g_assert_null(decode(bytes, 2, NULL)); /* the directory ends before it */
    g_assert_null(decode(bytes, 0, NULL)); /* and goes on after it */
    g_byte_array_append(bytes, again->data, again->len);
    g_assert_null(decode(bytes, 2, &error));
    g_assert_nonnull(strstr(error->message, "the name of another"));
    bytes->data[32 + 24] = 'c';
    g_autoptr(GPtrArray) list = decode(bytes, 2, NULL);
    g_assert_cmpuint(list->len, ==, 2);
    /* One that was in use may be of a disk of another size. */
    bytes->data[15] = 3;
    bytes->data[11] = 7;
    g_autoptr(GPtrArray) used = decode(bytes, 2, NULL);
    g_assert_false(qcow2_bitmap_is_sound(used->pdata[0]));
}

/* Against an array of bytes. */
static void
test_set(void)
{
    enum { BITS = 10000 };
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autofree guint8 *model = g_malloc0(BITS);
    Qcow2DirtySet *set = qcow2_dirty_set_new(9);

    for (guint round = 0; round < 300; round++) {
        guint64 from = (guint64) g_rand_int_range(rand, 0, BITS - 1),
                n = (guint64) g_rand_int_range(rand, 1, 400);
        n = MIN(n, BITS - from);
        if (round % 50 == 49) {
            guint64 kept = (guint64) g_rand_int_range(rand, 0, BITS);
            qcow2_dirty_set_cut(set, kept * 512);
            memset(model + kept, 0, BITS - kept);
        }
        qcow2_dirty_set_add(set, from * 512 + from % 512, n * 512 - from % 512);
        memset(model + from, 1, n);
    }
    g_autoptr(GPtrArray) sorted = qcow2_dirty_set_sorted(set);
    g_autofree guint8 *seen = g_malloc0(BITS + QCOW2_DIRTY_CHUNK_BITS);
    for (guint i = 0; i < sorted->len; i++) {
        const Qcow2DirtyChunk *chunk = sorted->pdata[i];
        g_assert_true(i == 0 || chunk->index > ((Qcow2DirtyChunk *) sorted->pdata[i - 1])->index);
        for (guint j = 0; j < QCOW2_DIRTY_CHUNK_BITS; j++)
            seen[(guint) chunk->index * QCOW2_DIRTY_CHUNK_BITS + j] = chunk->words[j / 64] >> (j % 64) & 1;
    }
    g_assert_cmpmem(seen, BITS, model, BITS);
    qcow2_dirty_set_free(set);
}

static void
change(FormatImage *image, FormatBitmapAction action, const char *name, guint64 granularity,
       const char *source)
{
    const FormatBitmapChange one = {
        .action = action, .name = name, .granularity_bytes = granularity, .source_name = source
    };
    g_autoptr(GError) error = NULL;

    image->ops->bitmap(image, &one, &error);
    g_assert_no_error(error);
}

/* How many bits are set, of all that there are. */
static gboolean
count_bits(gpointer data, guint64 index, guint8 *bits, GError **error)
{
    for (guint i = 0; i < 65536; i++)
        *(guint64 *) data += (guint64) __builtin_popcount(bits[i]);
    return TRUE;
}

static guint64
count(FormatImage *image, const char *name)
{
    Qcow2Image *qcow2 = qcow2_image(image);
    guint64 n = 0;

    g_assert_true(qcow2_bitmaps_load_locked(qcow2, NULL));
    const Qcow2Bitmap *b = qcow2_bitmaps_find(qcow2->bitmaps->list, name);
    g_assert_true(qcow2_bitmap_is_sound(b));
    g_assert_true(
        qcow2_bitmap_read_locked(qcow2, qcow2_bitmap_table(b), 0, G_MAXUINT64, count_bits, &n, NULL));
    return n;
}

/* A fine bitmap of a large disk takes 10 MiB, and what is written is never all in memory. */
static void
test_memory(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 40 * GIB };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatImage *image = test_open(store);
    guint64 done;

    change(image, FORMAT_BITMAP_ADD, "fine", 512, NULL);
    change(image, FORMAT_BITMAP_ADD, "coarse", GIB, NULL);
    for (guint64 at = 0; at < 40 * GIB; at += done) {
        g_assert_true(image->ops->zero(image, guest_off(at), 40 * GIB - at, &done, NULL));
        g_assert_cmpuint(done, >, 0);
        const Qcow2DirtySet *set = qcow2_image(image)->bitmaps->set;
        g_assert_cmpuint(qcow2_dirty_set_bytes(set), <, 16 * MIB);
    }
    test_close(image);
    test_clean(store, 0);
    image = test_open(store);
    g_assert_cmpuint(count(image, "fine"), ==, 40 * GIB / 512);
    g_assert_cmpuint(count(image, "coarse"), ==, 40);
    test_close(image);
}

/* Where the directory's only entry begins. */
static guint64
directory_off(BlkStore *store)
{
    FormatImage *image = test_open_flags(store, 0);
    guint64 off = qcow2_image(image)->extensions.bitmap_directory_off;

    test_close(image);
    return off;
}

/* Enabled and of another kind: it would go stale, so nothing is written, and it can be removed. Disabled, it
 * is kept byte for byte. */
static void
test_unknown(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = MIB };
    g_autoptr(BlkStore) store = test_create(&options);
    g_autoptr(GError) error = NULL;
    guint8 byte = 1, entries[2][32];

    FormatImage *image = test_open(store);
    change(image, FORMAT_BITMAP_ADD, "b0", 0, NULL);
    test_close(image);
    guint64 off = directory_off(store);
    test_set_word(store, off + 8, test_word(store, off + 8) | 4);

    image = test_open(store);
    g_assert_false(test_write(image, 0, &byte, 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "img bitmap --remove"));
    g_assert_false(image->ops->resize(image, 2 * MIB, FALSE, NULL, NULL));
    test_close(image);

    test_set_word(store, off + 8, test_word(store, off + 8) & ~G_GUINT64_CONSTANT(2));
    g_assert_true(blk_pread(store, off, entries[0], 32, NULL));
    image = test_open(store);
    test_fill(image, 0, 1, 1);
    change(image, FORMAT_BITMAP_ADD, "b1", 0, NULL);
    test_close(image);
    g_assert_true(blk_pread(store, directory_off(store), entries[1], 32, NULL));
    g_assert_cmpmem(entries[0], 32, entries[1], 32);
    image = test_open(store);
    change(image, FORMAT_BITMAP_REMOVE, "b0", 0, NULL);
    test_close(image);
    test_clean(store, 0);
}

/* Two tables in one place: the image contradicts itself, and nothing is written. */
static void
test_overlap(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = MIB };
    g_autoptr(BlkStore) store = test_create(&options);
    g_autoptr(GError) error = NULL;
    guint8 byte = 1;

    FormatImage *image = test_open(store);
    change(image, FORMAT_BITMAP_ADD, "b0", 0, NULL);
    change(image, FORMAT_BITMAP_ADD, "b1", 0, NULL);
    test_close(image);
    guint64 off = directory_off(store);
    test_set_word(store, off + 32, test_word(store, off));
    image = test_open(store);
    g_assert_false(test_write(image, 0, &byte, 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "'b1'"));
    g_assert_true(image->ops->close(image, NULL));
}

/* A directory of more bytes than kho takes into memory: told, and nothing is written. */
static void
test_large_directory(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = MIB };
    g_autoptr(BlkStore) store = test_create(&options);
    g_autoptr(GError) error = NULL;
    guint8 byte = 1;

    FormatImage *image = test_open(store);
    change(image, FORMAT_BITMAP_ADD, "b0", 0, NULL);
    test_close(image);
    /* The extension comes first: its record's head, two words of counts, the length. */
    g_assert_cmpuint(test_word(store, QCOW2_FIELDS_BYTES + 16), ==, 32);
    test_set_word(store, QCOW2_FIELDS_BYTES + 16, 64 * MIB - 1024);
    image = test_open(store);
    g_assert_false(test_write(image, 0, &byte, 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "larger than kho reads"));
    test_close(image);
}

/* A disk too large for so fine a bitmap: refused before it is made, and before the disk grows so far. */
static void
test_too_fine(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = 2 * TIB };
    g_autoptr(BlkStore) store = test_create(&options);
    FormatBitmapChange add = { .action = FORMAT_BITMAP_ADD, .name = "b0", .granularity_bytes = 256 };
    g_autoptr(GError) error = NULL;
    FormatImage *image = test_open(store);

    g_assert_false(image->ops->bitmap(image, &add, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    change(image, FORMAT_BITMAP_ADD, "b0", 512, NULL);
    g_clear_error(&error);
    g_assert_false(image->ops->resize(image, 2 * TIB + 65536 * 64, FALSE, NULL, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "512 MiB"));
    test_close(image);
    test_clean(store, 0);
    image = test_open(store);
    g_assert_cmpuint(count(image, "b0"), ==, 0);
    test_close(image);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/bitmap/decode", test_decode);
    g_test_add_func("/qcow2/bitmap/decode-bounds", test_decode_bounds);
    g_test_add_func("/qcow2/bitmap/decode-lists", test_decode_lists);
    g_test_add_func("/qcow2/bitmap/set", test_set);
    g_test_add_func("/qcow2/bitmap/memory", test_memory);
    g_test_add_func("/qcow2/bitmap/unknown", test_unknown);
    g_test_add_func("/qcow2/bitmap/overlap", test_overlap);
    g_test_add_func("/qcow2/bitmap/large-directory", test_large_directory);
    g_test_add_func("/qcow2/bitmap/too-fine", test_too_fine);
    return g_test_run();
}
