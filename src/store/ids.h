/* Ids of running machines: they count up from 1 and are never used twice while the host runs. */
#ifndef KHO_STORE_IDS_H
#define KHO_STORE_IDS_H

#include "store/lock.h"

/* Takes the next id from run/qemu/.next-id (a machine's run folder stands beside it, and no name begins with
 * a dot); safe from several processes at once. KHO_ERROR_CORRUPT where that file does not hold a number. */
gboolean store_next_id(const StoreTree *tree, const StoreWait *wait, guint *id, GError **error);

#endif
