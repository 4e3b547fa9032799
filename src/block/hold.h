/* Writing into what stands already (a device, an NBD export, a file that is to stay the same file) so that
 * nobody takes a half for the whole: a mark stands in place of the first bytes until all the others are
 * written and durable. New files need none of this: they have no name before they are whole
 * (image/publish.h). */
#ifndef KHO_BLOCK_HOLD_H
#define KHO_BLOCK_HOLD_H

#include "block/blk.h"

typedef struct BlkHold BlkHold;

/* Takes over @store (in every case), writes the mark over its first 4 KiB, and makes that durable: what stood
 * there is lost from here on. */
BlkHold *blk_hold_begin(BlkStore *store, GError **error);

/* The store as it shall become: its first bytes, zeros at first, are kept in memory, all others go through.
 * To be freed by the caller, before the hold. */
BlkStore *blk_hold_store(BlkHold *hold);

/* Makes all that was written durable, then the first bytes in place of the mark. KHO_ERROR_* of the store:
 * the mark still stands, or the first bytes were being written over it. */
gboolean blk_hold_finish(BlkHold *hold, GError **error);

/* The mark stays, unless the hold was finished. */
void blk_hold_free(BlkHold *hold);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlkHold, blk_hold_free)

/* Does what begins with @head bear the mark? */
gboolean blk_hold_is_mark(const guint8 *head, gsize len);

#endif
