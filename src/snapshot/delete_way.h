/* Which ways of making one file of two are open, and what each costs. Choosing one is delete_plan.c's. Only
 * reads. */
#ifndef KHO_SNAPSHOT_DELETE_WAY_H
#define KHO_SNAPSHOT_DELETE_WAY_H

#include "snapshot/delete.h"

#include <kho/image_layers.h>

/* Takes away from *up and *down what would change what is read, for the sizes of the layers:
 * KHO_ERROR_UNSUPPORTED where nothing is left. @row names both files, and whether QEMU has them open. */
gboolean delete_way_by_sizes(const DeleteWish *wish, const DeleteDisk *row, gboolean *up, gboolean *down,
                             GError **error);

/* What each way costs in bytes. */
gboolean delete_way_cost(const DeleteDisk *row, KhoImageMergeCost *cost, const KhoJob *job, GError **error);

#endif
