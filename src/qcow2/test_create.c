/* What qcow2_create makes, and what it refuses. */
#include "qcow2/test_io.h"

static const struct {
    const char *name;
    Qcow2CreateOptions options;
    guint64 file_bytes; /* 0: not said */
} makes[] = {
    /* qemu-img's own length: three clusters and one L1 entry. */
    { "64M", { .guest_bytes = 64 * MIB }, 196616 },
    { "nothing", { .guest_bytes = 0 }, 3 * 65536 },
    { "1-byte", { .guest_bytes = 1 }, 196616 },
    { "version-2", { .guest_bytes = 64 * MIB, .version = 2 }, 196616 },
    { "zstd-lazy", { .guest_bytes = GIB, .compression = QCOW2_COMPRESSION_ZSTD, .lazy_refcounts = TRUE }, 0 },
    { "2M-clusters", { .guest_bytes = TIB, .cluster_bytes = 2 * MIB }, 3 * 2 * MIB + 16 },
    { "backing", { .guest_bytes = GIB, .backing_file = "base.img", .backing_format = "raw" }, 196624 },
    /* 65536 clusters of L1 table, and a refcount table that must grow to count them. */
    { "512-largest", { .guest_bytes = 128 * GIB, .cluster_bytes = 512, .refcount_bits = 64 }, 0 },
    { "1-bit", { .guest_bytes = 10 * GIB, .cluster_bytes = 1024, .refcount_bits = 1 }, 0 },
};

static void
test_makes(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    const Qcow2CreateOptions *o = &makes[i].options;
    g_autoptr(BlkStore) store = test_create(o);
    Qcow2Header h = test_header(store);
    FormatInfo info;
    guint64 bytes;
    Run run;

    test_clean(store, 0);
    g_assert_true(blk_size(store, &bytes, NULL));
    if (makes[i].file_bytes)
        g_assert_cmpuint(bytes, ==, makes[i].file_bytes);
    g_assert_cmpuint(h.guest_bytes, ==, o->guest_bytes);
    g_assert_cmpuint(h.version, ==, o->version ? o->version : 3);

    FormatImage *image = test_open_flags(store, 0);
    g_assert_true(image->ops->info(image, &info, NULL));
    g_assert_cmpstr(info.backing_file, ==, o->backing_file);
    g_assert_cmpstr(info.backing_format, ==, o->backing_format);
    g_assert_cmpstr(info.compression, ==, o->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib");
    g_assert_cmpuint(info.refcount_bits, ==, o->refcount_bits ? o->refcount_bits : 16);
    g_assert_cmpint(info.lazy_refcounts, ==, o->lazy_refcounts);
    g_assert_false(info.dirty);
    g_free(info.backing_file);
    g_free(info.backing_format);
    g_ptr_array_unref(info.snapshots);
    if (o->guest_bytes > 0) { /* one hole from end to end */
        g_assert_true(image->ops->map(image, guest_off(0), o->guest_bytes, &run, NULL));
        g_assert_cmpint(run.kind, ==, RUN_HOLE);
        g_assert_cmpuint(run.bytes, ==, o->guest_bytes);
    }
    test_close(image);
}

static char too_long[QCOW2_BACKING_BYTES + 2];

static const struct {
    const char *name;
    Qcow2CreateOptions options;
    const char *says;
} refuses[] = {
    { "cluster-256", { .cluster_bytes = 256 }, "cluster size of 256" },
    { "cluster-3000", { .cluster_bytes = 3000 }, "cluster size of 3000" },
    { "cluster-4M", { .cluster_bytes = 4 * MIB }, "cluster size" },
    { "version-4", { .version = 4 }, "version 4" },
    { "refcount-3", { .refcount_bits = 3 }, "width of 3" },
    { "refcount-128", { .refcount_bits = 128 }, "width of 128" },
    { "version-2-8-bits", { .version = 2, .refcount_bits = 8 }, "16-bit" },
    { "version-2-lazy", { .version = 2, .lazy_refcounts = TRUE }, "lazy" },
    { "version-2-zstd", { .version = 2, .compression = QCOW2_COMPRESSION_ZSTD }, "zlib only" },
    { "size-for-512", { .guest_bytes = 128 * GIB + 1, .cluster_bytes = 512 }, "use larger ones" },
    { "size-max", { .guest_bytes = G_MAXUINT64 }, "too large" },
    { "backing-long", { .backing_file = too_long, .backing_format = "raw" }, "1024 bytes long" },
    { "backing-long-for-512", { .cluster_bytes = 512, .backing_file = too_long + 600 }, "does not fit" },
};

static void
test_refuses(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(BlkStore) store = blk_mem_new(NULL, 0, "test.qcow2");
    g_autoptr(GError) error = NULL;
    guint64 bytes;

    store->writable = TRUE;
    g_assert_false(qcow2_create(store, &refuses[i].options, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, refuses[i].says));
    g_assert_true(blk_size(store, &bytes, NULL));
    g_assert_cmpuint(bytes, ==, 0); /* nothing was written */
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    memset(too_long, 'x', sizeof too_long - 1);
    for (gsize i = 0; i < G_N_ELEMENTS(makes); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/create/makes/%s", makes[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_makes);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(refuses); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/create/refuses/%s", refuses[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_refuses);
    }
    return g_test_run();
}
