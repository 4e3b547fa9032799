/* Making one file of two, for each disk of a snapshot's delete: by QEMU or by the engine, looked at, taken
 * back. The order of a delete's steps and what a death leaves are delete.h's. */
#ifndef KHO_SNAPSHOT_DELETE_MERGE_H
#define KHO_SNAPSHOT_DELETE_MERGE_H

#include "snapshot/delete.h"

/* What the steps of a delete work on. */
typedef struct DeleteChange {
    const StoreTree *tree;
    DeletePlan *plan;
    gboolean untouched; /* this process began the merge, and saw that no file of the snapshot has changed */
    char *left;         /* what could not be removed, and why; NULL: nothing */
} DeleteChange;

/* Where the merges stand. */
typedef struct DeleteStanding {
    guint merged, apart; /* of those that are to be merged */
    guint merged_by_qemu;
} DeleteStanding;

/* Whether it is DELETE_... @how. */
gboolean delete_goes(const DeleteDisk *row, const char *how);

/* *client is NULL where no disk of the plan was open in QEMU, or its QEMU is gone. */
gboolean delete_reach(const DeleteChange *change, VmClient **client, GError **error);

/* Copies, and has the effect of QEMU's copies. Where the guest itself goes over to another file it stands
 * still afterwards. */
gboolean delete_merge_run(DeleteChange *change, const KhoJob *job, GError **error);

/* Sets each disk's `apart`. */
gboolean
delete_merge_look(const DeleteChange *change, VmClient *client, DeleteStanding *standing, GError **error);

/* Ends QEMU's jobs, and gives the engine's merges upwards back what they lay on. */
gboolean delete_merge_cancel(const DeleteChange *change, VmClient *client, GError **error);

#endif
