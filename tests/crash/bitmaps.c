/* The sweep over persistent bitmaps: whatever a crash leaves, a bitmap that can be believed tells of all that
 * has changed, and changes of the bitmaps themselves are there or not. */
#include "base/num.h"
#include "block/fault.h"
#include "block/record.h"
#include "crash/guest.h"
#include "crash/sweeps.h"
#include "crash/view.h"
#include "qcow2/bitmap_table.h"
#include "qcow2/bitmap_track.h"

#include <string.h>

#define DISK_BYTES (192 * KIB)

/* What there is to be seen of one bitmap; in use: nothing more. */
typedef struct {
    char *name;
    gboolean in_use, is_auto;
    guint granularity_bits;
    GByteArray *bits; /* a byte for each bit */
} SeenBitmap;

typedef struct {
    guint64 guest_bytes;
    guint8 *guest;      /* its contents */
    GPtrArray *bitmaps; /* of SeenBitmap */
} Seen;

static void
seen_bitmap_free(gpointer data)
{
    SeenBitmap *b = data;

    g_free(b->name);
    g_byte_array_unref(b->bits);
    g_free(b);
}

static void
seen_clear(Seen *seen)
{
    g_free(seen->guest);
    g_clear_pointer(&seen->bitmaps, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Seen, seen_clear)

static gboolean
take_bits(gpointer data, guint64 index, guint8 *bits, GError **error)
{
    GByteArray *to = ((gpointer *) data)[0];
    guint64 per_entry = *(guint64 *) ((gpointer *) data)[1];

    for (guint64 i = 0; i < per_entry && index * per_entry + i < to->len; i++)
        to->data[index * per_entry + i] = bits[i / 8] >> (i % 8) & 1;
    return TRUE;
}

static gboolean
look_at_bitmap(Qcow2Image *image, const Qcow2Bitmap *b, SeenBitmap *seen, GError **error)
{
    guint64 n = qcow2_bitmap_bits(image->base.guest_bytes, b->granularity_bits);
    guint64 per_entry = qcow2_bitmap_entry_bits(&image->geo);
    gpointer where[] = { seen->bits, &per_entry };

    *seen = (SeenBitmap){ g_strdup(b->name), (b->flags & QCOW2_BITMAP_IN_USE) != 0,
                          (b->flags & QCOW2_BITMAP_AUTO) != 0, b->granularity_bits, seen->bits };
    if (seen->in_use)
        return TRUE;
    g_byte_array_set_size(seen->bits, (guint) n);
    memset(seen->bits->data, 0, n);
    return qcow2_bitmap_read_locked(image, qcow2_bitmap_table(b), 0, G_MAXUINT64, take_bits, where, error);
}

/* NULL, or what is wrong. */
static char *
look(const guint8 *bytes, gsize len, Seen *seen)
{
    g_autoptr(GError) error = NULL;
    FormatImage *format = qcow2_format.open(view_new(bytes, len, "state"), 0, &error);

    if (!format)
        return g_strdup(error->message);
    Qcow2Image *image = qcow2_image(format);
    seen->guest_bytes = format->guest_bytes;
    seen->guest = g_malloc(format->guest_bytes);
    seen->bitmaps = g_ptr_array_new_with_free_func(seen_bitmap_free);
    gboolean done = guest_read(format, 0, seen->guest, format->guest_bytes, &error)
                    && qcow2_bitmaps_load_locked(image, &error);
    for (guint i = 0; done && image->bitmaps && i < image->bitmaps->list->len; i++) {
        SeenBitmap *b = g_new0(SeenBitmap, 1);
        b->bits = g_byte_array_new();
        g_ptr_array_add(seen->bitmaps, b);
        done = look_at_bitmap(image, image->bitmaps->list->pdata[i], b, &error);
    }
    qcow2_format.close(format, NULL);
    return done ? NULL : g_strdup(error->message);
}

static const SeenBitmap *
find(const Seen *seen, const char *name)
{
    for (guint i = 0; i < seen->bitmaps->len; i++)
        if (g_str_equal(((SeenBitmap *) seen->bitmaps->pdata[i])->name, name))
            return seen->bitmaps->pdata[i];
    return NULL;
}

static gboolean
same(const SeenBitmap *a, const SeenBitmap *b)
{
    return a && b && a->in_use == b->in_use && a->is_auto == b->is_auto
           && a->granularity_bits == b->granularity_bits && a->bits->len == b->bits->len
           && memcmp(a->bits->data, b->bits->data, a->bits->len) == 0;
}

static gboolean
all_same(const Seen *a, const Seen *b)
{
    if (a->guest_bytes != b->guest_bytes || a->bitmaps->len != b->bitmaps->len)
        return FALSE;
    for (guint i = 0; i < a->bitmaps->len; i++) {
        const SeenBitmap *one = a->bitmaps->pdata[i];
        if (!same(one, find(b, one->name)))
            return FALSE;
    }
    return TRUE;
}

/* One operation on an image, and what there was to be seen before and after it. */
typedef struct {
    const char *name;
    gboolean uses; /* in between bitmaps may be in use; else there is the old or the new and nothing else */
    gboolean partial; /* a part of it may have been done, and no more */
    Seen before, after;
} Step;

/* A bitmap that follows the disk tells of each sector that is not what it was. */
static char *
judge_told(const Step *step, const Seen *seen, const SeenBitmap *b)
{
    guint64 bytes = MIN(seen->guest_bytes, step->before.guest_bytes);

    for (guint64 at = 0; at < bytes; at += SECTOR)
        if (!b->bits->data[at >> b->granularity_bits]
            && memcmp(seen->guest + at, step->before.guest + at, SECTOR) != 0)
            return g_strdup_printf("%s: the bitmap calls sector %" G_GUINT64_FORMAT
                                   " clean, which has changed ('%s')",
                                   step->name, at / SECTOR, b->name);
    return NULL;
}

static char *
judge_bitmap(const Step *step, const Seen *seen, const SeenBitmap *b)
{
    const SeenBitmap *before = find(&step->before, b->name), *after = find(&step->after, b->name);

    if (b->in_use)
        return NULL;
    char *wrong = b->is_auto && before && before->is_auto ? judge_told(step, seen, b) : NULL;
    if (wrong || same(b, before) || same(b, after) || (step->uses && step->partial))
        return wrong;
    return g_strdup_printf("%s: bitmap '%s' is neither the old one nor the new one", step->name, b->name);
}

static char *
judge_bitmaps(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data)
{
    const Step *step = data;
    g_auto(Seen) seen = { 0 };
    char *wrong = crash_judge_check(bytes, len);

    if (!wrong)
        wrong = look(bytes, len, &seen);
    for (guint i = 0; !wrong && i < seen.bitmaps->len; i++)
        wrong = judge_bitmap(step, &seen, seen.bitmaps->pdata[i]);
    if (wrong || all_same(&seen, &step->after) || (!durable && all_same(&seen, &step->before)))
        return wrong;
    if (durable || !step->uses)
        return g_strdup_printf("%s: the bitmaps are neither the old ones nor the new ones", step->name);
    return NULL;
}

/* --- what is done --- */

static gboolean
change(FormatImage *image, FormatBitmapAction action, const char *name, const char *source, GError **error)
{
    const FormatBitmapChange one = {
        .action = action, .name = name, .granularity_bytes = 1024, .source_name = source
    };

    return image->ops->bitmap(image, &one, error);
}

static gboolean
write_data(FormatImage *image, GError **error)
{
    guint8 sectors[6 * SECTOR];

    for (guint64 i = 0; i < 6; i++)
        guest_sector_fill(sectors + i * SECTOR, 100 + i);
    return guest_write(image, 4 * SECTOR, sectors, 2 * SECTOR, error)
           && guest_write(image, 100 * SECTOR, sectors + 2 * SECTOR, 3 * SECTOR, error)
           && image->ops->flush(image, error) && guest_zero(image, 40 * SECTOR, 9 * SECTOR, error)
           && image->ops->flush(image, error)
           && guest_write(image, 250 * SECTOR, sectors + 5 * SECTOR, SECTOR, error);
}

static gboolean
grow(FormatImage *image, GError **error)
{
    return image->ops->resize(image, 3 * DISK_BYTES, FALSE, NULL, error);
}

static gboolean
write_and_shrink(FormatImage *image, GError **error)
{
    return write_data(image, error) && image->ops->resize(image, DISK_BYTES - 32 * KIB, TRUE, NULL, error)
           && image->ops->resize(image, DISK_BYTES, FALSE, NULL, error);
}

static gboolean
add_one(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_ADD, "a new one", NULL, error);
}

