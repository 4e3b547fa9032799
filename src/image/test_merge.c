/* Rules held: what is moved is what must be and no more; a merge that is cancelled half way leaves the
 * overlay reading as before and goes on later; names are right from any folder; what cannot be done is
 * refused before anything is written. (What QEMU reads afterwards: tests/interop; crashes and faults:
 * tests/crash and tests/fault.) */
#include "image/merge.h"

#include "base/num.h"
#include "image/stretch.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"

#include <string.h>

#define CLUSTER 4096

/* A store that raises a flag with its n-th write, and counts what is written. */
typedef struct {
    BlkStore store;
    BlkStore *below;
    gint *flag;
    guint64 left, bytes;
} Watch;

static gboolean
watch_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    return blk_pread_upto(((Watch *) store)->below, off, buf, len, got, error);
}

static gboolean
watch_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    Watch *watch = (Watch *) store;

    watch->bytes += len;
    if (watch->left > 0 && --watch->left == 0)
        g_atomic_int_set(watch->flag, 1);
    return blk_pwrite(watch->below, off, buf, len, error);
}

static gboolean
watch_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    return blk_truncate(((Watch *) store)->below, bytes, error);
}

static gboolean
watch_flush(BlkStore *store, GError **error)
{
    return blk_flush(((Watch *) store)->below, error);
}

static gboolean
watch_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(((Watch *) store)->below, bytes, error);
}

static void
watch_free(BlkStore *store)
{
    g_free(store);
}

static const BlkOps watch_ops = {
    .name = "watched",
    .pread = watch_pread,
    .pwrite = watch_pwrite,
    .truncate = watch_truncate,
    .flush = watch_flush,
    .size = watch_size,
    .free = watch_free,
};

static Watch *
watch_new(BlkStore *below, gint *flag, guint64 nth)
{
    Watch *watch = g_new0(Watch, 1);

    watch->store = (BlkStore){ .ops = &watch_ops, .label = g_strdup("watched"), .writable = TRUE };
    watch->below = below;
    watch->flag = flag;
    watch->left = nth;
    return watch;
}

static KhoImage *
over(BlkStore *store, const FormatOps *ops)
{
    g_autoptr(GError) error = NULL;
    KhoImage *image = image_over_store(store, ops, FORMAT_WRITABLE, "/images/disk", &error);

    g_assert_no_error(error);
    return image;
}

static BlkStore *
new_qcow2(guint64 bytes, guint version, const char *backing_file)
{
    const Qcow2CreateOptions options = { .guest_bytes = bytes,
                                         .cluster_bytes = CLUSTER,
                                         .version = version,
                                         .backing_file = backing_file,
                                         .backing_format = backing_file ? "qcow2" : NULL };
    BlkStore *store = blk_mem_new(NULL, 0, "qcow2");

    g_assert_true(qcow2_create(store, &options, NULL));
    return store;
}

static void
put_below(KhoImage *above, KhoImage *below)
{
    above->backing = below;
    above->format->backing_bytes = kho_image_size_bytes(below);
    for (guint depth = above->depth + 1; below; below = below->backing)
        below->depth = depth++;
}

static void
fill(KhoImage *image, guint64 off, guint64 len, guint8 byte)
{
    g_autofree guint8 *bytes = g_malloc(len);

    memset(bytes, byte, len);
    g_assert_true(kho_image_write(image, off, bytes, len, NULL));
}

static void
expect(KhoImage *image, guint64 off, guint64 len, guint8 byte)
{
    g_autofree guint8 *bytes = g_malloc(len);

    g_assert_true(kho_image_read(image, off, bytes, len, NULL));
    for (guint64 i = 0; i < len; i++)
        g_assert_cmpuint(bytes[i], ==, byte);
}

/* below (20 clusters, data 0-20), base (16 clusters, data 4-6, zeros 8-10), overlay (24 clusters, data 5). */
static KhoImage *
three_layers(BlkStore *overlay_store)
{
    KhoImage *below = over(new_qcow2(20 * CLUSTER, 3, NULL), &qcow2_format);
    KhoImage *base = over(new_qcow2(16 * CLUSTER, 3, "below"), &qcow2_format);
    KhoImage *overlay = over(overlay_store, &qcow2_format);

    fill(below, 0, 20 * CLUSTER, 1);
    put_below(base, below);
    fill(base, 4 * CLUSTER, 2 * CLUSTER, 2);
    g_assert_true(kho_image_zero(base, 8 * CLUSTER, 2 * CLUSTER, NULL));
    put_below(overlay, base);
    fill(overlay, 5 * CLUSTER, CLUSTER, 3);
    return overlay;
}

