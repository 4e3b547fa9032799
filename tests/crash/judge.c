#include "base/num.h"
#include "block/record.h"
#include "crash/guest.h"
#include "crash/replay.h"
#include "crash/view.h"
#include "image/format.h"
#include "qcow2/check.h"
#include "qcow2/qcow2.h"

#include <string.h>

static char *
wrong(const char *step, const GError *error)
{
    return g_strdup_printf("%s: %s", step, error->message);
}

/* Corruptions but for COPIED flags that are not set although they could be: between "cleared" and "refcount
 * raised", and between "lowered to one" and "set", the rules themselves leave these; they cost a copy, never
 * data. */
static char *
judge_check(BlkStore *store)
{
    g_autoptr(GPtrArray) messages = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    FormatCheck found = { .messages = messages };

    if (!qcow2_check_file(store, &found, NULL, &error))
        return wrong("check", error);
    if (found.corruptions == found.copied_missing && found.check_errors == 0)
        return NULL;
    g_autoptr(GString) text = g_string_new("check:");
    for (guint i = 0; i < messages->len && text->len < 1000; i++)
        if (!strstr(messages->pdata[i], " leaks: "))
            g_string_append_printf(text, "\n    %s", (char *) messages->pdata[i]);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static char *
judge_sector(guint64 sector, guint64 value, gboolean whole, gconstpointer data)
{
    const OracleView *view = data;

    if (whole && oracle_allows(view, sector, value))
        return NULL;
    return g_strdup_printf("sector %" G_GUINT64_FORMAT " holds 0x%" G_GINT64_MODIFIER
                           "x%s; durable is 0x%" G_GINT64_MODIFIER "x",
                           sector, value, whole ? "" : " in part", view->exact[sector]);
}

static char *
judge_snapshot_sector(guint64 sector, guint64 value, gboolean whole, gconstpointer data)
{
    const OracleSnapshot *want = data;

    if (whole && value == want->values[sector])
        return NULL;
    return g_strdup_printf("%s: sector %" G_GUINT64_FORMAT " holds 0x%" G_GINT64_MODIFIER
                           "x instead of 0x%" G_GINT64_MODIFIER "x",
                           want->name, sector, value, want->values[sector]);
}

static char *
judge_snapshot(FormatImage *image, guint index, const OracleSnapshot *want)
{
    g_autoptr(GError) error = NULL;
    FormatImage *disk = qcow2_snapshot_open_view(image, index, &error);

    if (!disk)
        return wrong(want->name, error);
    disk->backing_bytes = image->backing_bytes;
    char *found =
        disk->guest_bytes == want->sectors * SECTOR
            ? guest_look(disk, judge_snapshot_sector, want)
            : g_strdup_printf("%s is %" G_GUINT64_FORMAT " bytes long", want->name, disk->guest_bytes);
    disk->ops->close(disk, NULL);
    return found;
}

static char *
judge_snapshots(FormatImage *image, const OracleView *view)
{
    FormatInfo info = { 0 };
    g_autoptr(GError) error = NULL;
    char *found = NULL;

    if (!image->ops->info(image, &info, &error))
        return wrong("info", error);
    for (guint i = 0; i < view->oracle->snapshots->len && !found; i++) {
        const OracleSnapshot *want = &g_array_index(view->oracle->snapshots, OracleSnapshot, i);
        gboolean must, may;
        guint at = 0;
        oracle_snapshot_fate(view, i, &must, &may);
        while (at < info.snapshots->len
               && strcmp(((FormatSnapshot *) info.snapshots->pdata[at])->name, want->name) != 0)
            at++;
        if (at == info.snapshots->len)
            found = must ? g_strdup_printf("%s is gone", want->name) : NULL;
        else
            found = may ? judge_snapshot(image, at, want) : g_strdup_printf("%s is there", want->name);
    }
    format_info_clear(&info);
    return found;
}

/* What carrying on wrote: a cluster at most at each place. */
static gboolean
reads_as_zeros(FormatImage *image, guint64 at, const Run *run)
{
    g_autofree guint8 *bytes = g_malloc(run->bytes);

    if (run->bytes > 64 * KIB || !guest_read(image, at, bytes, run->bytes, NULL))
        return FALSE;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, run->bytes - 1) == 0;
}

/* A new image: one hole of the right size, naming the right backing file. */
static char *
judge_empty(FormatImage *image, const OracleView *view)
{
    FormatInfo info = { 0 };
    Run run = { .kind = RUN_HOLE };
    g_autoptr(GError) error = NULL;
    char *found = NULL;

    if (!oracle_allows_size(view, image->guest_bytes / SECTOR))
        return g_strdup_printf("the disk is %" G_GUINT64_FORMAT " bytes long", image->guest_bytes);
    if (!image->ops->info(image, &info, &error))
        return wrong("info", error);
    if (g_strcmp0(info.backing_file, view->oracle->backing_file) != 0)
        found = g_strdup_printf("the backing file is %s", info.backing_file);
    format_info_clear(&info);
    for (guint64 at = 0; at < image->guest_bytes && !found; at += run.bytes)
        if (!image->ops->map(image, guest_off(at), image->guest_bytes - at, &run, &error))
            return wrong("map", error);
        else if (run.kind != RUN_HOLE && !reads_as_zeros(image, at, &run))
            found = g_strdup_printf("not empty at byte %" G_GUINT64_FORMAT, at);
    return found;
}

