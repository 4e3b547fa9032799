/* Going back to a snapshot, as a change: its plan, its kind. Each file that the snapshot closed gets a new
 * overlay, the machine's definition is that of the snapshot with its disks in those, and the overlays that it
 * wrote until now go where nobody needs them. A machine that runs is ended for it.
 *
 * What a death leaves, by the last step that had begun, and what recovery makes of it:
 *
 *   make-overlays       overlays that nobody names          they go; the old state
 *   end-machine         QEMU runs still                     they go; the old state, the guest runs on
 *                       QEMU has ended                      forward: what it did last is lost in any case
 *   publish-definition, forward; the definition names either the old overlays or the new ones, all of which
 *   publish-current     are whole, and nobody can start the machine before the recovery is done
 *   drop-old            forward: each is looked at anew, and goes only where nobody needs it, or might; what
 *                       cannot be removed, or be judged, is told of and holds nobody up
 *   start-machine       forward; one that does not start is told, and is shut off, reverted
 */
#ifndef KHO_SNAPSHOT_REVERT_H
#define KHO_SNAPSHOT_REVERT_H

#include "snapshot/folder.h"
#include "snapshot/plan.h"
#include "store/change.h"

extern const ChangeKind snapshot_revert_kind;

/* What the machine does afterwards. */
typedef enum {
    REVERT_AS_TAKEN, /* what it did when the snapshot was taken, where its memory was kept; else shut off */
    REVERT_RUNNING,
    REVERT_PAUSED
} RevertTo;

typedef struct RevertDisk {
    char *target;
    char *file, *format; /* what the snapshot closed */
    char *overlay;       /* the new one over it */
} RevertDisk;

/* A file that the machine wrote until now. */
typedef struct RevertOld {
    char *path;
} RevertOld;

typedef struct RevertPlan {
    char *machine, *uuid, *name;
    char *definition;  /* the machine's, from then on */
    char *memory;      /* the file that its memory comes from; NULL: it boots, if it is to run */
    char *live;        /* with it: what is to run */
    gint64 stream_off; /* with it: where QEMU's stream begins, in bytes */
    gboolean active;   /* whether a QEMU is to be ended */
    gboolean start, paused;
    GPtrArray *disks; /* RevertDisk */
    GPtrArray *old;   /* RevertOld */
} RevertPlan;

extern const PlanTable snapshot_revert_table;

/* What is wanted. */
typedef struct RevertWish {
    const ModelDomain *definition; /* the machine's now */
    const ModelDomain *live;       /* NULL where it does not run */
    const ModelSnapshot *snapshot;
    RevertTo to;
    gboolean force; /* files that were changed since they were closed are taken as they are, and a memory
                     * whose file is lost is done without */
} RevertWish;

/**
 * snapshot_revert_plan:
 * @overlays: those that stand; the new ones are added
 *
 * Decides what is to be done, and refuses what cannot be. Changes nothing; called under the machine's change
 * lock.
 *
 * Returns: NULL with KHO_ERROR_INVALID (the snapshot is being deleted; a file was changed), _NOT_FOUND (a
 * file, the memory's), _BUSY, _CORRUPT, _UNSUPPORTED (a newer kho, or QEMU, wrote the memory).
 */
RevertPlan *snapshot_revert_plan(const StoreTree *tree, const RevertWish *wish, SnapshotOverlays *overlays,
                                 GError **error);
void snapshot_revert_plan_free(RevertPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RevertPlan, snapshot_revert_plan_free)

#endif
