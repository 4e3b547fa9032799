/* Merging two neighbouring layers of a disk that a guest uses, by QEMU's block jobs: what each needs of files
 * and fdsets, in which order it becomes durable, and what is left to clear up. Which layers, and which way,
 * is decided by those who call; images that nobody uses are image/'s business. ARCHITECTURE.md, "Writing to a
 * lower layer". */
#ifndef KHO_VM_MERGE_H
#define KHO_VM_MERGE_H

#include "vm/client.h"

#include <kho/job.h>

/* A merge, with everything decided: it may come from a journal. */
typedef struct VmMerge {
    const char *job;     /* its id at QEMU: of this merge alone */
    const char *device;  /* the disk's alias */
    const char *discard; /* the disk's option: "unmap", "ignore" or NULL */
    const char *aio;     /* the same: "native", "io_uring", "threads" or NULL */
    gboolean down; /* what UPPER holds goes into LOWER, and UPPER goes; otherwise what UPPER lacks comes from
                    * LOWER, and LOWER goes */
    const char *upper, *lower; /* node names of the layers, LOWER right under UPPER (vm/nodes.h) */
    const char *upper_path, *lower_path, *above_path; /* their files; of the layer above UPPER, NULL: UPPER is
                                                       * the one that the guest writes */
    /* What a header is to name afterwards. Down: that of the layer above, LOWER; up: UPPER's own, what LOWER
     * lies on. NULL where there is no such layer. */
    const char *backing_name;
} VmMerge;

typedef enum {
    VM_MERGE_APART,  /* the disk has both layers */
    VM_MERGE_MERGED, /* the one that was to go is gone from the disk */
    VM_MERGE_GONE,   /* QEMU has no such disk any more, since its guest has let go of it: the headers tell */
} VmMergeState;

/* How the disk stands, by QEMU's word. KHO_ERROR_INVALID where its layers are none of the two: something else
 * changed them. */
gboolean vm_merge_look(VmClient *client, const VmMerge *merge, VmMergeState *state, GError **error);

/**
 * vm_merge_copy:
 *
 * Copies what is to be copied, while the guest goes on. Down, LOWER is written from here on: the disk reads
 * the same, but LOWER alone is no longer what it was. Goes on with a job that is there already, and returns
 * at once where the layers are merged.
 *
 * Returns: FALSE with KHO_ERROR_CANCELLED, _NO_SPACE, _IO, _TIMEOUT (of vm_jobs_wait), _BUSY (up, into a
 * layer that is not the guest's, while the guest is paused: merge down instead); the job is then gone, where
 * QEMU could be reached, and the layers are as they were.
 */
gboolean vm_merge_copy(VmClient *client, const VmMerge *merge, const KhoJob *job, GError **error);

/**
 * vm_merge_finish:
 *
 * Lets a merge that was copied have its effect: the copied data is durable before a header relies on it. Then
 * the layer that goes is taken out of QEMU. Where UPPER is what the guest writes and @merge is downwards, the
 * guest must be paused from before this call until whatever names UPPER names LOWER: both files hold the same
 * in between. Runs any number of times; returns at once where it is done.
 *
 * Returns: FALSE with KHO_ERROR_NOT_FOUND where nothing was copied; _INVALID where the guest is not paused
 * and must be; _NO_SPACE, _IO (the flush failed: nothing has happened yet, and vm_merge_cancel takes it
 * back).
 */
gboolean vm_merge_finish(VmClient *client, const VmMerge *merge, GError **error);

/* Ends a merge that has not had its effect, and lets go of its files; TRUE as well where there is none. */
gboolean vm_merge_cancel(VmClient *client, const VmMerge *merge, GError **error);

#endif
