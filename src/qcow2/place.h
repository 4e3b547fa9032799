/* Changing an image: places made ready for guest bytes and published, and ranges that read as zeros. The
 * guest's bytes are moved by image/'s copy engine, between prepare and commit. A new place is held from
 * prepare to commit or abandon: whoever wants the same clusters meanwhile waits, so a thread must not prepare
 * or zero over a place that it holds itself. Places in place are not held: that no other thread zeroes or
 * shrinks them away while they are written is image/'s business (image/range.h). Spec: docs/spec/qcow2.md,
 * sections 6 and 8. */
#ifndef KHO_QCOW2_PLACE_H
#define KHO_QCOW2_PLACE_H

#include "qcow2/image.h"

/**
 * qcow2_prepare: FormatOps.prepare
 * Clusters that this image alone names are given in place; preallocated zeros at their place, to be
 * published; holes, zeros, compressed and shared clusters get new ones, as many as lie free in a row. Ends at
 * an L2 table's end.
 *
 * Disk: reads tables; writes only when the refcount table must grow or too much metadata is dirty.
 * Returns: FALSE with KHO_ERROR_NO_SPACE, _CORRUPT, _DENIED (read-only), _IO.
 */
gboolean qcow2_prepare(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error);

/* FormatOps.prepare_new: data in a cluster of the image's own gets a new one. Space that is kept for the
 * disk is used as it is. */
gboolean qcow2_prepare_new(FormatImage *image, GuestOff at, guint64 max_bytes, Place *place, GError **error);

/* FormatOps.commit: publishes in memory, and on disk with the next flush. On failure the place is
 * still held: abandon it. Rules, kept by the flush: DATA_BEFORE_L2, REFCOUNT_BEFORE_REFERENCE; the old
 * cluster's count falls after it: L2_BEFORE_LOWER. */
gboolean qcow2_commit(FormatImage *image, const Place *place, GError **error);

/* FormatOps.abandon */
void qcow2_abandon(FormatImage *image, const Place *place);

/**
 * qcow2_zero: FormatOps.zero
 * Version 3 sets the zero flag and gives the cluster's space back; version 2 unmaps, which reads as zeros
 * only without a backing file: with one, *done is 0. Clusters that read as zeros already are passed over,
 * also where @at lies inside one. Rule: L2_BEFORE_LOWER, kept by the flush.
 */
gboolean qcow2_zero(FormatImage *image, GuestOff at, guint64 len, guint64 *done, GError **error);

/* Waits until nobody holds a place in [from, to) guest bytes. */
void qcow2_wait_places_locked(Qcow2Image *image, guint64 from, guint64 to);

#endif
