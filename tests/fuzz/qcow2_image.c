/* A whole qcow2 image that nobody has checked: opened, described, mapped, inflated, checked, written to,
 * repaired. Where check finds nothing wrong, everything must work, and still nothing be wrong afterwards. */
#include "base/error.h"
#include "base/num.h"
#include "block/format.h"
#include "image/format.h"
#include "qcow2/check.h"
#include "qcow2/qcow2.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A small file may name the same tables any number of times: what one step reads and writes is limited. */
#define READ_BYTES_MAX (32 * MIB)
#define FILE_BYTES_MAX (8 * MIB)
#define RUNS_MAX       500

typedef struct {
    BlkStore store;
    BlkStore *mem;
    gboolean owns_mem;
    guint64 left; /* bytes that may still be read */
} Budget;

static gboolean
budget_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    Budget *budget = (Budget *) store;

    if (len > budget->left)
        return fail(error, KHO_ERROR_IO, "enough was read");
    budget->left -= len;
    return blk_pread_upto(budget->mem, off, buf, len, got, error);
}

static gboolean
budget_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    if (off + len > FILE_BYTES_MAX)
        return fail(error, KHO_ERROR_NO_SPACE, "the file is large enough");
    return blk_pwrite(((Budget *) store)->mem, off, buf, len, error);
}

static gboolean
budget_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    if (bytes > FILE_BYTES_MAX)
        return fail(error, KHO_ERROR_NO_SPACE, "the file is large enough");
    return blk_truncate(((Budget *) store)->mem, bytes, error);
}

static gboolean
budget_flush(BlkStore *store, GError **error)
{
    return TRUE;
}

static gboolean
budget_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(((Budget *) store)->mem, bytes, error);
}

static void
budget_free(BlkStore *store)
{
    Budget *budget = (Budget *) store;

    if (budget->owns_mem)
        blk_free(budget->mem);
    g_free(store);
}

static const BlkOps budget_ops = {
    .name = "budget",
    .pread = budget_pread,
    .pwrite = budget_pwrite,
    .truncate = budget_truncate,
    .flush = budget_flush,
    .size = budget_size,
    .free = budget_free,
};

static BlkStore *
budget_new(BlkStore *mem)
{
    Budget *budget = g_new0(Budget, 1);

    budget->store = (BlkStore){ .ops = &budget_ops, .label = g_strdup("image"), .writable = TRUE };
    budget->mem = mem;
    budget->left = READ_BYTES_MAX;
    return &budget->store;
}

/* NULL where it does not open. The image frees its budget, never @mem. */
static FormatImage *
open_image(BlkStore *mem, FormatFlags flags)
{
    BlkStore *budget = budget_new(mem);
    g_autoptr(GError) error = NULL;
    FormatImage *image = qcow2_format.open(budget, flags, &error);

    g_assert_true((image == NULL) == (error != NULL));
    if (!image)
        blk_free(budget);
    else if (!image->data) {
        BlkStore *data = budget_new(blk_mem_new(NULL, 0, "data"));
        ((Budget *) data)->owns_mem = TRUE;
        image->ops->set_data(image, data);
    }
    return image;
}

/* TRUE where the check ran whole and found nothing at all. */
static gboolean
is_sound(BlkStore *mem)
{
    g_autoptr(BlkStore) budget = budget_new(mem);
    FormatCheck found = { 0 };

    return qcow2_check_file(budget, &found, NULL, NULL) && found.corruptions + found.check_errors == 0;
}

static void
read_run(FormatImage *image, guint64 at, const Run *run)
{
    guint8 buf[4096];
    gsize n = (gsize) MIN(run->bytes, sizeof buf);

    if (run->kind == RUN_COMPRESSED)
        image->ops->inflate(image, guest_off(at), buf, n, NULL);
    else if (run->kind == RUN_DATA)
        blk_pread_padded(image->data, run->host.bytes, buf, n, NULL);
}

static void
map_all(FormatImage *image, gboolean must_work)
{
    guint64 at = 0;

    for (guint i = 0; at < image->guest_bytes && i < RUNS_MAX; i++) {
        guint64 left = image->guest_bytes - at;
        Run run = { .bytes = G_MAXUINT64 };
        g_autoptr(GError) error = NULL;
        if (!image->ops->map(image, guest_off(at), left, &run, &error)) {
            g_assert_nonnull(error);
            if (must_work && ((Budget *) image->file)->left > 4 * MIB)
                g_error("a sound image does not map: %s", error->message);
            at += 64 * KIB; /* what follows may be readable */
            continue;
        }
        g_assert_cmpuint(run.bytes, >, 0);
        g_assert_cmpuint(run.bytes, <=, left);
        read_run(image, at, &run);
        at += run.bytes;
    }
}

