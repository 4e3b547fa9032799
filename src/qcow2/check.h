/* Checking an image: every reference counted anew from the file, compared with the refcounts that stand
 * there. Never writes; repair.c mends what this finds. Spec: docs/spec/qcow2.md. */
#ifndef KHO_QCOW2_CHECK_H
#define KHO_QCOW2_CHECK_H

#include "block/map.h"
#include "qcow2/refmap.h"

#include <kho/job.h>

/**
 * qcow2_check_file:
 * @file: a qcow2 image as it stands on disk: whoever has it open for writing flushes first
 * @result: (inout): all counts are set, as `qemu-img check` counts them; findings are appended to
 *          result->messages where the caller made it. Overlaps of different structures that QEMU does not
 * look for are corruptions too
 * @map: (out) (optional): the references counted, for repair; free with qcow2_refmap_free
 * @job: cancelling, looked at once an L2 table or refcount block; may be NULL
 *
 * Disk: reads all metadata; memory follows the number of clusters referenced (refmap.c).
 *
 * Returns: TRUE when the check ran, whatever it found. FALSE with what reading the header raises, _IO,
 * _CANCELLED.
 */
gboolean
qcow2_check_file(BlkStore *file, FormatCheck *result, Qcow2RefMap **map, const KhoJob *job, GError **error);

#endif
