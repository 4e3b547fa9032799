/* Mending an image: refcounts computed anew from all references, leaks given back, COPIED flags set right.
 * What is wrong is found by check.c, which never writes. Spec: docs/spec/qcow2.md, sections 5 and 8. */
#ifndef KHO_QCOW2_REPAIR_H
#define KHO_QCOW2_REPAIR_H

#include "qcow2/image.h"

/**
 * qcow2_rebuild_refcounts_locked:
 * Counts every reference, writes a whole new refcount table with blocks of its own into clusters that nothing
 * refers to, and points the header at it in one write; what COPIED says is then set right, and the dirty and
 * corrupt marks go. The old refcount structure is free afterwards. Crash-safe: old or new.
 * KHO_ERROR_CORRUPT where a cluster is referenced more often than its count can say, or references cannot be
 * read.
 */
gboolean qcow2_rebuild_refcounts_locked(Qcow2Image *image, GError **error);

/* The same for a sound image, whose header becomes what @to says in that one write: its counts may have
 * another width. KHO_ERROR_CORRUPT where the image is not sound. */
gboolean qcow2_recount_as_locked(Qcow2Image *image, const Qcow2Header *to, GError **error);

/* FormatOps.check: looks, repairs as asked, looks again. @result has the state after it, and what was fixed.
 */
gboolean qcow2_check(FormatImage *image, FormatRepair repair, FormatCheck *result, GError **error);

#endif
