/* The COPIED flags: what may be written in place. They repeat what the refcounts say, so they follow them:
 * cleared before a count rises above 1, set again after it has fallen to 1. Spec: docs/spec/qcow2.md,
 * sections 6 and 8. */
#ifndef KHO_QCOW2_COPIED_H
#define KHO_QCOW2_COPIED_H

#include "qcow2/image.h"

/* Clears the flag in every entry of an L1 table and of the L2 tables it names, in memory. Entries that are
 * wrong in themselves are passed over. Before rule COPIED_BEFORE_RAISE's barrier. */
gboolean qcow2_copied_clear_locked(Qcow2Image *image, Qcow2Words *l1, GError **error);

/* Sets it in the active tables where the refcount is one, clears it elsewhere. After rule ONE_BEFORE_COPIED's
 * barrier. */
gboolean qcow2_copied_restore_locked(Qcow2Image *image, GError **error);

#endif
