/* Rules held: a copy reads like its source whatever the cluster sizes and the number of workers; zeros take
 * no space; many workers leave no more fragments than one; the first error ends it and is the one told; a
 * cancel ends it; progress comes from the calling thread. */
#include "image/copy.h"

#include "base/num.h"
#include "block/fault.h"
#include "image/test_images.h"

#include <string.h>

#define DISK_BYTES (5 * MIB + 512)

/* Data in odd places, zeros within data, and a long stretch that was never written. */
static void
scribble(KhoImage *image, guint8 *model)
{
    static const struct {
        guint64 off, len;
        guint8 byte;
    } writes[] = {
        { 0, 1, 1 },        { 4095, 70000, 2 },     { 20000, 9000, 0 },
        { MIB - 7, 14, 3 }, { 4 * MIB, 600000, 4 }, { DISK_BYTES - 3, 3, 5 },
    };
    g_autoptr(GError) error = NULL;

    memset(model, 0, DISK_BYTES);
    for (gsize i = 0; i < G_N_ELEMENTS(writes); i++) {
        memset(model + writes[i].off, writes[i].byte, writes[i].len);
        g_assert_true(kho_image_write(image, writes[i].off, model + writes[i].off, writes[i].len, &error));
    }
}

static KhoImage *
new_full_raw(void)
{
    g_autofree guint8 *data = g_malloc(DISK_BYTES);
    KhoImage *image = test_new_raw(DISK_BYTES);

    memset(data, 7, DISK_BYTES);
    g_assert_true(kho_image_write(image, 0, data, DISK_BYTES, NULL));
    return image;
}

static void
test_reads_alike(void)
{
    static const guint32 clusters[] = { 0, 512, 65536, 2097152 };
    g_autofree guint8 *model = g_malloc(DISK_BYTES);

    for (gsize s = 0; s < G_N_ELEMENTS(clusters); s++)
        for (gsize t = 0; t < G_N_ELEMENTS(clusters); t++)
            for (guint workers = 1; workers <= 4; workers += 3) {
                g_autoptr(KhoImage) source =
                    clusters[s] ? test_new_qcow2(DISK_BYTES, clusters[s]) : test_new_raw(DISK_BYTES);
                g_autoptr(KhoImage) target =
                    clusters[t] ? test_new_qcow2(DISK_BYTES, clusters[t]) : test_new_raw(DISK_BYTES);
                CopyPlan plan = { .source = source,
                                  .target = target,
                                  .bytes = DISK_BYTES,
                                  .workers = workers,
                                  .target_is_zero = TRUE };
                g_autoptr(GError) error = NULL;

                scribble(source, model);
                g_assert_true(image_copy(&plan, &error));
                test_reads(target, model, DISK_BYTES);
            }
}

/* Compressed clusters, whoever packed them, in the guest's order. */
static void
test_compressed(void)
{
    static const guint32 clusters[] = { 4096, 65536, 2097152 };
    g_autofree guint8 *model = g_malloc(DISK_BYTES);
    KhoMapEntry entry;

    for (gsize c = 0; c < G_N_ELEMENTS(clusters); c++)
        for (guint workers = 1; workers <= 4; workers += 3) {
            g_autoptr(KhoImage) source = test_new_raw(DISK_BYTES);
            g_autoptr(KhoImage) target = test_new_qcow2(DISK_BYTES, clusters[c]);
            CopyPlan plan = { .source = source,
                              .target = target,
                              .bytes = DISK_BYTES,
                              .workers = workers,
                              .target_is_zero = TRUE,
                              .compress = TRUE };
            g_autoptr(GError) error = NULL;

            scribble(source, model);
            g_assert_true(image_copy(&plan, &error));
            test_reads(target, model, DISK_BYTES);
            g_assert_true(kho_image_map(target, 0, DISK_BYTES, &entry, &error));
            g_assert_cmpint(entry.kind, ==, KHO_MAP_COMPRESSED);
        }
}

