/* Changing how an image is laid out: its version, the width of its counts, lazy refcounts. Spec:
 * docs/spec/qcow2.md, sections 2, 5 and 6. */
#ifndef KHO_QCOW2_AMEND_H
#define KHO_QCOW2_AMEND_H

#include "qcow2/image.h"

/**
 * qcow2_amend: FormatOps.amend
 * Everything is made beside what is there, and one write of the header has it. Two things come before, which
 * change nothing that is read, and stay after a failure (the name of a data file comes after, by itself): for
 * version 2, which has no zero flags, entries with one become holes or clusters of zeros; for version 3 the
 * snapshots say their sizes.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (options at odds with the version), _UNSUPPORTED (version 2 cannot
 * have what the image has), _CORRUPT.
 */
gboolean qcow2_amend(FormatImage *image, const FormatAmend *wish, gboolean only_check, GError **error);

/* For telling what it takes (cost.h): the header to come, but for the refcount table, refused as above; and
 * the clusters that are marked as zeros, of all tables. */
gboolean qcow2_amend_plan_locked(Qcow2Image *image, const FormatAmend *wish, Qcow2Header *to, GError **error);
gboolean qcow2_amend_count_zeros_locked(Qcow2Image *image, guint64 *clusters, GError **error);

#endif
