/* Changing the size of the virtual disk, and emptying it, which goes the same way. Spec: docs/spec/qcow2.md,
 * sections 6 and 8. */
#ifndef KHO_QCOW2_RESIZE_H
#define KHO_QCOW2_RESIZE_H

#include "qcow2/image.h"

#include <kho/job.h>

/**
 * qcow2_resize: FormatOps.resize
 * The disk has the old size or the new one, whatever happens: what the new one takes is written beside the
 * old one (l1.h), tables that a longer backing file makes necessary among it (entries that read as zeros, or
 * in version 2 clusters of zeros), and the header takes it all in one write. Then, when it shrank, what lay
 * past the end is freed, and the file is cut to its last cluster in use. What lies past the end within the
 * last cluster stays until the disk grows again, which makes it zeros first. @job is looked at until the
 * header is about to be written. Nobody else uses the image meanwhile. Durable when it returns TRUE.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (smaller without @may_shrink), _UNSUPPORTED (version 2 with
 * snapshots, which do not record their size), _NO_SPACE (also where the L1 table would pass 32 MiB),
 * _CANCELLED.
 */
gboolean
qcow2_resize(FormatImage *image, guint64 guest_bytes, gboolean may_shrink, const KhoJob *job, GError **error);

/* FormatOps.extend: the first half of growing; errors as there. */
gboolean qcow2_extend(FormatImage *image, guint64 guest_bytes, GError **error);

/* FormatOps.empty: the disk has all that it had or nothing, whatever happens. Errors as there. */
gboolean qcow2_empty(FormatImage *image, GError **error);

/* What qcow2_resize would refuse to somebody who lets the disk shrink; changes nothing. */
gboolean qcow2_resize_check_locked(Qcow2Image *image, guint64 guest_bytes, GError **error);

/* Moves L1 table and header to @guest_bytes, which is not less than now. */
gboolean qcow2_grow_locked(Qcow2Image *image, guint64 guest_bytes, GError **error);

#endif