/* The zeros in the middle of the data, and what was never written, are holes of the target. */
static void
test_zeros_take_no_space(void)
{
    g_autofree guint8 *model = g_malloc(DISK_BYTES);
    g_autoptr(KhoImage) source = test_new_raw(DISK_BYTES);
    g_autoptr(KhoImage) target = test_new_qcow2(DISK_BYTES, 4096);
    CopyPlan plan = { .source = source, .target = target, .bytes = DISK_BYTES, .target_is_zero = TRUE };
    g_autoptr(GError) error = NULL;
    KhoMapEntry entry;

    scribble(source, model);
    g_assert_true(image_copy(&plan, &error));
    g_assert_true(kho_image_map(target, 20480, 4096, &entry, &error));
    g_assert_cmpint(entry.kind, ==, KHO_MAP_HOLE);
    g_assert_true(kho_image_map(target, 2 * MIB, MIB, &entry, &error));
    g_assert_cmpint(entry.kind, ==, KHO_MAP_HOLE);
    g_assert_cmpuint(entry.length_bytes, ==, MIB);
}

/* Clusters lie in the file as they do in the disk, whichever worker was quicker. */
static void
test_keeps_order(void)
{
    g_autoptr(KhoImage) source = new_full_raw();
    g_autoptr(GError) error = NULL;
    KhoMapEntry entry;

    for (guint round = 0; round < 20; round++) {
        g_autoptr(KhoImage) target = test_new_qcow2(DISK_BYTES, 65536);
        CopyPlan plan = {
            .source = source, .target = target, .bytes = DISK_BYTES, .workers = 8, .target_is_zero = TRUE
        };
        guint64 last = 0;

        g_assert_true(image_copy(&plan, &error));
        for (guint64 at = 0; at < DISK_BYTES; at += entry.length_bytes) {
            g_assert_true(kho_image_map(target, at, DISK_BYTES - at, &entry, &error));
            g_assert_cmpuint(entry.host_offset_bytes, >, last);
            last = entry.host_offset_bytes;
        }
    }
}

/* A part of a disk goes to another place, over what stood there. */
static void
test_over_old_data(void)
{
    g_autofree guint8 *model = g_malloc(DISK_BYTES), *old = g_malloc(DISK_BYTES);
    g_autoptr(KhoImage) source = test_new_qcow2(DISK_BYTES, 4096);
    g_autoptr(KhoImage) target = test_new_qcow2(DISK_BYTES, 65536);
    CopyPlan plan = {
        .source = source, .target = target, .source_off = 8192, .target_off = MIB, .bytes = 3 * MIB
    };
    g_autoptr(GError) error = NULL;

    scribble(source, model);
    memset(old, 9, DISK_BYTES);
    g_assert_true(kho_image_write(target, 0, old, DISK_BYTES, &error));
    g_assert_true(image_copy(&plan, &error));
    memcpy(old + MIB, model + 8192, 3 * MIB);
    test_reads(target, old, DISK_BYTES);
}

static void
test_only_changes(void)
{
    g_autofree guint8 *model = g_malloc(DISK_BYTES);
    g_autoptr(KhoImage) source = test_new_raw(DISK_BYTES);
    g_autoptr(KhoImage) target = test_new_qcow2(DISK_BYTES, 65536);
    CopyPlan plan = { .source = source, .target = target, .bytes = DISK_BYTES, .only_changes = TRUE };
    g_autoptr(GError) error = NULL;
    KhoMapEntry entry;

    target->backing = test_new_raw(DISK_BYTES);
    target->backing->depth = 1;
    scribble(source, model);
    scribble(target->backing, model);
    model[3 * MIB + 5] = 77;
    g_assert_true(kho_image_write(source, 3 * MIB + 5, model + 3 * MIB + 5, 1, &error));
    model[4 * MIB] = 0;
    g_assert_true(kho_image_write(source, 4 * MIB, model + 4 * MIB, 1, &error));
    g_assert_true(image_copy(&plan, &error));
    test_reads(target, model, DISK_BYTES);

    guint64 own_bytes = 0;
    for (guint64 at = 0; at < DISK_BYTES; at += entry.length_bytes) {
        g_assert_true(kho_image_map(target, at, DISK_BYTES - at, &entry, &error));
        own_bytes += entry.depth == 0 && entry.kind == KHO_MAP_DATA ? entry.length_bytes : 0;
    }
    g_assert_cmpuint(own_bytes, ==, 2 * 65536);
}

