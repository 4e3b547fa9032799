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

/* Ends the machine's QEMU, whatever it does, and returns when it has ended; TRUE as well where none runs. */
gboolean vm_end(const StoreTree *tree, const char *name, guint timeout_ms, GError **error);

#endif
