/* Changing the size of the virtual disk. Spec: docs/spec/qcow2.md, sections 6 and 8. */
#ifndef KHO_QCOW2_RESIZE_H
#define KHO_QCOW2_RESIZE_H

#include "qcow2/image.h"

/**
 * qcow2_resize: FormatOps.resize
 * Growing: a longer L1 table is written and durable, then the header takes table and size in one write. What
 * stood in the tables past the old end is unmapped before, and where a longer backing file would show, zeros
 * are mapped: by flags, or in version 2 by clusters of zeros. Shrinking: what lies past the new end is
 * unmapped and durable, then the header's size changes, and the file is cut to its last cluster in use.
 * Nobody else uses the image meanwhile. Durable when it returns TRUE.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (smaller without @may_shrink), _UNSUPPORTED (version 2 with
 * snapshots, which do not record their size), _NO_SPACE (the L1 table would pass 32 MiB).
 */
gboolean qcow2_resize(FormatImage *image, guint64 guest_bytes, gboolean may_shrink, GError **error);

/* Lets go what is mapped in [from, to) guest bytes, both rounded up to clusters; *to* may lie past the
 * guest's end as far as the L1 table reaches. */
gboolean qcow2_unmap_locked(Qcow2Image *image, guint64 from, guint64 to, GError **error);

/* Moves L1 table and header to @guest_bytes, which is not less than now. */
gboolean qcow2_grow_locked(Qcow2Image *image, guint64 guest_bytes, GError **error);

#endif
