#include "qcow2/bitmap_table.h"

#include "base/error.h"
#include "qcow2/entry.h"
#include "qcow2/refcount.h"

#include <string.h>

/* Entries that are held in memory at a time. */
#define WINDOW 512

typedef struct {
    Qcow2BitmapTable table;
    guint64 first, n; /* which entries are here */
    guint64 words[WINDOW];
} Window;

/* Reads the entries from @first on; those that the table does not have are 0. KHO_ERROR_CORRUPT where one is
 * wrong. */
static gboolean
window_load(Qcow2Image *image, Window *w, guint64 first, GError **error)
{
    guint64 end = MIN(first + WINDOW, w->table.entries), n = end > first ? end - first : 0;

    memset(w->words, 0, sizeof w->words);
    if (n > 0 && !blk_pread_padded(image->base.file, w->table.off + first * 8, w->words, n * 8, error))
        return FALSE;
    for (guint64 i = 0; i < n; i++) {
        guint64 word = GUINT64_FROM_BE(w->words[i]), off = word & QCOW2_ENTRY_OFFSET;
        if ((word & QCOW2_BITMAP_ENTRY_RESERVED) || (off && (word & QCOW2_BITMAP_ENTRY_ONES))
            || off % image->geo.cluster_bytes != 0)
            return qcow2_corrupt_locked(image, error,
                                        "entry %" G_GUINT64_FORMAT
                                        " of the bitmap table at byte %" G_GUINT64_FORMAT
                                        " is malformed (0x%" G_GINT64_MODIFIER "x)",
                                        first + i, w->table.off, word);
        w->words[i] = word;
    }
    w->first = first;
    w->n = n;
    return TRUE;
}

static gboolean
window_store(Qcow2Image *image, const Window *w, guint64 n, GError **error)
{
    guint64 disk[WINDOW];

    for (guint64 i = 0; i < n; i++)
        disk[i] = GUINT64_TO_BE(w->words[i]);
    return blk_pwrite(image->base.file, w->table.off + w->first * 8, disk, n * 8, error);
}

static guint64
table_clusters(const Qcow2Image *image, Qcow2BitmapTable table)
{
    return num_div_up(table.entries * 8, image->geo.cluster_bytes);
}

/* --- guarding --- */

static gboolean
guard(Qcow2Image *image, const Qcow2Bitmap *bitmap, guint64 off, guint64 clusters, GError **error)
{
    gboolean within;

    if (!qcow2_within_file_locked(image, off + ((clusters - 1) << image->geo.cluster_bits), &within, error))
        return FALSE;
    g_autofree char *name = within ? NULL : error_one_line(bitmap->name);
    if (!within)
        return qcow2_corrupt_locked(image, error, "bitmap '%s' lies past the end of the file", name);
    if (qcow2_guard_mark(&image->guard, off >> image->geo.cluster_bits, clusters))
        return TRUE;
    name = error_one_line(bitmap->name);
    return qcow2_corrupt_locked(
        image, error, "bitmap '%s' lies where other metadata is, at byte %" G_GUINT64_FORMAT, name, off);
}

