/* Disks of a machine that runs, copied by QEMU into the part folder: one transaction takes the point, and
 * every block that the guest writes afterwards is copied before. Nothing is added to the machine's chains. */
#ifndef KHO_BACKUP_LIVE_H
#define KHO_BACKUP_LIVE_H

#include "backup/plan.h"
#include "store/tree.h"

/**
 * backup_copy_live:
 *
 * Returns when all disks are copied and durable, and QEMU has let go of the files. A kho-vm that dies
 * meanwhile is replaced. KHO_ERROR_INVALID where the machine ended, _CANCELLED, _NO_SPACE, _IO; QEMU is left
 * as it is then: backup_live_take_back.
 */
gboolean backup_copy_live(const StoreTree *tree, BackupPlan *plan, const KhoJob *job, GError **error);

/* Ends what a backup has begun in QEMU: jobs, nodes, descriptors; what is not there is passed over. TRUE as
 * well where the machine does not run any more. KHO_ERROR_TIMEOUT where QEMU or kho-vm does not answer. */
gboolean backup_live_take_back(const StoreTree *tree, const BackupPlan *plan, GError **error);

#endif