/* Whoever waits for the turn of a chunk that failed is not left waiting. */
static void
test_first_error(void)
{
    g_autoptr(KhoImage) source = new_full_raw();
    g_autoptr(GError) error = NULL;

    for (guint64 n = 2; n < 12; n++) {
        BlkStore *files[] = { blk_mem_new(NULL, 0, "raw"), blk_mem_new(NULL, 0, "qcow2") };
        const Qcow2CreateOptions options = { .guest_bytes = DISK_BYTES, .unpublished = TRUE };

        g_assert_true(blk_truncate(files[0], DISK_BYTES, &error) && qcow2_create(files[1], &options, &error));
        for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
            g_autoptr(BlkStore) below = files[i];
            g_autoptr(KhoImage) target =
                test_over(blk_fault_new(below, FAULT_NTH_WRITE, n, TRUE),
                          i == 0 ? &raw_format : &qcow2_format, FORMAT_WRITABLE | FORMAT_UNPUBLISHED);
            CopyPlan plan = {
                .source = source, .target = target, .bytes = DISK_BYTES, .workers = 4, .target_is_zero = TRUE
            };

            g_assert_false(image_copy(&plan, &error));
            g_assert_error(error, KHO_ERROR, KHO_ERROR_IO);
            g_clear_error(&error);
        }
    }
}

typedef struct {
    GThread *thread;
    guint64 last;
    guint calls;
    gint cancel;
} Seen;

static void
see(guint64 done_bytes, guint64 total_bytes, gpointer data)
{
    Seen *seen = data;

    g_assert_true(g_thread_self() == seen->thread);
    g_assert_cmpuint(done_bytes, >=, seen->last);
    g_assert_cmpuint(total_bytes, ==, DISK_BYTES);
    seen->last = done_bytes;
    seen->calls++;
}

static void
test_progress_and_cancel(void)
{
    g_autoptr(KhoImage) source = test_new_raw(DISK_BYTES);
    g_autoptr(KhoImage) target = test_new_raw(DISK_BYTES);
    Seen seen = { .thread = g_thread_self() };
    const KhoJob job = { .progress = see, .data = &seen, .cancelled = &seen.cancel };
    CopyPlan plan = { .source = source, .target = target, .bytes = DISK_BYTES, .job = &job };
    g_autoptr(GError) error = NULL;

    g_assert_true(image_copy(&plan, &error));
    g_assert_cmpuint(seen.last, ==, DISK_BYTES);
    g_assert_cmpuint(seen.calls, >=, 1);

    seen.last = 0; /* the next copy begins anew */
    seen.cancel = 1;
    g_assert_false(image_copy(&plan, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
}

static void
test_is_zero(void)
{
    guint8 bytes[100] = { 0 };

    for (gsize len = 0; len <= sizeof bytes; len++)
        g_assert_true(copy_is_zero(bytes, len));
    for (gsize at = 0; at < sizeof bytes; at++) {
        bytes[at] = 1;
        for (gsize len = 0; len <= sizeof bytes; len++)
            g_assert_cmpint(copy_is_zero(bytes, len), ==, len <= at);
        bytes[at] = 0;
    }
}

static void
test_buffers(void)
{
    for (gsize bytes = 1; bytes <= 4 * MIB; bytes *= 4) {
        guint8 *buffer = copy_buffer(bytes);
        g_assert_cmpuint((guintptr) buffer % COPY_BUFFER_ALIGN_BYTES, ==, 0);
        g_aligned_free(buffer);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/copy/reads-alike", test_reads_alike);
    g_test_add_func("/image/copy/compressed", test_compressed);
    g_test_add_func("/image/copy/zeros-take-no-space", test_zeros_take_no_space);
    g_test_add_func("/image/copy/keeps-order", test_keeps_order);
    g_test_add_func("/image/copy/over-old-data", test_over_old_data);
    g_test_add_func("/image/copy/only-changes", test_only_changes);
    g_test_add_func("/image/copy/first-error", test_first_error);
    g_test_add_func("/image/copy/progress-and-cancel", test_progress_and_cancel);
    g_test_add_func("/image/copy/is-zero", test_is_zero);
    g_test_add_func("/image/copy/buffers", test_buffers);
    return g_test_run();
}
