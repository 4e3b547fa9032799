/* Bringing changed metadata to disk in the order of the crash rules. Spec: docs/spec/qcow2.md, section 8, and
 * ARCHITECTURE.md, "the engine's write order". */
#ifndef KHO_QCOW2_FLUSH_H
#define KHO_QCOW2_FLUSH_H

#include "qcow2/image.h"

/* A flush of the file that serves @rules (Qcow2Rule, or'ed), and before it of the data file where guest data
 * is what must be durable. Nothing for an unpublished image. A failure is final: nobody knows what reached
 * the disk, so the image takes no more writes. */
gboolean qcow2_barrier(Qcow2Image *image, guint rules, GError **error);

/* The phases. @durable: what was committed is on disk when it returns; otherwise only the order is kept and
 * memory is freed. */
gboolean qcow2_flush_locked(Qcow2Image *image, gboolean durable, GError **error);

/* A cycle when more metadata is dirty than memory should hold; at the end of every operation that changes
 * some. */
gboolean qcow2_settle_locked(Qcow2Image *image, GError **error);

/* Writes all refcount blocks that changed, whatever the lazy bit says. */
gboolean qcow2_write_refblocks_locked(Qcow2Image *image, GError **error);
/* The same, and then the refcount table's new entries. Rule: TABLE_BEFORE_POINTER. */
gboolean qcow2_write_refcounts_locked(Qcow2Image *image, GError **error);

/* Lowers what waits for the barrier after phase 3, at once: nothing durable names it any more, or yet. */
gboolean qcow2_lower_now_locked(Qcow2Image *image, GError **error);

/* FormatOps.flush and .close */
gboolean qcow2_flush(FormatImage *image, GError **error);
gboolean qcow2_close(FormatImage *image, GError **error);

#endif
