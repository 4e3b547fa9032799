/* Deleting a snapshot, as a change: its plan, its kind. Of each disk the file F that the snapshot closed
 * becomes one with the file C that follows it, whichever way moves fewer bytes: up (C takes in what it lacks
 * of F, and F goes) or down (F takes in all of C, what named C names F, and C goes). Where nothing follows F,
 * it goes.
 *
 * What a death leaves, by the last step that had begun, and what recovery makes of it:
 *
 *   mark                the snapshot may be marked as being      taken off; the old state
 *                       deleted, which only a merge downwards
 *                       needs
 *   merge               upwards alone: C may be longer           the old state, or forward where all of C's
 * headers name what F lies on downwards: F may be neither what it      settled: the mark stays, what lies
 * above F reads as was nor what C is; C covers what was     ever, and the next delete goes on written rewire
 * ... drop-files,   F holds all of C, or C all of F,    forward drop-snapshot            durably
 */
#ifndef KHO_SNAPSHOT_DELETE_H
#define KHO_SNAPSHOT_DELETE_H

#include "model/snapshot.h"
#include "snapshot/folder.h"
#include "snapshot/plan.h"
#include "store/change.h"

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
    gboolean keep_file;  /* up: others need F, too: it stays */
    GPtrArray *above;    /* DeleteAbove */
} DeleteDisk;

typedef struct DeletePlan {
    char *machine, *uuid, *name;
    char *parent;        /* of the snapshot: becomes its children's; NULL: none */
    char *definition;    /* the machine's afterwards; NULL: it stays as it is */
    char *memory;        /* the file that goes; NULL: none */
    gboolean was_marked; /* an earlier delete was interrupted */
    GPtrArray *disks;    /* DeleteDisk */
} DeletePlan;

extern const PlanTable snapshot_delete_table;

/**
 * snapshot_delete_plan:
 * @definition: the machine's
 * @metadata_only: forget the snapshot, and leave all files as they are
 *
 * Decides what is to be done, and refuses what cannot be. Changes nothing; called under the machine's change
 * lock. Reads the tables of the images that are to be merged.
 *
 * Returns: NULL with KHO_ERROR_UNSUPPORTED (more than one file follows one of the snapshot's), _BUSY (others
 * need what would change), _NO_SPACE (with the figures), _NOT_FOUND, _CORRUPT, _CANCELLED.
 */
DeletePlan *
snapshot_delete_plan(const StoreTree *tree, const ModelDomain *definition, const ModelSnapshot *snapshot,
                     gboolean metadata_only, const KhoJob *job, GError **error);
void snapshot_delete_plan_free(DeletePlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeletePlan, snapshot_delete_plan_free)

#endif
