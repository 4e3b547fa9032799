/* What an L1 table refers to, the active one or a snapshot's: for counting it once more, or no longer.
 * Looking for contradictions among references lives in references.h. */
#ifndef KHO_QCOW2_REACH_H
#define KHO_QCOW2_REACH_H

#include "qcow2/image.h"

/* Is told of @n host clusters from @first on, each of which is referred to once. */
typedef gboolean (*Qcow2ReachFunc)(Qcow2Image *image, guint64 first, guint64 n, gpointer data,
                                   GError **error);

typedef struct {
    Qcow2ReachFunc func;
    gpointer data;
    guint64 left; /* references that it is still told of, at most */
} Qcow2Reach;

/* Tells of the references that the table makes: data, compressed bytes, L2 tables, each one after what it
 * refers to. May flush where much was changed on the way. */
gboolean qcow2_reach_each_locked(Qcow2Image *image, const Qcow2Words *l1, Qcow2Reach *reach, GError **error);

#endif
