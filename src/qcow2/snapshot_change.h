/* What making, deleting and reverting to internal snapshots shares with telling what that takes (cost.h).
 * What programs call lives in qcow2.h, the list in snapshot.h. */
#ifndef KHO_QCOW2_SNAPSHOT_CHANGE_H
#define KHO_QCOW2_SNAPSHOT_CHANGE_H

#include "qcow2/image.h"
#include "qcow2/snapshot.h"

/* Whether there may be one more, and whether the disk may become an earlier one (its bitmaps
 * could not tell what changes then). KHO_ERROR_NO_SPACE, _UNSUPPORTED. */
gboolean qcow2_snapshot_may_create(Qcow2Image *image, GPtrArray *snapshots, GError **error);
gboolean qcow2_snapshot_may_revert_locked(Qcow2Image *image, GError **error);
/* The one at @index of the list; NULL with KHO_ERROR_NOT_FOUND. */
const Qcow2Snapshot *
qcow2_snapshot_find(Qcow2Image *image, GPtrArray *snapshots, guint index, GError **error);

#endif
