/* Copies of images with all the snapshots inside them. Which clusters the states share is found by lineage.h,
 * bytes are moved by copy.h. */
#ifndef KHO_IMAGE_SNAPSHOT_COPY_H
#define KHO_IMAGE_SNAPSHOT_COPY_H

#include "image/cost.h"

#include <kho/image_convert.h>

/* Before anything is made: KHO_ERROR_UNSUPPORTED or _INVALID where these options and snapshots do not go
 * together. */
gboolean snapshots_check_copy(KhoImage *source, const KhoImageConvert *options, GError **error);

/**
 * snapshots_copy:
 * @how: the target, new and of the source's size, and how; what and where is set here
 *
 * Makes the target's disk, and snapshots of it in the order of the source's list: each with the name, the id,
 * the times, the size and the VM state that it has there, and with what it shares with others shared.
 */
gboolean snapshots_copy(const CopyPlan *how, KhoImage *source, const KhoJob *job, GError **error);

/* What that would cost, at most: parts that a state has from an earlier one than the last count again. */
gboolean snapshots_plan(const CopyPlan *how, KhoImage *source, const CostPlace *where, KhoImagePlan *plan,
                        GError **error);

#endif
