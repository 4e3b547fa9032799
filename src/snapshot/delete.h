/* Deleting a snapshot, as a change: its plan, its kind. Of each disk the file F that the snapshot closed
 * becomes one with the file C that follows it: into the one of both that kho did not make, else whichever way
 * moves fewer bytes: up (C takes in what it lacks of F, and F goes) or down (F takes in all of C, what named
 * C names F, and C goes). Where nothing follows F, it goes.
 *
 * What the machine has open is merged by QEMU while the guest goes on, the rest by the engine. Where the
 * guest itself goes over to another file it stands still from then until the definition names that one: both
 * hold the same meanwhile, so that what the definition names is right whoever dies.
 *
 * What a death leaves, by the last step that had begun, and what recovery makes of it:
 *
 *   mark, look-again the snapshot may be marked as being   the mark is taken off: the old state
 *                    deleted, which only a merge
 *                    downwards needs
 *   merge, upwards   C may be longer, and its header may   F is named again: the old state; or forward,
 *                    name what F lies on                   where all disks have come so far
 *   downwards        F may be neither what it was nor      settled: the mark stays, what lies above F reads
 *                    what C is; C covers what was written  as ever, and the next delete goes on
 *   by QEMU          some disks may be merged, which is    settled: what is merged is published, and the
 *                    seen in its nodes and in the headers  snapshot keeps the rest, marked
 *   any that         F holds all of C, or C all of F,      forward; the guest is let go on
 *   follows          durably
 */
#ifndef KHO_SNAPSHOT_DELETE_H
#define KHO_SNAPSHOT_DELETE_H

#include "model/snapshot.h"
#include "snapshot/folder.h"
#include "snapshot/plan.h"
#include "store/change.h"
#include "vm/client.h"

extern const ChangeKind snapshot_delete_kind;

/* How a disk's file goes. */
#define DELETE_UP   "up"
#define DELETE_DOWN "down"
#define DELETE_DROP "drop" /* nothing follows it */
#define DELETE_KEEP "keep" /* nothing follows it, but it is not kho's to remove, or others need it */

/* An image that lies on C: its header names F afterwards, where the merge is downwards. */
typedef struct DeleteAbove {
    char *path;
} DeleteAbove;

typedef struct DeleteDisk {
    char *target, *how;
    char *file, *format; /* F */
    char *follower;      /* C, which is qcow2; NULL: nothing follows */
    gboolean
        keep_file;    /* what would go (up: F, down: C) stays: others need it, too, or kho did not make it */
    GPtrArray *above; /* DeleteAbove */
    /* of a disk that QEMU has open, as struct VmMerge has them; NULL otherwise */
    char *job, *device, *discard, *aio, *upper, *lower, *above_path, *backing_name;
    gboolean apart; /* not in the plan: found to be not merged, so that what follows leaves it alone */
} DeleteDisk;

typedef struct DeletePlan {
    char *machine, *name;
    char *parent;        /* of the snapshot: becomes its children's; NULL: none */
    char *memory;        /* the file that goes; NULL: none */
    gboolean was_marked; /* an earlier delete was interrupted */
    gboolean force;      /* who cannot be looked at needs nothing */
    GPtrArray *disks;    /* DeleteDisk */
    GPtrArray *left; /* char *, not in the plan's text: a line for each file that stays although the machine
                        does not need it */
} DeletePlan;

extern const PlanTable snapshot_delete_table;

/* What is to be deleted. */
typedef struct DeleteWish {
    const char *machine;
    const ModelSnapshot *snapshot;
    gboolean metadata_only;  /* forget it, and leave all files as they are */
    gboolean force;          /* files that were changed since they were closed are merged as they are now,
                                and images that cannot be looked at are taken to need nothing */
    const ModelDomain *live; /* of a machine that runs; NULL otherwise */
    VmClient *client;        /* the same */
    gboolean running;        /* its guest is not paused */
} DeleteWish;

/**
 * snapshot_delete_plan:
 *
 * Decides what is to be done, and refuses what cannot be. Changes nothing; called under the machine's change
 * lock. Reads the tables of the images that are to be merged.
 *
 * Returns: NULL with KHO_ERROR_UNSUPPORTED (more than one file follows one of the snapshot's), _BUSY (others
 * need what would change), _NO_SPACE (with the figures), _NOT_FOUND, _CORRUPT, _CANCELLED.
 */
DeletePlan *
snapshot_delete_plan(const StoreTree *tree, const DeleteWish *wish, const KhoJob *job, GError **error);
void snapshot_delete_plan_free(DeletePlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeletePlan, snapshot_delete_plan_free)

#endif
