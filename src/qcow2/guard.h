/* Which clusters of the file hold metadata: one bit a cluster. Other engines have lost disks by handing out a
 * cluster that held an L2 table (a wrong refcount is enough); here nothing is handed out or written in place
 * before this map was asked. Sparse, since metadata is: a disk of 64 TiB takes 30 MiB of it. */
#ifndef KHO_QCOW2_GUARD_H
#define KHO_QCOW2_GUARD_H

#include <glib.h>

typedef struct {
    guint64 **chunks; /* NULL: nothing in it is held */
    guint64 n_chunks;
} Qcow2Guard;

/* Marks @n clusters from @first on. FALSE when one of them was marked before: two tables in one place. */
gboolean qcow2_guard_mark(Qcow2Guard *guard, guint64 first, guint64 n);
void qcow2_guard_unmark(Qcow2Guard *guard, guint64 first, guint64 n);
/* Does any of the clusters hold metadata? */
gboolean qcow2_guard_holds(const Qcow2Guard *guard, guint64 first, guint64 n);
void qcow2_guard_clear(Qcow2Guard *guard);

#endif