static gboolean
remove_one(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_REMOVE, "off", NULL, error);
}

static gboolean
remove_another(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_REMOVE, "coarse", NULL, error);
}

static gboolean
remove_new(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_REMOVE, "a new one", NULL, error);
}

static gboolean
remove_last(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_REMOVE, "fine", NULL, error);
}

static gboolean
clear(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_CLEAR, "fine", NULL, error);
}

static gboolean
merge(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_MERGE, "off", "fine", error);
}

static gboolean
enable(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_ENABLE, "off", NULL, error);
}

static gboolean
disable(FormatImage *image, GError **error)
{
    return change(image, FORMAT_BITMAP_DISABLE, "off", NULL, error);
}

/* In this order: each begins with what the one before left. */
static const struct {
    const char *name;
    gboolean (*run)(FormatImage *image, GError **error);
    gboolean uses;
} deeds[] = {
    { "write", write_data, TRUE },
    { "merge", merge, FALSE },
    { "enable", enable, FALSE },
    { "grow", grow, TRUE },
    { "disable", disable, FALSE },
    { "clear", clear, FALSE },
    { "write and shrink", write_and_shrink, TRUE },
    { "add", add_one, FALSE },
    { "remove", remove_one, FALSE },
    { "remove another", remove_another, FALSE },
    { "write once more", write_data, TRUE },
    { "remove a third", remove_new, FALSE },
    { "remove the last", remove_last, FALSE },
};

