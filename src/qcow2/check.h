/* Checking an image: every reference counted anew from the file, compared with the refcounts that stand
 * there. Never writes; repair.c mends what this finds. Spec: docs/spec/qcow2.md. */
#ifndef KHO_QCOW2_CHECK_H
#define KHO_QCOW2_CHECK_H

#include "block/format.h"
#include "qcow2/references.h"

#include <kho/job.h>

/**
 * qcow2_check_file:
 * @file: a qcow2 image as it stands on disk: whoever has it open for writing flushes first
 * @result: (inout): all counts are set, as `qemu-img check` counts them; findings are appended to
 *          result->messages where the caller made it. Overlaps of different structures that QEMU does not
 * look for are corruptions too
 * @job: cancelling, looked at once an L2 table or refcount block; may be NULL
 *
 * Disk: reads all metadata, more than once where the references need more memory than a check may take.
 *
 * Returns: TRUE when the check ran, whatever it found. FALSE with what reading the header raises, _IO,
 * _CANCELLED.
 */
gboolean qcow2_check_file(BlkStore *file, FormatCheck *result, const KhoJob *job, GError **error);

/* The same in parts, for repair and for tests. qcow2_check_begin reads the headers, for which check->file,
 * result and job are set; qcow2_check_run looks at everything; qcow2_check_clear frees what they made. */
gboolean qcow2_check_begin(Qcow2Check *check, GError **error);
gboolean qcow2_check_run(Qcow2Check *check, GError **error);
void qcow2_check_clear(Qcow2Check *check);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Qcow2Check, qcow2_check_clear)

/* Counts all references and calls @each for one window of check->map after the other, from cluster 0 to the
 * last. Findings of the counting go into check->result once. FALSE where counting or @each failed. */
gboolean
qcow2_check_windows(Qcow2Check *check, gboolean (*each)(Qcow2Check *check, gpointer data, GError **error),
                    gpointer data, GError **error);

#endif
