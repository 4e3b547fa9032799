/* The way to a running machine for whoever drives a change of it: there, adopted when its kho-vm died, or
 * gone. What is asked of it then is vm/client.h's. */
#ifndef KHO_VM_REACH_H
#define KHO_VM_REACH_H

#include "store/tree.h"
#include "vm/client.h"

/**
 * vm_reach:
 * @client: (out): a connection, or NULL where no machine of that name runs
 *
 * Connects to the machine's kho-vm, whatever happened before: one that died is replaced, what two deaths left
 * is cleared up first.
 *
 * Returns: FALSE with KHO_ERROR_TIMEOUT where its kho-vm is stuck, _DENIED for another user's machine, _IO.
 */
gboolean vm_reach(const StoreTree *tree, const char *name, VmClient **client, GError **error);

/* The same, but a machine of that name with another uuid counts as none: the one that is meant has ended. */
gboolean
vm_reach_own(const StoreTree *tree, const char *name, const char *uuid, VmClient **client, GError **error);

/* Ends QEMU, if a machine of that name and @uuid runs, whatever its kho-vm does, and returns when it has
 * ended. @reason is what the log says: "saved", "failed", "from snapshot". KHO_ERROR_BUSY, _DENIED, _TIMEOUT.
 */
gboolean
vm_end(const StoreTree *tree, const char *name, const char *uuid, const char *reason, GError **error);

#endif
