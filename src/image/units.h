/* What becomes of a piece of the disk between being read and being written: looked at unit by unit (a
 * subcluster of the target, a page of a raw one) for zeros and for what has not changed, and compressed.
 * Which pieces there are, and who copies which, is copy.c's business. */
#ifndef KHO_IMAGE_UNITS_H
#define KHO_IMAGE_UNITS_H

#include "image/copy.h"

/* A worker's buffers, made once, for pieces of at most @room bytes. */
typedef struct {
    guint64 room, unit_bytes;
    guint8 *data;         /* what the source reads as */
    guint8 *old;          /* what the target reads as, where only changes are copied; else NULL */
    FormatPacker *packer; /* NULL: nothing is compressed */
    guint8 *packed;       /* the units' packed bytes, each at its own place */
    gsize *packed_bytes;  /* of each unit; 0: it is not packed */
} Units;

/* How many bytes of the target are looked at as one. */
guint64 units_bytes_of(const CopyPlan *plan);

void units_init(Units *units, const CopyPlan *plan, guint64 room);
void units_clear(Units *units);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Units, units_clear)

/* Reads @bytes from @start of the plan's range, and compresses what is to be: all that can be done at the
 * same time as others write. */
gboolean units_read(Units *units, const CopyPlan *plan, guint64 start, guint64 bytes, GError **error);

/* Writes what was read. */
gboolean units_write(Units *units, const CopyPlan *plan, guint64 start, guint64 bytes, GError **error);

/* Makes a part of the target zeros, in the way that the plan wants. */
gboolean units_make_zeros(const CopyPlan *plan, guint64 start, guint64 bytes, GError **error);

#endif
