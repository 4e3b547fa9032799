/* Reading an image: where guest bytes live, and what compressed clusters hold. Changing it lives in place.h.
 */
#ifndef KHO_QCOW2_MAP_H
#define KHO_QCOW2_MAP_H

#include "qcow2/entry.h"
#include "qcow2/image.h"

/**
 * qcow2_map: FormatOps.map
 * A run ends at @max_bytes, at a change of kind, where the host bytes do not go on, or at the end of an L2
 * table, so callers loop.
 *
 * Disk: reads at most one L2 table (cached); never writes. Locks: takes meta. Any thread.
 *
 * Returns: FALSE with @run untouched:
 *   KHO_ERROR_CORRUPT  reserved bits, unaligned, or past the end of the file; names guest offset and indices
 *   KHO_ERROR_IO       reading a table failed
 *
 * Spec: docs/spec/qcow2.md, section 6.
 */
gboolean qcow2_map(FormatImage *image, GuestOff at, guint64 max_bytes, Run *run, GError **error);

/**
 * qcow2_inflate: FormatOps.inflate
 * The last few clusters inflated are kept, so that reading one in pieces inflates it once.
 * Locks: takes meta, but not while it reads and inflates. Any thread.
 * Returns: FALSE with KHO_ERROR_CORRUPT where the packed bytes do not inflate to exactly one cluster.
 * Spec: docs/spec/qcow2.md, section 7.
 */
gboolean qcow2_inflate(FormatImage *image, GuestOff at, void *buf, gsize len, GError **error);

/* Inflates one compressed cluster into @bytes, with the meta lock held. */
gboolean qcow2_unpack(Qcow2Image *image, const Qcow2Cluster *cluster, guint8 *bytes, GError **error);

/* FormatOps.info */
gboolean qcow2_info(FormatImage *image, FormatInfo *info, GError **error);

#endif
