/* Rules held: threads that write different parts of one cluster lose nothing, though each fills the whole
 * cluster anew; a range is held by one writer or by readers; what lies past the end is refused. */
#include "image/image.h"

#include "base/num.h"
#include "qcow2/qcow2.h"
#include "raw/raw.h"

#include <string.h>

#define CLUSTER 65536
#define THREADS 4
#define DISK    (16 * (guint64) CLUSTER)

static KhoImage *
overlay_over_ones(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = DISK, .cluster_bytes = CLUSTER, .unpublished = TRUE };
    g_autofree guint8 *ones = g_malloc(DISK);
    g_autoptr(GError) error = NULL;
    BlkStore *store = blk_mem_new(NULL, 0, "overlay");

    memset(ones, 1, DISK);
    g_assert_true(qcow2_create(store, &options, &error));
    KhoImage *image =
        image_over_store(store, &qcow2_format, FORMAT_WRITABLE | FORMAT_UNPUBLISHED, "overlay", &error);
    g_assert_no_error(error);
    image->backing = image_over_store(blk_mem_new(ones, DISK, "base"), &raw_format, 0, "base", &error);
    g_assert_no_error(error);
    image->backing->depth = 1;
    return image;
}

typedef struct {
    KhoImage *image;
    guint number;
} Writer;

/* Each thread writes the bytes of its residue, in steps of 512, through all clusters. */
static gpointer
write_stripes(gpointer data)
{
    const Writer *w = data;
    guint8 stripe[512];
    g_autoptr(GError) error = NULL;

    memset(stripe, (int) w->number + 10, sizeof stripe);
    for (guint64 at = w->number * sizeof stripe; at < DISK; at += 2 * THREADS * sizeof stripe)
        g_assert_true(kho_image_write(w->image, at, stripe, sizeof stripe, &error));
    return NULL;
}

static void
test_writers_of_one_cluster(void)
{
    g_autoptr(KhoImage) image = overlay_over_ones();
    g_autofree guint8 *got = g_malloc(DISK);
    Writer writers[THREADS];
    GThread *threads[THREADS];
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < THREADS; i++) {
        writers[i] = (Writer){ image, i };
        threads[i] = g_thread_new("write", write_stripes, &writers[i]);
    }
    for (guint i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    g_assert_true(kho_image_read(image, 0, got, DISK, &error));
    for (guint64 at = 0; at < DISK; at++) {
        guint stripe = (guint) (at / 512) % (2 * THREADS);

        g_assert_cmpuint(got[at], ==, stripe < THREADS ? stripe + 10 : 1);
    }
}

static void
test_past_the_end(void)
{
    g_autoptr(KhoImage) image = overlay_over_ones();
    guint8 byte = 0;
    KhoMapEntry entry;

    g_assert_false(kho_image_read(image, DISK, &byte, 1, NULL));
    g_assert_false(kho_image_write(image, G_MAXUINT64, &byte, 1, NULL));
    g_assert_false(kho_image_zero(image, DISK - 1, 2, NULL));
    g_assert_false(kho_image_zero(image, 1, G_MAXUINT64, NULL));
    g_assert_false(kho_image_map(image, 0, 0, &entry, NULL));
    g_assert_true(kho_image_read(image, DISK, &byte, 0, NULL));
    g_assert_true(kho_image_read(image, DISK - 1, &byte, 1, NULL));
    g_assert_cmpuint(byte, ==, 1);
}

static void
test_read_only(void)
{
    g_autoptr(KhoImage) image = overlay_over_ones();
    g_autoptr(GError) error = NULL;
    guint8 byte = 0;

    g_assert_false(kho_image_write(image->backing, 0, &byte, 1, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
}

typedef struct {
    RangeLock lock;
    gint inside; /* how many writers hold the range that all want */
} Contended;

static gpointer
take_turns(gpointer data)
{
    Contended *c = data;
    RangeHold hold;

    for (guint i = 0; i < 2000; i++) {
        range_lock_take(&c->lock, &hold, 100 + i % 50, 200, FALSE);
        g_assert_cmpint(g_atomic_int_add(&c->inside, 1), ==, 0);
        g_atomic_int_add(&c->inside, -1);
        range_lock_drop(&c->lock, &hold);
    }
    return NULL;
}

static void
test_range_lock(void)
{
    Contended c = { 0 };
    RangeHold a, b, apart;
    GThread *threads[THREADS];

    range_lock_init(&c.lock);
    range_lock_take(&c.lock, &a, 0, 10, TRUE);
    range_lock_take(&c.lock, &b, 5, 15, TRUE);
    range_lock_take(&c.lock, &apart, 15, 20, FALSE);
    range_lock_drop(&c.lock, &b);
    range_lock_drop(&c.lock, &a);
    range_lock_drop(&c.lock, &apart);

    for (guint i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("turns", take_turns, &c);
    for (guint i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    range_lock_clear(&c.lock);
}

static void
test_backing_paths(void)
{
    static const struct {
        const char *path, *name, *leads_to;
    } rows[] = {
        { "over.qcow2", "base.raw", "base.raw" },
        { "a/over.qcow2", "base.raw", "a/base.raw" },
        { "/a/over.qcow2", "../b.raw", "/a/../b.raw" },
        { "/a/over.qcow2", "/b.raw", "/b.raw" },
        { "over.qcow2", "./a:b.raw", "./a:b.raw" },
        { "/a/over.qcow2", "nbd://h/x", "nbd://h/x" },
        { "nbd://h/x", "base.raw", NULL },
        { "over.qcow2", "json:{}", NULL },
        { "over.qcow2", "file:base.raw", NULL },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *where = image_backing_path(rows[i].path, rows[i].name, &error);

        g_assert_cmpstr(where, ==, rows[i].leads_to);
        if (!where)
            g_assert_error(error, KHO_ERROR, KHO_ERROR_UNSUPPORTED);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/io/writers-of-one-cluster", test_writers_of_one_cluster);
    g_test_add_func("/image/io/past-the-end", test_past_the_end);
    g_test_add_func("/image/io/read-only", test_read_only);
    g_test_add_func("/image/io/range-lock", test_range_lock);
    g_test_add_func("/image/io/backing-paths", test_backing_paths);
    return g_test_run();
}
