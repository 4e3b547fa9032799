/* Storing compressed clusters, side by side within host clusters, in images that are not published yet. */
#ifndef KHO_QCOW2_PACKED_H
#define KHO_QCOW2_PACKED_H

#include "qcow2/image.h"

/* FormatOps.packer_new, .pack, .packer_free */
FormatPacker *qcow2_packer_new(FormatImage *image, FormatLevel level);
gsize qcow2_pack(FormatPacker *packer, const guint8 *cluster, guint8 *packed);
void qcow2_packer_free(FormatPacker *packer);

/**
 * qcow2_put_packed: FormatOps.put_packed
 * The bytes go where the last ones ended, as long as the host cluster's count can rise and what does not fit
 * in it finds the next one free. Locks: takes meta, but not while it writes. Any thread. Returns: FALSE with
 * KHO_ERROR_NO_SPACE also where an L2 entry cannot say an offset so large. Spec: docs/spec/qcow2.md,
 * section 7.
 */
gboolean qcow2_put_packed(FormatImage *image, GuestOff at, const guint8 *packed, gsize len, GError **error);

/* Makes the file end where the last packed bytes' sector does, so that whoever reads that sector finds it
 * whole. */
gboolean qcow2_packed_finish_locked(Qcow2Image *image, GError **error);

#endif
