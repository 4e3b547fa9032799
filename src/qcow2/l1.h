/* Two sizes of one disk: the L1 table that the header names, and one beside it that is to take its place. All
 * that the second one needs lies in clusters of its own, so that whoever opens the file sees the first until
 * the header takes table and size in one write. What may stand in the tables lives in resize.c; single L2
 * tables in l2.h. All want the meta lock and qcow2_begin_write_locked passed. Spec: docs/spec/qcow2.md,
 * section 8. */
#ifndef KHO_QCOW2_L1_H
#define KHO_QCOW2_L1_H

#include "qcow2/image.h"

/**
 * qcow2_l1_begin_locked:
 * @guest_bytes: the size to come
 *
 * From here on the image is @guest_bytes long for this process alone: the L1 table in use is a new one, whose
 * entries are those of the old one up to the smaller of both sizes; the L2 table which that border cuts is a
 * copy. What follows is empty. Tables up to the border are both sizes' own and are not to be changed until
 * qcow2_l1_commit_locked or qcow2_l1_take_back_locked. Wants nothing to be dirty (qcow2_flush_locked before).
 *
 * Returns: FALSE with KHO_ERROR_NO_SPACE also where the L1 table would pass 32 MiB; all is as before then.
 */
gboolean qcow2_l1_begin_locked(Qcow2Image *image, guint64 guest_bytes, GError **error);

/* Is there an L1 table for that size? */
gboolean qcow2_l1_reaches(const Qcow2Image *image, guint64 guest_bytes, GError **error);

/* The same to the size that the disk has, with nothing in the new table. */
gboolean qcow2_l1_begin_empty_locked(Qcow2Image *image, GError **error);

/* The header takes the size, and the L1 table in use where that is a new one; then what only the old table
 * named is let go. Where image->held is still set after a failure, nothing was published. Rules:
 * TABLE_BEFORE_POINTER, L2_BEFORE_LOWER. */
gboolean qcow2_l1_commit_locked(Qcow2Image *image, guint64 guest_bytes, GError **error);

/* Back to the old table and size, which the header names: what only the new one names is let go, and the file
 * becomes as short as it was. What cannot be freed leaks. */
void qcow2_l1_take_back_locked(Qcow2Image *image);

/* The file ends after the last cluster in use, but not before @at_least bytes where that is in this cluster:
 * what follows has been let go, durably. Space only, so that a store that cannot be cut (a device) stays as
 * it is. */
gboolean qcow2_cut_file_locked(Qcow2Image *image, guint64 at_least, GError **error);
/* The same of the data file, at @bytes. */
void qcow2_cut_data_locked(Qcow2Image *image, guint64 bytes);

#endif
