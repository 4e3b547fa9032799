/* Taking a snapshot, as a change: its plan, its kind. The files that the machine's disks are in are closed,
 * and writes go to overlays from then on; of a machine that runs, in one moment for all disks. What runs in
 * QEMU is in create_live.c.
 *
 * What a death leaves, by the last step that had begun, and what recovery makes of it:
 *
 *   make-overlays     overlays that nobody names     they go: the old state
 *   save-memory       ... and a memory file          both go, and the guest is let go on
 *   switch            QEMU writes to the old files   both go, and the guest is let go on
 *                     QEMU writes to the overlays    forward
 *                     QEMU never ran                 the overlays go
 *                     QEMU has ended, or the guest   forward: what is not in an overlay is under it
 *                     has let go of all these disks:
 *                     no memory
 *                     QEMU has ended: with memory    both go: the guest stood still since its memory was
 *                                                    written, and what was written need not be durable
 *   any that follows  the definition names the old   forward; nobody can start the machine before
 *                     files or the overlays
 *
 * With memory: its stream and what the closed files hold are durable before the guest goes on, so that they
 * fit each other after a power failure, too; its checksum is added when the guest runs again.
 */
#ifndef KHO_SNAPSHOT_CREATE_H
#define KHO_SNAPSHOT_CREATE_H

#include "model/snapshot.h"
#include "snapshot/folder.h"
#include "snapshot/plan.h"
#include "store/change.h"

extern const ChangeKind snapshot_create_kind;

/* What is wanted of one disk. */
typedef struct SnapshotDiskWish {
    const char *target; /* "vda" */
    gboolean leave_out;
    const char *file; /* absolute: where writes go; NULL: STEM.N.qcow2 beside the disk's file */
} SnapshotDiskWish;

typedef struct SnapshotWish {
    const char *name, *description;
    ModelSnapshotState state; /* what the machine does now */
    gboolean with_memory;     /* of one that runs */
    const char *memory_file;  /* absolute; NULL: beside the metadata */
    const SnapshotDiskWish *disks;
    gsize n_disks;
} SnapshotWish;

/* A disk of the plan. */
typedef struct CreateDisk {
    char *target;
    char *file, *format; /* what is closed */
    char *overlay;
    gint64 number; /* of the overlay: no other one of the machine has it, ever */
    /* of a machine that runs; NULL and 0 otherwise */
    char *alias;        /* the device's */
    char *node;         /* what it writes to before */
    char *overlay_node; /* ... and after; its file's node has "-file" added */
    char *nodes;        /* JSON: the arguments of blockdev-add for both */
    gint64 fdset;       /* that the overlay is open through */
} CreateDisk;

typedef struct CreatePlan {
    char *machine, *uuid, *name;
    char *metadata;   /* the text of NAME.xml */
    char *definition; /* the machine's, from then on */
    char *live;       /* its live XML from then on; NULL: it does not run */
    gboolean running; /* whether the guest ran: it is let go on afterwards */
    char *overlays;   /* .overlays before it; NULL in what an older kho began */
    char *memory;     /* the file that it goes to; NULL: it is not kept */
    gint64 saved_ms;  /* wall clock: what tells that file from any other */
    GPtrArray *disks; /* CreateDisk */
} CreatePlan;

extern const PlanTable snapshot_create_table;

/**
 * snapshot_create_plan:
 * @definition: the machine's
 * @live: its live XML, or NULL where it does not run
 * @overlays: those that stand; the new ones are added
 *
 * Decides what is to be done, and refuses what cannot be. Changes nothing; called under the machine's change
 * lock, which is held until the journal has the plan.
 *
 * Returns: NULL with KHO_ERROR_EXISTS (the name, a file), _INVALID (a wish that contradicts the machine),
 * _UNSUPPORTED, _NOT_FOUND (a disk, a file of a chain), _BUSY (a chain is in use by others), _CORRUPT.
 */
CreatePlan *
snapshot_create_plan(const StoreTree *tree, const ModelDomain *definition, const ModelDomain *live,
                     const SnapshotWish *wish, SnapshotOverlays *overlays, GError **error);
void snapshot_create_plan_free(CreatePlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CreatePlan, snapshot_create_plan_free)

#endif
