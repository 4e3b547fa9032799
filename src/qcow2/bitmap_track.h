/* Persistent bitmaps of an open image: those that are enabled follow what the guest writes. Their in-use flag
 * is durable before the first byte that they are to tell of; what was written is kept in memory, a few MiB of
 * it at most, and goes into their tables when the image is closed, which takes the flag away. So after a
 * crash they are in use, and nobody believes them. Disabled ones are left alone, unless the disk changes its
 * size. All want the meta lock. Spec: docs/spec/qcow2.md, section 12. */
#ifndef KHO_QCOW2_BITMAP_TRACK_H
#define KHO_QCOW2_BITMAP_TRACK_H

#include "qcow2/bitmap.h"
#include "qcow2/dirty_set.h"
#include "qcow2/image.h"

struct Qcow2Bitmaps {
    GPtrArray *list;    /* of Qcow2Bitmap, in the directory's order */
    gboolean tracking;  /* some are ours: in use on disk, to be stored */
    Qcow2DirtySet *set; /* what enabled ones lack, by the finest granularity among them; NULL: nothing yet */
    guint64 shortest_bytes; /* the disk's smallest size since they were stored */
};

/* Are there bitmaps that whoever wrote last has kept? */
static inline gboolean
qcow2_has_bitmaps(const Qcow2Image *image)
{
    return image->extensions.has_bitmaps && (image->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS);
}

/* Reads the directory, once. KHO_ERROR_CORRUPT, _UNSUPPORTED (larger than kho reads). */
gboolean qcow2_bitmaps_load_locked(Qcow2Image *image, GError **error);
/* Takes over the list. */
Qcow2Bitmaps *qcow2_bitmaps_new(GPtrArray *list);
void qcow2_bitmaps_free(Qcow2Bitmaps *bitmaps);

/* Why no guest data may be written for their sake (a bitmap that kho cannot keep), or NULL; free with
 * g_free. */
char *qcow2_bitmaps_refusal_locked(Qcow2Image *image);

/* Loads them and marks all that they take as metadata. */
gboolean qcow2_bitmaps_guard_locked(Qcow2Image *image, GError **error);

/* Before the guest's data changes: enabled bitmaps are in use, durably, and there is room in memory for what
 * will be marked. It may write and flush. Rule: IN_USE_BEFORE_DATA. */
gboolean qcow2_bitmaps_begin_locked(Qcow2Image *image, GError **error);
/* How much of [at, at + len) guest bytes may be marked before it is asked again; ends at a cluster where it
 * is less. */
guint64 qcow2_bitmaps_room_locked(const Qcow2Image *image, guint64 at, guint64 len);
/* [at, at + len) guest bytes are written now. */
void qcow2_bitmaps_mark_locked(Qcow2Image *image, guint64 at, guint64 len);

/* Each bitmap can follow the disk to another size, or the error names the one that cannot and says what to
 * do.
 */
gboolean qcow2_bitmaps_check_resize_locked(Qcow2Image *image, guint64 guest_bytes, GError **error);
/* Before it does so: the same, and nothing was written; or all are in use, durably. */
gboolean qcow2_bitmaps_begin_resize_locked(Qcow2Image *image, guint64 guest_bytes, GError **error);
/* The disk ends where image->base.guest_bytes says now: what lies past it is not marked any more. */
void qcow2_bitmaps_cut_locked(Qcow2Image *image);

/* Brings everything to disk and ends the use: they can be believed, durably once the file is flushed. Rules:
 * REFCOUNT_BEFORE_REFERENCE, TABLE_BEFORE_POINTER, L2_BEFORE_LOWER, STORED_BEFORE_BELIEVED. */
gboolean qcow2_bitmaps_store_locked(Qcow2Image *image, GError **error);

/* Gives the bitmaps that have a new table (moved) that one in the directory, in place, and lets go of the old
 * ones; where it fails, of the new ones. The same rules. */
gboolean qcow2_bitmaps_move_locked(Qcow2Image *image, GError **error);
/* New tables that nothing names go again. */
void qcow2_bitmaps_drop_moved_locked(Qcow2Image *image);

/* Writes length and flags of one in place, in one word. */
gboolean qcow2_bitmap_write_flags_locked(Qcow2Image *image, const Qcow2Bitmap *bitmap, GError **error);

#endif