/* What an open image shows. */
static char *
judge_contents(FormatImage *image, const OracleView *view)
{
    if (view->oracle->empty)
        return judge_empty(image, view);
    if (!oracle_allows_size(view, image->guest_bytes / SECTOR))
        return g_strdup_printf("the disk is %" G_GUINT64_FORMAT " bytes long", image->guest_bytes);
    char *found = guest_look(image, judge_sector, view);
    return found ? found : judge_snapshots(image, view);
}

static char *
judge_open(GBytes *bytes, const OracleView *view)
{
    BlkStore *store = view_new(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), "state");
    g_autoptr(GError) error = NULL;
    FormatImage *image = qcow2_format.open(store, 0, &error);

    if (!image) {
        blk_free(store);
        return wrong("open", error);
    }
    image->backing_bytes = view->oracle->backing_bytes;
    char *found = judge_contents(image, view);
    image->ops->close(image, NULL);
    return found;
}

/* Rewrites a few sectors with what they hold, so that the oracle still fits, and makes and deletes a
 * snapshot. */
static gboolean
use_image(FormatImage *image, gboolean thorough, GError **error)
{
    guint64 step = thorough ? MAX(image->guest_bytes / 7 / SECTOR, 1) * SECTOR : image->guest_bytes;
    guint8 sector[SECTOR];

    for (guint64 at = 0; at + SECTOR <= image->guest_bytes; at += step)
        if (!guest_read(image, at, sector, SECTOR, error) || !guest_write(image, at, sector, SECTOR, error))
            return FALSE;
    if (!image->ops->flush(image, error))
        return FALSE;
    FormatInfo info = { 0 };
    g_assert_true(image->ops->info(image, &info, NULL));
    guint n = info.snapshots->len;
    gboolean may_snapshot = thorough && info.refcount_bits > 1;
    format_info_clear(&info);
    if (may_snapshot
        && (!qcow2_snapshot_create(image, &(FormatSnapshotNew){ "after the crash", 0, 0, -1 }, error)
            || !qcow2_snapshot_delete(image, n, error)))
        return FALSE;
    return TRUE;
}

/* Opens the state for writing and uses it; *after is what it left. */
static char *
carry_on_with(const guint8 *bytes, gsize len, const OracleView *view, gboolean thorough, GBytes **after)
{
    g_autoptr(BlkStore) store = blk_mem_new(bytes, len, "state");
    g_autoptr(GError) error = NULL;
    /* The image owns and frees its store: the recorder of nothing stands between, so that ours stays. */
    g_autoptr(GPtrArray) log = blk_record_log_new();
    BlkStore *between = blk_record_new(store, log);
    FormatImage *image = qcow2_format.open(between, FORMAT_WRITABLE, &error);

    if (!image) {
        blk_free(between);
        return wrong("open for writing", error);
    }
    image->backing_bytes = view->oracle->backing_bytes;
    gboolean used = use_image(image, thorough, &error);
    gboolean closed = image->ops->close(image, used ? &error : NULL);
    *after = blk_mem_snapshot(store);
    return used && closed ? NULL : wrong("carry on", error);
}

static char *
judge_bytes(GBytes *bytes, const OracleView *view)
{
    g_autoptr(BlkStore) store = view_new(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), "state");
    char *found = judge_check(store);

    return found ? found : judge_open(bytes, view);
}

/* The dirty mark of lazy refcounts: the counts are to be made anew before anyone relies on them. */
static gboolean
is_dirty(const guint8 *bytes, gsize len)
{
    Qcow2Header header;

    return qcow2_header_decode(bytes, len, len, &header, NULL) && (header.incompat & QCOW2_INCOMPAT_DIRTY);
}

char *
crash_judge_check(const guint8 *bytes, gsize len)
{
    g_autoptr(BlkStore) store = view_new(bytes, len, "state");

    return is_dirty(bytes, len) ? NULL : judge_check(store);
}

char *
crash_judge(const guint8 *bytes, gsize len, const OracleView *view, gboolean carry_on)
{
    g_autoptr(GBytes) state = g_bytes_new_static(bytes, len);
    gboolean dirty = is_dirty(bytes, len);
    char *found = dirty ? judge_open(state, view) : judge_bytes(state, view);

    if (!found && (carry_on || dirty)) {
        g_autoptr(GBytes) after = NULL;
        found = carry_on_with(bytes, len, view, carry_on, &after);
        if (!found)
            found = judge_bytes(after, view);
    }
    return found;
}