static void
see(BlkStore *mem, Seen *seen)
{
    g_autoptr(GBytes) bytes = blk_mem_snapshot(mem);
    gsize len;
    const guint8 *data = g_bytes_get_data(bytes, &len);
    g_autofree char *wrong = look(data, len, seen);

    g_assert_cmpstr(wrong, ==, NULL);
}

static void
run_step(BlkStore *mem, const char *name, gboolean (*run)(FormatImage *image, GError **error), gboolean uses,
         const CrashOptions *options, CrashReport *report)
{
    g_autoptr(GPtrArray) log = blk_record_log_new();
    g_autoptr(GBytes) base = blk_mem_snapshot(mem);
    Step step = { .name = name, .uses = uses };
    CrashOptions replaying = *options;
    g_autoptr(GError) error = NULL;

    see(mem, &step.before);
    FormatImage *image = qcow2_format.open(blk_record_new(mem, log), FORMAT_WRITABLE, &error);
    g_assert_no_error(error);
    run(image, &error);
    g_assert_no_error(error);
    g_assert_true(qcow2_format.close(image, &error));
    see(mem, &step.after);
    replaying.judge = judge_bitmaps;
    replaying.judge_data = &step;
    crash_replay(base, log, NULL, &replaying, report);
    seen_clear(&step.before);
    seen_clear(&step.after);
}