static void
expect_three(KhoImage *overlay)
{
    expect(overlay, 0, 4 * CLUSTER, 1);
    expect(overlay, 4 * CLUSTER, CLUSTER, 2);
    expect(overlay, 5 * CLUSTER, CLUSTER, 3);
    expect(overlay, 6 * CLUSTER, 2 * CLUSTER, 1);
    expect(overlay, 8 * CLUSTER, 2 * CLUSTER, 0);
    expect(overlay, 10 * CLUSTER, 6 * CLUSTER, 1);
    expect(overlay, 16 * CLUSTER, 8 * CLUSTER, 0); /* the base ends; what lies below it goes on */
}

/* What the overlay lacks of the base, and what it holds itself, in clusters. */
static void
test_stretches(void)
{
    static const Stretch lacking[] = {
        { 0, 4, STRETCH_LEAVE },  { 4, 1, STRETCH_DATA },  { 5, 3, STRETCH_LEAVE },  { 8, 2, STRETCH_ZERO },
        { 10, 6, STRETCH_LEAVE }, { 16, 4, STRETCH_ZERO }, { 20, 4, STRETCH_LEAVE },
    };
    static const Stretch own[] = { { 0, 5, STRETCH_LEAVE },
                                   { 5, 1, STRETCH_DATA },
                                   { 6, 18, STRETCH_LEAVE } };
    g_autoptr(KhoImage) overlay = three_layers(new_qcow2(24 * CLUSTER, 3, "base"));
    guint64 size = kho_image_size_bytes(overlay);
    Stretch s;

    for (gsize i = 0; i < G_N_ELEMENTS(lacking); i++) {
        guint64 off = lacking[i].start * CLUSTER;
        g_assert_true(stretch_lacking(overlay, overlay->backing, off, size - off, &s, NULL));
        g_assert_cmpuint(s.bytes, ==, lacking[i].bytes * CLUSTER);
        g_assert_cmpint(s.kind, ==, lacking[i].kind);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(own); i++) {
        g_assert_true(
            stretch_own(overlay, overlay, own[i].start * CLUSTER, size - own[i].start * CLUSTER, &s, NULL));
        g_assert_cmpuint(s.bytes, ==, own[i].bytes * CLUSTER);
        g_assert_cmpint(s.kind, ==, own[i].kind);
    }
}

static void
test_up_moves_what_it_must(void)
{
    g_autoptr(BlkStore) mem = new_qcow2(24 * CLUSTER, 3, "base");
    Watch *watch = watch_new(mem, NULL, 0);
    g_autoptr(KhoImage) overlay = three_layers(&watch->store);
    Merge merge = { overlay, overlay->backing, "below", "qcow2", .workers = 1 };
    KhoImageMergeCost cost;
    KhoMapEntry entry;
    g_autoptr(GError) error = NULL;

    g_assert_true(merge_cost(overlay, overlay->backing, &cost, NULL, &error));
    g_assert_cmpuint(cost.up_bytes, ==, CLUSTER);
    g_assert_cmpuint(cost.down_bytes, ==, CLUSTER);
    g_assert_cmpuint(cost.down_space_bytes, ==, 0);
    g_assert_true(kho_image_flush(overlay, &error));
    watch->bytes = 0;
    g_assert_true(merge_up(&merge, NULL, &error));
    expect_three(overlay);
    /* One cluster of data; an L2 table's and a refcount block's sectors, and the header's. */
    g_assert_cmpuint(watch->bytes, <=, CLUSTER + 8 * 512);
    g_assert_true(kho_image_map(overlay, 8 * CLUSTER, 2 * CLUSTER, &entry, &error));
    g_assert_cmpint(entry.kind, ==, KHO_MAP_ZERO);
    g_assert_cmpuint(entry.depth, ==, 0);

    /* Without the base. */
    KhoImage *base = g_steal_pointer(&overlay->backing);
    put_below(overlay, g_steal_pointer(&base->backing));
    kho_image_free(base);
    expect_three(overlay);
}

/* Version 2 has no zeros but written ones. */
static void
test_up_version_2(void)
{
    g_autoptr(KhoImage) overlay = three_layers(new_qcow2(24 * CLUSTER, 2, "base"));
    Merge merge = { overlay, overlay->backing, "below", "qcow2", .workers = 1 };
    g_autoptr(GError) error = NULL;

    g_assert_true(merge_up(&merge, NULL, &error));
    KhoImage *base = g_steal_pointer(&overlay->backing);
    put_below(overlay, g_steal_pointer(&base->backing));
    kho_image_free(base);
    expect_three(overlay);
}

