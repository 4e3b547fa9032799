/* Removing image files: only where nobody needs them. Looked at anew each time, since others may have come to
 * need them. */
#ifndef KHO_SNAPSHOT_DROP_H
#define KHO_SNAPSHOT_DROP_H

#include "store/tree.h"

/* Removes @path, durably, unless a disk, a snapshot or an image beside it needs it: it stays then, and this
 * is no failure. TRUE where it is gone already. */
gboolean drop_if_unneeded(const StoreTree *tree, const char *path, GError **error);

/* The same, where what @snapshot of @machine closed does not count: that snapshot is being deleted. */
gboolean drop_unless_needed(const StoreTree *tree, const char *path, const char *machine,
                            const char *snapshot, GError **error);

/* Takes those that are gone out of the list of overlays that kho made for @machine. */
gboolean drop_forget_gone(const StoreTree *tree, const char *machine, GError **error);

#endif
