/* A guest's view of one image for the crash and fault sweeps: whole sectors read, written and zeroed through
 * the format's table alone. A second, plain copy loop, so that the sweeps judge the format without image/'s
 * engine. */
#ifndef KHO_TESTS_GUEST_H
#define KHO_TESTS_GUEST_H

#include "block/format.h"

#define SECTOR 512

/* What the backing file holds in every sector: holes below image->backing_bytes read so, others as zeros. */
#define GUEST_BACKING_VALUE G_GUINT64_CONSTANT(0xbabababababababa)

/* Reads [at, at + len), which lies within the disk. */
gboolean guest_read(FormatImage *image, guint64 at, guint8 *buf, guint64 len, GError **error);
gboolean guest_write(FormatImage *image, guint64 at, const guint8 *buf, guint64 len, GError **error);
/* Zeros by the format where it can, written otherwise. */
gboolean guest_zero(FormatImage *image, guint64 at, guint64 len, GError **error);

/* What is wrong with a sector that holds @value; torn: not whole, @value is its first word. NULL: nothing. */
typedef char *(*GuestSee)(guint64 sector, guint64 value, gboolean whole, gconstpointer data);

/* Reads all of the disk and shows each sector to @see: its first complaint, or why it could not be read. */
char *guest_look(FormatImage *image, GuestSee see, gconstpointer data);

/* A sector's contents in the sweeps: one value, 64 times over. FALSE where the 64 differ: the sector is torn.
 */
void guest_sector_fill(guint8 *sector, guint64 value);
gboolean guest_sector_value(const guint8 *sector, guint64 *value);

#endif