static void
prepare(BlkStore *mem, const Qcow2CreateOptions *create)
{
    static const struct {
        const char *name;
        guint64 granularity_bytes;
        gboolean disabled;
    } bitmaps[] = { { "fine", 512, FALSE }, { "off", 4096, TRUE }, { "coarse", 16384, FALSE } };
    g_autoptr(GPtrArray) log = blk_record_log_new(); /* nobody looks at it */
    g_autoptr(GError) error = NULL;
    guint8 sector[SECTOR];

    g_assert_true(qcow2_create(mem, create, &error));
    FormatImage *image = qcow2_format.open(blk_record_new(mem, log), FORMAT_WRITABLE, &error);
    g_assert_no_error(error);
    for (gsize i = 0; i < G_N_ELEMENTS(bitmaps); i++) {
        const FormatBitmapChange one = { .action = FORMAT_BITMAP_ADD,
                                         .name = bitmaps[i].name,
                                         .granularity_bytes = bitmaps[i].granularity_bytes,
                                         .disabled = bitmaps[i].disabled };
        image->ops->bitmap(image, &one, &error);
        g_assert_no_error(error);
    }
    guest_sector_fill(sector, 1);
    for (guint64 i = 0; i < 12; i++)
        g_assert_true(guest_write(image, i * 9 * KIB, sector, SECTOR, &error));
    g_assert_true(qcow2_format.close(image, &error));
}

static const Qcow2CreateOptions shapes[] = {
    { .guest_bytes = DISK_BYTES, .cluster_bytes = 512 },
    { .guest_bytes = DISK_BYTES, .cluster_bytes = 4096, .lazy_refcounts = TRUE },
    { .guest_bytes = DISK_BYTES, .cluster_bytes = 16384, .extended_l2 = TRUE },
};

void
sweep_bitmaps(const CrashOptions *options, CrashReport *report)
{
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "bitmaps");
        mem->writable = TRUE;
        prepare(mem, &shapes[i]);
        for (gsize j = 0; j < G_N_ELEMENTS(deeds); j++) {
            if (options->stop_at_first && report->violations > 0)
                return;
            run_step(mem, deeds[j].name, deeds[j].run, deeds[j].uses, options, report);
        }
    }
}

/* --- failing stores --- */

/* The n-th write or flush of one deed fails: what is left is judged, and whether the failure was told. FALSE
 * where there was no n-th. */
static gboolean
fail_once(GBytes *base, Step *step, gboolean (*run)(FormatImage *image, GError **error), FaultKind kind,
          guint64 n, gboolean for_ever)
{
    gsize len;
    gconstpointer data = g_bytes_get_data(base, &len);
    g_autoptr(BlkStore) mem = blk_mem_new(data, len, "faulty");
    BlkStore *fault;

    mem->writable = TRUE;
    fault = blk_fault_new(mem, kind, n, for_ever);
    FormatImage *image = qcow2_format.open(fault, FORMAT_WRITABLE, NULL);
    g_assert_nonnull(image);
    gboolean done = run(image, NULL);
    guint64 faults = blk_fault_counts(fault).faults; /* the store goes when the image is closed */
    done = qcow2_format.close(image, NULL) && done;
    g_autoptr(GBytes) left = blk_mem_snapshot(mem);
    data = g_bytes_get_data(left, &len);
    step->partial = !done;
    g_autofree char *wrong = judge_bitmaps(data, len, done, FALSE, step);
    if (wrong)
        g_test_message("fault %" G_GUINT64_FORMAT ", %s: %s", n, done ? "not told" : "told", wrong);
    g_assert_null(wrong);
    return !done || faults > 0;
}

void
fault_bitmaps(FaultKind kind, gboolean for_ever)
{
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autoptr(BlkStore) mem = blk_mem_new(NULL, 0, "bitmaps");
        mem->writable = TRUE;
        prepare(mem, &shapes[i]);
        for (gsize j = 0; j < G_N_ELEMENTS(deeds); j++) {
            g_autoptr(GBytes) base = blk_mem_snapshot(mem);
            g_autoptr(GPtrArray) log = blk_record_log_new();
            Step step = { .name = deeds[j].name, .uses = deeds[j].uses };
            see(mem, &step.before);
            FormatImage *image = qcow2_format.open(blk_record_new(mem, log), FORMAT_WRITABLE, NULL);
            g_assert_true(deeds[j].run(image, NULL));
            g_assert_true(qcow2_format.close(image, NULL));
            see(mem, &step.after);
            guint64 n = 1;
            while (fail_once(base, &step, deeds[j].run, kind, n, for_ever))
                n++;
            g_assert_cmpuint(n, >, 1);
            seen_clear(&step.before);
            seen_clear(&step.after);
        }
    }
}
