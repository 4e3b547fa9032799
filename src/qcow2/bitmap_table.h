/* The tables of persistent bitmaps and the clusters that they name: reading contents, making new ones beside
 * the old, letting go. Which table a bitmap has is the directory's business (bitmap_change.h). All want the
 * meta lock; what writes wants qcow2_begin_write_locked passed. Spec: docs/spec/qcow2.md, section 12. */
#ifndef KHO_QCOW2_BITMAP_TABLE_H
#define KHO_QCOW2_BITMAP_TABLE_H

#include "qcow2/bitmap.h"
#include "qcow2/image.h"

/* A table as it lies in the file. */
typedef struct {
    guint64 off, entries;
} Qcow2BitmapTable;

static inline Qcow2BitmapTable
qcow2_bitmap_table(const Qcow2Bitmap *bitmap)
{
    return (Qcow2BitmapTable){ bitmap->table_off, bitmap->table_entries };
}

/* Bits that one entry of a table stands for. */
static inline guint64
qcow2_bitmap_entry_bits(const Qcow2Geometry *geo)
{
    return geo->cluster_bytes * 8;
}

/* Marks table and clusters as metadata. KHO_ERROR_CORRUPT, and the image takes no writes, where they lie
 * where something else is, or an entry is wrong. */
gboolean qcow2_bitmap_guard_locked(Qcow2Image *image, const Qcow2Bitmap *bitmap, GError **error);

/* How a bitmap's contents change: by whole entries of its table. */
typedef struct {
    /* The first entry from @index on that may change; G_MAXUINT64: none. */
    guint64 (*next)(gpointer data, guint64 index);
    /* Changes the bits of one entry, a cluster of them as they are now. */
    gboolean (*edit)(gpointer data, guint64 index, guint8 *bits, GError **error);
    gpointer data;
} Qcow2BitmapEdit;

/**
 * qcow2_bitmap_rebuild_locked:
 * @old: what it is made from; no entries: nothing
 * @entries: how many the new table has; > 0
 * @edit: NULL: contents stay, as far as they fit
 * @made: (out): the new table, which nothing names yet
 *
 * Writes a table beside the old one; entries that do not change name the clusters that they did, others
 * clusters of their own. Once something durable names it, and not the old one, qcow2_bitmap_release_locked
 * lets the rest of that go; until then nothing the old one names has changed. Memory: one cluster, and 4 KiB
 * of each table. On failure nothing is left behind.
 */
gboolean qcow2_bitmap_rebuild_locked(Qcow2Image *image, Qcow2BitmapTable old, guint64 entries,
                                     const Qcow2BitmapEdit *edit, Qcow2BitmapTable *made, GError **error);

/* Lets go of @table and of the clusters that it names and @kept (no entries: nothing) does not, at once:
 * nothing durable names them any more, or yet. */
gboolean
qcow2_bitmap_release_locked(Qcow2Image *image, Qcow2BitmapTable table, Qcow2BitmapTable kept, GError **error);

/* Called with the bits of entry @index, which are not all zeros; @bits is the callee's to change. */
typedef gboolean (*Qcow2BitmapRead)(gpointer data, guint64 index, guint8 *bits, GError **error);

/* Reads the entries [first, end) of @table, as far as it has them. */
gboolean qcow2_bitmap_read_locked(Qcow2Image *image, Qcow2BitmapTable table, guint64 first, guint64 end,
                                  Qcow2BitmapRead each, gpointer data, GError **error);

/* Sets bits [from, to); the first one of a byte is its least significant. */
void qcow2_bits_set(guint8 *bits, guint64 from, guint64 to);
void qcow2_bits_clear(guint8 *bits, guint64 from, guint64 to);

#endif
