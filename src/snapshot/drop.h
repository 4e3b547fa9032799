/* Removing image files: only where nobody needs them. Looked at anew each time, since others may have come to
 * need them. What a change that cannot go back any more has no use for holds nobody up. */
#ifndef KHO_SNAPSHOT_DROP_H
#define KHO_SNAPSHOT_DROP_H

#include "store/tree.h"

/* Removes @path, durably, unless a disk, a snapshot or an image beside it needs it; what @snapshot of
 * @machine (NULL: none) closed does not count, since that is being deleted. What cannot be removed, or of
 * which that cannot be told, stays, too, and is added to *left. */
void drop_or_leave(const StoreTree *tree, const char *path, const char *machine, const char *snapshot,
                   char **left);

/* Adds why something stays to *left, a text for people (NULL: nothing stays yet), freed with g_free. */
void drop_leave(char **left, const GError *why);

/* Takes those that are gone out of the list of overlays that kho made for @machine. */
gboolean drop_forget_gone(const StoreTree *tree, const char *machine, GError **error);

#endif