static guint
describe(FormatImage *image)
{
    FormatInfo info = { 0 };
    g_autoptr(GError) error = NULL;

    if (!image->ops->info(image, &info, &error)) {
        g_assert_nonnull(error);
        return 0;
    }
    guint snapshots = info.snapshots->len;
    /* Any passphrase opens the old method; the derivations of LUKS take their time, and have a harness of
     * their own. */
    if (info.encrypted && !info.luks)
        g_assert_true(image->ops->unlock(image, "pass", 4, NULL));
    format_info_clear(&info);
    return snapshots;
}

static void
look(BlkStore *mem, gboolean sound)
{
    FormatImage *image = open_image(mem, 0);
    if (!image)
        return;
    guint snapshots = describe(image);
    map_all(image, sound);
    for (guint i = 0; i < MIN(snapshots, 4); i++) {
        FormatImage *view = qcow2_snapshot_open_view(image, i, NULL);
        if (!view)
            continue;
        map_all(view, FALSE);
        view->ops->close(view, NULL);
    }
    image->ops->close(image, NULL);
}

static void
write_at(FormatImage *image, guint64 at)
{
    Place place;
    guint8 sector[512] = { 1 };

    if (!image->ops->prepare(image, guest_off(at), 512, &place, NULL))
        return;
    g_assert_true(place.at.bytes <= at && at < place.at.bytes + place.bytes);
    if (!blk_pwrite(image->data, place.host.bytes, sector, MIN(sizeof sector, place.bytes), NULL)
        || !image->ops->commit(image, &place, NULL))
        image->ops->abandon(image, &place);
}

/* A bitmap that tells what all the others tell; then they go. */
static void
change_bitmaps(FormatImage *image)
{
    FormatBitmapChange sum = { .action = FORMAT_BITMAP_ADD, .name = "fuzz", .granularity_bytes = 512 };
    FormatInfo info = { 0 };

    if (!image->ops->info(image, &info, NULL))
        return;
    image->ops->bitmap(image, &sum, NULL);
    for (guint i = 0; info.bitmaps && i < MIN(info.bitmaps->len, 4); i++) {
        const FormatBitmap *bitmap = info.bitmaps->pdata[i];
        sum.action = FORMAT_BITMAP_MERGE;
        sum.source_name = bitmap->name;
        image->ops->bitmap(image, &sum, NULL);
        FormatBitmapChange other = { .action = bitmap->is_auto ? FORMAT_BITMAP_DISABLE : FORMAT_BITMAP_ENABLE,
                                     .name = bitmap->name };
        image->ops->bitmap(image, &other, NULL);
        other.action = i % 2 ? FORMAT_BITMAP_CLEAR : FORMAT_BITMAP_REMOVE;
        image->ops->bitmap(image, &other, NULL);
    }
    format_info_clear(&info);
}

/* Changes of every kind; what they answer is theirs to say. */
static void
change(BlkStore *mem)
{
    FormatImage *image = open_image(mem, FORMAT_WRITABLE);
    guint64 done;

    if (!image)
        return;
    for (guint i = 0; i < 3; i++) {
        guint64 at = num_align_down(image->guest_bytes / 3 * i, 512);
        if (at + 512 <= image->guest_bytes)
            write_at(image, at);
    }
    if (image->guest_bytes >= 8 * KIB)
        image->ops->zero(image, guest_off(0), 8 * KIB, &done, NULL);
    image->ops->flush(image, NULL);
    qcow2_snapshot_create(image, &(FormatSnapshotNew){ "fuzz", 0, 0, -1 }, NULL);
    if (image->guest_bytes >= 512)
        write_at(image, 0);
    if (image->guest_bytes <= 1 * GIB)
        image->ops->resize(image, image->guest_bytes + 1 * MIB, FALSE, NULL, NULL);
    change_bitmaps(image);
    if (describe(image) > 0)
        qcow2_snapshot_delete(image, 0, NULL);
    image->ops->close(image, NULL);
}

static void
repair(BlkStore *mem)
{
    FormatImage *image = open_image(mem, FORMAT_WRITABLE);
    FormatCheck result = { 0 };

    if (!image)
        return;
    gboolean ran = image->ops->check(image, FORMAT_REPAIR_ALL, &result, NULL);
    gboolean whole = ((Budget *) image->file)->left > 0;
    image->ops->close(image, NULL);
    if (ran && whole && result.corruptions + result.check_errors == 0)
        g_assert_true(is_sound(mem));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autoptr(BlkStore) first = blk_mem_new(data, len, "image");
    g_autoptr(BlkStore) second = blk_mem_new(data, len, "image");
    gboolean sound = is_sound(first);
    Qcow2Header header;
    gboolean supported = len <= FILE_BYTES_MAX && qcow2_header_decode(data, len, len, &header, NULL);

    look(first, sound && supported);
    change(first);
    if (sound && supported)
        g_assert_true(is_sound(first));
    repair(second);
    return 0;
}
