/* Rules held: what can be shared is, in rows as long as the source's files have them, whatever the guest's
 * order; what lay elsewhere in the target gives its clusters back; a piece that stands alone stays where it
 * is; where nothing can be shared, and where that ends in an error, all is as without. */
#include "base/num.h"
#include "block/fault.h"
#include "image/copy.h"
#include "image/test_images.h"

#include <string.h>

#define CLUSTER    4096
#define CLUSTERS   2048
#define DISK_BYTES ((guint64) CLUSTER * CLUSTERS)

/* A store that counts what is changed in it, over memory that can share or not. */
typedef struct {
    BlkStore *mem, *counting;
    KhoImage *image;
} Target;

static Target
target_new(gboolean is_raw, gboolean shares, guint64 fail_at)
{
    const Qcow2CreateOptions options = { .guest_bytes = DISK_BYTES, .cluster_bytes = CLUSTER };
    Target target = { .mem = blk_mem_new(NULL, 0, "target") };
    g_autoptr(GError) error = NULL;

    g_assert_true(is_raw ? blk_truncate(target.mem, DISK_BYTES, &error)
                         : qcow2_create(target.mem, &options, &error));
    if (shares)
        blk_mem_share(target.mem);
    target.counting = blk_fault_new(target.mem, fail_at ? FAULT_NTH_WRITE : FAULT_NONE, fail_at, TRUE);
    target.image = test_over(target.counting, is_raw ? &raw_format : &qcow2_format, FORMAT_WRITABLE);
    return target;
}

