/* The long step of a backup: the disks' contents into the part folder, all as they were at one point in time.
 * Of a machine that is shut off by the copy engine, of a running one by QEMU (live.c). */
#ifndef KHO_BACKUP_COPY_H
#define KHO_BACKUP_COPY_H

#include "backup/plan.h"

#include <kho/image.h>

/* Fills in the point's time, state and QEMU's version, and the disks' capacities. A failure or a cancel
 * leaves files for the caller to remove. */
gboolean backup_copy_stopped(BackupPlan *plan, const KhoJob *job, GError **error);

/* A disk's file of a point, which reads nothing but itself. KHO_ERROR_CORRUPT where it has not the capacity
 * that the manifest states. */
KhoImage *backup_open_disk(const char *path, guint64 capacity_bytes, GError **error);

/* Adds to *bytes how much of an image its guest reads that is not zero: what a copy takes at most. */
gboolean backup_measure(KhoImage *image, guint64 *bytes, GError **error);

#endif