/* Ever later, until it is too late to cancel. */
static void
test_cancelled(void)
{
    gboolean done = FALSE;

    for (guint64 nth = 1; !done; nth++) {
        g_autoptr(BlkStore) mem = new_qcow2(8 * MIB, 3, "base");
        gint cancelled = 0;
        const KhoJob job = { .cancelled = &cancelled };
        Watch *watch = watch_new(mem, &cancelled, 0);
        KhoImage *base = over(new_qcow2(8 * MIB, 3, NULL), &qcow2_format);
        g_autoptr(KhoImage) overlay = over(&watch->store, &qcow2_format);
        Merge merge = { overlay, base, NULL, NULL, .workers = 2 };
        g_autoptr(GError) error = NULL;

        fill(base, MIB, 6 * MIB, 5);
        put_below(overlay, base);
        watch->left = nth;
        done = merge_up(&merge, &job, &error);
        if (!done) {
            g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
            g_assert_nonnull(strstr(error->message, "/images/disk"));
            cancelled = 0;
            expect(overlay, MIB, 6 * MIB, 5);
            g_clear_error(&error);
            g_assert_true(merge_up(&merge, &job, &error));
        }
        g_clear_pointer(&overlay->backing, kho_image_free);
        expect(overlay, 0, MIB, 0);
        expect(overlay, MIB, 6 * MIB, 5);
        expect(overlay, 7 * MIB, MIB, 0);
        nth += nth / 2;
    }
}

/* A base that must grow over what lies below it: none of that shows in the new part, which version 2 has no
 * flags to hide. */
static void
test_down_grows(gconstpointer version)
{
    KhoImage *below = over(new_qcow2(20 * CLUSTER, 3, NULL), &qcow2_format);
    g_autoptr(KhoImage) base =
        over(new_qcow2(8 * CLUSTER, GPOINTER_TO_UINT(version), "below"), &qcow2_format);
    g_autoptr(KhoImage) overlay = over(new_qcow2(24 * CLUSTER, 3, "base"), &qcow2_format);
    Merge merge = { .overlay = overlay, .base = base };
    g_autoptr(GError) error = NULL;

    fill(below, 0, 20 * CLUSTER, 9);
    fill(overlay, 0, CLUSTER, 1);
    put_below(base, below);
    g_assert_true(merge_down(&merge, NULL, &error));
    g_assert_no_error(error);
    expect(base, 0, CLUSTER, 1);
    expect(base, CLUSTER, 7 * CLUSTER, 9);
    expect(base, 8 * CLUSTER, 16 * CLUSTER, 0);
}

static void
test_down_sizes(void)
{
    static const struct {
        guint64 overlay, base, wanted;
        gboolean cut;
    } rows[] = { { 8, 4, 8, FALSE }, { 4, 8, 8, FALSE }, { 4, 8, 4, TRUE }, { 4, 4, 4, TRUE } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        BlkStore *store = blk_mem_new(NULL, 0, "raw");
        g_assert_true(blk_truncate(store, rows[i].base * CLUSTER, NULL));
        g_autoptr(KhoImage) base = over(store, &raw_format);
        g_autoptr(KhoImage) overlay = over(new_qcow2(rows[i].overlay * CLUSTER, 3, "b"), &qcow2_format);
        Merge merge = { .overlay = overlay, .base = base, .cut_base = rows[i].cut };
        g_autoptr(GError) error = NULL;

        fill(base, 0, rows[i].base * CLUSTER, 7);
        fill(overlay, CLUSTER, CLUSTER, 8);
        g_assert_true(merge_down(&merge, NULL, &error));
        g_assert_cmpuint(kho_image_size_bytes(base), ==, rows[i].wanted * CLUSTER);
        expect(base, 0, CLUSTER, 7);
        expect(base, CLUSTER, CLUSTER, 8);
        if (rows[i].wanted > rows[i].base)
            expect(base, rows[i].base * CLUSTER, (rows[i].wanted - rows[i].base) * CLUSTER, 0);
    }
}

static void
test_names(void)
{
    static const struct {
        const char *named, *overlay, *wanted;
    } rows[] = {
        { "below.raw", "/images/top", "below.raw" },
        { "sub/below.raw", "/images/top", "sub/below.raw" },
        { "/other/below.raw", "/images/top", "/other/below.raw" },
        { "/other/below.raw", "/other/top", "below.raw" },
        { "below.raw", "/other/top", "/images/below.raw" },
        { "../other/below.raw", "/other/x/../top", "below.raw" },
        { "../other/a:b.raw", "/other/top", "./a:b.raw" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(KhoImage) base = over(new_qcow2(MIB, 3, rows[i].named), &qcow2_format);
        g_autofree char *file = NULL, *format = NULL;

        g_assert_true(merge_name_below(base, rows[i].overlay, &file, &format, NULL));
        g_assert_cmpstr(file, ==, rows[i].wanted);
        g_assert_cmpstr(format, ==, "qcow2");
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/merge/stretches", test_stretches);
    g_test_add_func("/image/merge/up-moves-what-it-must", test_up_moves_what_it_must);
    g_test_add_func("/image/merge/up-version-2", test_up_version_2);
    g_test_add_func("/image/merge/cancelled", test_cancelled);
    g_test_add_data_func("/image/merge/down-grows/version-2", GUINT_TO_POINTER(2), test_down_grows);
    g_test_add_data_func("/image/merge/down-grows/version-3", GUINT_TO_POINTER(3), test_down_grows);
    g_test_add_func("/image/merge/down-sizes", test_down_sizes);
    g_test_add_func("/image/merge/names", test_names);
    return g_test_run();
}