static void
target_clear(Target *target)
{
    g_clear_pointer(&target->image, kho_image_free);
    g_clear_pointer(&target->mem, blk_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Target, target_clear)

static void
put_cluster(KhoImage *image, guint64 number, guint8 byte)
{
    guint8 bytes[CLUSTER];

    memset(bytes, byte, sizeof bytes);
    g_assert_true(kho_image_write(image, number * CLUSTER, bytes, CLUSTER, NULL));
}

/* Every second cluster of the disk or so, in an order that is not the disk's. */
static KhoImage *
new_scattered(guint8 *model)
{
    const Qcow2CreateOptions options = { .guest_bytes = DISK_BYTES, .cluster_bytes = CLUSTER };
    BlkStore *store = blk_mem_new(NULL, 0, "source");

    g_assert_true(qcow2_create(store, &options, NULL));
    KhoImage *image = test_over(store, &qcow2_format, FORMAT_WRITABLE);
    for (guint64 i = 0; i < CLUSTERS / 2; i++) {
        guint64 number = i * 1021 % CLUSTERS;
        put_cluster(image, number, (guint8) (1 + i % 255));
        memset(model + number * CLUSTER, (int) (1 + i % 255), CLUSTER);
    }
    g_assert_true(kho_image_flush(image, NULL));
    return image;
}

static void
assert_sound(Target *target)
{
    FormatCheck check = { 0 };

    g_assert_true(kho_image_flush(target->image, NULL));
    g_assert_true(format_check(target->image->format, FORMAT_REPAIR_NONE, &check, NULL));
    g_assert_cmpuint(check.corruptions, ==, 0);
    g_assert_cmpuint(check.leaks, ==, 0);
    g_clear_pointer(&check.messages, g_ptr_array_unref);
}

static guint64
host_of(KhoImage *image, guint64 number)
{
    KhoMapEntry entry;

    g_assert_true(kho_image_map(image, number * CLUSTER, CLUSTER, &entry, NULL));
    g_assert_true(entry.has_offset);
    return entry.host_offset_bytes;
}

/* Over data of the target's own in a third of its clusters. */
static guint64
copy_over(KhoImage *source, Target *target, guint8 *model)
{
    const CopyPlan plan = {
        .source = source, .target = target->image, .bytes = DISK_BYTES, .what = COPY_OWN, .through = source
    };
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *below = g_malloc0(DISK_BYTES);

    for (guint64 i = 0; i < CLUSTERS; i += 3) {
        put_cluster(target->image, i, 0xee);
        memset(below + i * CLUSTER, 0xee, CLUSTER);
    }
    g_assert_true(kho_image_flush(target->image, NULL));
    guint64 before = blk_fault_counts(target->counting).writes;
    g_assert_true(image_copy(&plan, &error));
    for (guint64 i = 0; i < CLUSTERS; i++)
        if (model[i * CLUSTER] == 0)
            memcpy(model + i * CLUSTER, below + i * CLUSTER, CLUSTER);
    return blk_fault_counts(target->counting).writes - before;
}

static void
test_in_rows(void)
{
    g_autofree guint8 *model = g_malloc0(DISK_BYTES);
    g_autoptr(KhoImage) source = new_scattered(model);
    g_auto(Target) target = target_new(FALSE, TRUE, 0);

    g_assert_cmpuint(copy_over(source, &target, model), <, 64);
    test_reads(target.image, model, DISK_BYTES);
    assert_sound(&target);
    test_reads(target.image, model, DISK_BYTES);
    guint rows = 0;
    for (guint64 i = 1; i < CLUSTERS / 2; i++)
        rows += host_of(target.image, i * 1021 % CLUSTERS)
                != host_of(target.image, (i - 1) * 1021 % CLUSTERS) + CLUSTER;
    g_assert_cmpuint(rows, <, 16);
}

static void
test_into_raw(void)
{
    g_autofree guint8 *model = g_malloc0(DISK_BYTES);
    g_autoptr(KhoImage) source = new_scattered(model);
    g_auto(Target) target = target_new(TRUE, TRUE, 0);

    g_assert_cmpuint(copy_over(source, &target, model), <=, CLUSTERS / 2);
    test_reads(target.image, model, DISK_BYTES);
}

static void
test_cannot(void)
{
    g_autofree guint8 *model = g_malloc0(DISK_BYTES);
    g_autoptr(KhoImage) source = new_scattered(model);
    g_auto(Target) target = target_new(FALSE, FALSE, 0);

    copy_over(source, &target, model);
    test_reads(target.image, model, DISK_BYTES);
    assert_sound(&target);
}

/* Nothing in the source lies beside it: what there is in the target is written over. */
static void
test_alone(void)
{
    const Qcow2CreateOptions options = { .guest_bytes = DISK_BYTES, .cluster_bytes = CLUSTER };
    BlkStore *store = blk_mem_new(NULL, 0, "source");
    g_autoptr(GError) error = NULL;
    g_assert_true(qcow2_create(store, &options, &error));
    g_autoptr(KhoImage) source = test_over(store, &qcow2_format, FORMAT_WRITABLE);
    g_auto(Target) target = target_new(FALSE, TRUE, 0);
    const CopyPlan plan = {
        .source = source, .target = target.image, .bytes = DISK_BYTES, .what = COPY_OWN, .through = source
    };
    g_autofree guint8 *model = g_malloc0(DISK_BYTES);

    put_cluster(source, 700, 1);
    put_cluster(target.image, 700, 2);
    memset(model + 700 * CLUSTER, 1, CLUSTER);
    guint64 host = host_of(target.image, 700);
    g_assert_true(image_copy(&plan, &error));
    g_assert_cmpuint(host_of(target.image, 700), ==, host);
    test_reads(target.image, model, DISK_BYTES);
    assert_sound(&target);
}

/* The n-th change fails and all after it: the copy says so, and nothing is held that would keep it waiting.
 */
static void
test_fails(void)
{
    for (guint64 n = 1; n < 40; n++) {
        g_autofree guint8 *model = g_malloc0(DISK_BYTES);
        g_autoptr(KhoImage) source = new_scattered(model);
        g_auto(Target) target = target_new(FALSE, TRUE, n);
        const CopyPlan plan = { .source = source, .target = target.image, .bytes = DISK_BYTES };
        g_autoptr(GError) error = NULL;
        gboolean done = image_copy(&plan, &error) && kho_image_flush(target.image, &error);

        g_assert_true(done == (blk_fault_counts(target.counting).faults == 0));
        g_assert_true(done == (error == NULL));
        if (done)
            test_reads(target.image, model, DISK_BYTES);
        g_assert_true(kho_image_close(g_steal_pointer(&target.image), NULL) == done);
    }
}

#define LARGE_BYTES ((guint64) 128 << 10)

/* A cluster of the target that has space and holds data in one of its subclusters: it takes several places.
 */
static void
test_subclusters(void)
{
    const Qcow2CreateOptions whole = { .guest_bytes = 16 * LARGE_BYTES, .cluster_bytes = LARGE_BYTES };
    const Qcow2CreateOptions parts = { .guest_bytes = 16 * LARGE_BYTES,
                                       .cluster_bytes = LARGE_BYTES,
                                       .extended_l2 = TRUE };
    BlkStore *from = blk_mem_new(NULL, 0, "source"), *to = blk_mem_new(NULL, 0, "target");
    g_autofree guint8 *bytes = g_malloc(LARGE_BYTES), *got = g_malloc(LARGE_BYTES);
    g_autoptr(GError) error = NULL;

    g_assert_true(qcow2_create(from, &whole, &error));
    g_assert_true(qcow2_create(to, &parts, &error));
    blk_mem_share(to);
    g_autoptr(KhoImage) source = test_over(from, &qcow2_format, FORMAT_WRITABLE),
                        target = test_over(to, &qcow2_format, FORMAT_WRITABLE);
    for (guint64 i = 0; i < 8; i++) { /* scattered, and in one row in the file */
        memset(bytes, (int) i + 1, LARGE_BYTES);
        g_assert_true(kho_image_write(source, i * 5 % 8 * LARGE_BYTES, bytes, LARGE_BYTES, &error));
    }
    for (guint64 i = 0; i < 8; i += 3) {
        memset(bytes, 0xee, 4096);
        g_assert_true(kho_image_write(target, i * LARGE_BYTES + 4096 * (1 + i), bytes, 4096, &error));
    }
    g_assert_true(kho_image_flush(source, &error) && kho_image_flush(target, &error));
    const CopyPlan plan = {
        .source = source, .target = target, .bytes = 16 * LARGE_BYTES, .what = COPY_OWN, .through = source
    };
    g_assert_true(image_copy(&plan, &error));
    for (guint64 i = 0; i < 16; i++) {
        g_assert_true(kho_image_read(source, i * LARGE_BYTES, bytes, LARGE_BYTES, &error));
        g_assert_true(kho_image_read(target, i * LARGE_BYTES, got, LARGE_BYTES, &error));
        g_assert_cmpmem(got, LARGE_BYTES, bytes, LARGE_BYTES);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/share/in-rows", test_in_rows);
    g_test_add_func("/image/share/into-raw", test_into_raw);
    g_test_add_func("/image/share/cannot", test_cannot);
    g_test_add_func("/image/share/alone", test_alone);
    g_test_add_func("/image/share/fails", test_fails);
    g_test_add_func("/image/share/subclusters", test_subclusters);
    return g_test_run();
}