gboolean
qcow2_bitmap_guard_locked(Qcow2Image *image, const Qcow2Bitmap *bitmap, GError **error)
{
    Window w = { .table = qcow2_bitmap_table(bitmap) };

    if (!guard(image, bitmap, w.table.off, table_clusters(image, w.table), error))
        return FALSE;
    for (guint64 first = 0; first < w.table.entries; first += WINDOW) {
        if (!window_load(image, &w, first, error))
            return FALSE;
        for (guint64 i = 0; i < w.n; i++) {
            guint64 off = w.words[i] & QCOW2_ENTRY_OFFSET;
            if (off && !guard(image, bitmap, off, 1, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* --- clusters of its own --- */

static gboolean
take(Qcow2Image *image, guint64 clusters, guint64 *off, GError **error)
{
    guint64 first, got;

    if (!qcow2_alloc(image, clusters, TRUE, &first, &got, error))
        return FALSE;
    qcow2_guard_mark(&image->guard, first, clusters);
    *off = first << image->geo.cluster_bits;
    return TRUE;
}

static gboolean
let_go(Qcow2Image *image, guint64 off, guint64 clusters, GError **error)
{
    qcow2_guard_unmark(&image->guard, off >> image->geo.cluster_bits, clusters);
    return qcow2_refcount_lower(image, off >> image->geo.cluster_bits, clusters, error);
}

/* Clusters that @table names, and @kept does not at the same place. */
static gboolean
release_clusters(Qcow2Image *image, Qcow2BitmapTable table, Qcow2BitmapTable kept, GError **error)
{
    Window w = { .table = table }, k = { .table = kept };

    for (guint64 first = 0; first < table.entries; first += WINDOW) {
        if (!window_load(image, &w, first, error) || !window_load(image, &k, first, error))
            return FALSE;
        for (guint64 i = 0; i < w.n; i++) {
            guint64 off = w.words[i] & QCOW2_ENTRY_OFFSET;
            if (off && off != (k.words[i] & QCOW2_ENTRY_OFFSET) && !let_go(image, off, 1, error))
                return FALSE;
        }
    }
    return TRUE;
}

gboolean
qcow2_bitmap_release_locked(Qcow2Image *image, Qcow2BitmapTable table, Qcow2BitmapTable kept, GError **error)
{
    return release_clusters(image, table, kept, error)
           && (table.entries == 0 || let_go(image, table.off, table_clusters(image, table), error));
}

/* --- contents --- */

static gboolean
read_entry(Qcow2Image *image, guint64 word, guint8 *bits, GError **error)
{
    guint64 off = word & QCOW2_ENTRY_OFFSET;

    if (off)
        return blk_pread_padded(image->base.file, off, bits, image->geo.cluster_bytes, error);
    memset(bits, word & QCOW2_BITMAP_ENTRY_ONES ? 0xff : 0, image->geo.cluster_bytes);
    return TRUE;
}

static gboolean
all_zeros(const guint8 *bits, gsize len)
{
    return bits[0] == 0 && memcmp(bits, bits + 1, len - 1) == 0;
}

/* One entry with its new contents; a cluster that was written for it is the new table's alone. */
static gboolean
change_entry(Qcow2Image *image, const Qcow2BitmapEdit *edit, guint64 index, guint8 *bits, guint64 *word,
             GError **error)
{
    guint64 off;

    if (!read_entry(image, *word, bits, error) || !edit->edit(edit->data, index, bits, error))
        return FALSE;
    if (all_zeros(bits, image->geo.cluster_bytes)) {
        *word = 0;
        return TRUE;
    }
    if (!take(image, 1, &off, error))
        return FALSE;
    *word = off;
    if (blk_pwrite(image->base.file, off, bits, image->geo.cluster_bytes, error))
        return TRUE;
    let_go(image, off, 1, NULL);
    return FALSE;
}

/* Changes the first @n entries of a window in memory; those after a failure are as they were. */
static gboolean
change_window(Qcow2Image *image, const Qcow2BitmapEdit *edit, guint8 *bits, Window *w, guint64 n,
              GError **error)
{
    for (guint64 i = edit ? edit->next(edit->data, w->first) : G_MAXUINT64; i < w->first + n;
         i = edit->next(edit->data, i + 1))
        if (!change_entry(image, edit, i, bits, &w->words[i - w->first], error))
            return FALSE;
    return TRUE;
}

gboolean
qcow2_bitmap_rebuild_locked(Qcow2Image *image, Qcow2BitmapTable old, guint64 entries,
                            const Qcow2BitmapEdit *edit, Qcow2BitmapTable *made, GError **error)
{
    g_autofree guint8 *bits = g_malloc(image->geo.cluster_bytes);
    Qcow2BitmapTable new = { 0, entries }, written;
    Window w = { .table = old };

    if (!take(image, table_clusters(image, new), &new.off, error))
        return FALSE;
    written = (Qcow2BitmapTable){ new.off, 0 };
    while (written.entries < entries) {
        guint64 first = written.entries, n = MIN(entries - first, WINDOW);
        w.table = old;
        if (!window_load(image, &w, first, error))
            break;
        gboolean changed = change_window(image, edit, bits, &w, n, error);
        w.table = new;
        /* Also where it failed, so that what was taken until then can be found again. */
        if (!window_store(image, &w, n, changed ? error : NULL))
            break;
        written.entries += n;
        if (!changed)
            break;
        if (written.entries == entries) {
            *made = new;
            return TRUE;
        }
    }
    release_clusters(image, written, old, NULL); /* what a failure leaves here leaks */
    let_go(image, new.off, table_clusters(image, new), NULL);
    return FALSE;
}

gboolean
qcow2_bitmap_read_locked(Qcow2Image *image, Qcow2BitmapTable table, guint64 first, guint64 end,
                         Qcow2BitmapRead each, gpointer data, GError **error)
{
    g_autofree guint8 *bits = g_malloc(image->geo.cluster_bytes);
    Window w = { .table = table };

    end = MIN(end, table.entries);
    for (guint64 i = first; i < end; i++) {
        if ((i == first || i - w.first >= WINDOW) && !window_load(image, &w, i, error))
            return FALSE;
        guint64 word = w.words[i - w.first];
        if (word != 0 && (!read_entry(image, word, bits, error) || !each(data, i, bits, error)))
            return FALSE;
    }
    return TRUE;
}

void
qcow2_bits_set(guint8 *bits, guint64 from, guint64 to)
{
    for (; from < to && from % 8 != 0; from++)
        bits[from / 8] |= (guint8) (1 << from % 8);
    if (to - from >= 8 && from < to)
        memset(bits + from / 8, 0xff, (to - from) / 8);
    for (from = MAX(from, num_align_down(to, 8)); from < to; from++)
        bits[from / 8] |= (guint8) (1 << from % 8);
}

void
qcow2_bits_clear(guint8 *bits, guint64 from, guint64 to)
{
    for (; from < to && from % 8 != 0; from++)
        bits[from / 8] &= (guint8) ~(1 << from % 8);
    if (to - from >= 8 && from < to)
        memset(bits + from / 8, 0, (to - from) / 8);
    for (from = MAX(from, num_align_down(to, 8)); from < to; from++)
        bits[from / 8] &= (guint8) ~(1 << from % 8);
}
